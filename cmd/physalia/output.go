package main

import (
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"sync"
	"text/tabwriter"
)

// The output formats of -o. Both are complete: whatever a table shows is in the JSON too, under a name that stays.
const (
	asTable = "table"
	asJSON  = "json"
)

// Output has one rule: standard output carries data only, whole or not at all, in the format that was asked for. A JSON
// document is one line, so that a stream of commands is a stream of lines; a table is for eyes and promises nothing.

// emit prints what a command found: data as one JSON document, or rows under a header as a table. An empty header
// prints rows alone.
func (a *app) emit(data any, header []string, rows [][]string) error {
	if a.output == asJSON {
		line, err := json.Marshal(data)
		if err != nil {
			return fmt.Errorf("encode the output: %w", err)
		}
		_, err = fmt.Fprintf(a.stdout, "%s\n", line)
		return err
	}
	return table(a.stdout, header, rows)
}

// table prints rows in aligned columns, two spaces apart.
func table(w io.Writer, header []string, rows [][]string) error {
	// Columns are as wide as their widest cell; there is no wrapping, so that grep and awk work on rows.
	t := tabwriter.NewWriter(w, 0, 8, 2, ' ', 0)
	if len(header) > 0 {
		if _, err := fmt.Fprintln(t, strings.Join(header, "\t")); err != nil {
			return err
		}
	}
	for _, row := range rows {
		if _, err := fmt.Fprintln(t, strings.Join(row, "\t")); err != nil {
			return err
		}
	}
	return t.Flush()
}

// oneByOne lets goroutines write one after the other: progress comes from several at once.
type oneByOne struct {
	mu sync.Mutex
	to io.Writer
}

// Write implements io.Writer.
func (s *oneByOne) Write(b []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.to.Write(b)
}

// A note never carries anything that the JSON document lacks.
//
// note tells people something beside the data, on standard error; programs that asked for JSON are not told.
func (a *app) note(format string, args ...any) {
	if a.output != asJSON {
		fmt.Fprintf(a.stderr, format+"\n", args...)
	}
}
