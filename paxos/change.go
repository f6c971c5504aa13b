package paxos

import (
	"fmt"
	"slices"

	"physalia/internal/must"
)

// ChangeKind says what a Change does. The numbers are part of the wire and disk formats and never change.
type ChangeKind uint8

// The kinds of a change; each names the fields of Change that it uses beside Request.
const (
	AddLearner  ChangeKind = 1 // Server: issue a node number to a learner there
	DropLearner ChangeKind = 2 // New: give up a learner
	Replace     ChangeKind = 3 // Number, Old, New: the learner New becomes a member in the place of Old
	Settle      ChangeKind = 4 // Number: a majority of this jury holds everything below its Since; proposed by proposers only
)

// Change is one logged change of a cell's configuration, for one node at a time. Identities are issued by the log itself, and
// a plan that is out of date is refused by it, so any number of managers may act on one cell (rule 4, hazard H13).
type Change struct {
	Kind     ChangeKind
	Request  uint64              // who asks again with the same number gets the same answer
	Number   ConfigurationNumber // the configuration that the change was planned for
	Old, New NodeNumber
	Server   ServerID
}

// ChangeRefusal says why the log refused a change, or that it did not.
type ChangeRefusal uint8

// The refusals; they are facts about the log, the same on every member.
const (
	Changed        ChangeRefusal = iota // not refused
	OtherNumber                         // the configuration number is not the current one
	ChangePending                       // an earlier change is not in force yet, or not settled
	UnknownNode                         // Old is not a member, or New not a learner
	ServerTaken                         // the server hosts a member or learner already; Outcome.Node is that one
	TooManyLearner                      // LearnersMax learners exist
)

// String says it in words.
func (c ChangeRefusal) String() string {
	return [...]string{"done", "planned for another configuration", "an earlier change is pending", "no such member or learner",
		"the server hosts a node of this cell already", "too many learners"}[c]
}

// ChangeOutcome is what came of a change when its slot was delivered.
type ChangeOutcome struct {
	Refused ChangeRefusal
	Node    NodeNumber // AddLearner: the number issued
	Since   Slot       // Replace: the first slot of the new jury
}

// Describe shows a change, for example "replace 3 by 8 in #1".
func (c *Change) Describe() string {
	switch c.Kind {
	case AddLearner:
		return fmt.Sprintf("add learner on %s", c.Server)
	case DropLearner:
		return fmt.Sprintf("drop learner %d", c.New)
	case Replace:
		return fmt.Sprintf("replace %d by %d in #%d", c.Old, c.New, c.Number)
	case Settle:
		return fmt.Sprintf("settle #%d", c.Number)
	}
	return fmt.Sprintf("change %d", c.Kind)
}

// reform applies a chosen change (P8). It looks at nothing but the log's own state, so it comes out the same everywhere; a
// Replace is in force alpha slots later, which is how everybody who may propose a slot knows its jury.
//
// The state is stored with it, since the configuration is part of its envelope: a restart then never replays a change on top of
// a configuration that knows it already, whatever else the host remembers of the members.
func (r *Replica) reform(s Slot, c *Change) (o ChangeOutcome) {
	r.out.Persist.State = true
	switch c.Kind {
	case AddLearner:
		o.Node, o.Refused = r.admit(c)
	case DropLearner:
		if r.conf.Learner(c.New) == nil || (r.pending != nil && r.pending.Index(c.New) >= 0) {
			o.Refused = UnknownNode
			break
		}
		r.revise(func(next *Configuration) { next.Learners = without(next.Learners, c.New) })
		r.tell(c.New)
	case Replace:
		o.Since, o.Refused = r.replace(s, c)
	case Settle:
		if c.Number != r.conf.Number || r.pending != nil {
			o.Refused = OtherNumber
			break
		}
		r.revise(func(next *Configuration) { next.Unsettled = false })
		r.tell(r.conf.Left.Node)
	default: // rule 9: to skip what an older version does not know would split the cell
		must.That(false, "P10: slot %d holds a change of kind %d, which this version does not know", s, c.Kind)
	}
	return o
}

// admit issues a node number to a learner, or finds the one that this request or server has already.
func (r *Replica) admit(c *Change) (NodeNumber, ChangeRefusal) {
	for _, l := range r.conf.Learners {
		if l.Server == c.Server && l.Request == c.Request {
			return l.Node, Changed
		}
	}
	switch n := r.conf.Hosts(c.Server); {
	case n != 0:
		return n, ServerTaken
	case r.conf.Unsettled && r.conf.Left.Server == c.Server:
		return r.conf.Left.Node, ServerTaken // it answers yet, and a server has room for one node of a cell
	case len(r.conf.Learners) == LearnersMax:
		return 0, TooManyLearner
	}
	n := r.conf.Next
	must.That(r.conf.Server(n) == "", "P10: node number %d was issued before", n)
	r.revise(func(next *Configuration) {
		next.Learners = append(slices.Clip(next.Learners), Learner{Member{n, c.Server}, c.Request})
		next.Next++
	})
	return n, Changed
}

// replace makes the configuration that is in force from slot s+alpha on.
func (r *Replica) replace(s Slot, c *Change) (Slot, ChangeRefusal) {
	l, old := r.conf.Learner(c.New), r.conf.Index(c.Old)
	switch {
	case c.Number != r.conf.Number:
		return 0, OtherNumber
	case r.pending != nil || r.conf.Unsettled:
		return 0, ChangePending
	case l == nil || old < 0:
		return 0, UnknownNode
	}
	next := *r.conf
	next.Number++
	next.Since = s + Slot(next.Alpha)
	next.Left, next.Unsettled = next.Members[old], true
	next.Members = append(slices.Delete(slices.Clone(next.Members), old, old+1), l.Member)
	slices.SortFunc(next.Members, func(a, b Member) int { return int(a.Node) - int(b.Node) })
	next.Learners = without(next.Learners, c.New)
	r.pending = &next
	return next.Since, Changed
}

// without returns the learners but one, in memory of its own.
func without(learners []Learner, n NodeNumber) []Learner {
	return slices.DeleteFunc(slices.Clone(learners), func(l Learner) bool { return l.Node == n })
}

// revise changes what is not a matter of juries, now and in what is pending.
func (r *Replica) revise(change func(*Configuration)) {
	for _, c := range []**Configuration{&r.conf, &r.pending} {
		if *c != nil {
			next := **c
			change(&next)
			*c = &next
		}
	}
}

// juryOf is the configuration that decides a slot above applied (P8). Slots up to applied+alpha are certain: whatever could
// change their jury is applied already. The rest is nobody's business yet.
func (r *Replica) juryOf(s Slot) *Configuration {
	if r.pending != nil && s >= r.pending.Since {
		return r.pending
	}
	return r.conf
}

// Jury is the configuration that decides the first slot that is not chosen as far as this member knows.
func (r *Replica) Jury() *Configuration { return r.conf }

// Pending is the configuration that was chosen but is not in force yet, or nil.
func (r *Replica) Pending() *Configuration { return r.pending }

// turnOver puts a pending configuration in force once everything before it is applied. A proposer that is no member any more
// gives up; the node that left is told, since nobody else will talk to it (P9).
func (r *Replica) turnOver() {
	if r.pending == nil || r.applied+1 < r.pending.Since {
		return
	}
	must.That(r.pending.Number == r.conf.Number+1 && r.pending.Since == r.applied+1, "P8: #%d is in force after slot %d, but #%d was", r.pending.Number, r.applied, r.conf.Number)
	r.conf, r.pending = r.pending, nil
	r.me = r.conf.Index(r.cfg.Self)
	r.settling, r.prod = 0, true
	r.reads.startOver()
	r.tell(r.conf.Left.Node)
	if r.me < 0 && r.role != Follower {
		heir := r.handing
		if heir == 0 && r.role == Proposer {
			heir = r.conf.Members[len(r.conf.Members)-1].Node
		}
		r.resign(heir)
	}
}

// tell tells a node that nobody else talks to how far the cell got; it asks for the rest and finds itself removed. A notice may
// be lost: whoever knows that it has no vote asks by itself (Nudge), and a member that missed its removal is told while it is
// needed, and whenever it speaks.
func (r *Replica) tell(n NodeNumber) {
	if r.role == Proposer {
		r.send(Message{Kind: MsgChosen, To: n, Ballot: r.ballot, Through: r.applied})
	}
}

// isGone reports whether this node has no part in the cell any more (P9).
func (r *Replica) isGone() bool {
	return !r.untaught && r.conf.Dismisses(r.cfg.Self) && (r.pending == nil || r.pending.Dismisses(r.cfg.Self))
}

// ProposeChange asks for a change of the configuration. A Replace is proposed only when its learner is ready: it promised
// this ballot and durably holds all but the last alpha slots (rule 3); it is nudged here if it is not. A proposer does not
// remove itself: hand over first. The outcome is told by Deliver, under the change's Request; after Lost it is unknown, and
// the same change may be proposed again.
func (r *Replica) ProposeChange(c Change) Refusal {
	switch {
	case !c.isWellFormed():
		return Malformed
	case r.sealed:
		return Sealed
	case r.role != Proposer || r.handing != 0:
		return NotProposer
	case r.sealing != sealNone || r.change != nil:
		return PipelineFull
	case c.Kind == Replace && c.Old == r.cfg.Self:
		return HandOverFirst
	case c.Kind == Replace && r.conf.Learner(c.New) != nil && !r.ready(c.New):
		r.court(c.New)
		return LearnerBehind
	}
	r.change = &c
	return Accepted
}

// isWellFormed is the gate for changes from outside. Settle is none of them: it is a proposer's word for what it counted.
func (c *Change) isWellFormed() bool {
	switch c.Kind {
	case AddLearner:
		return c.Server != "" && len(c.Server) <= ServerBytesMax
	case DropLearner, Replace:
		return true
	}
	return false
}

// ready reports whether a learner may become a member.
func (r *Replica) ready(n NodeNumber) bool {
	p := r.holder(n)
	return p != nil && p.backs && p.has+Slot(r.conf.Alpha) >= r.applied
}

// court asks one node for its promise, and tells it how far the cell is, so that it asks to be taught.
func (r *Replica) court(n NodeNumber) {
	r.sendDurable(Message{Kind: MsgPrepare, To: n, Ballot: r.ballot, Slot: r.applied + 1})
	r.send(Message{Kind: MsgChosen, To: n, Ballot: r.ballot, Through: r.applied})
}

// holder is what a proposer knows of another node in its own ballot.
type holder struct {
	node  NodeNumber
	backs bool // it promised the ballot
	floor Slot // it told nothing of what it accepted up to here, which it holds only as state: it does not count before that is applied
	has   Slot // what it applied so far, when it promised or voted; all of that is on its disk
	holds Slot // from where on it would restart, by its votes alone
}

// holder returns what is known of a node, or nil.
func (r *Replica) holder(n NodeNumber) *holder {
	for i := range r.holders {
		if r.holders[i].node == n {
			return &r.holders[i]
		}
	}
	return nil
}

// know returns what is known of a node, to be added to. Nodes that left are forgotten when somebody needs their place.
func (r *Replica) know(n NodeNumber) *holder {
	if h := r.holder(n); h != nil {
		return h
	}
	if len(r.holders) > 2*JuryMax {
		r.holders = slices.DeleteFunc(r.holders, func(h holder) bool { return r.conf.Server(h.node) == "" })
	}
	r.holders = append(r.holders, holder{node: n})
	return &r.holders[len(r.holders)-1]
}

// notePromise notes that a node promised the own ballot, how much it has, and up to where it told nothing else.
func (r *Replica) notePromise(n NodeNumber, has, floor Slot) {
	h := r.know(n)
	h.backs, h.has, h.floor = true, max(h.has, has), max(h.floor, floor)
}

// noteHeld notes from where on a node would restart.
func (r *Replica) noteHeld(n NodeNumber, holds Slot) {
	h := r.know(n)
	h.has, h.holds = max(h.has, holds), max(h.holds, holds)
}

// backed reports whether a majority of a jury promised the own ballot: only then may it be used in that jury's slots (P8,
// hazard H4). It is told by promises alone: who merely accepted something did not say what else it had accepted before. A promise
// that leaves out slots which are not applied here counts once they are (P5): a majority of others may have told all of them.
func (r *Replica) backed(c *Configuration) bool {
	if r.backing == c {
		return true // asked for every slot; a configuration never changes, and nobody takes a promise back
	}
	n := 0
	for i := range c.Members {
		if h := r.holder(c.Members[i].Node); h != nil && h.backs && h.floor <= r.applied {
			n++
		}
	}
	if n >= c.Majority() {
		r.backing = c
		return true
	}
	return false
}

// isGranted reports whether the own ballot may be used in a slot whatever is still to be learned: its jury is certain, and a
// majority of it promised. Beyond alpha slots a change may be chosen already that this proposer has not met, and then a member
// of a jury that it does not know tells it what to propose there; it may say so before the change is met.
func (r *Replica) isGranted(s Slot) bool {
	return s <= r.applied+Slot(r.conf.Alpha) && r.backed(r.juryOf(s))
}

// canvass asks the members of a jury that did not promise the own ballot yet: a candidate for what it asked the others, a
// proposer for the slots that are open now. A candidate asks learners, too: they may be members by now, and can teach it so.
func (r *Replica) canvass(c *Configuration) {
	from := r.applied + 1
	ask := func(n NodeNumber) {
		if h := r.holder(n); n != r.cfg.Self && (h == nil || !h.backs) {
			r.sendDurable(Message{Kind: MsgPrepare, To: n, Ballot: r.ballot, Slot: from})
		}
	}
	if r.role == Candidate {
		from = r.from
		for i := range c.Learners {
			ask(c.Learners[i].Node)
		}
	}
	for i := range c.Members {
		ask(c.Members[i].Node)
	}
}

// canvassOnce asks a jury for the first time; later a Nudge repeats it.
func (r *Replica) canvassOnce(c *Configuration) {
	if r.canvassed != c {
		r.canvassed = c
		r.canvass(c)
	}
}

// isHeld reports whether a majority of the jury durably holds everything before its first slot (P9). Together they would find
// themselves in this configuration after any crash; whoever of the jury missed some of it is taught by them.
func (r *Replica) isHeld() bool {
	n := 0
	for i := range r.conf.Members {
		if h := r.holder(r.conf.Members[i].Node); h != nil && h.holds+1 >= r.conf.Since {
			n++
		}
	}
	return n >= r.conf.Majority()
}

// housekeeping returns the change that goes into the next slot, before any command: one that was asked for, or the word that
// the jury before this one is not needed any more.
func (r *Replica) housekeeping() *Change {
	c := r.change
	if c == nil && r.conf.Unsettled && r.pending == nil && r.settling == 0 && (r.isHeld() || plantedReleaseBeforeHeld) {
		r.settling = r.next
		c = &Change{Kind: Settle, Number: r.conf.Number}
	}
	r.change = nil
	return c
}

// wantsNoOp reports whether an otherwise idle cell needs a slot: to close the window of a pending change, or to hear from the
// members of a new jury how much they hold, since they say so when they accept.
func (r *Replica) wantsNoOp() bool {
	if r.pending != nil {
		return r.next < r.pending.Since
	}
	prod := r.prod && r.conf.Unsettled && len(r.open) == 0
	if prod {
		r.prod = false
	}
	return prod
}
