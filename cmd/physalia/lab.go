package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"

	"github.com/spf13/cobra"

	"physalia/sim/lab"
)

// labCommand holds the commands of the laboratory. They need no colony: what they find is a function of a seed, or of a file.
func (a *app) labCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "lab",
		Short: "Measure what correlated failures do to placed cells, and ask what if",
		Long: "The laboratory places cells with the code that places them in production, and lets racks, power domains, colors and network\n" +
			"devices fail. docs/laboratory.md tells how to read what it finds. Experiments:\n\n" + labHelp(),
		Args: args("", 0, -1),
		RunE: group,
	}
	cmd.AddCommand(a.labReportCommand(), a.labWhatIfCommand())
	return cmd
}

// The list is made from the experiments themselves, so that it is the true one.
//
// labHelp lists the experiments for the help text.
func labHelp() string {
	var b strings.Builder
	for _, e := range lab.Experiments() {
		fmt.Fprintf(&b, "  %d  %s\n", e.Number, e.Name)
	}
	return b.String()
}

// Several runs tell how far they are at the same time, and each asks some thousand times; people want to see that it goes on, not every step. A
// line is printed when another tenth of a stage is done. It goes to standard error, like all progress.
//
// stages shows how far several long runs have come, one line per stage and tenth of it.
type stages struct {
	mu    sync.Mutex
	to    io.Writer
	shown map[string]int // tenths that were shown
}

// watch is told of progress by runs on several goroutines; stop is asked each time whether to go on.
func (s *stages) watch(stop func() error) lab.Watch {
	return func(what string, done, total int) error {
		s.mu.Lock()
		defer s.mu.Unlock()
		if tenth := 10 * done / max(total, 1); tenth > s.shown[what] {
			s.shown[what] = tenth
			fmt.Fprintf(s.to, "%s: %d %%\n", what, 10*tenth)
		}
		return stop()
	}
}

// firstCause leaves out of the failures of several runs what only followed from another: the first to fail ends the others, which then say
// that they were cancelled. When the user interrupts, that is the cause.
func firstCause(ctx context.Context, failures []error) error {
	if ctx.Err() != nil {
		return ctx.Err()
	}
	return errors.Join(slices.DeleteFunc(failures, func(err error) bool { return errors.Is(err, context.Canceled) })...)
}
