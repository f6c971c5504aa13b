package paxos

import (
	"fmt"
	"slices"

	"physalia/internal/must"
)

// Config is what a Replica is made of.
type Config struct {
	Self          NodeNumber
	Configuration Configuration // the founding one for New
	Window        int           // ring positions, WindowMin to WindowMax; at least 2*alpha. Larger: rarer snapshots, longer recovery
	BatchCommands int           // commands per slot at most, 1 to BatchCommandsMax
	BatchBytes    int           // bytes of commands per slot at most, up to BatchBytesMax; one command may be larger alone
	Scratch       *Scratch      // where Effects get their memory from; nil: from nowhere, each is new
}

// Bounds and defaults of Config.
const (
	WindowMin            = 4
	WindowMax            = 64 // a Promise may carry a record per position, and has to fit a frame
	BatchCommandsMax     = 1024
	BatchBytesMax        = 64 << 10
	WindowDefault        = 64
	AlphaDefault         = 8
	BatchCommandsDefault = 256
)

// Role is what a replica currently does beside accepting and learning.
type Role uint8

// The roles.
const (
	Follower  Role = iota // accepts and learns
	Candidate             // asks for promises
	Proposer              // the distinguished proposer: others would say leader
)

// String names the role.
func (r Role) String() string { return [...]string{"follower", "candidate", "proposer"}[r] }

// Replica is one member of one cell. It has a single owner and is not safe for concurrent use.
type Replica struct {
	cfg Config

	// The configuration, a function of the log up to applied (P8).
	conf     *Configuration // decides the first open slot
	pending  *Configuration // decides from its Since on; nil when no change is under way
	me       int            // own index in conf, -1 when not a member
	untaught bool           // a learner that holds no state yet; conf is then only whom to ask
	released bool           // Effects said so
	guide    *Configuration // newer than conf, from hearsay: whom to ask; nil when there is none

	// Acceptor and learner.
	promised Ballot     // nothing below it is promised, accepted or confirmed (P1); at least every ballot in the ring
	applied  Slot       // every slot up to here was delivered
	stored   Slot       // a restart finds that at least these were applied; handed to storage, at least
	floor    Slot       // every slot up to here needs no ring position: the host's state covers it
	covered  Slot       // that much of it a stored snapshot covers, or one just handed over; less than floor only while there are lessons in memory
	unstored Slot       // from here to applied, records may stand in memory only; zero: none does
	told     Slot       // the highest that this member voted in, or said to have applied: others count on it to hold what is below
	ring     []Record   // slot s lives at s mod Window; Slot zero is empty
	sealed   bool       // the seal was delivered: applied is the last slot of this incarnation
	known    Slot       // highest slot that somebody said is chosen
	source   NodeNumber // who said so
	teacher  NodeNumber // who was asked last
	asked    Slot       // a Learn for this slot is out; zero when none
	rival    Ballot     // highest that somebody said it promised; a hint for Leader, nothing else
	freed    Ballot     // the highest that its owner gave up
	heir     NodeNumber // who should lead after freed; zero: anybody

	// Proposer and candidate.
	role      Role
	ballot    Ballot         // own ballot, when not a follower
	seen      Round          // highest round heard of; never durable, the own rounds are in promised
	from      Slot           // candidate: promises cover slots from here on
	holders   []holder       // who promised ballot, and what they hold
	backing   *Configuration // a jury of which a majority is known to have promised ballot
	canvassed *Configuration // a jury whose other members were asked to
	change    *Change        // goes into the next slot
	settling  Slot           // where Settle was proposed in this ballot; zero: nowhere yet
	prod      bool           // a no-op may make the members of an unsettled jury say what they hold
	handing   NodeNumber     // the heir, while the pipeline is drained; zero: none
	adopted   []adoptee      // ordered by slot: what the promises brought back
	tail      Slot           // last slot to re-propose; reads wait for it (P6)
	next      Slot           // next slot to propose; above applied, also when others teach what this one would re-propose
	open      []flight       // slots applied+1 .. next-1, in order
	informed  Slot           // chosen-through last told to the others
	spared    voters         // need not be asked, in sparedIn and sparedBy: see Spare
	sparedIn  *Configuration // what spared are indices of
	sparedBy  Ballot         // the own ballot that spared was chosen for
	lectured  Slot           // chosen-through last taught to the spared
	queue     batch          // the next batch
	sealing   sealState
	reads     readState

	out  Effects // what has been decided since the last call of Effects
	lent bool    // borrow was called for out
}

// New makes a member of a new cell; see the host's duties for when. The owner of ballot 1 starts as proposer.
func New(cfg Config) (*Replica, error) {
	r, err := build(cfg)
	if err != nil {
		return nil, err
	}
	if cfg.Configuration.Number != 1 {
		return nil, fmt.Errorf("paxos.New: configuration %d is not a founding one", cfg.Configuration.Number)
	}
	if r.me < 0 {
		return nil, fmt.Errorf("paxos.New: node %d is not a member of %s", cfg.Self, cfg.Configuration.Describe())
	}
	r.promised = FoundingBallot(&cfg.Configuration)
	r.seen = r.promised.Round
	if cfg.Configuration.Owner == cfg.Self {
		r.role, r.ballot, r.next = Proposer, r.promised, 1
		for _, m := range cfg.Configuration.Members {
			r.notePromise(m.Node, 0, 0) // by being created; whoever comes later is asked (P8)
		}
	}
	return r, nil
}

// NewLearner makes a node that the cell issued a number to and that knows nothing: the configuration only says whom to ask.
// It answers nothing before it was taught a state, and votes in no jury before the log says so.
func NewLearner(cfg Config) (*Replica, error) {
	r, err := build(cfg)
	if err != nil {
		return nil, err
	}
	r.untaught, r.me, r.known = true, -1, 1
	return r, nil
}

// FoundingBallot is the ballot that every founding member promised by being created.
func FoundingBallot(c *Configuration) Ballot { return Ballot{Round: 1, Node: c.Owner} }

// Recovery is everything durable of one member.
type Recovery struct {
	Promised Ballot    // the highest found anywhere
	Snapshot *Snapshot // the stored state's envelope, nil when none was ever stored; State is not looked at
	Learner  bool      // made by NewLearner: without a Snapshot it is still untaught
	Records  []Record  // the ring, in any order
	Applied  Slot      // the highest applied-through of any record

	// Seen is up to where this process saw the member apply slots before it dropped it from memory, zero if it did not: no record may say
	// so yet. The ring holds what was chosen there (P4).
	Seen Slot

	// Misplaced are the records that were found at another position than their slot modulo Window, since the window grew
	// between two lives. Where they stand, the next write of another slot would destroy them, so those that are still
	// needed are stored again by the first Effects.
	Misplaced []Record
}

// Restore makes a member from what was durable. Its first Effects deliver what has to be replayed, exactly up to the
// recorded applied-through (P4). It starts as follower and never proposes in an earlier ballot again (P3).
func Restore(cfg Config, rec Recovery) (*Replica, error) {
	if rec.Learner && rec.Snapshot == nil {
		return NewLearner(cfg)
	}
	if rec.Snapshot != nil {
		cfg.Configuration = rec.Snapshot.Configuration
	}
	r, err := build(cfg)
	if err != nil {
		return nil, err
	}
	r.promised, r.seen = rec.Promised, rec.Promised.Round
	if s := rec.Snapshot; s != nil {
		r.applied, r.floor, r.covered, r.sealed = s.Applied, s.Applied, s.Applied, s.Sealed
		r.adoptConfiguration(s)
	}
	if err := r.restoreRing(rec); err != nil {
		return nil, err
	}
	r.stored = max(r.applied, rec.Applied)
	for s := r.applied + 1; s <= max(rec.Applied, rec.Seen); s++ {
		record, ok := r.record(s)
		if !ok {
			return nil, fmt.Errorf("paxos.Restore: slot %d was applied (through %d) but is neither in the ring nor in the snapshot (applied %d)", s, max(rec.Applied, rec.Seen), r.floor)
		}
		r.deliver(record)
	}
	r.known = r.applied
	return r, nil
}

// restoreRing puts the records back into the ring. Those that the snapshot covers are not read: they may be older than an
// installed snapshot. A slot may stand at two positions; its records only ever rise in ballot.
func (r *Replica) restoreRing(rec Recovery) error {
	keep := func(record Record) (bool, error) {
		must.That(!r.promised.Less(record.Ballot), "P1: record %d was accepted at %v above the promise %v", record.Slot, record.Ballot, r.promised)
		if record.Slot > r.floor+Slot(len(r.ring)) {
			return false, fmt.Errorf("paxos.Restore: slot %d was accepted, but a window of %d above the snapshot (applied %d) does not reach it: the window must not shrink", record.Slot, len(r.ring), r.floor)
		}
		at := r.at(record.Slot)
		kept := record.Slot > r.floor && (at.Slot != record.Slot || at.Ballot.Less(record.Ballot))
		if kept {
			*at = record
			r.told = max(r.told, record.Slot)
		}
		return kept, nil
	}
	for _, record := range rec.Records {
		if _, err := keep(record); err != nil {
			return err
		}
	}
	for _, record := range rec.Misplaced {
		kept, err := keep(record)
		if err != nil {
			return err
		}
		if kept {
			r.persist(record)
		}
	}
	return nil
}

// build checks a configuration and makes a follower that knows nothing. A window of twice alpha is what lets a proposer
// always find room: its newest slot is at most alpha above applied, and the record one window before is covered by then.
func build(cfg Config) (*Replica, error) {
	if err := cfg.Configuration.Check(); err != nil {
		return nil, fmt.Errorf("paxos: %w", err)
	}
	switch {
	case cfg.Window < WindowMin || cfg.Window > WindowMax || cfg.Window < 2*int(cfg.Configuration.Alpha):
		return nil, fmt.Errorf("paxos: window is %d, allowed are %d to %d and at least twice alpha (%d)", cfg.Window, WindowMin, WindowMax, cfg.Configuration.Alpha)
	case cfg.BatchCommands < 1 || cfg.BatchCommands > BatchCommandsMax:
		return nil, fmt.Errorf("paxos: batch has %d commands, allowed are 1 to %d", cfg.BatchCommands, BatchCommandsMax)
	case cfg.BatchBytes < 1 || cfg.BatchBytes > BatchBytesMax:
		return nil, fmt.Errorf("paxos: batch has %d bytes, allowed are 1 to %d", cfg.BatchBytes, BatchBytesMax)
	}
	if cfg.Self == 0 {
		return nil, fmt.Errorf("paxos: node number is 0, the first is 1")
	}
	conf := cfg.Configuration
	return &Replica{cfg: cfg, conf: &conf, me: conf.Index(cfg.Self), ring: make([]Record, cfg.Window)}, nil
}

// Step takes one message, from another member or from itself. Any message is welcome at any time, late, repeated or out of
// order: every fact in it is either stable (chosen, promised, accepted) or named by a ballot that is used once (P3).
func (r *Replica) Step(m *Message) {
	if m.From == 0 || (m.To != 0 && m.To != r.cfg.Self) {
		return // not for this node (rule 10); the host counts these
	}
	if m.Ballot.Round > r.seen {
		r.seen = m.Ballot.Round
	}
	if r.untaught && m.Kind != MsgTeachAll {
		r.hearUntaught(m)
		return
	}
	switch m.Kind {
	case MsgPrepare:
		r.onPrepare(m)
	case MsgPromise:
		r.onPromise(m)
	case MsgNack:
		r.onNack(m)
	case MsgAccept:
		r.onAccept(m)
	case MsgAccepted:
		r.onAccepted(m)
	case MsgChosen:
		r.certify(m.Ballot, m.Through, m.From)
	case MsgConfirm:
		r.onConfirm(m)
	case MsgConfirmed:
		r.onConfirmed(m)
	case MsgLearn:
		r.teach(m.From, m.Slot)
	case MsgTeach:
		r.onTeach(m)
	case MsgTeachAll:
		r.onTeachAll(m)
	case MsgAhead:
		r.hear(m.Through, m.From) // a slot of ours is long chosen there
	case MsgBehind:
		r.teach(m.From, m.Slot)
	case MsgResign:
		r.onResign(m)
	}
}

// Effects returns what the host must do for everything that happened since the last call, and forgets it. Any number of
// steps may share one call: commands that arrived meanwhile share a slot, reads share a round, writes share a batch.
func (r *Replica) Effects() Effects {
	r.fill()
	r.lectureDue()
	r.startReads()
	if r.owesStorage() {
		r.remember()
	}
	e := r.out
	r.out, r.lent = Effects{}, false
	e.Persist.Applied = r.applied
	if e.Persist.State {
		r.floor, r.covered, r.unstored = r.applied, r.applied, 0 // the snapshot is taken after Deliver, so it covers everything applied
	}
	if e.Persist.tellsApplied() {
		r.stored = r.applied
	}
	if r.me < 0 && !r.released && r.isGone() {
		must.That(r.me < 0 && (!r.conf.Unsettled || r.conf.Left.Node != r.cfg.Self), "P9: node %d is still needed by %s", r.cfg.Self, r.conf.Describe())
		r.released, e.Released = true, true
	}
	return e
}

// HasEffects reports whether a step since the last call of Effects has decided something. It says nothing of what waits for that call:
// commands and reads that share a slot or a round.
func (r *Replica) HasEffects() bool { return !r.out.IsEmpty() }

// Nudge repeats what may have been lost: the host calls it, paced, while Unfinished. It never repeats what was answered.
func (r *Replica) Nudge() {
	switch r.role {
	case Candidate:
		r.canvass(r.conf) // whoever promised and holds slots only as state (P5) may be dead by now; the others may do without it
	case Proposer:
		if r.handing != 0 {
			r.resign(r.handing)
			return
		}
		if len(r.open) > 0 || r.reads.pending() {
			r.spared = 0 // whoever was asked does not answer
		}
		r.resend()
		if jury := r.juryOf(r.next); !r.backed(jury) {
			r.canvass(jury)
		}
		if r.prod = r.conf.Unsettled; r.prod {
			r.tell(r.conf.Left.Node)
		}
		if r.applied > r.informed {
			r.informed = r.applied
			r.lecture(r.sparing())
			r.send(Message{Kind: MsgChosen, Ballot: r.ballot, Through: r.applied})
		}
	}
	if r.known > r.applied || r.isOutside() {
		r.asked = 0
		r.learnFrom(r.following(r.teacher))
	}
}

// isOutside reports whether this node has to ask how it stands with the cell: it left and is not released yet, or it is a
// learner, which may become a member or be dropped without a message that reaches it.
func (r *Replica) isOutside() bool { return r.me < 0 && !r.released && !r.sealed }

// minds reports whether a proposer is busy with its jury: a change is under way, or its ballot lacks promises.
func (r *Replica) minds() bool {
	return !r.sealed && (r.change != nil || r.pending != nil || r.conf.Unsettled || r.handing != 0 || !r.backed(r.juryOf(r.next)))
}

// Unfinished reports whether the replica waits for something that a lost message would make it wait for forever.
func (r *Replica) Unfinished() bool { return r.Undecided() || r.Reading() }

// Undecided is Unfinished but for reads. The host tells the two apart: rounds of reads that come to an end say nothing about slots,
// nor slots about rounds, so the one must not put off that the other is repeated.
func (r *Replica) Undecided() bool {
	return r.role == Candidate || r.known > r.applied || r.isOutside() || (r.role == Proposer &&
		(len(r.open) > 0 || r.minds() || r.applied > r.informed || r.applied < r.tail || !r.queue.empty() || r.sealing == sealWanted))
}

// Reading reports whether reads wait for the jury.
func (r *Replica) Reading() bool { return r.role == Proposer && r.reads.pending() }

// OwesNotice reports whether all that is undecided is that the others were not told yet what is chosen. That is usually
// told by the next Accept, so the host may let it wait longer than what somebody waits for.
func (r *Replica) OwesNotice() bool {
	return r.role == Proposer && len(r.open) == 0 && r.applied > r.informed && r.applied >= r.tail && r.known <= r.applied &&
		r.queue.empty() && r.sealing != sealWanted && !r.minds()
}

// following returns who is asked after n was, so that repeated questions go round: the members of the newest configuration
// heard of, its learners, which may be members by now, and whoever said that there is more to know.
func (r *Replica) following(n NodeNumber) NodeNumber {
	c := r.conf
	if r.guide != nil && r.guide.Number > c.Number {
		c = r.guide
	}
	var others []NodeNumber
	add := func(n NodeNumber) {
		if n != 0 && n != r.cfg.Self && !slices.Contains(others, n) {
			others = append(others, n)
		}
	}
	for i := range c.Members {
		add(c.Members[i].Node)
	}
	for i := range c.Learners {
		add(c.Learners[i].Node)
	}
	add(r.source)
	if len(others) == 0 {
		return r.cfg.Self
	}
	return others[(slices.Index(others, n)+1)%len(others)]
}

// at returns the ring position of a slot.
func (r *Replica) at(s Slot) *Record { return &r.ring[int(s%Slot(len(r.ring)))] }

// record returns the ring record of a slot, if the ring still holds it.
func (r *Replica) record(s Slot) (*Record, bool) {
	p := r.at(s)
	return p, p.Slot == s && s != 0
}

// send queues a message that may leave at once; To zero means every other member.
func (r *Replica) send(m Message) {
	m.From = r.cfg.Self
	r.borrow()
	r.out.SendNow = append(r.out.SendNow, m)
}

// sendDurable queues a message that waits for storage (P1).
func (r *Replica) sendDurable(m Message) {
	m.From = r.cfg.Self
	r.borrow()
	r.out.SendDurable = append(r.out.SendDurable, m)
}

// voters is a set of jury indices. It means something only together with the jury that it was counted in, and with the
// ballot whose promises or votes it holds.
type voters uint16

// has reports whether the member at index i is in the set.
func (v voters) has(i int) bool { return v&(1<<i) != 0 }

// count is the number of members in the set.
func (v voters) count() int {
	n := 0
	for ; v != 0; v &= v - 1 {
		n++
	}
	return n
}

// vote adds a member to a set and reports whether the set is a majority of the jury.
func vote(v *voters, jury *Configuration, n NodeNumber) bool {
	if i := jury.Index(n); i >= 0 {
		*v |= 1 << i
	}
	return v.count() >= jury.Majority()
}
