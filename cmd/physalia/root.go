package main

import (
	"context"
	"fmt"
	"io"
	"os/signal"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"physalia/internal/pki"
	"physalia/internal/wire"
)

// app is one run of the binary: its world, and the flags that every command has.
type app struct {
	stdin          io.Reader
	stdout, stderr io.Writer
	lookupEnv      func(string) (string, bool)
	extra          []*cobra.Command // further commands, for tests
	slack          time.Duration    // of the process's timers, as main asked for it; see slack.go
	slackError     error            // why that failed

	config       string        // file with settings; empty: none
	output       string        // asTable or asJSON
	timeout      time.Duration // of the whole command
	colony       string        // name of the installation; empty: whichever answers
	controlPlane []string      // addresses, tried in order
	certs        pki.Settings  // who this process is, and whom it believes
	reason       string        // why this is done, for records and for those who meet an order
	token        string        // file with what it may do, when its certificate is a client's; empty: none
}

// readOnly marks commands that change nothing, so that their outcome is never unknown.
var readOnly = map[string]string{"effect": "none"}

// run executes one command line and returns the exit code of the process. SIGINT and SIGTERM cancel the command's
// context; a command that is cancelled and says so ends with exitInterrupted.
func (a *app) run(args []string) int {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	context.AfterFunc(ctx, stop) // a second signal ends the process at once
	a.stderr = &oneByOne{to: a.stderr}
	root := a.command()
	root.SetArgs(args)
	cmd, err := root.ExecuteContextC(ctx)
	if err == nil {
		return int(exitOK)
	}
	code := exitOf(err, cmd.Annotations["effect"] == "none")
	printError(a.stderr, err, code, a.wantsJSON(args))
	return int(code)
}

// command builds the tree of commands. It is built anew for every run, since flags live in it; tests run many.
func (a *app) command() *cobra.Command {
	// Cobra would print errors and usage itself, in its own words, before anybody knows whether JSON was asked for.
	root := &cobra.Command{
		Use:   "physalia",
		Short: "One tiny, highly available database per volume",
		Long: "Physalia keeps the configuration of very many volumes, shards or tenants, each in a Paxos database of its own\n" +
			"(a cell: seven nodes, a few tens of kilobytes). What fails, fails for few.\n\n" + exitHelp() + "\n" +
			"Every flag can also be given in the environment (--data-dir is PHYSALIA_DATA_DIR) or in a TOML file named by\n" +
			"--config (data_dir under [server]). Flags win over the environment, the environment over the file.",
		SilenceErrors:     true,
		SilenceUsage:      true,
		PersistentPreRunE: a.prepare,
		Args:              cobra.ArbitraryArgs,
		RunE:              group,
	}
	root.SetIn(a.stdin)
	root.SetOut(a.stdout)
	root.SetErr(a.stderr)
	root.SetFlagErrorFunc(flagError)
	f := root.PersistentFlags()
	f.StringVar(&a.config, "config", "", "TOML `file` with values for flags")
	f.StringVarP(&a.output, "output", "o", asTable, "output `format`: table or json")
	f.DurationVar(&a.timeout, "timeout", 10*time.Second, "how long a command may take, for example 500ms or 10s")
	f.StringVar(&a.colony, "colony", "", "`name` of the installation; when given, others are refused")
	f.StringSliceVar(&a.controlPlane, "control-plane", []string{"127.0.0.1:7300"}, "`addresses` of the control plane")
	f.StringVar(&a.certs.Dir, "certs", "", "`directory` with ca.crt, tls.crt and tls.key, as `physalia cert issue` writes it; empty: plain text, on loopback only")
	f.StringVar(&a.reason, "reason", "", "`text` that the control plane records with what it is asked; of an order, everybody is shown it who meets the order")
	f.StringVar(&a.token, "token", "", "`file` with a token, as `physalia token issue` writes it: what a client's certificate may do")
	f.BoolVar(&a.certs.PlainText, "plain-text-beyond-loopback", false, "without --certs, speak plain text with other machines, too: anybody on the network reads everything and is believed to be anybody")
	root.AddCommand(append(a.nouns(), a.extra...)...)
	return root
}

// nouns lists the commands that are wired. A command that is not in the list does not exist for users either: nothing here
// pretends.
func (a *app) nouns() []*cobra.Command {
	return []*cobra.Command{a.serverCommand(), a.controlCommand(), a.demoCommand(), a.drillCommand(), a.benchCommand(), a.simCommand(), a.labCommand(), a.cellCommand(), a.certCommand(), a.tokenCommand(), a.healthCommand(), a.kvCommand(), a.volumeCommand(), a.versionCommand()}
}

// prepare runs before every command: it settles the flags and checks those that every command has. Commands check the rest,
// before they open anything: a command line that makes no sense changes nothing.
func (a *app) prepare(cmd *cobra.Command, _ []string) error {
	if err := a.settle(cmd); err != nil {
		return err
	}
	if a.output != asTable && a.output != asJSON {
		return usage(cmd.CommandPath(), "use -o table or -o json", "output format %q is unknown", a.output)
	}
	if a.timeout <= 0 {
		return usage(cmd.CommandPath(), "for example --timeout 10s", "timeout is %v, it must be above zero", a.timeout)
	}
	// A reason is stored and shown to whoever is refused, so it has to be short.
	if len(a.reason) > wire.ReasonBytesMax {
		return usage(cmd.CommandPath(), "shorten it", "--reason has %d bytes, allowed are %d", len(a.reason), wire.ReasonBytesMax)
	}
	return nil
}

// A command line that does not parse may have asked for JSON all the same; whoever reads standard error with a program
// should get what it asked for.
//
// wantsJSON tells how to print an error that may have come before the flags were understood.
func (a *app) wantsJSON(args []string) bool {
	line := " " + strings.Join(args, " ") + " "
	return a.output == asJSON || slices.ContainsFunc([]string{" -o json ", " -o=json ", " -ojson ", " --output json ", " --output=json "},
		func(form string) bool { return strings.Contains(line, form) })
}

// Without this, cobra would print the help of "cell" for `physalia cell crate` and end with 0, and a script would go on.
//
// group is what a command does that only holds others: it shows its help, or says that a verb is unknown.
func group(cmd *cobra.Command, args []string) error {
	if len(args) == 0 {
		return cmd.Help()
	}
	var names []string
	for _, sub := range cmd.Commands() {
		if sub.IsAvailableCommand() {
			names = append(names, sub.Name())
		}
	}
	return usage(cmd.CommandPath(), didYouMean(args[0], names, "one of: "+strings.Join(names, ", ")), "unknown command %q", args[0])
}

// flagError explains a flag that cobra could not parse; an unknown one gets a suggestion, which cobra itself makes only for
// commands.
func flagError(cmd *cobra.Command, err error) error {
	hint := fmt.Sprintf("see `%s --help`", cmd.CommandPath())
	// The library has no type for this error, only its text; a test would notice a change.
	if name, ok := strings.CutPrefix(err.Error(), "unknown flag: --"); ok {
		var names []string
		cmd.Flags().VisitAll(func(f *pflag.Flag) { names = append(names, "--"+f.Name) })
		hint = didYouMean("--"+name, names, hint)
	}
	return usage(cmd.CommandPath(), hint, "%v", err)
}

// args checks the number of arguments of a command, at least and at most (-1: no bound); form is how they are written, for
// the hint.
func args(form string, least, most int) cobra.PositionalArgs {
	return func(cmd *cobra.Command, given []string) error {
		if len(given) >= least && (most < 0 || len(given) <= most) {
			return nil
		}
		// "2", "at least 2" or "2 to 3".
		want := fmt.Sprintf("%d", least)
		switch {
		case most < 0:
			want = fmt.Sprintf("at least %d", least)
		case most > least:
			want = fmt.Sprintf("%d to %d", least, most)
		}
		return usage(cmd.CommandPath(), "write: "+cmd.CommandPath()+" "+form, "%d arguments given, wanted are %s", len(given), want)
	}
}
