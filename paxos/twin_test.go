package paxos

import (
	"fmt"
	"slices"
)

// twin is what the agreed log says of the members, computed the naive way: from the whole log, sharing no code with the
// replicas. The checker asks it which jury a slot has (P8), who may go (P9) and what came of a change (P10).
type twin struct {
	alpha    Slot
	juries   []lawful // configuration #n stands at n-1
	servers  map[NodeNumber]ServerID
	requests map[NodeNumber]uint64
	learners []NodeNumber // until they are members or dropped
	next     NodeNumber
	settled  ConfigurationNumber // the newest one that is settled
	outcomes []ChangeOutcome     // of slot s at s-1
	said     []string            // what a member that applied s slots has to say of its configuration, at s
}

// lawful is one configuration of the log.
type lawful struct {
	number ConfigurationNumber
	since  Slot
	jury   []NodeNumber
	left   NodeNumber
}

func (l *lawful) majority() int { return len(l.jury)/2 + 1 }

// count is how many of the jury have a property.
func (l *lawful) count(has func(NodeNumber) bool) (n int) {
	for _, member := range l.jury {
		if has(member) {
			n++
		}
	}
	return n
}

func newTwin(c *Configuration) *twin {
	t := &twin{alpha: Slot(c.Alpha), servers: map[NodeNumber]ServerID{}, requests: map[NodeNumber]uint64{}, next: c.Next, settled: 1}
	founding := lawful{number: 1}
	for _, m := range c.Members {
		founding.jury = append(founding.jury, m.Node)
		t.servers[m.Node] = m.Server
	}
	t.juries = []lawful{founding}
	t.said = []string{t.say(0)}
	return t
}

// juryAt is the configuration of a slot.
func (t *twin) juryAt(s Slot) *lawful {
	for i := len(t.juries) - 1; ; i-- {
		if t.juries[i].since <= s {
			return &t.juries[i]
		}
	}
}

// newest is the newest configuration that was chosen, in force or not.
func (t *twin) newest() *lawful { return &t.juries[len(t.juries)-1] }

// keepers is the jury of which a majority has to hold a slot durably, whoever crashes: its own until a later one is settled.
func (t *twin) keepers(s Slot) *lawful {
	if settled := &t.juries[t.settled-1]; s < settled.since {
		return settled
	}
	return t.juryAt(s)
}

// removal is the configuration that a node is not in any more, nil when it may vote still or never did.
func (t *twin) removal(n NodeNumber) *lawful {
	for i := range t.juries {
		if t.juries[i].left == n {
			return &t.juries[i]
		}
	}
	return nil
}

// append adds the next agreed slot and returns what has to come of it.
func (t *twin) append(d Delivery) (o ChangeOutcome) {
	if d.Entry.Kind == Reform {
		o = t.change(d.Slot, d.Entry.Change)
	}
	if l := t.newest(); l.since == d.Slot+1 {
		t.learners = slices.DeleteFunc(t.learners, func(n NodeNumber) bool { return slices.Contains(l.jury, n) })
	}
	t.outcomes = append(t.outcomes, o)
	if words := t.said[d.Slot-1]; d.Entry.Kind != Reform && t.newest().since != d.Slot+1 {
		t.said = append(t.said, words)
	} else {
		t.said = append(t.said, t.say(d.Slot))
	}
	return o
}

func (t *twin) change(s Slot, c *Change) (o ChangeOutcome) {
	now := t.juryAt(s)
	pending, unsettled := t.newest() != now, t.settled < now.number
	switch c.Kind {
	case AddLearner:
		o.Node, o.Refused = t.admit(now, c, unsettled)
	case DropLearner:
		if !slices.Contains(t.learners, c.New) || slices.Contains(t.newest().jury, c.New) {
			return ChangeOutcome{Refused: UnknownNode}
		}
		t.learners = slices.DeleteFunc(t.learners, func(n NodeNumber) bool { return n == c.New })
	case Replace:
		switch {
		case c.Number != now.number:
			return ChangeOutcome{Refused: OtherNumber}
		case pending || unsettled:
			return ChangeOutcome{Refused: ChangePending}
		case !slices.Contains(now.jury, c.Old) || !slices.Contains(t.learners, c.New):
			return ChangeOutcome{Refused: UnknownNode}
		}
		o.Since = s + t.alpha
		jury := append(slices.DeleteFunc(slices.Clone(now.jury), func(n NodeNumber) bool { return n == c.Old }), c.New)
		slices.Sort(jury)
		t.juries = append(t.juries, lawful{number: now.number + 1, since: o.Since, jury: jury, left: c.Old})
	case Settle:
		if c.Number != now.number || pending {
			return ChangeOutcome{Refused: OtherNumber}
		}
		t.settled = c.Number
	}
	return o
}

func (t *twin) admit(now *lawful, c *Change, unsettled bool) (NodeNumber, ChangeRefusal) {
	for _, n := range t.learners {
		if t.servers[n] == c.Server && t.requests[n] == c.Request {
			return n, Changed
		}
	}
	for _, n := range slices.Concat(now.jury, t.learners) {
		if t.servers[n] == c.Server {
			return n, ServerTaken
		}
	}
	if unsettled && t.servers[now.left] == c.Server {
		return now.left, ServerTaken
	}
	if len(t.learners) == LearnersMax {
		return 0, TooManyLearner
	}
	n := t.next
	t.next++
	t.servers[n], t.requests[n] = c.Server, c.Request
	t.learners = append(t.learners, n)
	return n, Changed
}

// say is the configuration after slot s in words: the one in force for the next slot, and the one that follows.
func (t *twin) say(s Slot) string {
	words := func(l *lawful) string {
		learners := slices.DeleteFunc(slices.Clone(t.learners), func(n NodeNumber) bool { return slices.Contains(l.jury, n) })
		return fmt.Sprint("#", l.number, " since ", l.since, " jury ", l.jury, " learners ", learners, " next ", t.next,
			" left ", l.left, " unsettled ", t.settled < l.number)
	}
	now := t.juryAt(s + 1)
	text := words(now)
	if t.newest() != now {
		text += " then " + words(t.newest())
	}
	return text
}

// saidBy is what a member says, in the same words.
func saidBy(c, pending *Configuration) string {
	nodes := []NodeNumber{}
	for _, m := range c.Members {
		nodes = append(nodes, m.Node)
	}
	learners := []NodeNumber{}
	for _, l := range c.Learners {
		learners = append(learners, l.Node)
	}
	text := fmt.Sprint("#", c.Number, " since ", c.Since, " jury ", nodes, " learners ", learners, " next ", c.Next, " left ", c.Left.Node, " unsettled ", c.Unsettled)
	if pending != nil {
		text += " then " + saidBy(pending, nil)
	}
	return text
}

// promised notes that a node said it promised a ballot; it counts wherever that node is in the jury.
func (c *checker) promised(n NodeNumber, b Ballot) {
	if c.promisers[b] == nil {
		c.promisers[b] = map[NodeNumber]bool{}
	}
	c.promisers[b][n] = true
}

// granted checks that a ballot may be used in a slot (P8): the slot is close enough to what was delivered for its jury to be
// certain, and a majority of that jury said that it promised.
func (c *checker) granted(s Slot, b Ballot) {
	c.holds(int(s) <= len(c.agreed)+int(c.twin.alpha), "P8", "ballot %v offers slot %d, only %d slots were delivered to anybody", b, s, len(c.agreed))
	l := c.twin.juryAt(s)
	n := l.count(func(n NodeNumber) bool { return c.promisers[b][n] })
	c.holds(n >= l.majority(), "P8", "ballot %v offers slot %d, %d of %v promised it", b, s, n, l.jury)
}

// reformed checks what came of a delivered change, or that nothing came of another entry.
func (c *checker) reformed(m *member, d Delivery) {
	want := c.twin.outcomes[d.Slot-1]
	c.holds(d.Outcome == want, "P10", "slot %d: %d says that %s came to %+v, want %+v", d.Slot, m.cfg.Self, d.Entry.Describe(), d.Outcome, want)
}

// changed checks a change that was delivered for the first time.
func (c *checker) changed(d Delivery, o ChangeOutcome) {
	change := d.Entry.Change
	if o.Refused != Changed {
		c.seen[fmt.Sprintf("change refused: %v", o.Refused)]++
		return
	}
	c.seen[[...]string{AddLearner: "learner added", DropLearner: "learner dropped", Replace: "member replaced", Settle: "change settled"}[change.Kind]]++
	switch change.Kind {
	case AddLearner:
		c.holds(c.w.members[len(c.w.members)-1].cfg.Self+1 >= o.Node, "P10", "node %d is issued, the last one was %d", o.Node, len(c.w.members))
	case Settle:
		c.kept(c.twin.juryAt(d.Slot))
	}
}

// kept checks that a majority of a jury would restart with everything below its first slot (P9).
func (c *checker) kept(l *lawful) {
	n := l.count(func(n NodeNumber) bool { return c.w.member(n).disk.image.restartsAt()+1 >= l.since })
	c.holds(n >= l.majority(), "P9", "#%d is settled, but only %d of %v durably hold everything below slot %d", l.number, n, l.jury, l.since)
}

// released checks that nobody needs a node that goes (P9).
func (c *checker) released(m *member) {
	n := m.cfg.Self
	c.seen["released"]++
	l := c.twin.removal(n)
	if l == nil {
		c.holds(n < c.twin.next && !slices.Contains(c.twin.learners, n) && !slices.Contains(c.twin.newest().jury, n), "P9", "node %d is released, which nobody removed", n)
		return
	}
	c.holds(l.number <= c.twin.settled, "P9", "node %d is released, but #%d is not settled", n, l.number)
	c.kept(&c.twin.juries[c.twin.settled-1]) // those of #l may have gone since
}

// configured checks what a member says of its configuration.
func (c *checker) configured(m *member) {
	r := m.replica
	if r.IsUntaught() {
		return
	}
	if s := &m.said; s.conf != r.Configuration() || s.pending != r.Pending() {
		s.conf, s.pending, s.text = r.Configuration(), r.Pending(), saidBy(r.Configuration(), r.Pending())
	}
	got, want := m.said.text, c.twin.said[r.Applied()]
	c.holds(got == want, "P8", "%d applied %d: its configuration is %s, want %s", m.cfg.Self, r.Applied(), got, want)
}

// localReads checks every proposer that would answer a read from its state alone (P6): as long as a majority of the jury that it
// names promised nothing above its ballot, nobody else delivered more than it has. And no ballot counts as given up that its
// owner still uses.
func (c *checker) localReads() {
	promised := func(n NodeNumber) Ballot {
		if m := c.w.member(n); m.replica != nil {
			return m.replica.Promised()
		}
		return c.w.member(n).disk.image.highest()
	}
	for _, m := range c.w.members {
		if m.replica == nil {
			continue
		}
		if b := m.replica.Promised(); m.replica.IsFree() {
			owner := c.w.member(b.Node).replica
			c.holds(owner == nil || owner.Ballot() != b, "P6", "%d takes ballot %v for given up, its owner uses it", m.cfg.Self, b)
		}
		if !m.replica.LocalReads() {
			continue
		}
		stand := 0
		for _, member := range m.replica.Jury().Members {
			if promised(member.Node) == m.replica.Ballot() {
				stand++
			}
		}
		if stand >= m.replica.Jury().Majority() {
			c.seen["local read"]++
			c.holds(int(m.replica.Applied()) >= len(c.agreed), "P6", "%d may answer reads from state@%d in ballot %v, slot %d was delivered", m.cfg.Self, m.replica.Applied(), m.replica.Ballot(), len(c.agreed))
		}
	}
}
