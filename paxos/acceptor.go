package paxos

import "physalia/internal/must"

// promiseBytesMax bounds the chosen entries that ride on a Promise; beyond it the candidate is told to learn instead.
const promiseBytesMax = 256 << 10

// onPrepare promises every slot from m.Slot on, unless a higher ballot was promised (P1). The answer tells every record
// from there on that the ring can hold, chosen or not, and up to which slot there is only state to tell; it waits for
// storage, so it also stands for the accepts in it. A repeated Prepare gets the same answer again.
func (r *Replica) onPrepare(m *Message) {
	if m.Ballot.Less(r.promised) {
		r.send(Message{Kind: MsgNack, To: m.From, Ballot: r.promised})
		return
	}
	if r.conf.Dismisses(m.From) && m.From != r.cfg.Self {
		r.teach(m.From, m.Slot) // it does not know that it is no member any more
		return
	}
	r.promise(m.Ballot)
	r.told = max(r.told, r.applied)
	reply := Message{Kind: MsgPromise, To: m.From, Ballot: m.Ballot, Slot: m.Slot, Through: r.applied}
	if !plantedPromiseBelowFloor {
		reply.Floor = r.stateOnly(m.Slot)
	}
	first := max(m.Slot, reply.Floor+1)
	for s := first; s <= r.applied+Slot(len(r.ring)); s++ {
		if record, ok := r.record(s); ok {
			reply.Records = append(reply.Records, *record)
		}
	}
	r.sendDurable(reply)
}

// stateOnly returns the highest slot at or above from that this member cannot tell as a record, because it holds it only
// as state (P5); zero when it can tell all of them. Too large a segment of chosen entries counts as state, too.
func (r *Replica) stateOnly(from Slot) Slot {
	size := 0
	for s := r.applied; s >= from && s > 0; s-- {
		record, ok := r.record(s)
		if !ok {
			return s
		}
		if size += record.Entry.Size(); size > promiseBytesMax {
			return s
		}
	}
	return 0
}

// promise raises the promised ballot; a lower own ballot is given up.
func (r *Replica) promise(b Ballot) {
	if b == r.promised {
		return
	}
	if b.Less(r.promised) { // asked outside of the call: its arguments would be boxed, several times for every slot
		must.That(false, "P1: promise %v below %v", b, r.promised)
	}
	r.promised = b
	promised := b
	r.out.Persist.Promised = &promised
	if r.role != Follower && r.ballot.Less(b) {
		r.stepDown()
	}
}

// onAccept accepts an entry unless a higher ballot was promised or its ring position is still needed.
func (r *Replica) onAccept(m *Message) {
	if m.Ballot.Less(r.promised) {
		r.send(Message{Kind: MsgNack, To: m.From, Ballot: r.promised})
		return
	}
	_, held := r.record(m.Slot)
	if m.Slot == 0 || (m.Slot <= r.applied && !held) || (m.Slot > r.applied && r.sealed) {
		r.send(Message{Kind: MsgAhead, To: m.From, Ballot: r.promised, Through: r.applied})
		return
	}
	if !r.makeRoom(m.Slot) {
		r.behind(m)
		return
	}
	if !plantedAcceptWithoutPromising {
		r.promise(m.Ballot) // accepting is also promising
	}
	r.accept(Record{Slot: m.Slot, Ballot: m.Ballot, Entry: m.Entry})
	r.certify(m.Ballot, m.Through, m.From)
	r.sendDurable(Message{Kind: MsgAccepted, To: m.From, Ballot: m.Ballot, Slot: m.Slot, Through: r.holds()})
}

// holds is how much a member says that it holds when it accepts, zero when nobody asks: from there on it would restart. That is
// less than what it applied when its last batch was written before it learned that a slot is chosen. The records of such a slot
// may be durable, but after a restart it would need the jury of that slot again to learn that they are chosen, and that jury is
// what its word may dissolve (P9).
func (r *Replica) holds() Slot {
	switch {
	case r.me >= 0 && !r.conf.Unsettled:
		return 0
	case r.out.Persist.tellsApplied():
		return r.applied
	}
	return r.stored
}

// Refuse answers a Prepare with the ballot that keeps this member from promising, when the host has a reason to stand by that
// ballot's owner (rule 12).
func (r *Replica) Refuse(m *Message) {
	r.send(Message{Kind: MsgNack, To: m.From, Ballot: r.promised})
}

// behind refuses an Accept whose ring position is still needed. The refusal is a question to be taught, and like all such
// questions asked once: every Accept of a full pipeline would be answered with the whole state otherwise.
func (r *Replica) behind(m *Message) {
	r.believe(m.Through, m.From)
	if r.asked != r.applied+1 {
		r.asked = r.applied + 1
		r.send(Message{Kind: MsgBehind, To: m.From, Ballot: m.Ballot, Slot: r.asked})
	}
}

// makeRoom reports whether the ring position of a slot may be overwritten, asking for a snapshot in the same batch when
// that frees it (P5). What stands there is the slot one window before: it may go once it is applied and covered by a
// stored state, never while it is only accepted, since then it may be the vote that makes an entry chosen (hazard H6).
func (r *Replica) makeRoom(s Slot) bool {
	window := Slot(len(r.ring))
	if s <= r.floor+window {
		return true
	}
	if s > r.applied+window {
		return false
	}
	r.floor = r.applied
	r.out.Persist.State = true
	return true
}

// accept writes a record into the ring and hands it to storage, or does nothing when it stands there already. What stands there only in
// memory, since it was learnt, goes to storage now: from here on somebody counts on it.
func (r *Replica) accept(record Record) {
	r.told = max(r.told, record.Slot)
	if r.keep(record) || r.unstored != 0 && r.unstored <= record.Slot && record.Slot <= r.applied {
		r.persist(record)
	}
}

// keep writes a record into the ring in memory, and reports false when it stands there already. The assertions are the last line
// before storage: what they stop costs one member, what they let through may cost the cell its agreement.
func (r *Replica) keep(record Record) bool {
	p := r.at(record.Slot)
	if p.Slot == record.Slot {
		if p.Ballot == record.Ballot {
			must.That(p.Entry.Equal(record.Entry), "P2: two entries at slot %d in ballot %v", record.Slot, record.Ballot)
			return false // a duplicate: its acknowledgement still waits for storage (rule 1, hazard H8)
		}
		must.That(p.Ballot.Less(record.Ballot), "P1: slot %d accepted at %v, then at %v", record.Slot, p.Ballot, record.Ballot)
		must.That(record.Slot > r.applied || p.Entry.Equal(record.Entry), "P2: slot %d is chosen, ballot %v offers another entry", record.Slot, record.Ballot)
	}
	if p.Slot > r.floor && p.Slot != record.Slot {
		must.That(false, "P5: slot %d would overwrite slot %d above the floor %d", record.Slot, p.Slot, r.floor)
	}
	*p = record
	return true
}

// persist adds a record to the batch; a later record of the same slot replaces an earlier one.
func (r *Replica) persist(record Record) {
	for i := range r.out.Persist.Records {
		if r.out.Persist.Records[i].Slot == record.Slot {
			r.out.Persist.Records[i] = record
			return
		}
	}
	r.borrow()
	r.out.Persist.Records = append(r.out.Persist.Records, record)
}

// onConfirm answers whether a ballot is still the highest promised here (P6). A member that never heard of the ballot
// promises it first, which is as good.
func (r *Replica) onConfirm(m *Message) {
	if m.Ballot.Less(r.promised) {
		r.send(Message{Kind: MsgNack, To: m.From, Ballot: r.promised})
		return
	}
	r.promise(m.Ballot)
	r.sendDurable(Message{Kind: MsgConfirmed, To: m.From, Ballot: m.Ballot, Number: m.Number})
}
