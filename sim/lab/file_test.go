package lab

import (
	"fmt"
	"os"
	"strings"
	"testing"

	"physalia/cell"
	"physalia/health"
)

func repairPolicy() health.RepairConfig { return health.DefaultRepairConfig() }

// good is a small data centre; its lines are what the errors below name.
const good = `name = "test"
colors = ["red", "green"]

[[device]]
name = "core"
tier = "core"

[[device]]
name = "agg1"
tier = "aggregation"
links = ["core"]

[[brick]]
name = "b1"
[[brick.rack]]
name = "r1"
power = "p1"
uplinks = ["agg1"]
servers = 6
[[brick.rack]]
name = "r2"
power = "p2"
uplinks = ["agg1"]
servers = 6
[[brick.rack]]
name = "r3"
power = "p3"
uplinks = ["agg1"]
servers = 5
[[brick.rack.server]]
name = "odd"
color = "green"
capacity = 7
`

func TestTopologyFile(t *testing.T) {
	site, err := ParseTopology("dc.toml", []byte(good))
	if err != nil {
		t.Fatal(err)
	}
	odd := site.View.Server("odd")
	if got := site.String(); got != "1 bricks, 3 racks, 3 power domains, 2 colors, 18 servers, 2 network devices" || odd == nil || odd.Capacity != 7 || odd.Power != "p3" {
		t.Errorf("%s; odd is %v", got, odd)
	}
	state := NewState(site)
	a, b := int32(site.Servers(LevelRack, 0)[0]), int32(site.Servers(LevelRack, 1)[0])
	if !state.Talk(a, b) {
		t.Error("racks on one device cannot talk")
	}
	if state.FailDevice(1); state.Talk(a, b) || !state.Talk(a, site.Servers(LevelRack, 0)[1]) {
		t.Error("without their only device racks talk, or servers of one rack do not")
	}
}

// The example of the documentation is a topology file.
func TestTopologyExample(t *testing.T) {
	text, err := os.ReadFile("../../docs/laboratory.md")
	if err != nil {
		t.Fatal(err)
	}
	_, example, _ := strings.Cut(string(text), "```toml\n")
	example, _, found := strings.Cut(example, "```")
	site, err := ParseTopology("example", []byte(example))
	if err != nil || !found || site.View.Len() != 42 {
		t.Errorf("%v: %v", err, site)
	}
}

// What is wrong with a file is told with its line.
func TestTopologyErrors(t *testing.T) {
	for _, c := range []struct{ name, from, to, want string }{
		{"unknown key", "power = \"p1\"", "feed = \"p1\"", `dc.toml:17: unknown key "brick.rack.feed"`},
		{"wrong type", "servers = 6", "servers = \"six\"", "dc.toml:19: "},
		{"no TOML", "[[brick]]", "[[brick", "dc.toml:13: "},
		{"missing racks", "[[brick.rack]]\nname = \"r2\"\npower = \"p2\"\nuplinks = [\"agg1\"]\nservers = 6\n", "", `dc.toml:13: brick "b1" has 2 racks, it needs 3`},
		{"too few servers", "servers = 6", "servers = 1", `dc.toml:13: brick "b1" color "green" has 6 servers, a cell needs 7`},
		{"duplicate rack", "name = \"r2\"", "name = \"r1\"", `dc.toml:20: rack "b1/r1" is described twice, first on line 15`},
		{"duplicate server", "name = \"odd\"", "name = \"b1-r1-s01\"", `dc.toml:30: server "b1-r1-s01" is described twice, first on line 15`},
		{"duplicate device", "name = \"agg1\"", "name = \"core\"", `dc.toml:8: device "core" is described twice, first on line 4`},
		{"unknown device", "links = [\"core\"]", "links = [\"cor\"]", `dc.toml:8: there is no device "cor"`},
		{"unknown uplink", "uplinks = [\"agg1\"]", "uplinks = [\"agg9\"]", `dc.toml:15: there is no device "agg9"`},
		{"no uplinks", "uplinks = [\"agg1\"]\n", "", `dc.toml:15: rack "r1" has no uplinks`},
		{"no power domain", "power = \"p1\"\n", "", `dc.toml:15: server b1-r1-s01 has power domain ""`},
		{"no servers", "servers = 6\n", "", `dc.toml:15: rack "r1" has no servers`},
		{"negative", "servers = 6", "servers = -6", `dc.toml:15: rack "r1" has -6 servers`},
		{"too many", "servers = 6", "servers = 99999999", `dc.toml:15: rack "r1" has 99999999 servers`},
		{"no name", "name = \"b1\"\n", "", "dc.toml:13: a brick has no name"},
		{"inline tables", "[[brick.rack.server]]\nname = \"odd\"\ncolor = \"green\"\ncapacity = 7\n", "server = [{name = \"odd\", color = \"green\"}]\n", "dc.toml:1: 1 tables brick.rack.server"},
		{"nothing", good, "", "dc.toml:1: there is no brick"},
	} {
		text := strings.Replace(good, c.from, c.to, 1)
		if text == good {
			t.Fatalf("%s: nothing was changed", c.name)
		}
		_, err := ParseTopology("dc.toml", []byte(text))
		if cell.KindOf(err) != cell.Invalid || !strings.Contains(fmt.Sprint(err), c.want) {
			t.Errorf("%s: got %v\nwant %s", c.name, err, c.want)
		}
	}
	if _, err := ParseTopology("dc.toml", make([]byte, FileBytesMax+1)); cell.KindOf(err) != cell.Invalid {
		t.Errorf("a file without end: %v", err)
	}
}

// FuzzTopology: no text makes the reader fall over, and what it accepts holds a cell.
func FuzzTopology(f *testing.F) {
	f.Add(good)
	f.Add(strings.Replace(good, "servers = 6", "servers = 600", 1))
	f.Fuzz(func(t *testing.T, text string) {
		site, err := ParseTopology("f", []byte(text))
		if err != nil {
			return
		}
		for _, p := range site.View.Pools() {
			if len(p.Servers) < smallestPool {
				t.Errorf("pool %s has %d servers", p.Key, len(p.Servers))
			}
		}
	})
}
