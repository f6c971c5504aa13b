// Package must holds the project's assertions: cheap ones that are always on, and costly ones behind the build tag
// "costly" (CI runs with and without it). A failed assertion panics with a *Violation; the server recovers it per node
// and quarantines that node only.
package must

import "fmt"

// Violation is the panic value of a failed assertion.
type Violation struct{ Text string }

// Error makes a Violation printable wherever a recovered panic is reported.
func (v *Violation) Error() string { return "assertion failed: " + v.Text }

// That panics with a *Violation unless ok. The text starts with the name of the invariant it guards.
func That(ok bool, format string, args ...any) {
	if !ok {
		panic(&Violation{Text: fmt.Sprintf(format, args...)})
	}
}
