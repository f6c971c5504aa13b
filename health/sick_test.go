package health

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"physalia/cell"
	"physalia/internal/wire"
)

// told is a world that has every server tell of its sick nodes once a minute.
func (w *repairWorld) told(d time.Duration) {
	for end := w.now + d; w.now < end; {
		for _, s := range w.servers {
			if !w.dead[s] {
				w.tellSick(s)
			}
		}
		w.run(min(time.Minute, end-w.now))
	}
}

// One node is out of service while its server is up: it is replaced like a dead one, when the patience is over and not before, and
// no other cell of that server is touched.
func TestQuarantinedNodeIsOneDeadMember(t *testing.T) {
	c := DefaultRepairConfig()
	w := newRepairWorld(t, c, 1, 7, 2, 3, 200)
	v := w.cells["vol-000003"]
	s := v.members[2]
	w.sicken(s, v.id)
	w.told(c.Patience - time.Minute)
	if st := w.r.Stats(); len(w.proposals) != 0 || st.Queued[classWaiting] != 1 || st.Sick != 1 {
		t.Fatalf("%d proposals before the patience is over, %+v", len(w.proposals), st)
	}
	w.told(5 * time.Minute)
	if len(w.proposals) != 1 || w.proposals[0].Cell != v.id || w.proposals[0].Remove != s || !strings.Contains(w.proposals[0].Why, "out of service") {
		t.Fatalf("%+v", w.proposals)
	}
	if slices.Contains(v.members, s) {
		t.Fatalf("%s is a member of %v still", s, v.members)
	}
	// It is kept for inspection and told of for ever, which concerns nobody any more.
	if st := w.r.Stats(); st.Sick != 0 || st.Queued[classWaiting] != 0 || st.InFlight != 0 {
		t.Fatalf("%+v", st)
	}
}

// A node that is out of service and a dead server make two, which do not wait for the patience; one that heals in time is left alone.
func TestQuarantinedNodeBesideADeadServer(t *testing.T) {
	c := DefaultRepairConfig()
	w := newRepairWorld(t, c, 2, 7, 2, 3, 200)
	v, other := w.cells["vol-000003"], w.cells["vol-000004"]
	w.sicken(v.members[0], v.id)
	w.sicken(other.members[0], other.id)
	w.told(2 * time.Minute)
	delete(w.sick, other.members[0])
	w.die(v.members[1])
	w.told(c.Settle + 2*time.Minute)
	if len(w.proposals) != 1 || w.proposals[0].Cell != v.id {
		t.Fatalf("%+v", w.proposals)
	}
	if st := w.r.Stats(); st.Queued[classWaiting] == 0 {
		t.Fatalf("cells of the dead server do not wait: %+v", st)
	}
}

// Four of seven nodes out of service leave no majority: that is told, and never touched. Three are the brink.
func TestPoisonedCellIsReportedAndLeftAlone(t *testing.T) {
	c := DefaultRepairConfig()
	w := newRepairWorld(t, c, 3, 7, 2, 3, 100)
	poisoned, brink := w.cells["vol-000003"], w.cells["vol-000004"]
	for i := range 7 {
		w.sick[poisoned.members[i]] = append(w.sick[poisoned.members[i]], poisoned.id)
	}
	for i := range 3 {
		w.sick[brink.members[i]] = append(w.sick[brink.members[i]], brink.id)
	}
	w.told(5 * time.Second)
	report := w.r.Report(w.now, 0)
	if len(report.Cells) == 0 || report.Cells[0].Cell != poisoned.id || report.Cells[0].Class != "lost" || report.Cells[0].Members[0].State != "quarantined" {
		t.Fatalf("%+v", report.Cells)
	}
	w.told(c.Patience + 10*time.Minute)
	for _, p := range w.proposals {
		if p.Cell != brink.id {
			t.Errorf("%+v", p)
		}
	}
	if len(w.proposals) != 3 || w.deadOf(brink) != 0 || w.deadOf(poisoned) != 7 {
		t.Errorf("%d proposals, %d and %d members are gone", len(w.proposals), w.deadOf(brink), w.deadOf(poisoned))
	}
}

// The list comes in pages; a server that does not know the question has said nothing.
func TestSickNodesAreAskedInPages(t *testing.T) {
	var got []wire.CensusNode
	answered := 0
	o := &Observer{config: ObserverConfig{SickNodes: func(_ cell.ServerID, nodes []wire.CensusNode) { got = nodes; answered++ },
		Sick: func(_ context.Context, id cell.ServerID, req *wire.Census) (wire.CensusPage, error) {
			if id == "old" {
				return wire.CensusPage{}, errors.New("no such method")
			}
			return wire.CensusPage{Nodes: []wire.CensusNode{{Handle: req.After + 1}, {Handle: req.After + 2}}, More: req.After < 4}, nil
		}}}
	o.askSick(t.Context(), "new")
	o.askSick(t.Context(), "old")
	if len(got) != 6 || got[5].Handle != 6 || answered != 1 {
		t.Errorf("%d answers, the first %+v", answered, got)
	}
}
