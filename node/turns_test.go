package node

import (
	"testing"

	"physalia/node/admission"
	"physalia/node/core"
	"physalia/node/mesh"
)

// TestBulkWaitsForItsTurn: votes that come behind a flood of whole states are fed first, and all; of the states, as many as a turn
// takes, oldest first, until none is left. Nothing is fed twice.
func TestBulkWaitsForItsTurn(t *testing.T) {
	ts := newTurns(admission.Default())
	const frames, each = 10, turnBulkBytes / 2
	in := newIntake()
	for i := range frames {
		in.peers = append(in.peers, &mesh.Batch{Lane: core.LaneBulk, Bytes: each, Durable: uint64(i)})
	}
	for _, lane := range []core.Lane{core.LaneForward, core.LanePaxos} {
		in.peers = append(in.peers, &mesh.Batch{Lane: lane, Bytes: each})
	}
	fed := 0
	for turn := range frames {
		bulk := ts.split(in)
		if want := map[bool]int{true: 2}[turn == 0]; bulk != want {
			t.Fatalf("turn %d: %d frames come before the bulk, want %d", turn, bulk, want)
		}
		for _, b := range in.peers[:bulk] {
			if b.Lane == core.LaneBulk {
				t.Errorf("turn %d: a frame of the bulk lane is before requests", turn)
			}
		}
		for _, b := range in.peers[bulk:] {
			if b.Lane != core.LaneBulk || b.Durable != uint64(fed) {
				t.Errorf("turn %d: frame %d of the bulk lane comes as %d of lane %d", turn, fed, b.Durable, b.Lane)
			}
			fed++
		}
		if more := ts.more(); more != (fed < frames) {
			t.Errorf("turn %d: %d of %d fed, more is %v", turn, fed, frames, more)
		}
		if len(in.peers)-bulk > 2 {
			t.Errorf("turn %d feeds %d frames of the bulk lane", turn, len(in.peers)-bulk)
		}
		in.reset()
	}
	if fed != frames {
		t.Errorf("%d of %d frames were fed", fed, frames)
	}
}

// TestQuestionsAreAnsweredInOrder, so many per turn, and what is left counts toward the inbox's bound.
func TestQuestionsAreAnsweredInOrder(t *testing.T) {
	ts, b := newTurns(admission.Default()), newInbox(10)
	answered := 0
	for i := range inboxAsksMax {
		err := b.ask("m", func(*core.Core) {
			if answered != i {
				t.Errorf("question %d is answered as the %d.", i, answered)
			}
			answered++
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	in := b.swap(newIntake(), ts.left())
	ts.feedAsks(in, nil)
	in.reset()
	if answered != turnAsks {
		t.Errorf("%d questions were answered in a turn", answered)
	}
	b.swap(in, ts.left())
	for range turnAsks {
		if err := b.ask("m", func(*core.Core) {}); err != nil {
			t.Fatal(err)
		}
	}
	if b.ask("m", func(*core.Core) {}) == nil {
		t.Error("questions that wait for a later turn do not count")
	}
	for answered < inboxAsksMax && ts.more() {
		ts.feedAsks(newIntake(), nil)
	}
	if answered != inboxAsksMax || ts.more() {
		t.Errorf("%d questions of %d were answered", answered, inboxAsksMax)
	}
}
