package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"physalia/cell"
)

// usage makes the error for a command line, configuration or file that makes no sense; it ends with exitUsage.
func usage(op, hint, format string, args ...any) error {
	return &cell.Error{Op: op, Kind: cell.Invalid, Detail: fmt.Sprintf(format, args...), Hint: hint}
}

// errorDocument is an error under -o json: one line on standard error. Fields are only ever added; a change of meaning
// raises the version.
type errorDocument struct {
	Version      int    `json:"v"`                // of this shape
	Error        string `json:"error"`            // the kind in snake case, for example "unknown_result"
	Op           string `json:"op,omitempty"`     // what was being done
	Cell         string `json:"cell,omitempty"`   // which cell, if one
	Detail       string `json:"detail,omitempty"` // what was wrong, with the numbers
	Cause        string `json:"cause,omitempty"`  // what caused it, for people
	Hint         string `json:"hint,omitempty"`   // what to do next
	Exit         int    `json:"exit"`             // the exit code of the process
	Retryable    bool   `json:"retryable"`        // the same command may succeed later, and repeating it is safe
	MaybeApplied bool   `json:"maybe_applied"`    // the write may have taken effect
	RetryAfterMS int64  `json:"retry_after_ms,omitempty"`
}

// document describes an error for machines.
func document(err error, code exitCode) errorDocument {
	d := errorDocument{Version: 1, Error: "failed", Detail: err.Error(), Exit: int(code), MaybeApplied: code == exitUnknown}
	d.Retryable = code == exitUnavailable
	if code == exitInterrupted {
		d.Error = "interrupted"
	}
	// Errors from outside a colony (a file, the network library) have only their text.
	var e *cell.Error
	if !errors.As(err, &e) {
		return d
	}
	d.Error = strings.ReplaceAll(e.Kind.String(), " ", "_")
	d.Op, d.Cell, d.Detail, d.Hint = e.Op, string(e.Cell), e.Detail, e.Hint
	d.RetryAfterMS = int64(e.RetryAfter / time.Millisecond)
	if e.Err != nil {
		d.Cause = e.Err.Error()
	}
	return d
}

// printError reports an error for people, or as one line of JSON. For people it is a subject line and, indented below, what
// was wrong with its numbers, what caused it, and what to do next:
//
//	error: kv put vol-17: unavailable (exit 5)
//	  detail  no quorum: 3 of 7 members answer
//	  hint    physalia cell explain vol-17
func printError(w io.Writer, err error, code exitCode, asJSON bool) {
	d := document(err, code)
	if asJSON {
		line, marshalErr := json.Marshal(d)
		if marshalErr != nil { // strings, numbers and booleans always marshal
			panic(marshalErr)
		}
		fmt.Fprintf(w, "%s\n", line)
		return
	}
	// The kind is shown as words; as one word it is for programs.
	subject := strings.TrimSpace(d.Op + " " + d.Cell)
	if subject != "" {
		subject += ": "
	}
	fmt.Fprintf(w, "error: %s%s (exit %d)\n", subject, strings.ReplaceAll(d.Error, "_", " "), code)
	for _, line := range []struct{ name, text string }{{"detail", d.Detail}, {"cause", d.Cause}, {"hint", d.Hint}} {
		if line.text != "" {
			fmt.Fprintf(w, "  %-8s%s\n", line.name, line.text)
		}
	}
	if d.RetryAfterMS > 0 {
		fmt.Fprintf(w, "  %-8snot before %d ms\n", "retry", d.RetryAfterMS)
	}
}

// A mistyped word is answered with the word that was probably meant, if one is near: at most two edits away, or a third of
// the word's length for long ones. Ties go to the first in the alphabet, so that the answer is always the same.
//
// nearest returns the candidate that looks most like a mistyped word, or "" when none is close.
func nearest(word string, candidates []string) string {
	best, bestDistance := "", max(2, len(word)/3)+1
	for _, c := range candidates {
		if d := distance(word, c); d < bestDistance || d == bestDistance && c < best {
			best, bestDistance = c, d
		}
	}
	return best
}

// distance is the number of insertions, deletions and replacements between two short words (Levenshtein), computed row by
// row: row[j] holds the distance between the first i bytes of a and the first j bytes of b.
func distance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := 1
			if a[i] == b[j] {
				cost = 0
			}
			diagonal, row[j+1] = row[j+1], min(row[j+1]+1, row[j]+1, diagonal+cost)
		}
	}
	return row[len(b)]
}

// didYouMean is the hint for a mistyped word: the nearest candidate, or otherwise where to look.
func didYouMean(word string, candidates []string, otherwise string) string {
	if best := nearest(word, candidates); best != "" {
		return fmt.Sprintf("did you mean %q?", best)
	}
	return otherwise
}
