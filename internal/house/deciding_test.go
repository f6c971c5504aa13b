package house

import (
	"fmt"
	"go/ast"
	"go/token"
	"path"
	"slices"
	"strings"
	"testing"
)

// decidingPackages decide and never do: inputs and logical time in, effects out. All their files are held to the rules.
var decidingPackages = []string{
	"paxos", "cell", "cell/machine", "placement", "node/core", "client/route", "sim", "sim/blockstore", "sim/lab", "internal/topology", "internal/must",
	"internal/knock", "internal/grant", "node/admission", "node/ledger", "node/slab", "internal/changes",
	"internal/duty",
}

// mixedPackages decide and do, in different files. Their deciding files are those that are not listed here as the thin
// shell, so that a new file is held to the rules until somebody says otherwise.
var mixedPackages = map[string][]string{
	"discovery": {"keeper.go", "newer.go", "run.go", "service.go"},
	"health":    {"inquire.go", "observer.go", "repairservice.go"},
	"lifecycle": {"backup.go", "pebble.go", "service.go", "service_rebuild.go", "store.go"},

	"internal/audit":      {"log.go"},
	"internal/pki":        {"authority.go", "conn.go", "directory.go", "guard.go", "inspect.go", "join.go", "rotate.go", "stats.go"},
	"lifecycle/etcdstore": {"config.go", "member.go", "presence.go", "snapshot.go", "store.go", "url.go"},
}

// notInDeciding are standard packages that a deciding file must not import: they reach outside, block, or differ from
// run to run. By direct import only, since even fmt imports os.
var notInDeciding = []string{
	"context", "crypto/rand", "hash/maphash", "io/fs", "io/ioutil", "log", "log/slog", "math/rand", "net", "os", "os/exec",
	"os/signal", "runtime", "sync", "sync/atomic", "syscall", "testing", "unsafe",
}

// notCalledInDeciding are functions of packages that are otherwise welcome: durations are, clocks are not; a random
// source that was handed in is, the shared one is not.
var notCalledInDeciding = map[string][]string{
	"time": {"Now", "Since", "Until", "Sleep", "After", "AfterFunc", "Tick", "NewTicker", "NewTimer", "Local", "LoadLocation"},
	"math/rand/v2": {"ExpFloat64", "Float32", "Float64", "Int", "Int32", "Int32N", "Int64", "Int64N", "IntN", "N",
		"NormFloat64", "Perm", "Shuffle", "Uint", "Uint32", "Uint32N", "Uint64", "Uint64N", "UintN"},
}

// librariesInDeciding are the third-party packages that deciding code may use, by package.
var librariesInDeciding = map[string]string{
	"cell/machine": "github.com/cespare/xxhash/v2",      // checksums of states: a pure function
	"sim":          "github.com/anishathalye/porcupine", // judges a history after the world has stopped
	"sim/lab":      "github.com/pelletier/go-toml/v2",   // reads a topology from bytes: a pure function
}

func deciding(s *source) bool {
	if s.test {
		return false
	}
	shell, mixed := mixedPackages[s.pkg]
	return slices.Contains(decidingPackages, s.pkg) || mixed && !slices.Contains(shell, path.Base(s.name))
}

// decidingErrors lists what a deciding file does that it must not.
func decidingErrors(s *source) (problems []string) {
	report := func(n ast.Node, format string, args ...any) {
		problems = append(problems, fmt.Sprintf("%s:%d: deciding code %s", s.name, s.line(n), fmt.Sprintf(format, args...)))
	}
	watched := map[string]string{} // local name of a package -> its path
	for i, imp := range s.imports() {
		spec := s.tree.Imports[i]
		if slices.Contains(notInDeciding, imp) || strings.HasPrefix(imp, "net/") {
			report(spec, "imports %s", imp)
		}
		if _, ours := own(imp); !ours && !standard(imp) && librariesInDeciding[s.pkg] != imp {
			report(spec, "imports the library %s", imp)
		}
		if _, ok := notCalledInDeciding[imp]; ok {
			name := strings.TrimSuffix(imp, "/v2")
			name = name[strings.LastIndexByte(name, '/')+1:]
			if spec.Name != nil {
				name = spec.Name.Name
			}
			watched[name] = imp
		}
	}
	ast.Inspect(s.tree, func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.GoStmt:
			report(n, "starts a goroutine")
		case *ast.SelectStmt:
			report(n, "waits in a select")
		case *ast.ChanType:
			report(n, "uses a channel")
		case *ast.UnaryExpr:
			if n.Op == token.ARROW {
				report(n, "receives from a channel")
			}
		case *ast.SelectorExpr:
			if x, ok := n.X.(*ast.Ident); ok && slices.Contains(notCalledInDeciding[watched[x.Name]], n.Sel.Name) {
				report(n, "uses %s.%s", x.Name, n.Sel.Name)
			}
		}
		return true
	})
	return problems
}

func TestDecidingCode(t *testing.T) {
	seen := map[string]bool{}
	for _, s := range sources(t) {
		if !deciding(s) {
			continue
		}
		seen[s.pkg] = true
		for _, problem := range decidingErrors(s) {
			t.Error(problem)
		}
	}
	for _, must := range []string{"paxos", "cell"} {
		if !seen[must] {
			t.Errorf("no deciding file of package %s was looked at", must)
		}
	}
}

// The rule finds each thing that it forbids, and leaves alone what it allows.
func TestDecidingRule(t *testing.T) {
	const head = "package p\n"
	for _, c := range []struct {
		text     string
		problems int
	}{
		{`import "time"; const d = time.Second; var t time.Time`, 0},
		{`import "time"; var t = time.Now()`, 1},
		{`import clock "time"; var now = clock.Now`, 1},
		{`import "math/rand/v2"; func f(r *rand.Rand) int { return r.IntN(3) }`, 0},
		{`import "math/rand/v2"; var n = rand.IntN(3)`, 1},
		{`import "math/rand"`, 1},
		{`import "net/netip"`, 1},
		{`import ("os"; "sync"; "log/slog")`, 3},
		{`import "github.com/x/y"`, 1},
		{`import "physalia/cell"`, 0},
		{`func f() { go f() }`, 1},
		{`func f(c chan int) { select { case <-c: } }`, 3},
	} {
		s := parsed(t, "p/p.go", head+c.text)
		if got := decidingErrors(s); len(got) != c.problems {
			t.Errorf("%s\n got %d problems, want %d: %v", c.text, len(got), c.problems, got)
		}
	}
}
