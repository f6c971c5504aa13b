package paxos

import (
	"slices"
	"testing"
)

// readyWorld is a cell of three with learners that may become members.
func readyWorld(learners int, alpha uint32) *world {
	w := newWorld(Config{Configuration: jury(3, alpha), Window: max(WindowMin, 2*int(alpha)), BatchCommands: 1, BatchBytes: 64})
	for range learners {
		w.raise()
	}
	return w
}

// What a host may ask for passes a gate: a change that a restart would refuse, or that only proposers may log, goes no further.
func TestChangesPassAGate(t *testing.T) {
	w := readyWorld(1, 1)
	r := w.member(1).replica
	for _, c := range []Change{
		{}, {Kind: Settle, Number: 1}, {Kind: 9}, {Kind: AddLearner}, {Kind: AddLearner, Server: ServerID(make([]byte, ServerBytesMax+1))},
	} {
		if got := r.ProposeChange(c); got != Malformed {
			t.Errorf("%+v is taken: %v", c, got)
		}
	}
	if got := w.member(2).replica.ProposeChange(Change{Kind: AddLearner, Server: "x"}); got != NotProposer {
		t.Errorf("a follower answers %v", got)
	}
	if got := r.ProposeChange(Change{Kind: AddLearner, Server: "x"}); got != Accepted {
		t.Errorf("a new server: %v", got)
	}
	if got := r.ProposeChange(Change{Kind: AddLearner, Server: "y"}); got != PipelineFull {
		t.Errorf("a second change in one turn: %v", got)
	}
}

// A change that this version does not know stops the node: skipping it would split the jury.
func TestUnknownChangeStopsTheNode(t *testing.T) {
	violates(t, "P10", func() {
		r := fresh(t, 3, 3)
		r.Step(&Message{Kind: MsgTeach, From: 1, Through: 1, Records: []Record{{Slot: 1, Ballot: Ballot{1, 1}, Entry: Entry{Kind: Reform, Change: &Change{Kind: 9}}}}})
	})
}

// As long as the node that left is needed its server has no room for another node of the cell.
func TestLeftKeepsItsServer(t *testing.T) {
	w := readyWorld(1, 1)
	owner := w.member(1)
	w.reform(owner, Change{Kind: Replace, Number: 1, Old: 3, New: 4})
	w.obey(owner)
	w.obey(w.pass(t, MsgAccept, 1, 2))
	w.obey(w.pass(t, MsgAccepted, 2, 1)) // in force, and not settled: 2 and 4 did not vote since
	w.reform(owner, Change{Kind: AddLearner, Server: "s3"})
	w.network = nil
	w.obey(owner)
	w.settle([]NodeNumber{1, 2})
	owner.replica.Nudge()
	w.settle([]NodeNumber{1, 2, 3, 4})
	o := w.check.twin.outcomes
	if !slices.ContainsFunc(o, func(o ChangeOutcome) bool { return o.Refused == ServerTaken && o.Node == 3 }) {
		t.Errorf("outcomes are %+v", o)
	}
	if w.member(3).pointer == nil {
		t.Errorf("3 was not released: %s", w.member(3).replica.Describe())
	}
}

// Whoever gave up a ballot gave up its earlier ones, and nobody else's.
func TestIsFree(t *testing.T) {
	r := fresh(t, 3, 3)
	if r.IsFree() {
		t.Error("free of a ballot that nobody gave up")
	}
	r.Step(&Message{Kind: MsgResign, From: 2, To: 3, Ballot: Ballot{1, 1}}) // not its own
	r.Step(&Message{Kind: MsgResign, From: 2, To: 3, Ballot: Ballot{2, 2}}) // another one's
	if r.IsFree() {
		t.Error("free of 1.1, which 1 did not give up")
	}
	for range 2 {
		r.Step(&Message{Kind: MsgResign, From: 1, To: 3, Ballot: Ballot{3, 1}})
		if !r.IsFree() {
			t.Error("1 gave up 3.1, so it gave up 1.1, too")
		}
	}
	r.Step(&Message{Kind: MsgPrepare, From: 1, To: 3, Ballot: Ballot{4, 1}, Slot: 1})
	r.Step(&Message{Kind: MsgResign, From: 1, To: 3, Ballot: Ballot{3, 1}}) // late
	if r.IsFree() || r.Role() != Follower {
		t.Error("free of 4.1 by a resignation from 3.1")
	}
}

// A late or repeated resignation does not make its heir campaign again.
func TestHeirCampaignsOnce(t *testing.T) {
	r := fresh(t, 3, 3)
	resign := Message{Kind: MsgResign, From: 1, To: 3, Ballot: Ballot{1, 1}, Number: 3}
	r.Step(&resign)
	if r.Role() != Candidate || r.Ballot() != (Ballot{2, 3}) {
		t.Fatal(r.Describe())
	}
	r.Step(&Message{Kind: MsgNack, From: 2, To: 3, Ballot: Ballot{3, 2}})
	r.Step(&resign)
	if r.Role() != Follower {
		t.Error(r.Describe())
	}
}

// An heir that was replaced while the pipeline was drained is not named: nobody would lead.
func TestHeirThatLeft(t *testing.T) {
	w := readyWorld(1, 1)
	owner := w.member(1)
	w.reform(owner, Change{Kind: Replace, Number: 1, Old: 3, New: 4})
	w.obey(owner)
	owner.replica.HandOver(3)
	w.settle(w.up())
	if leader := w.member(2).replica.Leader(); owner.replica.Role() != Follower || leader != 0 {
		t.Errorf("%s, 2 believes that %d leads", owner.replica.Describe(), leader)
	}
}

// A cell that is sealed in the middle of a change has nothing to finish: it rests.
func TestSealedCellRests(t *testing.T) {
	w := readyWorld(1, 2)
	owner := w.member(1)
	w.reform(owner, Change{Kind: Replace, Number: 1, Old: 3, New: 4})
	w.obey(owner)
	owner.replica.ProposeSeal()
	for range 4 {
		w.settle(w.up())
		owner.replica.Nudge()
	}
	w.settle(w.up())
	for _, m := range w.members {
		if m.pointer == nil && (!m.replica.IsSealed() || m.replica.Unfinished()) {
			t.Error(m.replica.Describe(), "is unfinished")
		}
	}
}

// A candidate that is taught a newer configuration asks the members that came, without a nudge.
func TestCandidateMeetsAnotherJury(t *testing.T) {
	w := readyWorld(1, 1)
	w.change(t) // 3 is replaced by 4, which 2 missed
	for _, c := range []string{"x", "y"} {
		w.propose(w.member(1), c)
		w.settle([]NodeNumber{1, 4})
		w.member(1).replica.Nudge()
	}
	w.settle([]NodeNumber{1, 4})
	w.crash(w.member(1), 0)
	late := w.member(2)
	late.replica.Campaign()
	w.settle([]NodeNumber{2, 3, 4})
	late.replica.Nudge() // the question who can teach may have gone to the dead one
	w.settle([]NodeNumber{2, 3, 4})
	if late.replica.Role() != Proposer || late.replica.Configuration().Number != 2 {
		t.Error(late.replica.Describe())
	}
}

// Reads that wait for members of a jury that is gone are asked again of the new one.
func TestReadsOutliveTheirJury(t *testing.T) {
	w := readyWorld(1, 1)
	owner := w.member(1)
	w.crash(w.member(3), 0)
	w.reform(owner, Change{Kind: Replace, Number: 1, Old: 3, New: 4})
	w.obey(owner)
	token, refusal := w.read(owner)
	w.obey(owner)
	w.network = slices.DeleteFunc(w.network, func(m Message) bool { return m.Kind == MsgConfirm })
	w.obey(w.pass(t, MsgAccept, 1, 2))
	w.obey(w.pass(t, MsgAccepted, 2, 1))
	w.crash(w.member(2), 0)
	for range 4 {
		w.settle([]NodeNumber{1, 4})
		owner.replica.Nudge()
	}
	if refusal != Accepted || w.check.asked[token] != nil || owner.replica.Configuration().Number != 2 {
		t.Errorf("read %d still waits: %s", token, owner.replica.Describe())
	}
}

// What was confirmed by a jury that is gone is not added to what the next one confirms: 2 and 4 are a majority of neither.
func TestReadsAreCountedInOneJury(t *testing.T) {
	w := readyWorld(1, 1)
	owner := w.member(1)
	owner.slow = true
	token, _ := w.read(owner)
	w.obey(owner)
	w.obey(w.pass(t, MsgConfirm, 1, 2))
	w.obey(w.pass(t, MsgConfirmed, 2, 1))
	w.obey(w.pass(t, MsgConfirm, 1, 4))
	w.reform(owner, Change{Kind: Replace, Number: 1, Old: 2, New: 4})
	w.obey(owner)
	for _, n := range []NodeNumber{2, 3} {
		w.obey(w.pass(t, MsgAccept, 1, n))
		w.obey(w.pass(t, MsgAccepted, n, 1))
	}
	w.obey(w.pass(t, MsgConfirmed, 4, 1))
	if owner.replica.Configuration().Number != 2 || w.check.asked[token] == nil {
		t.Errorf("read %d is answered: %s", token, owner.replica.Describe())
	}
	owner.slow = false
	w.settle(w.up())
	if w.check.asked[token] != nil {
		t.Errorf("read %d still waits: %s", token, owner.replica.Describe())
	}
}

// A node that came later never campaigns in round 1, which belongs to the founding owner, although it heard of no ballot yet.
func TestNewcomersLeaveRoundOneAlone(t *testing.T) {
	cfg := config(3)
	cfg.Self = 4
	r, err := NewLearner(cfg)
	if err != nil {
		t.Fatal(err)
	}
	now := jury(5, 2)
	now.Members = now.Members[1:4]
	now.Number, now.Since, now.Owner = 2, 5, 0
	r.Step(&Message{Kind: MsgTeachAll, From: 2, Through: 7, Snapshot: &Snapshot{Applied: 7, Configuration: now}})
	r.Campaign()
	if want := (Ballot{2, 4}); r.Ballot() != want {
		t.Errorf("campaigns in %v, want %v", r.Ballot(), want)
	}
}

// A member that was away while its cell changed is asked for a promise, and may not give one. That its candidate comes from a later
// configuration is all that it hears, and enough: it asks that candidate what it missed, once, and again only if it asked another
// one since.
func TestOvertakenAsksToBeTaught(t *testing.T) {
	w := readyWorld(1, 1)
	owner, away := w.member(1), w.member(3)
	w.reform(owner, Change{Kind: Replace, Number: 1, Old: 2, New: 4})
	w.obey(owner)
	w.settle([]NodeNumber{1, 2, 4})
	if got := w.member(4).replica.conf.Number; got != 2 || away.replica.conf.Number != 1 {
		t.Fatalf("configurations %d and %d, want 2 and 1", got, away.replica.conf.Number)
	}
	w.network = nil
	for range 2 {
		away.replica.Overtaken(4)
	}
	e := away.replica.Effects()
	want := Message{Kind: MsgLearn, From: 3, To: 4, Slot: away.replica.applied + 1}
	if len(e.SendNow) != 1 || e.SendNow[0].Describe() != want.Describe() || !away.replica.Unfinished() {
		t.Fatalf("it says %v, want %s and to be asked again", e.SendNow, want.Describe())
	}
	away.replica.Overtaken(1)
	if e = away.replica.Effects(); len(e.SendNow) != 1 || e.SendNow[0].To != 1 {
		t.Fatalf("told by another one it says %v", e.SendNow)
	}
	w.network = append(w.network, want)
	w.settle([]NodeNumber{3, 4})
	if got := away.replica.conf.Number; got != 2 || away.replica.Unfinished() {
		t.Fatalf("after the lesson it is in configuration %d: %s", got, away.replica.Describe())
	}
}
