package blockstore

import (
	"slices"
	"testing"
	"time"

	"physalia/cell"
	"physalia/cell/machine"
)

// A story is a world without bad luck, in which a test makes happen what it wants. Users work all the time.
type story struct {
	*world
	t *testing.T
}

func tell(t *testing.T) story {
	w := newWorld(1)
	w.weather = weather{}
	for _, u := range w.users {
		u.left = 1 << 30
	}
	w.log = nil
	s := story{w, t}
	s.until("both copies of the founding record serve", func() bool { return len(w.history) > 10 && w.host("b").disk.Whole })
	return s
}

func (w *world) host(name string) *host {
	i := slices.IndexFunc(w.hosts, func(h *host) bool { return h.name == name })
	return w.hosts[i]
}

// until lets the world go on until something holds.
func (s story) until(what string, holds func() bool) {
	s.t.Helper()
	limit := s.now + 5*time.Second
	s.run(func() bool { return holds() || s.now > limit })
	if s.failure != nil || !holds() {
		s.t.Fatalf("at %v: not so: %s; the record is %v, failure: %v", s.now, what, s.record, s.failure)
	}
}

// during lets the world go on for a while, in which something holds all the time.
func (s story) during(long time.Duration, what string, holds func() bool) {
	s.t.Helper()
	end := s.now + long
	s.run(func() bool { return s.now > end || !holds() })
	if !holds() {
		s.t.Fatalf("at %v: not so any more: %s; the record is %v", s.now, what, s.record)
	}
}

// acked waits until a copy acknowledges something.
func (s story) acked(by string) {
	s.t.Helper()
	s.until(by+" serves", func() bool {
		h := s.host(by)
		return h.copy != nil && h.copy.Status().Serving && s.split.By[h.copy.Status().Fence] == by
	})
}

func (s story) ends() {
	s.t.Helper()
	if s.end(); s.failure != nil {
		s.t.Fatalf("at %v: %v", s.now, s.failure)
	}
}

// The primary dies: its replica goes on, and a spare becomes the new replica.
func TestPrimaryDies(t *testing.T) {
	s := tell(t)
	s.host("a").crash()
	s.acked("b")
	s.until("there is a replica again", func() bool { return s.record.Replica != "" })
	s.ends()
}

// The replica dies: the primary goes on with another one, and the old one comes back as a spare.
func TestReplicaDies(t *testing.T) {
	s := tell(t)
	s.host("b").crash()
	s.until("c is replica", func() bool { return s.record.Primary == "a" && s.record.Replica == "c" })
	s.host("b").start()
	s.during(time.Second, "nothing changes", func() bool { return s.record.Primary == "a" && s.record.Replica == "c" })
	s.ends()
}

// Only the link between the two is cut: the primary is less patient than its replica, so nobody has to move.
func TestOnlyTheLinkIsCut(t *testing.T) {
	s := tell(t)
	s.cut[[2]string{"a", "b"}], s.cut[[2]string{"b", "a"}] = 1, 1
	s.until("c is replica", func() bool { return s.record.Replica == "c" })
	s.during(time.Second, "a is primary", func() bool { return s.record.Primary == "a" })
	s.ends()
}

// The cell cannot be reached: whoever was primary goes on, because its replica still confirms.
func TestTheCellIsAway(t *testing.T) {
	s := tell(t)
	s.hold = func(string, Ask) bool { return true }
	before := s.seen.acks
	s.until("much is acknowledged", func() bool { return s.seen.acks > before+50 })
	s.hold = nil
	s.ends()
}

// A primary is paused, and somebody else writes. It goes on, has heard nothing of that, and a client of the past wants to
// read: there must be no answer (B6).
func TestPausedPrimary(t *testing.T) {
	s := tell(t)
	a := s.host("a")
	past := a.copy.Status().Fence
	for _, other := range []string{"b", "c", "d", "cell"} {
		s.cut[[2]string{other, "a"}] = 1
	}
	a.paused = true
	s.acked("b")
	a.step(Message{Kind: Read, From: "late", To: "a", Fence: past, Number: 1})
	before := s.answers["a"]
	a.resume()
	s.during(100*time.Millisecond, "a serves nobody", func() bool { return s.answers["a"] == before && a.copy.Status().Fence == past })
	clear(s.cut)
	s.until("a knows better", func() bool { return past.Less(a.copy.Status().Fence) })
	s.ends()
}

// A primary that is alone proposes a full spare, dies before the proposal arrives, returns, and acknowledges more. The late
// proposal must not make the spare a replica, since it lacks that (B2).
func TestForgottenProposal(t *testing.T) {
	s := tell(t)
	s.hold = func(_ string, a Ask) bool { return a.Kind == Replace && a.Name == "c" }
	s.host("b").crash()
	s.until("a proposes c", func() bool { return len(s.held) > 0 })
	s.host("a").crash()
	s.host("a").start()
	burnt := s.record
	s.acked("a")
	if s.record.Generation == burnt.Generation || s.record.Replica != "" {
		t.Fatalf("the record was %v, and is %v", burnt, s.record)
	}
	record := s.record
	s.held[0]()
	if s.record != record {
		t.Errorf("a forgotten proposal made the record %v", s.record)
	}
	s.hold = nil
	s.ends()
}

// A replica comes back with an empty disk under its old name, which it must not. It neither promotes itself nor counts,
// until its primary has filled it again (B4).
func TestEmptyReplica(t *testing.T) {
	s := tell(t)
	s.outside = true // its disk holds nothing of what it held
	b := s.host("b")
	b.crash()
	b.disk = State{}
	s.host("a").crash()
	b.start()
	s.during(2*time.Second, "b does not serve", func() bool { return !b.copy.Status().Serving && s.record.Primary == "a" })
	s.host("a").start()
	s.until("b is whole", func() bool { return b.disk.Whole })
	s.outside = false
	s.ends()
}

// The cell is recovered with loss, as the next incarnation, with a record of the past. Nobody serves, until an operator has
// compared the copies and readmits the one that was primary last.
func TestLossyRecovery(t *testing.T) {
	s := tell(t)
	past := s.cell.Snapshot(nil)
	s.host("a").crash()
	s.acked("b")
	s.until("b has a replica", func() bool { return s.record.Replica != "" })
	s.host("a").start()

	recovered, err := machine.Restore(past)
	if err != nil {
		t.Fatal(err)
	}
	s.cell, s.incarnation = recovered, 2
	s.until("all copies know", func() bool {
		return !slices.ContainsFunc(s.hosts, func(h *host) bool { return h.copy.Status().Fence.Incarnation < 2 })
	})
	s.during(time.Second, "nobody serves", func() bool {
		return !slices.ContainsFunc(s.hosts, func(h *host) bool { return h.copy.Status().Serving || h.copy.Status().Whole })
	})
	// The record says: primary a, replica b, generation 1. The operator knows that b is the one.
	if txn, err := cell.PromoteTxn(0, 1, "b"); err != nil {
		t.Fatal(err)
	} else if _, err := s.apply(txn); err != nil {
		t.Fatal(err)
	}
	s.host("b").step(Readmit{})
	s.acked("b")
	s.ends()
}
