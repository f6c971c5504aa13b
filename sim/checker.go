package sim

import (
	"fmt"
	"time"

	"physalia/node/core"
	"physalia/paxos"
)

// checker looks on and says when a property does not hold. Its hooks are optional.
type checker struct {
	name    string
	bare    bool                                            // it watches cells without clients, too
	applied func(s *server, v *volume, d *paxos.Delivery)   // a member is about to apply a slot
	sent    func(s *server, v *volume, m *core.PeerMessage) // a message leaves a server
	turned  func(s *server, v *volume)                      // a member's server took a turn
	finish  func()                                          // the run is over, and World.cells have a history
}

// newCheckers makes one of each; what they remember is theirs alone. The order is that of the questions to ask first: a
// world without agreement fails everything else, too.
func newCheckers(w *World) []*checker {
	return []*checker{agreement(w), memory(w), state(w), durability(w), once(w), blame(w), order(w), sessions(w), fences(w), leases(w), blockStore(w), rises(w), linearizability(w)}
}

// Failure is a property that does not hold: which, when, where, and how.
type Failure struct {
	Checker string
	At      time.Duration
	Server  string // empty: of none in particular
	Cell    string
	Slot    int
	Text    string
}

// Error describes the failure in one line.
func (f *Failure) Error() string {
	where := ""
	for _, part := range []string{f.Server, f.Cell} {
		if part != "" {
			where += " " + part
		}
	}
	if f.Slot > 0 {
		where += fmt.Sprintf(" slot %d", f.Slot)
	}
	return fmt.Sprintf("%s at %v%s: %s", f.Checker, f.At, where, f.Text)
}

// place is where something does not hold, as far as it is anywhere.
type place struct {
	s    *server
	v    *volume
	slot int
}

// fail ends the run; the first failure counts. Beside the checkers the world itself says "health", "answered" and
// "convergence".
func (w *World) fail(checker string, at place, format string, args ...any) {
	if w.failure != nil {
		return
	}
	w.failure = &Failure{Checker: checker, At: w.now, Slot: at.slot, Text: fmt.Sprintf(format, args...)}
	if at.s != nil {
		w.failure.Server = string(at.s.id)
	}
	if at.v != nil {
		w.failure.Cell = string(at.v.id)
	}
	w.trace.note(w.now, "FAILURE %v", w.failure)
}

// watchApplied sees every delivery, before the state machine does.
func (w *World) watchApplied(s *server, v *volume, d *paxos.Delivery) {
	w.trace.note(w.now, "%s applies %s slot %d: %d commands", s.id, v.id, d.Slot, len(d.Entry.Commands))
	for _, c := range w.checkers {
		if c.applied != nil && (c.bare || v.at >= 0) {
			c.applied(s, v, d)
		}
	}
	if v.poisoned == int(d.Slot) && v.poisonedFor.Has(s.at) {
		if v.poisonOld && d.Entry.Kind == paxos.Commands {
			d.Entry.Commands = [][]byte{{'C', 0xff}} // what a later version may log
			return
		}
		panic("poisoned") // within the step of that node: the core must contain it
	}
}

// watchSent sees every message that leaves a server, whatever the network does with it then.
func (w *World) watchSent(from, to *server, m *core.PeerMessage) {
	w.report.Messages[m.Message.Kind]++
	w.checkColors(from, to)
	w.trace.note(w.now, "%s to %s, %s: %s", from.id, to.id, m.Envelope.Cell, description{&m.Message})
	v := w.volumeOf(m.Envelope.Cell, m.Envelope.Incarnation)
	for _, c := range w.checkers {
		if c.sent != nil && (c.bare || v.at >= 0) {
			c.sent(from, v, m)
		}
	}
}

// description formats a message only when somebody reads it.
type description struct{ *paxos.Message }

func (d description) String() string { return d.Describe() }

// watchTurn follows every turn that the server survived.
func (w *World) watchTurn(s *server) {
	for _, v := range w.cells {
		w.watchJury(s, v)
		w.noteLeader(s, v)
		for _, c := range w.checkers {
			if c.turned != nil {
				c.turned(s, v)
			}
		}
	}
}

// noteLeader counts the ballots in which somebody led a cell. A ballot has one owner, so it is counted once.
func (w *World) noteLeader(s *server, v *volume) {
	r, _ := s.core.Inspect(v.id)
	if r != nil && r.Role() == paxos.Proposer && v.led.Less(r.Promised()) {
		v.led = r.Promised()
		w.report.Takeovers++
		w.trace.note(w.now, "%s leads %s in ballot %v", s.id, v.id, v.led)
	}
}
