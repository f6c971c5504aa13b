package paxos

import (
	"encoding/binary"
	"fmt"
	"slices"
)

// world is one cell for tests: its members, hosts that obey Effects to the letter, disks that can lose what was not
// synced, and a network whose messages the test delivers, repeats, reorders or loses one by one. Every world is watched
// by a checker, so that a transcript proves the invariants as well as a random schedule does.
type world struct {
	members []*member // member n stands at n-1
	network []Message // under way, oldest first; never to zero
	check   *checker
	tell    func(format string, args ...any) // tells what the hosts do, for transcripts
	asked   Proposal                         // the last proposal made
	request uint64                           // of the last change asked for
	reads   ReadToken                        // the last read asked
	mute    bool                             // pointers do not answer
	numbers bool                             // messages tell the number of their sender's configuration, as it is when they arrive
}

// member is one member and its host.
type member struct {
	cfg     Config
	replica *Replica // nil while it is down
	host    hostState
	disk    disk
	slow    bool // the disk syncs only when told to
	held    []heldMessage
	unborn  bool     // the log issued its number, its host did not create it yet
	learner bool     // it was created as one
	said    struct { // its configuration in words, as the checker last saw it
		conf, pending *Configuration
		text          string
	}
	pointer *Configuration // what its server keeps of it after it was released
}

// isThere reports whether its host has it, up or down.
func (m *member) isThere() bool { return !m.unborn && m.pointer == nil }

// hostState is the state machine of the tests: a hash over everything delivered.
type hostState struct {
	applied Slot
	hash    uint64
}

func (s hostState) encode() []byte { return binary.BigEndian.AppendUint64(nil, s.hash) }

// after is the state after one more slot.
func (s hostState) after(d Delivery) hostState {
	const prime = 1099511628211 // of FNV-1a
	hash := (s.hash ^ uint64(d.Entry.Kind)) * prime
	for _, command := range d.Entry.Commands {
		for _, c := range command {
			hash = (hash ^ uint64(c)) * prime
		}
		hash = (hash ^ 256) * prime
	}
	return hostState{applied: d.Slot, hash: hash}
}

// heldMessage waits until the disk has made durable what had been handed to it.
type heldMessage struct {
	after   int
	message Message
}

// disk keeps ordered batches of one member: a durable prefix, summed up in an image, and a tail that a crash may lose.
type disk struct {
	image   image
	durable int // batches in the image
	tail    []diskBatch
}

func emptyDisk(window int) disk {
	return disk{image: image{ring: make([]storedRecord, window)}}
}

type diskBatch struct {
	persist  Persist
	promised Ballot    // stored with every record
	snapshot *Snapshot // when persist.State
}

// image is what a restart finds. Hard state is folded into the records; it has a place of its own for promises that came
// without one.
type image struct {
	promised Ballot
	snapshot *Snapshot
	ring     []storedRecord
}

type storedRecord struct {
	record   Record
	promised Ballot
	applied  Slot
}

func (d *disk) handed() int { return d.durable + len(d.tail) }

// sync makes the oldest n batches of the tail durable.
func (d *disk) sync(n int) {
	for _, b := range d.tail[:n] {
		d.image.store(b)
	}
	d.durable += n
	d.tail = d.tail[n:]
}

func (im *image) store(b diskBatch) {
	for _, record := range b.persist.Records {
		im.ring[int(record.Slot)%len(im.ring)] = storedRecord{record, b.promised, b.persist.Applied}
	}
	if b.persist.Promised != nil && len(b.persist.Records) == 0 {
		im.promised = *b.persist.Promised
	}
	if b.snapshot != nil {
		im.snapshot = b.snapshot
	}
}

// highest is the highest promise found anywhere.
func (im *image) highest() Ballot {
	promised := im.promised
	for i := range im.ring {
		if promised.Less(im.ring[i].promised) {
			promised = im.ring[i].promised
		}
	}
	return promised
}

// recovery reads everything durable, as Restore wants it.
func (im *image) recovery() Recovery {
	rec := Recovery{Promised: im.highest(), Snapshot: im.snapshot}
	for i, stored := range im.ring {
		switch at := int(stored.record.Slot) % len(im.ring); {
		case stored.record.Slot == 0:
			continue
		case at == i:
			rec.Records = append(rec.Records, stored.record)
		default:
			rec.Misplaced = append(rec.Misplaced, stored.record)
		}
		rec.Applied = max(rec.Applied, stored.applied)
	}
	return rec
}

// restartsAt is how many slots a restart would find applied.
func (im *image) restartsAt() Slot {
	rec := im.recovery()
	if rec.Snapshot != nil {
		return max(rec.Applied, rec.Snapshot.Applied)
	}
	return rec.Applied
}

// knows reports whether the image proves an entry: as state, or as a record.
func (im *image) knows(s Slot, entry Entry) bool {
	if im.snapshot != nil && im.snapshot.Applied >= s {
		return true
	}
	stored := im.find(s)
	return stored.Slot == s && stored.Entry.Equal(entry)
}

// find returns the record of a slot, or an empty one. When the window grew, an older record of the slot may stand at
// another position.
func (im *image) find(s Slot) Record {
	found := im.ring[int(s)%len(im.ring)].record
	if found.Slot == s {
		return found
	}
	found = Record{}
	for i := range im.ring {
		if r := &im.ring[i].record; r.Slot == s && found.Ballot.Less(r.Ballot) {
			found = *r
		}
	}
	return found
}

// newWorld founds a cell. Every member's founding is durable, and all of them run.
func newWorld(cfg Config) *world {
	w := &world{tell: func(string, ...any) {}}
	w.check = newChecker(w, &cfg.Configuration)
	for _, each := range cfg.Configuration.Members {
		m := &member{cfg: cfg, disk: emptyDisk(cfg.Window)}
		m.disk.image.promised = FoundingBallot(&cfg.Configuration)
		m.cfg.Self = each.Node
		r, err := New(m.cfg)
		if err != nil {
			panic(err)
		}
		m.replica = r
		w.members = append(w.members, m)
	}
	return w
}

// jury makes a founding configuration of n members whose first one owns ballot 1.
func jury(n int, alpha uint32) Configuration {
	c := Configuration{Number: 1, Alpha: alpha, Owner: 1, Next: NodeNumber(n + 1)}
	for i := 1; i <= n; i++ {
		c.Members = append(c.Members, Member{Node: NodeNumber(i), Server: ServerID(fmt.Sprintf("s%d", i))})
	}
	return c
}

// member returns a member by its number.
func (w *world) member(n NodeNumber) *member { return w.members[n-1] }

// up lists the members that run.
func (w *world) up() (nodes []NodeNumber) {
	for _, m := range w.members {
		if m.replica != nil {
			nodes = append(nodes, m.cfg.Self)
		}
	}
	return nodes
}

// obey does everything that a member's replica wants, in the order of the Effects comment, until it wants nothing more.
func (w *world) obey(m *member) {
	for m.replica != nil {
		e := m.replica.Effects()
		if e.IsEmpty() {
			w.check.rests(m)
			return
		}
		w.applyDeliveries(m, &e)
		w.persist(m, &e.Persist)
		for _, message := range e.SendNow {
			w.send(m, message)
		}
		for _, message := range e.SendDurable {
			if m.slow {
				w.tell("%s (waits for the disk)", message.Describe())
			}
			m.held = append(m.held, heldMessage{m.disk.handed(), message})
		}
		w.answer(m, &e)
		if e.Released {
			w.release(m)
		} else if !m.slow {
			w.sync(m, len(m.disk.tail))
		}
	}
}

// release wipes a node and leaves a pointer to the newest configuration it knew.
func (w *world) release(m *member) {
	w.tell("%d is released", m.cfg.Self)
	w.check.released(m)
	m.pointer = m.replica.Configuration()
	m.replica, m.held, m.host, m.disk = nil, nil, hostState{}, emptyDisk(m.cfg.Window)
	w.check.crashed(m)
}

// create makes the learner that the log issued a number to. Its host may be told again, also after it lost what it was taught.
func (w *world) create(m *member) {
	r, err := NewLearner(m.cfg)
	if err != nil {
		panic(&broken{"learner", err.Error()})
	}
	m.replica, m.unborn = r, false
}

// issue notes a node that the log knows of.
func (w *world) issue(by *member, d Delivery) {
	if n := int(d.Outcome.Node); d.Outcome.Refused == Changed && n == len(w.members)+1 {
		m := &member{cfg: by.cfg, slow: by.slow, unborn: true, learner: true, disk: emptyDisk(by.cfg.Window)}
		m.cfg.Self, m.cfg.Configuration = d.Outcome.Node, *by.replica.Configuration()
		w.members = append(w.members, m)
	}
}

// applyDeliveries brings the host's state up to date.
func (w *world) applyDeliveries(m *member, e *Effects) {
	if e.Install != nil {
		w.tell("%d installs state@%d", m.cfg.Self, e.Install.Applied)
		m.host = hostState{e.Install.Applied, e.Install.Hash}
		w.check.installed(m, e.Install)
	}
	for _, d := range e.Deliver {
		w.tell("%d delivers slot %d: %s%s", m.cfg.Self, d.Slot, d.Entry.Describe(), d.outcome())
		w.issue(m, d)
		w.check.delivered(m, d)
		m.host = m.host.after(d)
	}
	w.check.keepsUp(m)
}

// outcome says what came of a delivered change.
func (d *Delivery) outcome() string {
	o := d.Outcome
	switch {
	case o.Refused == ServerTaken:
		return fmt.Sprintf(", refused: %v (%d)", o.Refused, o.Node)
	case o.Refused != Changed:
		return fmt.Sprintf(", refused: %v", o.Refused)
	case o.Node != 0:
		return fmt.Sprintf(": node %d", o.Node)
	case o.Since != 0:
		return fmt.Sprintf(": from slot %d on", o.Since)
	}
	return ""
}

// persist hands a batch to the disk.
func (w *world) persist(m *member, p *Persist) {
	if p.IsEmpty() {
		return
	}
	b := diskBatch{persist: *p, promised: m.replica.Promised()}
	if p.State {
		b.snapshot = m.replica.Snapshot(m.host.encode(), m.host.hash)
	}
	if p.Promised != nil {
		w.tell("%d stores promise %v", m.cfg.Self, *p.Promised)
	}
	for _, record := range p.Records {
		w.tell("%d stores %s", m.cfg.Self, record.Describe())
	}
	if p.State {
		w.tell("%d stores state@%d", m.cfg.Self, p.Applied)
	}
	m.disk.tail = append(m.disk.tail, b)
}

// answer tells the members' clients what became of their reads and proposals.
func (w *world) answer(m *member, e *Effects) {
	for _, t := range e.ReadsReady {
		w.tell("%d answers read %d from state@%d", m.cfg.Self, t, m.host.applied)
		w.check.readReady(m, t)
	}
	for _, t := range e.ReadsFailed {
		w.tell("%d fails read %d", m.cfg.Self, t)
		w.check.readFailed(m, t)
	}
	for _, p := range e.Dropped {
		w.tell("%d drops proposal %s", m.cfg.Self, w.check.fates[p].command)
		w.check.dropped(p)
	}
	if e.Lost {
		w.tell("%d leads no more", m.cfg.Self)
		w.check.lost(m)
	}
}

// sync makes the oldest n waiting batches of a member durable and releases the messages that waited for them. Messages
// to itself are stepped; their effects are obeyed by the caller, or by the next who calls obey.
func (w *world) sync(m *member, n int) {
	m.disk.sync(n)
	w.check.synced()
	for len(m.held) > 0 && m.held[0].after <= m.disk.durable {
		message := m.held[0].message
		m.held = m.held[1:]
		if message.To != m.cfg.Self {
			w.send(m, message)
			continue
		}
		w.check.sent(m, &message)
		m.replica.Step(&message)
		if sender := w.member(message.From); w.numbers && sender.replica != nil && m.replica.conf.Number < sender.replica.conf.Number {
			m.replica.Overtaken(message.From)
		}
	}
}

// send puts a message on the network, one copy for every receiver. The host attaches the state to a TeachAll.
func (w *world) send(m *member, message Message) {
	if message.Kind == MsgTeachAll {
		message.Snapshot = m.replica.Snapshot(m.host.encode(), m.host.hash)
	}
	w.tell("%s", message.Describe())
	w.check.sent(m, &message)
	if message.To != 0 {
		w.network = append(w.network, message)
		return
	}
	for i, to := range audience(m.replica.Configuration()) {
		if to != message.From && !message.Spares(i) {
			message := message
			message.To, message.spared = to, 0
			w.network = append(w.network, message)
		}
	}
}

// audience is who gets what is addressed to nobody in particular: members and learners.
func audience(c *Configuration) (nodes []NodeNumber) {
	for _, m := range c.Members {
		nodes = append(nodes, m.Node)
	}
	for _, l := range c.Learners {
		nodes = append(nodes, l.Node)
	}
	return nodes
}

// take removes the message at index i from the network.
func (w *world) take(i int) Message {
	message := w.network[i]
	w.network = slices.Delete(w.network, i, i+1)
	return message
}

// step gives a message to its receiver; a member that is down loses it. Where a pointer stands, the sender hears of it.
func (w *world) step(message Message) *member {
	m := w.member(message.To)
	if m.replica != nil {
		m.replica.Step(&message)
	}
	if m.pointer != nil && !w.mute {
		if sender := w.member(message.From); sender.replica != nil {
			w.tell("%d is told that the cell moved on to %s", message.From, m.pointer.Describe())
			sender.replica.Heed(m.pointer)
		}
	}
	return m
}

// reform asks a member for a change. A zero Request is replaced by a fresh one.
func (w *world) reform(m *member, c Change) Refusal {
	if c.Request == 0 {
		w.request++
		c.Request = w.request
	}
	return m.replica.ProposeChange(c)
}

// propose hands a command to a member, and notes what was answered.
func (w *world) propose(m *member, command string) Refusal {
	w.asked++
	refusal := m.replica.Propose([]byte(command), w.asked)
	w.check.proposed(m, w.asked, command, refusal)
	return refusal
}

// read asks a member for a linearizable read and returns the token.
func (w *world) read(m *member) (ReadToken, Refusal) {
	w.reads++
	refusal := m.replica.Read(w.reads)
	if refusal == Accepted {
		w.check.readAsked(m, w.reads)
	}
	return w.reads, refusal
}

// crash stops a member. Of the batches that were not synced the oldest keep ones turn out to be durable all the same,
// but nobody hears of them; the rest is gone.
func (w *world) crash(m *member, keep int) {
	m.disk.sync(keep)
	m.disk.tail, m.held, m.replica, m.host = nil, nil, nil, hostState{}
	w.check.crashed(m)
	w.check.synced()
}

// restart makes a member from what is durable.
func (w *world) restart(m *member) {
	rec := m.disk.image.recovery()
	rec.Learner = m.learner
	if s := rec.Snapshot; s != nil {
		m.host = hostState{s.Applied, binary.BigEndian.Uint64(s.State)}
	}
	r, err := Restore(m.cfg, rec)
	if err != nil {
		panic(&broken{"restart", err.Error()})
	}
	m.replica = r
	w.check.restarted(m, &rec)
}

// settle lets everything happen that may happen among the named members: disks sync, messages arrive in order, until
// nothing is under way. Messages to and from others are lost.
func (w *world) settle(among []NodeNumber) {
	for limit := 100_000; ; limit-- {
		if limit == 0 {
			panic(&broken{"quiet", "members talk forever without a nudge"})
		}
		for _, n := range among {
			if m := w.member(n); m.replica != nil {
				w.obey(m)
				for len(m.disk.tail) > 0 || len(m.held) > 0 {
					w.sync(m, len(m.disk.tail))
					w.obey(m)
				}
			}
		}
		if len(w.network) == 0 {
			return
		}
		message := w.take(0)
		if slices.Contains(among, message.From) && (slices.Contains(among, message.To) || w.member(message.To).pointer != nil) {
			w.step(message)
		}
	}
}

// raise adds a learner and brings it so far that it may become a member, in a world where member 1 leads and nothing fails.
func (w *world) raise() {
	owner, n := w.member(1), NodeNumber(len(w.members)+1)
	w.reform(owner, Change{Kind: AddLearner, Server: ServerID(fmt.Sprintf("s%d", n))})
	w.settle(w.up())
	w.create(w.member(n))
	for limit := 9; !owner.replica.ready(n) || owner.replica.Unfinished(); limit-- {
		if limit == 0 {
			panic(&broken{"learner", fmt.Sprintf("%d does not get ready", n)})
		}
		w.settle(w.up())
		if !owner.replica.ready(n) {
			owner.replica.court(n)
		}
		owner.replica.Nudge()
	}
	w.settle(w.up())
}
