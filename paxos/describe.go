package paxos

import (
	"fmt"
	"strings"
)

// Self is this member's node number.
func (r *Replica) Self() NodeNumber { return r.cfg.Self }

// Configuration is the member set in force for the first slot that is not applied here. It is another pointer after every
// change.
func (r *Replica) Configuration() *Configuration { return r.conf }

// IsUntaught reports whether this is a learner that holds no state yet.
func (r *Replica) IsUntaught() bool { return r.untaught }

// Ballot is the own ballot of a candidate or proposer; zero for a follower.
func (r *Replica) Ballot() Ballot { return r.ballot }

// IsFree reports whether the owner of the promised ballot gave it up: nobody relies on it any more. Whoever gives up a ballot
// gave up all its earlier ones when it asked for that.
func (r *Replica) IsFree() bool {
	return r.freed.Node == r.promised.Node && !r.freed.Less(r.promised) && !r.freed.IsZero()
}

// Role tells what the replica currently does.
func (r *Replica) Role() Role { return r.role }

// Promised is the highest ballot promised.
func (r *Replica) Promised() Ballot { return r.promised }

// Applied is the highest slot delivered.
func (r *Replica) Applied() Slot { return r.applied }

// Known is the highest slot that is chosen as far as this member heard.
func (r *Replica) Known() Slot { return max(r.known, r.applied) }

// Floor is the highest slot that may be held only as state.
func (r *Replica) Floor() Slot { return r.floor }

// Covered is the highest slot that the stored state covers: Floor, but for lessons that stand in memory only.
func (r *Replica) Covered() Slot { return r.covered }

// IsSealed reports whether the incarnation's seal was delivered.
func (r *Replica) IsSealed() bool { return r.sealed }

// InFlight is the number of open slots.
func (r *Replica) InFlight() int { return len(r.open) }

// Leader is the member believed to lead: the owner of the highest ballot that was promised here, or elsewhere as far as
// somebody said so. It may be dead or deposed. When that one resigned it is its heir, or zero.
func (r *Replica) Leader() NodeNumber {
	b := r.promised
	if b.Less(r.rival) {
		b = r.rival
	}
	if b == r.freed {
		return r.heir
	}
	return b.Node
}

// Remembers reports whether this member still knows that it accepted something at slot s in ballot b: it holds a record of
// that ballot or a higher one, or the host's state covers the slot.
func (r *Replica) Remembers(s Slot, b Ballot) bool {
	record, ok := r.record(s)
	return s <= r.floor || ok && !record.Ballot.Less(b)
}

// IsIdle reports whether the replica holds nothing that is not in storage and waits for nothing, so that the host may
// drop it from memory once its last effects are durable. A proposer that is dropped has to campaign again.
func (r *Replica) IsIdle() bool { return !r.Unfinished() && len(r.open) == 0 }

// Beyond is how many records the ring holds above the applied slot.
func (r *Replica) Beyond() int {
	n := 0
	for i := range r.ring {
		if r.ring[i].Slot > r.applied {
			n++
		}
	}
	return n
}

// IsPlain reports whether the promised ballot and the applied slot are all that this member could tell a candidate that asks from a slot
// above that on: nothing was accepted beyond it, no change is under way, and this is a member. While nothing is stepped it stays so.
func (r *Replica) IsPlain() bool {
	if r.me < 0 || r.untaught || r.sealed || r.pending != nil || r.conf.Unsettled || r.guide != nil || r.known > r.applied || len(r.open) > 0 {
		return false
	}
	return r.Beyond() == 0
}

// Describe shows an entry: no-op, seal, or its commands quoted.
func (e Entry) Describe() string {
	switch e.Kind {
	case NoOp:
		return "no-op"
	case Seal:
		return "seal"
	case Reform:
		return e.Change.Describe()
	}
	parts := make([]string, len(e.Commands))
	for i, c := range e.Commands {
		parts[i] = fmt.Sprintf("%q", c)
	}
	return strings.Join(parts, "+")
}

var messageNames = map[MessageKind]string{
	MsgPrepare: "Prepare", MsgPromise: "Promise", MsgNack: "Nack", MsgAccept: "Accept", MsgAccepted: "Accepted",
	MsgChosen: "Chosen", MsgConfirm: "Confirm", MsgConfirmed: "Confirmed", MsgLearn: "Learn", MsgTeach: "Teach",
	MsgTeachAll: "TeachAll", MsgAhead: "Ahead", MsgBehind: "Behind", MsgResign: "Resign",
}

// String names the kind.
func (k MessageKind) String() string {
	if name, ok := messageNames[k]; ok {
		return name
	}
	return fmt.Sprintf("host message %d", k) // between hosts; no replica sees it
}

// Describe shows a message in one line, for example `1->* Accept 1.1 slot 1 "put k=a" through 0`.
func (m *Message) Describe() string {
	var b strings.Builder
	to := "*"
	if m.To != 0 {
		to = fmt.Sprint(m.To)
	}
	fmt.Fprintf(&b, "%d->%s %s", m.From, to, m.Kind)
	switch m.Kind {
	case MsgPrepare, MsgBehind:
		fmt.Fprintf(&b, " %v slot %d", m.Ballot, m.Slot)
	case MsgAccepted:
		fmt.Fprintf(&b, " %v slot %d through %d", m.Ballot, m.Slot, m.Through)
	case MsgResign:
		fmt.Fprintf(&b, " %v to %d", m.Ballot, m.Number)
	case MsgPromise:
		fmt.Fprintf(&b, " %v from %d through %d floor %d", m.Ballot, m.Slot, m.Through, m.Floor)
	case MsgAccept:
		fmt.Fprintf(&b, " %v slot %d %s through %d", m.Ballot, m.Slot, m.Entry.Describe(), m.Through)
	case MsgNack:
		fmt.Fprintf(&b, " promised %v", m.Ballot)
	case MsgChosen, MsgAhead:
		fmt.Fprintf(&b, " %v through %d", m.Ballot, m.Through)
	case MsgConfirm, MsgConfirmed:
		fmt.Fprintf(&b, " %v number %d", m.Ballot, m.Number)
	case MsgLearn:
		fmt.Fprintf(&b, " from slot %d", m.Slot)
	case MsgTeach, MsgTeachAll:
		fmt.Fprintf(&b, " through %d", m.Through)
	}
	if m.Snapshot != nil {
		fmt.Fprintf(&b, " state@%d", m.Snapshot.Applied)
	}
	for _, record := range m.Records {
		fmt.Fprintf(&b, " [%s]", record.Describe())
	}
	return b.String()
}

// Describe shows a record, for example `slot 3: "x" at 1.1`.
func (d Record) Describe() string {
	return fmt.Sprintf("slot %d: %s at %v", d.Slot, d.Entry.Describe(), d.Ballot)
}

// Describe shows the replica in one line of fixed order: number, role, promised, chosen, applied, floor.
func (r *Replica) Describe() string {
	s := fmt.Sprintf("%d %s promised %v known %d applied %d floor %d", r.cfg.Self, r.role, r.promised, r.Known(), r.applied, r.floor)
	if len(r.open) > 0 {
		s += fmt.Sprintf(" open %d..%d", r.open[0].slot, r.next-1)
	}
	if r.sealed {
		s += " sealed"
	}
	if r.conf.Number > 1 || len(r.conf.Learners) > 0 || r.pending != nil {
		s += " " + r.conf.Describe()
	}
	if r.pending != nil {
		s += " then " + r.pending.Describe()
	}
	if r.untaught {
		s += " untaught"
	}
	return s
}
