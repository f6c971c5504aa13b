package paxos

import "physalia/internal/must"

// Bounds of one teaching message; a pupil asks again for the rest.
const (
	TeachRecordsMax = 64
	teachBytesMax   = 256 << 10
)

// certify applies what a chosen-through index proves: the index certifies a record only if that was accepted in the
// ballot of the message that carried the index (P4, hazard H5). The rest is asked for.
//
// Why that is proof, also if the notice is old or its sender deposed: the sender had applied the slot. If it proposed there
// in that ballot, it applied its own entry, for whoever is taught another one is taught it in a higher ballot, promises
// that and falls silent (learn), and whoever is taught a whole state falls silent at once (onTeachAll). If it did not
// propose there, nobody holds a record of that ballot.
func (r *Replica) certify(b Ballot, through Slot, from NodeNumber) {
	for r.applied < through {
		record, ok := r.record(r.applied + 1)
		if !ok || (record.Ballot != b && !plantedCertifyAnyBallot) {
			break
		}
		r.deliver(record)
	}
	r.hear(through, from)
}

// hear notes that slots up to through are chosen and asks for those that are missing here. Who says no more than is known
// here cannot teach; asking would only keep the question from one who can.
func (r *Replica) hear(through Slot, from NodeNumber) {
	r.believe(through, from)
	if through > r.applied {
		r.learnFrom(from)
	}
}

// believe notes who said last how much is chosen: of those who know as much, the last one heard of is the likeliest to live.
func (r *Replica) believe(through Slot, from NodeNumber) {
	if through >= r.known {
		r.known, r.source = through, from
	}
}

// learnFrom asks a member to teach the first missing slot, unless that question is out already.
func (r *Replica) learnFrom(from NodeNumber) {
	if r.asked == r.applied+1 || from == r.cfg.Self {
		return
	}
	r.asked, r.teacher = r.applied+1, from
	lesson := r.asked
	if r.untaught {
		lesson = 0
	}
	r.send(Message{Kind: MsgLearn, To: from, Slot: lesson})
}

// hearUntaught is all that a learner does before it holds a state: whoever speaks to it is asked for one.
func (r *Replica) hearUntaught(m *Message) {
	r.known = max(r.known, m.Through, 1)
	r.source = m.From
	r.learnFrom(m.From)
}

// Heed takes the word of a server where a member used to be: the cell has moved on to that configuration. It only says whom
// to ask; the log itself will tell.
func (r *Replica) Heed(c *Configuration) {
	if c.Number > r.conf.Number && (r.guide == nil || c.Number > r.guide.Number) {
		r.guide = c
		r.asked = 0
		r.known = max(r.known, r.applied+1)
	}
}

// Overtaken notes that a message came from a node with a later configuration than the own one. Configurations are a function of
// the log, so that node has applied the next slot at least, whatever the message is about: it is asked to teach, unless it was
// asked already. A Prepare or a Nack tells nothing else of what its sender knows, and there may be nobody else to hear from.
func (r *Replica) Overtaken(by NodeNumber) {
	if r.sealed || r.asked == r.applied+1 && r.teacher == by {
		return
	}
	r.believe(r.applied+1, by)
	r.asked = 0
	r.learnFrom(by)
}

// deliver hands the next slot's chosen record to the host. The record must stand in the ring (P4).
func (r *Replica) deliver(record *Record) {
	if record.Slot != r.applied+1 || r.sealed {
		must.That(record.Slot == r.applied+1, "P4: slot %d delivered after %d", record.Slot, r.applied)
		must.That(!r.sealed, "P7: slot %d is chosen behind the seal", record.Slot)
	}
	r.applied++
	r.next = max(r.next, r.applied+1) // who leads and is taught a slot must not propose it again
	delivery := Delivery{Slot: record.Slot, Entry: record.Entry}
	switch record.Entry.Kind {
	case Seal:
		r.sealed = true
	case Reform:
		delivery.Outcome = r.reform(record.Slot, record.Entry.Change)
	}
	r.borrow()
	r.out.Deliver = append(r.out.Deliver, delivery)
	if len(r.open) > 0 && r.open[0].slot <= r.applied {
		r.open = append(r.open[:0], r.open[1:]...)
	}
	if r.sealed && r.role != Follower {
		r.dropQueue()
	}
	r.turnOver()
}

// learn takes a chosen record from a teacher or a promise. Its ring record is rewritten first if it differs (P4), in memory: nobody
// counts on this member to hold it, so storage may wait for the batch that will say "applied through" this slot (see remember). It
// reports false when the record is not the next one, or when the ring cannot take it.
func (r *Replica) learn(record Record) bool {
	if record.Slot != r.applied+1 {
		return false
	}
	if !r.makeRoomFor(record.Slot) {
		return false
	}
	p := r.at(record.Slot)
	held := p.Slot == record.Slot
	if held && !p.Ballot.Less(record.Ballot) && !p.Entry.Equal(record.Entry) {
		must.That(false, "P2: slot %d is chosen at %v, but another entry was accepted at %v", record.Slot, record.Ballot, p.Ballot)
	}
	if !held || p.Ballot.Less(record.Ballot) {
		// The taught ballot is kept even for an equal entry: records of chosen slots then never carry a lower ballot
		// than the one they were chosen in, which is what makes the assertion above hold for our own pupils.
		if r.promised.Less(record.Ballot) {
			r.promise(record.Ballot)
		}
		r.keep(record)
		if r.unstored == 0 {
			r.unstored = record.Slot
		}
	}
	r.deliver(p)
	return true
}

// unstoredFew is up to how many lessons are stored one by one; a snapshot of the state stands for more.
const unstoredFew = 4

// owesStorage reports whether what was learnt has to be stored now: something is stored that says how much was applied, or others count
// on this member to hold it. The latter is no matter of agreement, but whoever leads tells a member again only what it does not believe
// it to hold, and takes a learner into the jury that holds enough.
func (r *Replica) owesStorage() bool {
	p := &r.out.Persist
	return r.unstored != 0 && !p.State && !plantedAppliedInMemory && (len(p.Records) > 0 || r.unstored <= r.told)
}

// makeRoomFor is makeRoom for a lesson. While there are others in memory, the next batch that overwrites anything on disk stores the
// state (remember), and until then a restart finds the member where it was before the first of them, its votes included. So the ring in
// memory may forget what is applied, and a busy cell's lessons cost no storage however many they are.
func (r *Replica) makeRoomFor(s Slot) bool {
	if r.unstored == 0 || s > r.applied+Slot(len(r.ring)) {
		return r.makeRoom(s)
	}
	if s > r.floor+Slot(len(r.ring)) {
		r.floor = r.applied
	}
	return true
}

// remember stores what was learnt and only kept in memory until now. Where the state is stored anyway, or the ring forgot something that
// no stored state covers, the records may be gone already.
func (r *Replica) remember() {
	if r.out.Persist.State || r.floor > r.covered || r.applied-r.unstored >= unstoredFew {
		r.out.Persist.State = true
		return
	}
	for s := r.unstored; s <= r.applied; s++ {
		r.persist(*r.at(s))
	}
	r.unstored = 0
}

// Store makes the next Effects store what was learnt and only kept in memory, and reports whether there is anything: when the cell has
// fallen quiet, so that what was learnt rests on the others' disks no longer, and before a host drops the replica, since a restart would
// find it where it was before.
func (r *Replica) Store() bool {
	if r.unstored == 0 {
		return false
	}
	r.remember()
	return true
}

// Rewrite makes the next Effects store anew whatever a restart has to find of this replica, its promise apart: up to few of the slots that
// no stored state covers as records, a snapshot of the state for more, and in any case what was accepted beyond the applied slot. A host
// asks for it before it gives up the place where they stood.
func (r *Replica) Rewrite(few int) {
	if r.untaught {
		return
	}
	from := r.covered + 1
	if r.floor > r.covered || r.applied-r.covered > Slot(few) {
		r.out.Persist.State = true
		from = r.applied + 1
	}
	for s := from; s <= r.applied+Slot(len(r.ring)); s++ {
		if record, ok := r.record(s); ok {
			r.persist(*record)
		}
	}
	if !r.out.Persist.State {
		r.unstored = 0 // they are among them
	}
}

// onTeach learns a log segment. Repeated and overtaken segments teach nothing and do no harm.
func (r *Replica) onTeach(m *Message) {
	progress := false
	for _, record := range m.Records {
		if r.learn(record) {
			progress = true
		}
	}
	r.progressed(progress, m)
}

// onTeachAll installs a whole state, if it is ahead of this one. A proposer that meets one was deposed without knowing:
// it must not go on, since its chosen-through would then cover slots that its own ballot lost, and certify them elsewhere
// (P4). Ring records that the state covers may hold entries that were never chosen; they are forgotten.
func (r *Replica) onTeachAll(m *Message) {
	s := m.Snapshot
	if s == nil || s.Applied <= r.applied {
		return
	}
	if r.role == Proposer {
		r.stepDown()
	}
	r.out.Install, r.out.Deliver = s, nil // what was about to be delivered is part of the snapshot
	r.applied, r.floor, r.covered, r.sealed = s.Applied, s.Applied, s.Applied, s.Sealed
	r.adoptConfiguration(s)
	r.out.Persist.State = true
	for i := range r.ring {
		if r.ring[i].Slot <= r.applied {
			r.ring[i] = Record{}
		}
	}
	r.progressed(true, m)
}

// progressed follows up on a lesson: go on learning, go on leading.
func (r *Replica) progressed(progress bool, m *Message) {
	if progress {
		r.asked = 0
		r.maybeLead()
		r.advance()
	}
	r.hear(m.Through, m.From)
	if r.known > r.applied {
		r.learnFrom(r.source) // somebody else knows more
	}
}

// teach sends what a pupil misses: records while the ring holds them, else the whole state, which the host attaches.
func (r *Replica) teach(pupil NodeNumber, from Slot) {
	if pupil == r.cfg.Self || from > r.applied || r.applied == 0 || r.untaught {
		return
	}
	reply := Message{Kind: MsgTeachAll, Through: r.applied}
	if from != 0 {
		reply = r.lesson(from)
	}
	reply.To = pupil
	r.send(reply)
}

// lesson makes a message of the chosen records from a slot on, or one that calls for the whole state when the ring lacks one of them.
func (r *Replica) lesson(from Slot) Message {
	lesson := Message{Kind: MsgTeach, Through: r.applied}
	size := 0
	for s := from; s <= r.applied && len(lesson.Records) < TeachRecordsMax; s++ {
		record, ok := r.record(s)
		if !ok {
			return Message{Kind: MsgTeachAll, Through: r.applied}
		}
		if size += record.Entry.Size(); size > teachBytesMax && len(lesson.Records) > 0 {
			break
		}
		lesson.Records = append(lesson.Records, *record)
	}
	return lesson
}

// Snapshot wraps the host's state as of Applied into the envelope that is stored and taught (rule 2).
func (r *Replica) Snapshot(state []byte, hash uint64) *Snapshot {
	return &Snapshot{Applied: r.applied, Sealed: r.sealed, Configuration: *r.conf, Pending: r.pending, State: state, Hash: hash}
}

// adoptConfiguration takes a snapshot's word for who decides from here on.
func (r *Replica) adoptConfiguration(s *Snapshot) {
	conf := s.Configuration
	r.conf, r.pending, r.untaught = &conf, s.Pending, false
	r.me = r.conf.Index(r.cfg.Self)
}
