package paxos

import (
	"fmt"
	"slices"
)

// broken is what a checker panics with. The name says which promise of doc.go does not hold.
type broken struct{ name, text string }

// Error makes a broken promise an error.
func (b *broken) Error() string { return b.name + ": " + b.text }

// checker watches a world from outside. It shares no code with the replicas: it keeps the naive truth (who voted for what
// in which ballot, as far as anybody could hear of it) and compares everything that is sent, delivered or answered.
type checker struct {
	w         *world
	twin      *twin
	founding  Ballot
	agreed    []Delivery // delivered by anybody; slot s stands at s-1
	states    []uint64   // the host's hash after s slots
	sealedAt  Slot       // slot of the seal, zero when none was delivered
	offers    map[Slot][]*offer
	told      map[NodeNumber]Ballot          // the highest ballot that a member said it promised
	promisers map[Ballot]map[NodeNumber]bool // who said that it promised a ballot
	asked     map[ReadToken]*pendingRead
	fates     map[Proposal]*fate
	named     map[string]*fate
	outside   bool           // only what a client or a message can show counts, not what a member holds
	seen      map[string]int // how often things happened, to know that the schedules reach them
}

// offer is the entry that a ballot's owner offered at one slot, and the votes that left their voters for good.
type offer struct {
	ballot Ballot
	entry  Entry
	votes  map[NodeNumber]bool
	chosen bool
}

// pendingRead remembers what a read has to see.
type pendingRead struct {
	at   NodeNumber
	sees Slot
}

// fate is what became of one proposal.
type fate struct {
	command string
	at      NodeNumber
	never   string // why it must never be delivered, "" when it may
	slot    Slot   // where it was delivered first
	open    bool   // its proposer still owes an answer
}

func newChecker(w *world, c *Configuration) *checker {
	k := &checker{
		w: w, twin: newTwin(c), founding: FoundingBallot(c), promisers: map[Ballot]map[NodeNumber]bool{}, states: []uint64{0}, offers: map[Slot][]*offer{}, told: map[NodeNumber]Ballot{},
		asked: map[ReadToken]*pendingRead{}, fates: map[Proposal]*fate{}, named: map[string]*fate{},
		seen: map[string]int{},
	}
	for _, m := range c.Members {
		k.promised(m.Node, FoundingBallot(c)) // by being created
	}
	return k
}

// visible are the checks that need no look into a member or its disk.
var visible = map[string]bool{"agreement": true, "choice": true, "order": true, "fate": true, "P2": true, "P3": true, "P6": true, "P7": true, "P8": true, "P10": true, "liveness": true}

// holds panics unless ok.
func (c *checker) holds(ok bool, name, format string, args ...any) {
	if !ok && (visible[name] || !c.outside) {
		panic(&broken{name, fmt.Sprintf(format, args...)})
	}
}

// sent checks a message at the moment that it leaves, be it to the member itself.
func (c *checker) sent(m *member, message *Message) {
	b := message.Ballot
	durable := m.disk.image.highest()
	c.seen[message.Kind.String()]++
	switch message.Kind {
	case MsgPrepare:
		c.holds(b.Node == message.From && (b.Round > 1 || b == c.founding), "P3", "%s: not its own ballot", message.Describe())
		c.holds(!durable.Less(b), "P3", "%s leaves, durable is %v", message.Describe(), durable)
	case MsgResign:
		c.holds(b.Node == message.From && !durable.Less(b), "P3", "%s leaves, durable is %v", message.Describe(), durable)
	case MsgAccept:
		c.holds(!durable.Less(b), "P3", "%s leaves, durable is %v", message.Describe(), durable)
		c.offered(message.Slot, b, message.Entry)
	case MsgPromise, MsgConfirmed:
		if message.Kind == MsgPromise {
			c.promised(message.From, b)
		}
		c.holds(!durable.Less(b), "P1", "%s leaves, durable is %v", message.Describe(), durable)
		c.tells(message.From, b)
	case MsgAccepted:
		c.holds(!durable.Less(b), "P1", "%s leaves, durable is %v", message.Describe(), durable)
		c.tells(message.From, b)
		c.voted(m, message)
	}
}

func (c *checker) tells(n NodeNumber, b Ballot) {
	if c.told[n].Less(b) {
		c.told[n] = b
	}
}

// offered notes an Accept. A ballot offers one entry per slot, and what a lower ballot chose.
func (c *checker) offered(s Slot, b Ballot, entry Entry) {
	for _, o := range c.offers[s] {
		if o.ballot == b {
			c.holds(o.entry.Equal(entry), "P3", "ballot %v offers %s at slot %d, and offered %s", b, entry.Describe(), s, o.entry.Describe())
			return
		}
		c.holds(!o.chosen || b.Less(o.ballot) || o.entry.Equal(entry), "P2",
			"ballot %v offers %s at slot %d, %v has chosen %s", b, entry.Describe(), s, o.ballot, o.entry.Describe())
	}
	c.holds(c.sealedAt == 0 || s <= c.sealedAt || b.Less(c.sealedIn()), "P7",
		"ballot %v offers slot %d behind the seal at %d, chosen at %v", b, s, c.sealedAt, c.sealedIn())
	c.granted(s, b)
	c.offers[s] = append(c.offers[s], &offer{ballot: b, entry: entry, votes: map[NodeNumber]bool{}})
}

// sealedIn is the lowest ballot that chose the seal; only ballots below it may know nothing of it.
func (c *checker) sealedIn() Ballot {
	lowest := Ballot{Round: ^Round(0)}
	for _, o := range c.offers[c.sealedAt] {
		if o.chosen && o.ballot.Less(lowest) {
			lowest = o.ballot
		}
	}
	return lowest
}

// voted counts a vote the naive way, and checks that it is durable.
func (c *checker) voted(m *member, message *Message) {
	s, b := message.Slot, message.Ballot
	for _, o := range c.offers[s] {
		if o.ballot != b {
			continue
		}
		stored := m.disk.image.find(s)
		c.holds(m.disk.image.knows(s, o.entry) || (stored.Slot == s && b.Less(stored.Ballot)), "P1",
			"%s leaves, durable is %s", message.Describe(), stored.Describe())
		o.votes[message.From] = true
		if l := c.twin.juryAt(s); !o.chosen && l.count(func(n NodeNumber) bool { return o.votes[n] }) >= l.majority() {
			o.chosen = true
			c.chose(s, o)
		}
		return
	}
	c.holds(false, "P3", "%s: nobody offered that", message.Describe())
}

// chose checks a fresh choice against every other offer for the slot.
func (c *checker) chose(s Slot, chosen *offer) {
	for _, o := range c.offers[s] {
		conflict := !o.entry.Equal(chosen.entry) && (o.chosen || chosen.ballot.Less(o.ballot))
		c.holds(!conflict, "P2", "slot %d: %s chosen at %v, %s offered at %v", s,
			chosen.entry.Describe(), chosen.ballot, o.entry.Describe(), o.ballot)
	}
}

// delivered checks one delivery: in order, once, agreed, chosen by a majority's votes, and not behind a seal.
func (c *checker) delivered(m *member, d Delivery) {
	c.holds(d.Slot == m.host.applied+1, "order", "%d delivers slot %d after %d", m.cfg.Self, d.Slot, m.host.applied)
	if f := c.named[firstCommand(d.Entry)]; f != nil && f.at == m.cfg.Self {
		c.answered(m, d.Entry)
	}
	if int(d.Slot) <= len(c.agreed) {
		was := c.agreed[d.Slot-1].Entry
		c.holds(was.Equal(d.Entry), "agreement", "slot %d: %d delivers %s, others delivered %s", d.Slot, m.cfg.Self, d.Entry.Describe(), was.Describe())
		c.reformed(m, d)
		return
	}
	chosen := false
	for _, o := range c.offers[d.Slot] {
		chosen = chosen || (o.chosen && o.entry.Equal(d.Entry))
	}
	c.holds(chosen, "choice", "slot %d: %d delivers %s, for which no majority voted", d.Slot, m.cfg.Self, d.Entry.Describe())
	c.holds(c.sealedAt == 0, "P7", "slot %d is delivered behind the seal at %d", d.Slot, c.sealedAt)
	if d.Entry.Kind == Seal {
		c.sealedAt = d.Slot
	}
	c.seen[[...]string{NoOp: "no-op chosen", Commands: "commands chosen", Seal: "seal chosen", Reform: "change chosen"}[d.Entry.Kind]]++
	c.agreed = append(c.agreed, d)
	outcome := c.twin.append(d)
	c.reformed(m, d)
	if d.Entry.Kind == Reform {
		c.changed(d, outcome)
	}
	c.states = append(c.states, m.host.after(d).hash)
	c.fulfil(d)
	c.synced()
}

func firstCommand(e Entry) string {
	if len(e.Commands) == 0 {
		return ""
	}
	return string(e.Commands[0])
}

// answered closes the proposals of an entry: their proposer delivers it.
func (c *checker) answered(m *member, e Entry) {
	for _, command := range e.Commands {
		if f := c.named[string(command)]; f.at == m.cfg.Self {
			f.open = false
		}
	}
}

// fulfil checks that every command of a new slot was proposed, not refused or dropped, and not delivered elsewhere.
func (c *checker) fulfil(d Delivery) {
	for _, command := range d.Entry.Commands {
		f := c.named[string(command)]
		c.holds(f != nil, "fate", "slot %d holds %q, which nobody proposed", d.Slot, command)
		c.holds(f.never == "", "fate", "slot %d holds %q, which was %s", d.Slot, command, f.never)
		c.holds(f.slot == 0, "fate", "%q is chosen at slots %d and %d", command, f.slot, d.Slot)
		f.slot = d.Slot
	}
}

// installed checks a taught state: the one that delivering gives, and ahead of the member's own.
func (c *checker) installed(m *member, s *Snapshot) {
	c.seen["install"]++
	c.holds(int(s.Applied) < len(c.states), "agreement", "%d installs state@%d, nobody delivered that far", m.cfg.Self, s.Applied)
	c.holds(c.states[s.Applied] == s.Hash, "agreement", "%d installs another state@%d", m.cfg.Self, s.Applied)
	c.holds(saidBy(&s.Configuration, s.Pending) == c.twin.said[s.Applied], "P8", "state@%d says %s, want %s", s.Applied, saidBy(&s.Configuration, s.Pending), c.twin.said[s.Applied])
	c.holds(s.Sealed == (c.sealedAt != 0 && s.Applied == c.sealedAt), "P7", "state@%d says sealed %v, the seal is at %d", s.Applied, s.Sealed, c.sealedAt)
}

// keepsUp checks that host and replica agree how far they are, and that the ring is the truth up to there (P4).
func (c *checker) keepsUp(m *member) {
	r := m.replica
	c.holds(m.host.applied == r.Applied(), "order", "%d: the host applied %d, the replica %d", m.cfg.Self, m.host.applied, r.Applied())
	c.holds(r.Floor() <= r.Applied(), "P5", "%d: floor %d above applied %d", m.cfg.Self, r.Floor(), r.Applied())
	c.holds(r.Covered() == r.Floor() || r.Covered() < r.Floor() && r.unstored != 0, "P5", "%d: floor %d, stored state %d, lessons in memory from %d", m.cfg.Self, r.Floor(), r.Covered(), r.unstored)
	for i := range r.ring {
		if record := &r.ring[i]; record.Slot > 0 && record.Slot <= r.Applied() {
			c.holds(record.Entry.Equal(c.agreed[record.Slot-1].Entry), "P4", "%d applied slot %d, its ring holds %s", m.cfg.Self, record.Slot, record.Describe())
		}
	}
	for s := r.Floor() + 1; s <= r.Applied(); s++ {
		_, ok := r.record(s)
		c.holds(ok, "P4", "%d applied slot %d, its ring does not hold it", m.cfg.Self, s)
	}
	c.configured(m)
}

// rests checks a member that has nothing more to do in this turn.
func (c *checker) rests(m *member) {
	promised := m.replica.Promised()
	if m.replica.Role() == Follower && (m.replica.InFlight() > 0 || !m.replica.queue.empty() || m.replica.reads.pending()) {
		c.holds(false, "follower", "%s holds on to proposals or reads", m.replica.Describe())
	}
	c.holds(!promised.Less(c.told[m.cfg.Self]), "P1", "%d told of promise %v, has %v", m.cfg.Self, c.told[m.cfg.Self], promised)
	for i := range m.replica.ring {
		b := m.replica.ring[i].Ballot
		c.holds(!promised.Less(b), "P1", "%d accepted at %v, promised is %v", m.cfg.Self, b, promised)
	}
	c.localReads()
}

// synced checks that everything delivered anywhere is durable on a majority of the jury that keeps it, as state or as record, so
// that no crash can lose it.
func (c *checker) synced() {
	for s := Slot(len(c.agreed)); s > 0; s-- {
		known, asState := 0, 0
		l := c.twin.keepers(s)
		for _, n := range l.jury {
			image := &c.w.member(n).disk.image
			if image.knows(s, c.agreed[s-1].Entry) {
				known++
			}
			if image.snapshot != nil && image.snapshot.Applied >= s {
				asState++
			}
		}
		if known >= l.majority() {
			if asState >= l.majority() && l.number == c.twin.settled {
				return // and so are all the slots before
			}
			continue
		}
		c.holds(false, "durability", "slot %d (%s) was delivered and is durable on %d of %v only", s, c.agreed[s-1].Entry.Describe(), known, l.jury)
	}
}

// restarted checks that nothing that was said before the crash is forgotten.
func (c *checker) restarted(m *member, rec *Recovery) {
	c.holds(!m.replica.Promised().Less(c.told[m.cfg.Self]), "P1", "%d told of promise %v, restarts with %v", m.cfg.Self, c.told[m.cfg.Self], m.replica.Promised())
	want := rec.Applied
	if rec.Snapshot != nil {
		want = max(want, rec.Snapshot.Applied)
	}
	c.holds(m.replica.Applied() == want, "P4", "%d restarts at slot %d, durable is %d", m.cfg.Self, m.replica.Applied(), want)
	c.holds(m.replica.Role() == Follower, "P3", "%d restarts as %v", m.cfg.Self, m.replica.Role())
}

// crashed forgets what the member's clients wait for: they will never hear.
func (c *checker) crashed(m *member) {
	c.seen["crash"]++
	c.lost(m)
	for t, read := range c.asked {
		if read.at == m.cfg.Self {
			delete(c.asked, t)
		}
	}
}

// lost leaves the open proposals of a member without an answer.
func (c *checker) lost(m *member) {
	for _, f := range c.fates {
		if f.at == m.cfg.Self {
			f.open = false
		}
	}
}

func (c *checker) proposed(m *member, p Proposal, command string, refusal Refusal) {
	f := &fate{command: command, at: m.cfg.Self, open: refusal == Accepted}
	if !f.open {
		f.never = "refused"
	}
	c.fates[p], c.named[command] = f, f
}

func (c *checker) dropped(p Proposal) {
	f := c.fates[p]
	c.seen["drop"]++
	c.holds(f.slot == 0, "fate", "%q was dropped and is chosen at slot %d", f.command, f.slot)
	f.never, f.open = "dropped", false
}

// readAsked notes that a read has to see everything that anybody delivered so far.
func (c *checker) readAsked(m *member, t ReadToken) {
	c.asked[t] = &pendingRead{m.cfg.Self, Slot(len(c.agreed))}
}

func (c *checker) readReady(m *member, t ReadToken) {
	read := c.asked[t]
	c.seen["read answered"]++
	c.holds(read != nil && read.at == m.cfg.Self, "P6", "%d answers read %d, which does not wait there", m.cfg.Self, t)
	c.holds(m.host.applied >= read.sees, "P6", "%d answers read %d from state@%d, slot %d had been delivered before it was asked", m.cfg.Self, t, m.host.applied, read.sees)
	delete(c.asked, t)
}

func (c *checker) readFailed(m *member, t ReadToken) {
	read := c.asked[t]
	c.seen["read failed"]++
	c.holds(read != nil && read.at == m.cfg.Self, "P6", "%d fails read %d, which does not wait there", m.cfg.Self, t)
	delete(c.asked, t)
}

// unanswered lists what the members' clients still wait for.
func (c *checker) unanswered(m *member) (all []string) {
	for _, f := range c.fates {
		if f.open && f.at == m.cfg.Self {
			all = append(all, f.command)
		}
	}
	for t, read := range c.asked {
		if read.at == m.cfg.Self {
			all = append(all, fmt.Sprintf("read %d", t))
		}
	}
	slices.Sort(all)
	return all
}
