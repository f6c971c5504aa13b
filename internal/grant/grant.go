package grant

import (
	"fmt"
	"strings"

	"physalia/cell"
)

// Grant allows verbs on the cells and keys that it names.
type Grant struct {
	Verbs  Verbs
	Cell   string // name of a cell, or with Prefix the beginning of names; empty with Prefix: every cell
	Prefix bool
	Key    string // beginning of keys; empty: every key
}

// String shows a grant as Parse reads it: "read,write vol-* p/".
func (g Grant) String() string {
	text := g.Verbs.String() + " " + g.Cell
	if g.Prefix {
		text += "*"
	}
	if g.Key != "" {
		text += " " + g.Key
	}
	return text
}

// Parse reads "VERBS CELLS [KEYPREFIX]": verbs with commas between them; the names of cells with commas between them, each of which
// may end in '*' for all that begin so; and the beginning of keys, which may have spaces. It makes one grant for each of CELLS.
// The error is a *cell.Error of kind Invalid.
func Parse(text string) (grants []Grant, err error) {
	verbs, rest, ok := strings.Cut(text, " ")
	if !ok {
		return nil, invalid(fmt.Sprintf("grant %q names no cells", clip(text)), "write \"VERBS CELLS [KEYPREFIX]\", for example \"read,write vol-* p/\"")
	}
	v, err := ParseVerbs(verbs)
	if err != nil {
		return nil, err
	}
	cells, key, _ := strings.Cut(rest, " ")
	for _, name := range strings.Split(cells, ",") {
		g := Grant{Verbs: v, Key: key}
		g.Cell, g.Prefix = strings.CutSuffix(name, "*")
		if err := g.Check(); err != nil {
			return nil, err
		}
		grants = append(grants, g)
	}
	return grants, nil
}

// Check reports what is wrong with a grant, as a *cell.Error of kind Invalid, or nil.
func (g Grant) Check() error {
	switch {
	case g.Verbs == 0 || g.Verbs&^anyVerb != 0:
		return invalid(fmt.Sprintf("a grant has verbs %#x", uint32(g.Verbs)), "the verbs are "+Verbs(anyVerb).String())
	case len(g.Key) > cell.KeyBytesMax:
		return invalid(fmt.Sprintf("a key prefix has %d bytes, allowed are %d", len(g.Key), cell.KeyBytesMax), "")
	case g.Key != "" && g.Verbs&^data != 0:
		return invalid(fmt.Sprintf("grant %q: only read, write and lease can be limited to keys", g), "put the other verbs into a grant of their own")
	case g.Verbs&colony != 0 && (g.Cell != "" || !g.Prefix):
		return invalid(fmt.Sprintf("grant %q: view and admin are about the whole colony", g), "grant them on *")
	case g.Prefix && g.Cell == "":
		return nil
	}
	if err := cell.ID(g.Cell).Check(); err != nil {
		return invalid(fmt.Sprintf("grant %q: %v", g, err), "name a cell, or the beginning of names with '*' behind it")
	}
	return nil
}

// names tells whether the grant is about a cell.
func (g *Grant) names(id cell.ID) bool {
	if g.Prefix {
		return strings.HasPrefix(string(id), g.Cell)
	}
	return string(id) == g.Cell
}

// Rights are what one user may do. They are made once per connection, and never changed.
type Rights struct {
	Who    string // for errors and records: the identity, and the token if there is one
	All    bool   // everything, without looking further
	Grants []Grant
	From   int64  // Unix seconds; there is no right before
	Until  int64  // Unix seconds; and none from then on
	Lack   Reason // why there are no grants at all; Allowed when there are
}

// Everything are the rights of operators and of the control plane.
func Everything(who string) *Rights { return &Rights{Who: who, All: true} }

// Nothing are the rights of somebody who has shown nothing that grants any.
func Nothing(who string, why Reason) *Rights { return &Rights{Who: who, Lack: why} }

// general refuses whatever is asked, or nothing. now is in Unix seconds.
func (r *Rights) general(now int64) Reason {
	switch {
	case r.Lack != Allowed:
		return r.Lack
	case now >= r.Until:
		return TokenExpired
	case now < r.From:
		return TokenNotYet
	}
	return Allowed
}

// covers tells whether some grant allows one of the verbs on a cell and a key, and if not, how far the grants come.
func (r *Rights) covers(any Verbs, id cell.ID, key string) Reason {
	lack := NoCell
	for i := range r.Grants {
		g := &r.Grants[i]
		if !g.names(id) {
			continue
		}
		if g.Verbs&any == 0 {
			lack = max(lack, NoVerb)
			continue
		}
		if strings.HasPrefix(key, g.Key) {
			return Allowed
		}
		lack = NoKey
	}
	return lack
}

// touches is covers for what concerns a cell and none of its keys: whatever keys a grant is limited to.
func (r *Rights) touches(any Verbs, id cell.ID) Reason {
	lack := NoCell
	for i := range r.Grants {
		if g := &r.Grants[i]; g.names(id) {
			if g.Verbs&any != 0 {
				return Allowed
			}
			lack = NoVerb
		}
	}
	return lack
}

// everywhere tells whether some grant allows a verb on all cells whose names begin with a prefix.
func (r *Rights) everywhere(any Verbs, prefix string) Reason {
	lack := NoCell
	for i := range r.Grants {
		if g := &r.Grants[i]; g.Prefix && strings.HasPrefix(prefix, g.Cell) {
			if g.Verbs&any != 0 {
				return Allowed
			}
			lack = NoVerb
		}
	}
	return lack
}
