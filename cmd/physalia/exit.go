package main

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"physalia/cell"
)

// exitCode is how the process ends. Scripts depend on the numbers, so they never change. What a script wants to know is
// not what went wrong but what it may do next: repeat (5), read before repeating (7), give up (2, 4, 6), or take the other
// branch of its own logic (3, 8). The codes are cut along that line.
type exitCode int

// The exit codes; exitTable says what they mean.
const (
	exitOK          exitCode = 0
	exitFailed      exitCode = 1
	exitUsage       exitCode = 2
	exitCondition   exitCode = 3
	exitNotFound    exitCode = 4
	exitUnavailable exitCode = 5
	exitRefused     exitCode = 6
	exitUnknown     exitCode = 7
	exitStale       exitCode = 8
	exitDenied      exitCode = 9
	exitInterrupted exitCode = 130
)

// exitTable documents every code, for the help and for docs/operations.md (a test compares them).
var exitTable = []struct {
	code    exitCode
	meaning string
}{
	{exitOK, "done"},
	{exitFailed, "failed, and none of the cases below"},
	{exitUsage, "usage: command line, environment, configuration file or request is invalid or too large"},
	{exitCondition, "a condition of the transaction did not hold, or a value had another type; nothing was applied by Then"},
	{exitNotFound, "no such cell, key or server, or the cell is deleted"},
	{exitUnavailable, "unavailable, overloaded or out of time; nothing was applied, try again"},
	{exitRefused, "refused: not allowed here, or there is no room: for placement, or on the disks of a cell"},
	{exitUnknown, "unknown outcome: the write may or may not have been applied, read before you repeat it"},
	{exitStale, "conflict: the name exists already, or the request carried a number of the past"},
	{exitDenied, "denied: who asks has no right to it; the message says which one is missing"},
	{exitInterrupted, "interrupted"},
}

// exitOfKind says for each kind which of those a script should do. Internal is among the unknown outcomes because a server
// that failed in the middle of a request cannot say how far it got; Expired is, because the command line sends a request
// once, so that a request outside the window has been sent before. UnknownHere means not found, because the client library
// ends with it only when neither discovery nor any server knows the cell.
//
// It maps what a colony answers to an exit code; kinds that are not listed are exitFailed.
var exitOfKind = map[cell.Kind]exitCode{
	cell.Invalid: exitUsage, cell.TooLarge: exitUsage,
	cell.Conflict: exitCondition, cell.WrongType: exitCondition,
	cell.NotFound: exitNotFound, cell.Deleted: exitNotFound, cell.UnknownHere: exitNotFound,
	cell.Unavailable: exitUnavailable, cell.Overloaded: exitUnavailable, cell.NotProposer: exitUnavailable,
	cell.Quarantined: exitUnavailable, cell.Moved: exitUnavailable,
	cell.Denied: exitDenied, cell.Refused: exitRefused, cell.NoRoom: exitRefused,
	cell.UnknownResult: exitUnknown, cell.Internal: exitUnknown, cell.Expired: exitUnknown,
	cell.Stale: exitStale, cell.Exists: exitStale, cell.Void: exitStale, cell.NoLease: exitStale,
}

// exitOf chooses the exit code for an error. A command that only reads has no outcome that could be unknown.
func exitOf(err error, readOnly bool) exitCode {
	// An unknown outcome goes before an interruption: whoever presses Ctrl-C in the middle of a write must still learn
	// that the write may have been applied.
	var e *cell.Error
	isCell := errors.As(err, &e)
	switch {
	case err == nil:
		return exitOK
	case isCell && e.Kind == cell.UnknownResult && readOnly:
		return exitUnavailable
	case isCell && e.Kind == cell.Internal && readOnly:
		return exitFailed
	case isCell && exitOfKind[e.Kind] == exitUnknown:
		return exitUnknown
	case errors.Is(err, context.Canceled):
		return exitInterrupted
	case isCell && exitOfKind[e.Kind] != exitOK:
		return exitOfKind[e.Kind]
	case errors.Is(err, context.DeadlineExceeded):
		return exitUnavailable
	}
	return exitFailed
}

// exitHelp is the table as help text, so that it stands where people look first.
func exitHelp() string {
	var b strings.Builder
	b.WriteString("Exit codes:\n")
	for _, row := range exitTable {
		fmt.Fprintf(&b, "  %3d  %s\n", row.code, row.meaning)
	}
	return b.String()
}
