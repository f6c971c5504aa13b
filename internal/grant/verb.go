package grant

import (
	"fmt"
	"strings"

	"physalia/cell"
)

// Verbs is a set of what may be done. The numbers are part of the format of tokens and never change.
type Verbs uint32

// The verbs; doc.go says what they mean.
const (
	Read   Verbs = 1 << 0
	Write  Verbs = 1 << 1
	Lease  Verbs = 1 << 2
	Locate Verbs = 1 << 3
	Manage Verbs = 1 << 4
	View   Verbs = 1 << 5
	Admin  Verbs = 1 << 6

	verbCount = 7
	anyVerb   = 1<<verbCount - 1
	data      = Read | Write | Lease // what is asked of a cell itself
	colony    = View | Admin         // of no particular cell, so granted on all or not at all
)

var verbNames = [verbCount]string{"read", "write", "lease", "locate", "manage", "view", "admin"}

// String lists the verbs as ParseVerbs reads them.
func (v Verbs) String() string {
	var names []string
	for i, name := range verbNames {
		if v&(1<<i) != 0 {
			names = append(names, name)
		}
	}
	return strings.Join(names, ",")
}

// ParseVerbs reads names of verbs with commas between them. The error is a *cell.Error of kind Invalid.
func ParseVerbs(text string) (all Verbs, err error) {
	for _, word := range strings.Split(text, ",") {
		var one Verbs
		for i, name := range verbNames {
			if word == name {
				one = 1 << i
			}
		}
		if one == 0 {
			return 0, invalid(fmt.Sprintf("%q is no verb", clip(word)), "the verbs are "+Verbs(anyVerb).String())
		}
		all |= one
	}
	return all, nil
}

func invalid(detail, hint string) error {
	return &cell.Error{Op: "grant", Kind: cell.Invalid, Detail: detail, Hint: hint}
}

// clip shortens what came from outside, for errors.
func clip(s string) string {
	const most = 80
	if len(s) > most {
		return s[:most] + "..."
	}
	return s
}
