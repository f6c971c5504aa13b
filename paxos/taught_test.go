package paxos

import "testing"

// A candidate whose last promise and its predecessor's notice arrive in one turn leads with slots in its tail that are
// delivered already. It must go on behind them; proposing them again would stop it for good.
func TestProposerTaughtItsOwnTailGoesOn(t *testing.T) {
	w := newWorld(Config{Configuration: jury(3, 4), Window: 8, BatchCommands: 1, BatchBytes: 64})
	p, q := w.member(1), w.member(2)
	for _, c := range []string{"a", "b", "c"} {
		w.propose(p, c)
	}
	w.obey(p)
	for i := 0; i < len(w.network); i++ { // members 1 and 2 choose the three, 3 hears nothing
		if m := w.network[i]; m.From != 3 && m.To != 3 {
			w.obey(w.step(w.take(i)))
			i = -1
		}
	}
	p.replica.Nudge() // tells that they are chosen
	w.obey(p)
	q.replica.Campaign()
	w.obey(q)
	w.obey(w.pass(t, MsgPrepare, 2, 3))
	w.pass(t, MsgPromise, 3, 2) // in one turn with
	w.pass(t, MsgChosen, 1, 2)
	w.obey(q)
	w.crash(p, 0)
	w.propose(q, "new")
	w.obey(q)
	for range 20 {
		w.settle([]NodeNumber{2, 3})
		q.replica.Nudge()
		w.member(3).replica.Nudge()
	}
	if open := w.check.unanswered(q); len(open) > 0 {
		t.Fatalf("never answered: %v; %s", open, q.replica.Describe())
	}
}

// pass delivers the first message of a kind between two members and returns the receiver, whose effects are not obeyed yet.
func (w *world) pass(t *testing.T, kind MessageKind, from, to NodeNumber) *member {
	t.Helper()
	for i, m := range w.network {
		if m.Kind == kind && m.From == from && m.To == to {
			return w.step(w.take(i))
		}
	}
	t.Fatalf("no %v from %d to %d is under way", kind, from, to)
	return nil
}

// One slot may stand at two ring positions when the window grew between two lives: the higher ballot is what was accepted.
func TestRestorePrefersTheHigherBallotOfASlot(t *testing.T) {
	old := Record{Slot: 4, Ballot: Ballot{1, 1}, Entry: Entry{Kind: Commands, Commands: [][]byte{[]byte("old")}}}
	newer := Record{Slot: 4, Ballot: Ballot{2, 3}, Entry: Entry{Kind: Commands, Commands: [][]byte{[]byte("new")}}}
	for _, records := range [][]Record{{old, newer}, {newer, old}} {
		r, err := Restore(Config{Self: 2, Configuration: jury(3, 2), Window: 8, BatchCommands: 1, BatchBytes: 64},
			Recovery{Promised: Ballot{2, 3}, Records: records})
		if err != nil {
			t.Fatal(err)
		}
		r.Step(&Message{Kind: MsgPrepare, From: 1, Ballot: Ballot{3, 1}, Slot: 1})
		e := r.Effects()
		told := e.SendDurable[0].Records
		if len(told) != 1 || !told[0].Entry.Equal(newer.Entry) || told[0].Ballot != newer.Ballot {
			t.Fatalf("promises with %v, want the record of ballot 2.3", told)
		}
	}
}

// A whole state that arrives in the turn in which lessons are to be stored stands for those before it: their ring records are gone.
func TestStoreBehindAWholeState(t *testing.T) {
	conf := jury(3, 1)
	r, err := New(Config{Self: 2, Configuration: conf, Window: 16, BatchCommands: 1, BatchBytes: 1024})
	if err != nil {
		t.Fatal(err)
	}
	lesson := Record{Slot: 1, Ballot: Ballot{Round: 1, Node: 1}, Entry: Entry{Kind: NoOp}}
	r.Step(&Message{Kind: MsgTeach, From: 1, Through: 1, Records: []Record{lesson}})
	if e := r.Effects(); len(e.Deliver) != 1 || !e.Persist.IsEmpty() {
		t.Fatalf("a lesson delivers %d slots and stores %+v, want one and nothing", len(e.Deliver), e.Persist)
	}
	r.Step(&Message{Kind: MsgTeachAll, From: 1, Snapshot: &Snapshot{Applied: 3, Configuration: conf}})
	if !r.Store() {
		t.Fatal("nothing is to be stored, so this test shows nothing")
	}
	if e := r.Effects(); !e.Persist.State || len(e.Persist.Records) != 0 {
		t.Errorf("stores %+v, want the state and no records", e.Persist)
	}
}
