package house

import (
	"slices"
	"sort"
	"strings"
	"testing"
)

// mayImport is the picture of the house as data: for every package, the own packages that it may import directly. A
// package without a row of its own lives under the row of the nearest directory above it, and may besides import its
// neighbours in that directory. internal/must, the assertions, is open to all. A new arrow is a new word here.
var mayImport = map[string]string{
	"paxos":              "",
	"cell":               "",
	"cell/machine":       "cell internal/wire",
	"internal/must":      "",
	"internal/deps":      "",
	"internal/rapidseed": "",
	"internal/house":     "",
	"internal/topology":  "cell",
	"internal/wire":      "cell",
	"internal/wire/peer": "cell paxos internal/wire",
	"internal/refusal":   "",
	"internal/rpc":       "cell internal/refusal internal/wire",
	"internal/pki":       "cell internal/refusal internal/wire",
	"internal/grant":     "cell internal/wire",
	"internal/audit":     "cell internal/wire",
	"internal/access":    "cell internal/grant internal/pki internal/wire internal/rpc",
	"internal/duty":      "internal/roster internal/wire",
	"internal/fleet":     "cell internal/duty internal/knock internal/refusal internal/roster internal/wire internal/rpc",
	"internal/knock":     "cell internal/wire",
	"internal/roster":    "",
	"internal/objects":   "cell",
	"internal/changes":   "",
	"internal/snapshot":  "cell internal/wire",
	"placement":          "cell internal/topology",
	"client":             "cell internal/access internal/pki internal/snapshot internal/wire internal/rpc",
	"client/snapshots":   "internal/objects",
	"node":               "cell cell/machine paxos internal/access internal/grant internal/changes internal/duty internal/knock internal/pki internal/pki/export internal/refusal internal/wire internal/wire/peer internal/rpc internal/topology",
	"node/storage":       "cell",
	"node/slab":          "",
	"node/admission":     "cell",
	"lifecycle":          "cell placement internal/wire internal/rpc internal/topology internal/fleet",
	"discovery":          "cell internal/changes internal/snapshot internal/wire internal/rpc internal/topology internal/fleet",
	"health":             "cell internal/wire internal/rpc internal/topology internal/fleet",
	"sim":                "cell cell/machine client client/route discovery health internal/topology internal/wire internal/wire/peer lifecycle node node/core node/storage paxos placement sim/blockstore",
	"sim/blockstore":     "cell",
	"sim/lab":            "cell health internal/topology internal/wire placement",
	"cmd/physalia":       "cell cell/machine client client/snapshots discovery health internal/access internal/audit internal/grant internal/duty internal/fleet internal/knock internal/objects internal/pki internal/pki/export internal/refusal internal/roster internal/rpc internal/topology internal/wire lifecycle lifecycle/etcdstore node placement sim sim/blockstore sim/lab",

	"lifecycle/etcdstore": "cell lifecycle internal/roster",
	"internal/etcdtest":   "",

	"bench": "cell client cmd/physalia/colony cmd/physalia/operator internal/wire", // a module of its own
}

// neverReaches forbids whole ways, not only single arrows: what a package must not link through anybody. A key that ends
// in "/..." covers the packages below it too; a forbidden name always does.
var neverReaches = map[string]string{
	"client/...":    "paxos cell/machine node lifecycle discovery health placement sim github.com/cockroachdb/pebble github.com/hashicorp/memberlist github.com/prometheus/client_golang",
	"paxos/...":     "cell node client internal/wire",
	"cell":          "paxos node client internal/wire",
	"placement/...": "paxos node client cell/machine",
	"lifecycle/...": "paxos cell/machine node discovery health client sim",
	"lifecycle":     "go.etcd.io/etcd google.golang.org/grpc",
	"sim":           "go.etcd.io/etcd google.golang.org/grpc",
	"sim/lab":       "gonum.org/v1/plot paxos node",
	"discovery/...": "paxos cell/machine node lifecycle health client sim",
	"health/...":    "paxos cell/machine node lifecycle discovery client sim",
	"node/...":      "lifecycle discovery health client sim placement",
	"internal/wire": "paxos",
}

// graph is who imports whom, product code only.
type graph map[string]map[string]bool

func readGraph(all []*source) graph {
	g := graph{}
	for _, s := range all {
		if s.test {
			continue
		}
		if g[s.pkg] == nil {
			g[s.pkg] = map[string]bool{}
		}
		for _, imp := range s.imports() {
			if p, ok := own(imp); ok {
				g[s.pkg][p] = true
			} else if !standard(imp) {
				g[s.pkg][imp] = true
			}
		}
	}
	return g
}

// way finds a shortest chain of imports from a package to anything that bad accepts, or nil.
func (g graph) way(from string, bad func(string) bool) []string {
	queue, seen := [][]string{{from}}, map[string]bool{from: true}
	for len(queue) > 0 {
		chain := queue[0]
		queue = queue[1:]
		for _, next := range sortedKeys(g[chain[len(chain)-1]]) {
			if seen[next] {
				continue
			}
			seen[next] = true
			longer := append(slices.Clone(chain), next)
			if bad(next) {
				return longer
			}
			queue = append(queue, longer)
		}
	}
	return nil
}

func sortedKeys[V any](m map[string]V) []string {
	keys := make([]string, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	sort.Strings(keys)
	return keys
}

// row finds the table row that a package lives under.
func row(pkg string) (dir string, allowed []string, ok bool) {
	for dir = pkg; ; {
		if words, found := mayImport[dir]; found {
			return dir, strings.Fields(words), true
		}
		i := strings.LastIndexByte(dir, '/')
		if i < 0 {
			return "", nil, false
		}
		dir = dir[:i]
	}
}

// arrowError says what is wrong with an arrow, or nothing.
func arrowError(from, to string) string {
	dir, allowed, ok := row(from)
	switch {
	case !ok:
		return "package " + from + " has no row in mayImport"
	case to == "internal/must" || slices.Contains(allowed, to):
		return ""
	case within(from, dir) && within(to, dir) && (from != dir || mayImportBelow(dir, to)):
		return ""
	}
	return "package " + from + " must not import " + to
}

// mayImportBelow lets a package import what lies below it, unless that has a row of its own that is not its business:
// cell must not know cell/machine.
func mayImportBelow(dir, to string) bool {
	_, separate := mayImport[to]
	return !separate || dir == "node"
}

func TestArrows(t *testing.T) {
	g := readGraph(sources(t))
	for _, from := range sortedKeys(g) {
		if _, _, ok := row(from); !ok {
			t.Errorf("package %s has no row in mayImport", from)
			continue
		}
		for _, to := range sortedKeys(g[from]) {
			if first, _, _ := strings.Cut(to, "/"); strings.Contains(first, ".") {
				continue // a library; see TestDecidingPackages and docs/dependencies.md
			}
			if problem := arrowError(from, to); problem != "" {
				t.Error(problem)
			}
		}
	}
}

func TestNeverReaches(t *testing.T) {
	g := readGraph(sources(t))
	for _, key := range sortedKeys(neverReaches) {
		dir, below := strings.CutSuffix(key, "/...")
		for _, from := range sortedKeys(g) {
			if from != dir && (!below || !within(from, dir)) {
				continue
			}
			for _, forbidden := range strings.Fields(neverReaches[key]) {
				if chain := g.way(from, func(p string) bool { return within(p, forbidden) }); chain != nil {
					t.Errorf("%s must not reach %s: %s", from, forbidden, strings.Join(chain, " -> "))
				}
			}
		}
	}
}

// Only node and sim marry the agreement with the state machine, and only cmd starts the simulator.
func TestWhoMarries(t *testing.T) {
	g := readGraph(sources(t))
	for _, p := range sortedKeys(g) {
		both := g[p]["paxos"] && g[p]["cell/machine"]
		if both && !within(p, "node") && !within(p, "sim") {
			t.Errorf("%s imports paxos and cell/machine; only node and sim may", p)
		}
		for to := range g[p] {
			if within(to, "sim") && !within(p, "sim") && !within(p, "cmd") {
				t.Errorf("%s imports %s; only cmd may", p, to)
			}
		}
	}
}

// The rules themselves are tested on arrows that must and must not pass.
func TestArrowRules(t *testing.T) {
	for _, c := range []struct {
		from, to string
		allowed  bool
	}{
		{"paxos", "internal/must", true}, {"paxos", "cell", false}, {"cell", "paxos", false}, {"cell", "cell/machine", false},
		{"cell/machine", "cell", true}, {"cell/machine", "paxos", false}, {"client", "internal/wire", true},
		{"client", "internal/wire/peer", false}, {"node", "node/core", true}, {"node/core", "node/storage", true},
		{"node/core", "paxos", true}, {"node/storage", "node/core", false}, {"node", "lifecycle", false}, {"lifecycle", "health", false},
		{"internal/wire", "internal/wire/peer", false}, {"internal/wire/peer", "paxos", true}, {"unheard-of", "cell", false},
	} {
		if got := arrowError(c.from, c.to) == ""; got != c.allowed {
			t.Errorf("arrow %s -> %s: allowed is %v, want %v", c.from, c.to, got, c.allowed)
		}
	}
	g := graph{"a": {"b": true}, "b": {"github.com/x/y/z": true}}
	if chain := g.way("a", func(p string) bool { return within(p, "github.com/x/y") }); len(chain) != 3 {
		t.Errorf("way over two arrows: got %v", chain)
	}
}
