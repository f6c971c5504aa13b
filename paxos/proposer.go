package paxos

import "physalia/internal/must"

// flight is one slot between proposal and decision. Its entry stands in the proposer's own ring.
type flight struct {
	slot   Slot
	jury   *Configuration // fixed when it was proposed: see juryOf
	votes  voters
	chosen bool
}

// adoptee is what the promises brought back for one slot: the record of the highest ballot, or one that its teller knows
// to be chosen. What nobody told is a hole, and since a majority was asked, nothing can have been chosen in it below the
// own ballot: a no-op may go there.
type adoptee struct {
	record Record
	chosen bool
}

// batch is the commands that go into the next free slot. Nobody else has seen them, so they can be dropped for certain.
type batch struct {
	commands  [][]byte
	proposals []Proposal
	bytes     int
}

// empty reports whether no command waits.
func (b *batch) empty() bool { return len(b.commands) == 0 }

// sealState is how far a proposer got with the seal; it starts anew with every ballot.
type sealState uint8

const (
	sealNone   sealState = iota
	sealWanted           // drain the pipeline, then propose the seal
	sealSent             // it is proposed: nothing behind it
)

// Refusal says why a command was not taken; it was not proposed, for certain.
type Refusal uint8

// The refusals.
const (
	Accepted      Refusal = iota // taken
	NotProposer                  // ask Leader()
	PipelineFull                 // alpha slots are in flight and the next batch is full, or a change waits already
	Sealed                       // the incarnation is over
	LearnerBehind                // ProposeChange: the learner was nudged, ask again soon
	HandOverFirst                // ProposeChange: a proposer does not remove itself
	Malformed                    // ProposeChange: no change that a host may ask for
)

// Campaign asks the jury for a new ballot. It does nothing on a proposer, a candidate, a sealed replica, or one that is not a
// member as far as it knows.
func (r *Replica) Campaign() {
	if r.role != Follower || r.sealed || r.me < 0 || r.untaught {
		return
	}
	r.campaign()
}

// campaign asks for the next ballot: above everything heard of, and above the own promise, which is durable and at least
// every ballot that this member ever used, in this life or before (P3). What waits in the queue stays there. Answers to an
// earlier ballot of ours are told by their ballot, and ignored.
func (r *Replica) campaign() {
	r.role = Candidate
	r.ballot = Ballot{Round: max(r.seen, r.promised.Round, 1) + 1, Node: r.cfg.Self}
	r.seen = r.ballot.Round
	r.holders, r.backing, r.canvassed, r.adopted, r.tail = r.holders[:0], nil, r.conf, r.adopted[:0], 0
	r.from = r.applied + 1
	r.sendDurable(Message{Kind: MsgPrepare, Ballot: r.ballot, Slot: r.from}) // durable first: P3
	r.onPrepare(&Message{Kind: MsgPrepare, From: r.cfg.Self, Ballot: r.ballot, Slot: r.from})
}

// onPromise collects promises; a majority that left nothing untaught makes this candidate the proposer.
func (r *Replica) onPromise(m *Message) {
	if r.role == Proposer && m.Ballot == r.ballot {
		r.onLatePromise(m)
	}
	if r.role != Candidate || m.Ballot != r.ballot || m.Slot != r.from {
		return
	}
	for _, record := range m.Records {
		r.adopt(record, record.Slot <= m.Through)
	}
	r.notePromise(m.From, m.Through, m.Floor)
	r.learnAdopted()
	r.hear(max(m.Floor, m.Through), m.From)
	r.maybeLead()
}

// onLatePromise takes a promise to a ballot that leads already: of a member of a jury that comes, of a learner, or of one who
// was slow. What it accepted matters only where nothing was proposed and the jury is not known to have promised (P8).
func (r *Replica) onLatePromise(m *Message) {
	if m.Slot > r.applied+1 || m.Floor > r.applied {
		r.hear(m.Floor, m.From) // asked for too little, or it knows more than this proposer; it is asked again
		return
	}
	for _, record := range m.Records {
		switch {
		case record.Slot <= m.Through:
			r.learn(record)
		case record.Slot >= r.next && !r.isGranted(record.Slot):
			r.adopt(record, false)
		}
	}
	if r.role != Proposer {
		return
	}
	if r.sealing != sealSent { // behind a seal there is no tail
		r.findTail()
	}
	r.notePromise(m.From, m.Through, m.Floor)
	r.advance()
}

// adopt keeps the record of the highest ballot per slot; a chosen one beats them all (P2). The highest accepted ballot among
// a majority is the one to follow, as ever: had a lower one chosen another entry, the higher would have found and kept it.
func (r *Replica) adopt(record Record, chosen bool) {
	i := 0
	for i < len(r.adopted) && r.adopted[i].record.Slot < record.Slot {
		i++
	}
	if i == len(r.adopted) || r.adopted[i].record.Slot != record.Slot {
		r.adopted = append(r.adopted, adoptee{})
		copy(r.adopted[i+1:], r.adopted[i:])
		r.adopted[i] = adoptee{record, chosen}
		return
	}
	have := &r.adopted[i]
	if !have.chosen && (chosen || have.record.Ballot.Less(record.Ballot)) {
		*have = adoptee{record, chosen}
	}
}

// learnAdopted learns what a promise said is chosen, as far as it is contiguous. It needs no majority: one member that
// applied a slot is proof enough.
func (r *Replica) learnAdopted() {
	for _, a := range r.adopted {
		if a.chosen {
			r.learn(a.record)
		}
	}
}

// maybeLead turns a candidate with a majority of promises into the proposer. Who holds slots only as state does not count before
// the candidate was taught them (P5).
func (r *Replica) maybeLead() {
	if r.role != Candidate {
		return
	}
	r.learnAdopted()
	if r.role != Candidate {
		return
	}
	if r.sealed || r.me < 0 {
		r.resign(0) // there is nothing to lead here, whatever the others promise
		return
	}
	if !r.backed(r.conf) {
		r.canvassOnce(r.conf) // it was taught that another jury decides now
		return
	}
	r.role, r.next, r.tail, r.informed, r.lectured = Proposer, r.applied+1, r.applied, 0, r.applied
	r.sealing, r.open = sealNone, r.open[:0]
	r.prod = true
	r.findTail()
}

// findTail finds the last slot to re-propose.
func (r *Replica) findTail() {
	for _, a := range r.adopted {
		if a.record.Slot < r.next {
			continue
		}
		r.tail = a.record.Slot
		if a.record.Entry.Kind == Seal {
			break // whatever was accepted behind a seal was never delivered to anybody (P7)
		}
	}
}

// fill proposes while the pipeline has room and the next slot's jury promised: first what was adopted, holes as no-ops, then
// changes, then the next batch. Who hands over drains the pipeline first.
func (r *Replica) fill() {
	for r.role == Proposer && len(r.open) < int(r.conf.Alpha) && !r.sealed && r.sealing != sealSent {
		if r.handing != 0 && r.next > r.tail {
			if len(r.open) == 0 {
				r.resign(r.handing)
			}
			return
		}
		if jury := r.juryOf(r.next); !r.backed(jury) && !plantedCarryBallot {
			r.canvassOnce(jury)
			return
		}
		if r.next <= r.tail {
			r.propose(r.adoptedEntry(r.next))
			continue
		}
		if c := r.housekeeping(); c != nil {
			r.propose(Entry{Kind: Reform, Change: c})
			continue
		}
		switch {
		case !r.queue.empty():
			entry := Entry{Kind: Commands, Commands: r.queue.commands}
			r.queue = batch{proposals: r.queue.proposals[:0]}
			r.propose(entry)
		case r.sealing == sealWanted && len(r.open) == 0:
			r.propose(Entry{Kind: Seal})
		case r.sealing == sealNone && r.wantsNoOp():
			r.propose(Entry{Kind: NoOp})
		default:
			return
		}
	}
}

// adoptedEntry is what has to be proposed in a slot of the tail.
func (r *Replica) adoptedEntry(s Slot) Entry {
	for i := range r.adopted {
		if r.adopted[i].record.Slot == s {
			return r.adopted[i].record.Entry
		}
	}
	return Entry{Kind: NoOp}
}

// propose opens the next slot: the own record goes to storage, Accept goes out at once, in a ballot whose round is
// durable (rule 1). The own vote waits for storage like everybody else's.
func (r *Replica) propose(entry Entry) {
	s := r.next
	r.next++
	if entry.Kind == Seal {
		r.sealing = sealSent
	}
	room := r.makeRoom(s)
	if !room {
		panic("paxos: alpha is at most half the window, so the proposer always has room")
	}
	jury := r.juryOf(s)
	if !r.backed(jury) && !plantedCarryBallot {
		must.That(false, "P8: slot %d proposed in ballot %v, which jury %s did not promise", s, r.ballot, jury.Describe())
	}
	r.open = append(r.open, flight{slot: s, jury: jury})
	r.accept(Record{Slot: s, Ballot: r.ballot, Entry: entry})
	spared := r.sparingAt(s)
	if spared == 0 {
		r.lecture(r.sparing())
		r.informed, r.lectured = max(r.informed, r.applied), max(r.lectured, r.applied)
	}
	r.send(Message{Kind: MsgAccept, Ballot: r.ballot, Slot: s, Entry: entry, Through: r.applied, spared: spared})
	r.sendDurable(Message{Kind: MsgAccepted, To: r.cfg.Self, Ballot: r.ballot, Slot: s, Through: r.holds()})
}

// onAccepted counts votes. Only those for the own ballot count, and that ballot's entry in the slot never changes, so a
// vote needs no entry. A slot may have its majority before the slots below it; advance waits for them.
func (r *Replica) onAccepted(m *Message) {
	if r.role != Proposer || m.Ballot != r.ballot {
		return
	}
	if m.Through > 0 {
		r.noteHeld(m.From, m.Through)
	}
	for i := range r.open {
		if f := &r.open[i]; f.slot == m.Slot && !f.chosen && vote(&f.votes, f.jury, m.From) {
			f.chosen = true
			r.advance()
			return
		}
	}
}

// advance delivers chosen slots in order.
func (r *Replica) advance() {
	for r.role == Proposer && len(r.open) > 0 && r.open[0].chosen && r.open[0].slot == r.applied+1 {
		r.deliver(r.at(r.applied + 1))
		r.known = max(r.known, r.applied)
	}
}

// onNack hears of a higher ballot. It is a hint, and leaves before that promise is durable: stepping down is always safe.
func (r *Replica) onNack(m *Message) {
	if r.rival.Less(m.Ballot) {
		r.rival = m.Ballot
	}
	if r.role != Follower && r.ballot.Less(m.Ballot) {
		r.stepDown()
	}
}

// stepDown makes a follower. What was never sent is dropped for certain; what was sent has an unknown outcome.
func (r *Replica) stepDown() {
	r.dropQueue()
	r.out.Lost = true
	r.out.ReadsFailed = append(r.out.ReadsFailed, r.reads.clear()...)
	r.role, r.open, r.sealing = Follower, nil, sealNone
	r.adopted, r.ballot = nil, Ballot{}
	r.holders, r.backing, r.canvassed = nil, nil, nil
	r.change, r.settling, r.handing, r.prod = nil, 0, 0, false
}

// Resign gives the own ballot up for good and tells the jury, which is free of it at once: a proposer that is of no use must
// not keep others from leading (rule 13).
func (r *Replica) Resign() {
	if r.role != Follower {
		r.resign(0)
	}
}

// HandOver makes another member the proposer: nothing new is proposed and no read is taken, what is in flight is finished,
// then this one resigns and names the heir, which campaigns as soon as it hears of it. It does nothing unless this is the
// proposer and the heir another member. A Nudge ends the waiting for what is in flight.
func (r *Replica) HandOver(to NodeNumber) {
	if r.role == Proposer && !r.sealed && to != r.cfg.Self && r.conf.Index(to) >= 0 {
		r.lecture(r.sparing())
		r.handing = to
	}
}

// resign tells everybody, then steps down: local reads have ended before anybody else can lead. A candidate's ballot may not be
// durable yet; it could be used again after a crash if anybody heard before that it was given up (P3).
func (r *Replica) resign(heir NodeNumber) {
	if r.conf.Index(heir) < 0 {
		heir = 0 // it was replaced meanwhile
	}
	r.freed, r.heir = r.ballot, heir
	tell := r.send
	if r.role == Candidate {
		tell = r.sendDurable
	}
	tell(Message{Kind: MsgResign, Ballot: r.ballot, Number: uint64(heir)})
	r.stepDown()
}

// onResign hears that a ballot's owner gave it up. The heir campaigns at once.
func (r *Replica) onResign(m *Message) {
	// What matters is that the promised ballot is free. A candidate that was never promised anything here may give up a higher
	// one before that or after; if its word counted instead, this member would stand by an owner that has resigned, and
	// candidates that come and go would keep it there (hazard H9).
	own, free := m.Ballot.Node == r.promised.Node, r.IsFree()
	switch {
	case m.From != m.Ballot.Node || m.Ballot.Less(r.promised):
		return
	case own && !free:
	case free && !own, !r.freed.Less(m.Ballot):
		return
	}
	r.freed, r.heir = m.Ballot, NodeNumber(m.Number)
	if r.heir == r.cfg.Self {
		r.Campaign()
	}
}

// dropQueue gives the waiting commands back to the host.
func (r *Replica) dropQueue() {
	r.out.Dropped = append(r.out.Dropped, r.queue.proposals...)
	r.queue = batch{}
}

// Propose takes a command into the next batch; a candidate keeps it until it leads. The replica owns command from then
// on. The outcome is told by Deliver, Dropped or Lost.
func (r *Replica) Propose(command []byte, p Proposal) Refusal {
	switch {
	case r.sealed:
		return Sealed
	case r.role == Follower || r.handing != 0:
		return NotProposer
	case r.sealing != sealNone:
		return PipelineFull
	}
	if !r.fits(command) {
		r.fill()
		if !r.fits(command) {
			return PipelineFull
		}
	}
	r.queue.commands = append(r.queue.commands, command)
	r.queue.proposals = append(r.queue.proposals, p)
	r.queue.bytes += len(command)
	return Accepted
}

// fits reports whether the next batch has room; a batch of one command has room for any that the host let through.
func (r *Replica) fits(command []byte) bool {
	return r.queue.empty() || (len(r.queue.commands) < r.cfg.BatchCommands && r.queue.bytes+len(command) <= r.cfg.BatchBytes)
}

// ProposeSeal asks for the last entry of this incarnation. The pipeline is drained first; commands are refused from now
// on, until the seal is chosen or this replica stops being the proposer.
func (r *Replica) ProposeSeal() Refusal {
	switch {
	case r.sealed:
		return Sealed
	case r.role != Proposer || r.handing != 0:
		return NotProposer
	}
	if r.sealing == sealNone {
		r.sealing = sealWanted
	}
	return Accepted
}

// resend repeats the open slots and the newest read round to those who have not answered.
func (r *Replica) resend() {
	for i := range r.open {
		f := &r.open[i]
		for j, member := range f.jury.Members {
			if !f.votes.has(j) && member.Node != r.cfg.Self {
				r.send(Message{Kind: MsgAccept, To: member.Node, Ballot: r.ballot, Slot: f.slot, Entry: r.at(f.slot).Entry, Through: r.applied})
			}
		}
	}
	r.reads.resend(r)
}
