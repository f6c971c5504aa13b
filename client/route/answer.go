package route

import (
	"fmt"
	"time"

	"physalia/cell"
)

// Answered takes what became of the Ask to addr; the decision about it is the next Next.
func (c *Call) Answered(now time.Duration, addr string, a Answer, p *Place, rules *Rules) {
	if c.over {
		return
	}
	c.lastAddr = addr
	if a.Err != nil {
		c.last = a.Err
	}
	switch {
	case a.Fate == Replied && a.Err == nil:
		c.succeeded(addr, a, p)
	case a.Fate == Replied:
		c.refused(now, addr, a.Err, p, rules)
	default:
		if a.Fate == Lost {
			c.lostAsks++
			c.maybe = c.maybe || c.writes()
		}
		c.round.silent, c.owes = true, c.owes || a.Fate == Lost // what was not sent has cost the colony nothing
		if !p.proven && hasAddr(p.members, addr) {
			c.round.contradicted++
		}
		c.turnAway(addr, p)
	}
}

// succeeded ends the call, unless it is a read whose answer is of the past.
func (c *Call) succeeded(addr string, a Answer, p *Place) {
	old := a.Incarnation == c.inc && a.Revision < c.least // what this client has seen must not be unseen
	if present := p.Saw(a.Incarnation, a.Revision); !c.writes() && (old || !present) {
		c.last = &cell.Error{Op: c.op, Kind: cell.Unavailable, Cell: c.id, Detail: fmt.Sprintf(
			"the answer was of incarnation %d revision %d, but %d revision %d was seen before", a.Incarnation, a.Revision, c.inc, c.least)}
		c.round.heard, c.round.behind, c.owes = true, true, true
		c.turnAway(addr, p)
		return
	}
	p.proven, p.begin = p.proven || hasAddr(p.members, addr), 0
	if c.purpose != StaleRead {
		p.proposer = addr
	}
	c.finish(nil)
}

// refused sorts a server's no.
func (c *Call) refused(now time.Duration, addr string, err *cell.Error, p *Place, rules *Rules) {
	c.round.heard = c.round.heard || err.Kind != cell.UnknownHere && err.Kind != cell.Deleted && err.Kind != cell.Stale
	switch err.Kind {
	case cell.NotProposer:
		c.redirected(addr, err, p)
	case cell.Moved:
		if p.contradicts(addr, err.Pointer) {
			c.round.contradicted++
		}
		p.Follow(err.Pointer)
		c.turnAway(addr, p)
		c.owes = true
	case cell.UnknownHere:
		c.round.denied++
		if hasAddr(p.members, addr) {
			c.round.contradicted++
		}
		c.turnAway(addr, p)
	case cell.Unavailable:
		c.turnAway(addr, p)
		c.round.behind = true // or loading, or without its peers
		if c.purpose == StaleRead && err.RetryAfter == 0 {
			c.owes = true // behind, or loading: another member may be ahead
			return
		}
		c.pause(now, err.RetryAfter, rules)
	case cell.Overloaded:
		c.overloaded(now, addr, err, p, rules)
	case cell.Quarantined, cell.Refused:
		c.owes = true
		c.turnAway(addr, p)
	case cell.Stale, cell.Deleted:
		c.ended(addr, err, p)
	case cell.Expired, cell.Invalid, cell.WrongType, cell.TooLarge, cell.Exists, cell.NotFound, cell.Conflict,
		cell.NoRoom, cell.Void, cell.NoLease, cell.Denied:
		c.finish(err)
	default: // Internal, UnknownResult, and kinds of a newer version
		c.maybe = c.maybe || c.writes()
		c.turnAway(addr, p)
		c.pause(now, err.RetryAfter, rules)
	}
}

// overloaded waits for the proposer, since no other server can take its place; of others there are more.
func (c *Call) overloaded(now time.Duration, addr string, err *cell.Error, p *Place, rules *Rules) {
	c.pause(now, err.RetryAfter, rules)
	if c.purpose == StaleRead || p.proposer != addr {
		c.turnAway(addr, p)
		return
	}
	c.round = round{}
}

// redirected follows NotProposer: to the address it names, or to that server's address on our route.
func (c *Call) redirected(addr string, err *cell.Error, p *Place) {
	c.turnAway(addr, p)
	next := err.LeaderAddr
	for i := 0; next == "" && err.Leader != "" && i < len(p.members); i++ {
		if p.members[i].Server == err.Leader {
			next = p.members[i].Addr
		}
	}
	if next == "" || next == addr {
		return
	}
	c.round.hint = next
	if p.proposer == "" && c.round.followable(next) {
		p.proposer = next
	}
}

// ended handles the end of an incarnation: final when the request named it; else somebody may know a younger one.
func (c *Call) ended(addr string, err *cell.Error, p *Place) {
	if c.inc != 0 {
		p.Over(c.inc)
		c.finish(err)
		return
	}
	c.turnAway(addr, p)
	c.round.denied++
	if err.Kind == cell.Deleted {
		c.round.deletion = err
	}
}

// turnAway stops preferring an address, and goes on behind it.
func (c *Call) turnAway(addr string, p *Place) {
	if p.proposer == addr {
		p.proposer = ""
	}
	if i := indexOf(p.members, addr); i >= 0 {
		c.start = i + 1
	}
}

// readBack is what to do about an unknown result; overBack when its incarnation is over, by deletion or by a recovery that may
// have lost it: exactly once does not reach across incarnations, so nobody can resolve it any more.
const (
	readBack = "resolve the request, or read back what it would have written"
	overBack = "read back what it would have written; its incarnation is over, so nobody can resolve it"
)

// finish ends the call. R3: a refusal proves that a Write was not applied only if none of its sends is unaccounted
// for, or if the refusal is the state machine's own verdict, which it remembers for all sends.
func (c *Call) finish(err *cell.Error) {
	c.over = true
	if err == nil {
		return
	}
	own := *err
	own.Cell = c.id
	if own.Op == "" {
		own.Op = c.op
	}
	c.err = &own
	if c.maybe && !c.verdict(own.Kind) {
		hint := readBack
		if own.Kind == cell.Stale {
			hint = overBack
		}
		c.err = &cell.Error{Op: c.op, Kind: cell.UnknownResult, Cell: c.id, Err: &own, Hint: hint,
			Detail: fmt.Sprintf("an earlier of %d sends may have been applied, and nobody can tell any more", c.sends)}
	}
}

// verdict reports that an error of this kind is the state machine's own and holds for every send of the request. A
// Write's TooLarge is not: it may come from the gate of a server with narrower bounds than one that took the request.
func (c *Call) verdict(k cell.Kind) bool {
	return k == cell.WrongType || k == cell.Void || k == cell.NoLease || k == cell.TooLarge && c.purpose == Resolve
}

// Abandon ends the call before its time, for example because its caller left, and returns the error for it. InFlight
// says that an Ask is unanswered. Further steps only repeat the error.
func (c *Call) Abandon(now time.Duration, inFlight bool) *cell.Error {
	if c.over {
		return c.err
	}
	c.maybe = c.maybe || inFlight && c.writes()
	e := &cell.Error{Op: c.op, Kind: cell.Unavailable, Cell: c.id, Detail: c.story(now, inFlight)}
	if c.last != nil {
		e.Hint, e.RetryAfter = c.last.Hint, c.last.RetryAfter
		if c.last.Kind.Valid() && !c.last.Kind.MaybeApplied() {
			e.Kind = c.last.Kind // a read has no effect that could be unknown, a Write is looked at next
		}
	}
	if c.maybe {
		e.Kind, e.RetryAfter, e.Hint = cell.UnknownResult, 0, readBack
	}
	c.over, c.err = true, e
	return e
}

// story tells people what a call that gave up has been through.
func (c *Call) story(now time.Duration, inFlight bool) string {
	s := fmt.Sprintf("gave up after %v and %d sends", (now - c.began).Round(time.Millisecond), c.sends)
	switch {
	case inFlight:
		s += ", the last one unanswered"
	case c.sends == 0:
		s += ": nobody could be asked"
	}
	if c.last != nil {
		s += fmt.Sprintf("; %s said: %v", c.lastAddr, c.last)
	}
	return s
}
