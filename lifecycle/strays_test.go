package lifecycle

import (
	"testing"
	"time"

	"physalia/cell"
	"physalia/internal/wire"
)

// A learner is left of a cell that was deleted: its server was told of it by a manager whose store was put back since. It has no
// vote, and the store knows the end of its incarnation, so it is dropped; a node with a vote is reported (rule 16).
func TestLearnerOfADeletedCellIsDropped(t *testing.T) {
	for _, learner := range []bool{true, false} {
		w := newWorld(t.Fatalf, Config{Seed: 1, ScanEvery: time.Second}, 9)
		w.create(time.Minute, "a")
		w.drain()
		jury := w.juries[incKey{"a", 1}]
		w.delete(time.Minute, wire.Drop{Cell: "a"})
		w.drain()
		w.wantCell(t, "a", 1, "deleted", "")
		w.rounds(2) // what was decided in this round is not doubted in it
		at := outsiderOf(w, jury)
		n := &wire.CensusNode{Cell: "a", Incarnation: 1, Node: 8, Configuration: 1, Alpha: jury.Alpha, Owner: jury.Owner, Learner: learner}
		for _, mem := range jury.Members {
			n.Members = append(n.Members, wire.CensusMember{Node: mem.Node, Server: mem.Server})
		}
		w.m.sight(w.m.server(at), n)
		w.m.conclude("a")
		w.turn()
		dropped := false
		for _, c := range w.flight {
			dropped = dropped || c.Method == wire.MethodDropNodes && c.Server == at
		}
		if dropped != learner {
			t.Errorf("learner: %v, dropped: %v", learner, dropped)
		}
	}
}

// outsiderOf is a server that is no member of a jury.
func outsiderOf(w *world, jury wire.Founding) cell.ServerID {
	for _, s := range w.servers {
		member := false
		for _, mem := range jury.Members {
			member = member || mem.Server == s.reg.Server
		}
		if !member {
			return s.reg.Server
		}
	}
	return ""
}
