package placement

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/cockroachdb/datadriven"

	"physalia/cell"
	"physalia/internal/topology"
)

// story is the world that the transcripts in testdata talk to.
type story struct {
	servers []topology.Server
	down    map[cell.ServerID]bool
	book    *Book
	cells   int
}

// TestStories runs the transcripts: golden placements, reports, refusals and violations. Rewrite with -rewrite.
func TestStories(t *testing.T) {
	datadriven.Walk(t, "testdata/stories", func(t *testing.T, path string) {
		w := &story{down: map[cell.ServerID]bool{}, book: NewBook()}
		datadriven.RunTest(t, path, func(t *testing.T, d *datadriven.TestData) string {
			switch d.Cmd {
			case "servers":
				return w.addServers(t, d)
			case "down", "up":
				for _, a := range d.CmdArgs {
					w.down[cell.ServerID(a.Key)] = d.Cmd == "down"
				}
				return fmt.Sprintf("%d known", len(w.servers))
			case "place":
				return w.place(t, d)
			case "loads":
				return w.loads(d)
			case "check":
				return w.check(t, d)
			}
			d.Fatalf(t, "unknown command %s", d.Cmd)
			return ""
		})
	})
}

// addServers takes "servers brick color [capacity=n]" with one line per server: id rack power.
func (w *story) addServers(t *testing.T, d *datadriven.TestData) string {
	capacity := 100
	d.MaybeScanArgs(t, "capacity", &capacity)
	for line := range strings.Lines(d.Input) {
		f := strings.Fields(line)
		w.servers = append(w.servers, topology.Server{ID: cell.ServerID(f[0]), Rack: topology.Rack(f[1]), Power: topology.PowerDomain(f[2]),
			Brick: topology.Brick(d.CmdArgs[0].Key), Color: topology.Color(d.CmdArgs[1].Key), Capacity: uint64(capacity)})
	}
	return fmt.Sprintf("%d known", len(w.servers))
}

// place takes "place [size=7] [brick=] [color=] [primary=] [client=] [replica=] [times=1]", prints the last placement
// and its report, and adds all to the book.
func (w *story) place(t *testing.T, d *datadriven.TestData) string {
	in := Input{View: view(t, w.servers), Down: w.down, Book: w.book, JurySize: 7}
	times := 1
	d.MaybeScanArgs(t, "size", &in.JurySize)
	d.MaybeScanArgs(t, "times", &times)
	for key, to := range map[string]*topology.Location{"primary": &in.Hints.Primary, "client": &in.Hints.Client, "replica": &in.Hints.Replica} {
		var id string
		d.MaybeScanArgs(t, key, &id)
		to.Server = cell.ServerID(id)
	}
	var brick, color string
	d.MaybeScanArgs(t, "brick", &brick)
	d.MaybeScanArgs(t, "color", &color)
	in.Brick, in.Color = topology.Brick(brick), topology.Color(color)
	out := ""
	for range times {
		w.cells++
		p, rep, err := Place(in, seeded(uint64(w.cells)))
		if err != nil {
			return err.Error()
		}
		if err := w.book.Add(cell.ID(fmt.Sprintf("c%d", w.cells)), 1, p); err != nil {
			d.Fatalf(t, "%v", err)
		}
		out = p.String() + "\n" + rep.String()
	}
	return out
}

// loads shows nodes and owned cells of every server, and the overlap of every pool.
func (w *story) loads(*datadriven.TestData) string {
	var b strings.Builder
	var pools []topology.PoolKey
	for _, s := range w.servers {
		fmt.Fprintf(&b, "%-4s %3d nodes, owns %d\n", s.ID, w.book.Nodes(s.ID), w.book.Owned(s.ID))
		if !slices.Contains(pools, s.Pool()) {
			pools = append(pools, s.Pool())
		}
	}
	for _, k := range pools {
		fmt.Fprintf(&b, "%s: %s\n", k, w.book.Overlap(k, 0))
	}
	return b.String()
}

// check takes "check size=7 member member ...".
func (w *story) check(t *testing.T, d *datadriven.TestData) string {
	size := 7
	d.MaybeScanArgs(t, "size", &size)
	var members []cell.ServerID
	for _, a := range d.CmdArgs {
		if a.Key != "size" {
			members = append(members, cell.ServerID(a.Key))
		}
	}
	v := view(t, w.servers)
	bad := Check(Jury(members, v), size, v)
	if len(bad) == 0 {
		return "sound"
	}
	var b strings.Builder
	for _, x := range bad {
		fmt.Fprintln(&b, x)
	}
	return b.String()
}
