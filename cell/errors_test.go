package cell

import (
	"context"
	"errors"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"strings"
	"testing"
	"time"
)

// kindComments parses errors.go and returns the comment of every constant of type Kind, by the constant's name.
func kindComments(t *testing.T) map[string]string {
	f, err := parser.ParseFile(token.NewFileSet(), "errors.go", nil, parser.ParseComments)
	if err != nil {
		t.Fatal(err)
	}
	comments := map[string]string{}
	ast.Inspect(f, func(n ast.Node) bool {
		v, ok := n.(*ast.ValueSpec)
		if !ok || len(v.Values) != 1 {
			return true
		}
		if typ, ok := v.Type.(*ast.Ident); ok && typ.Name == "Kind" {
			comments[v.Names[0].Name] = strings.TrimSpace(v.Comment.Text())
		}
		return true
	})
	return comments
}

// kinds pins every kind to its name in Go and its number on the wire.
var kinds = map[string]Kind{
	"Internal": 1, "Invalid": 2, "WrongType": 3, "TooLarge": 4, "Expired": 5, "Overloaded": 6, "NotProposer": 7,
	"UnknownHere": 8, "Deleted": 9, "Unavailable": 10, "UnknownResult": 11, "Quarantined": 12, "Stale": 13, "Exists": 14,
	"NotFound": 15, "Conflict": 16, "NoRoom": 17, "Refused": 18, "Void": 19,
	"NoLease": 20, "Moved": 21, "Denied": 22,
}

// TestKindsAreDocumented checks that the comment of every kind says first whether the request took effect, and that
// MaybeApplied says the same.
func TestKindsAreDocumented(t *testing.T) {
	comments := kindComments(t)
	if len(comments) != len(kinds) || len(kinds) != len(kindNames) {
		t.Fatalf("errors.go declares %d kinds and names %d, this test knows %d", len(comments), len(kindNames), len(kinds))
	}
	for name, k := range kinds {
		comment, declared := comments[name]
		fate, why, _ := strings.Cut(comment, ":")
		switch {
		case !declared || why == "":
			t.Errorf("%s: no comment with a reason: %q", name, comment)
		case fate != "unknown" && !strings.HasPrefix(fate, "not applied"):
			t.Errorf("%s: the comment says neither \"not applied\" nor \"unknown\": %q", name, comment)
		case k.MaybeApplied() != strings.Contains(fate, "unknown"):
			t.Errorf("%s: MaybeApplied is %t, the comment says %q", name, k.MaybeApplied(), fate)
		}
		if !k.Valid() || k.String() == "" || strings.HasPrefix(k.String(), "error kind") {
			t.Errorf("%s has no name: %q", name, k)
		}
	}
	if Kind(0).Valid() || Kind(23).Valid() || Kind(23).String() != "error kind 23" {
		t.Error("an undeclared kind looks valid")
	}
}

func TestKindsWorkWithErrorsIs(t *testing.T) {
	for name, k := range kinds {
		e := &Error{Op: "test", Kind: k, Err: context.DeadlineExceeded}
		wrapped := fmt.Errorf("outer: %w", e)
		for other, l := range kinds {
			if errors.Is(wrapped, l) != (k == l) || errors.Is(k, l) != (k == l) {
				t.Errorf("an error of kind %s is %s: %t", name, other, errors.Is(wrapped, l))
			}
		}
		if KindOf(wrapped) != k || KindOf(e) != k || KindOf(k) != k || KindOf(fmt.Errorf("x: %w", k)) != k {
			t.Errorf("%s: kind of it is %v", name, KindOf(wrapped))
		}
		if !errors.Is(wrapped, context.DeadlineExceeded) {
			t.Errorf("%s hides its cause", name)
		}
	}
	nested := &Error{Kind: Conflict, Err: &Error{Kind: Stale}}
	if KindOf(nested) != Conflict || !errors.Is(nested, Stale) {
		t.Error("the outermost kind counts, the inner one can be found")
	}
}

func TestMaybeApplied(t *testing.T) {
	var none *Error
	for _, c := range []struct {
		err  error
		want bool
	}{
		{nil, false}, {none, false},
		{&Error{Kind: Internal}, true}, {&Error{Kind: UnknownResult}, true}, {&Error{Kind: Expired}, true},
		{&Error{Kind: Conflict}, false}, {&Error{Kind: Void}, false}, {WrongType, false}, {UnknownResult, true},
		{fmt.Errorf("put: %w", &Error{Kind: Overloaded}), false},
		{context.DeadlineExceeded, true}, {errors.New("connection reset"), true},
		{&Error{Kind: Conflict, Err: context.Canceled}, false},
	} {
		if MaybeApplied(c.err) != c.want {
			t.Errorf("%v: maybe applied is %t", c.err, !c.want)
		}
	}
	if KindOf(nil) != 0 || KindOf(none) != 0 || KindOf(errors.New("foreign")) != Internal {
		t.Error("kinds of nil and of foreign errors")
	}
}

func TestErrorReadsWell(t *testing.T) {
	for want, e := range map[string]*Error{
		"stale":                        {Kind: Stale},
		"vol-1: stale: plan 3 after 4": {Kind: Stale, Cell: "vol-1", Detail: "plan 3 after 4"},
		"kv.put: overloaded":           {Op: "kv.put", Kind: Overloaded, RetryAfter: time.Second},
		"kv.put vol-1: invalid request: key has 0 bytes: inner (use 1 to 256)": {Op: "kv.put", Kind: Invalid, Cell: "vol-1",
			Detail: "key has 0 bytes", Hint: "use 1 to 256", Err: errors.New("inner")},
	} {
		if e.Error() != want {
			t.Errorf("got  %s\nwant %s", e, want)
		}
	}
}
