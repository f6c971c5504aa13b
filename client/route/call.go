package route

import (
	"fmt"
	"slices"
	"time"

	"physalia/cell"
)

// Purpose is what kind of request a Call carries.
type Purpose uint8

// The purposes.
const (
	Write     Purpose = 1 // a transaction with an identity, for the proposer
	Read      Purpose = 2 // a linearizable read, for the proposer
	StaleRead Purpose = 3 // a consistent prefix, from any member
	Resolve   Purpose = 4 // a Write that asks for the fate of an earlier one with the same identity
)

// Do is what a Step tells the owner to do.
type Do uint8

// The things to do.
const (
	Ask   Do = 1 // send the request to Addr; then Answered
	Pause Do = 2 // wait until Until
	Await Do = 3 // wait until Place.Finds moves, at most until Until
	Stop  Do = 4 // the call is over: Err says how, nil is success
)

// Step is the decision of Next.
type Step struct {
	Do          Do
	Addr        string           // Ask: client address of a server
	Incarnation cell.Incarnation // Ask: for the Header
	Attempt     uint32           // Ask: for the Header: how often this request was sent before
	Least       cell.Revision    // Ask, StaleRead: an answer of the same incarnation must not be older
	Stale       bool             // Ask, StaleRead: as a consistent prefix; else as a linearizable read, since nobody has seen enough
	Until       time.Duration    // Ask: give the attempt up then; Pause, Await: come back then
	Find        bool             // besides, start a lookup of the cell and report its end with Place.Found
	Err         *cell.Error      // Stop
}

// Fate is what became of one Ask.
type Fate uint8

// The fates.
const (
	Replied Fate = 1 // the server answered, perhaps with an error
	Unsent  Fate = 2 // no byte of the request left: no connection
	Lost    Fate = 3 // sent, perhaps, and no answer came: cut connection, or Until passed
)

// Answer reports an Ask.
type Answer struct {
	Fate        Fate
	Err         *cell.Error      // Replied with an error; Unsent and Lost: the cause, for people
	Incarnation cell.Incarnation // Replied with success
	Revision    cell.Revision    // Replied with success
}

// Spender is a Budget, or a guard around one that several owners share.
type Spender interface {
	Spend(now time.Duration) bool
}

// Call is one request on its way. Begin it, then alternate Next and (after every Ask) Answered. One owner at a time;
// the Place may serve many calls between their steps.
type Call struct {
	purpose  Purpose
	stale    bool // it was begun as a StaleRead
	id       cell.ID
	op       string // for errors
	inc      cell.Incarnation
	least    cell.Revision // revision that the last Ask knew of
	began    time.Duration
	deadline time.Duration
	dice     Dice

	// What has happened so far.
	sends    uint32
	lostAsks int  // answers that never came; each doubles the patience
	behind   int  // rounds of a StaleRead in which somebody was behind the session
	failures int  // pauses so far; each doubles the backoff
	maybe    bool // a Write that may have taken effect
	last     *cell.Error
	lastAddr string
	over     bool
	timedOut bool
	err      *cell.Error

	round      round
	start      int    // where in the members to go on; negative: not begun, zero: not chosen
	unanimous  int    // rounds in which everybody denied the cell
	deniedBy   int    // servers that denied it in the last round
	probed     int    // of Rules.Servers, over all rounds
	finds      uint64 // Place.Finds when the call began
	pauseUntil time.Duration
	rested     bool // a pause has been decided since the last Ask
	owes       bool // the next Ask is a retry to be paid from the budget
	paid       bool // and it was, when the last one was given up for it
	wantFind   bool // a lookup was begun that no Step has announced yet
}

// round is one pass over the addresses that may help; each is asked at most once in it (R2), save that a hint may lead
// back to one that was asked before the last pause: an election needs a moment.
type round struct {
	tried        [roundAsksMax]string
	asked        int
	settled      int    // of tried, those asked before the last pause
	hint         string // whom a NotProposer named
	hints        int
	probes       int         // of Rules.Servers
	denied       int         // servers that said UnknownHere, or that the incarnation they know is over
	contradicted int         // members of the route that say that they are none
	heard        bool        // a server said anything else
	behind       bool        // a member has not seen what this client has seen
	silent       bool        // a server could not be reached or did not answer
	awaited      bool        // a lookup was waited for
	deletion     *cell.Error // a Deleted of an incarnation that the request did not name
}

// fresh reports that the address was not asked in this round.
func (r *round) fresh(addr string) bool { return !slices.Contains(r.tried[:r.asked], addr) }

// followable reports that the address was not asked since the last pause.
func (r *round) followable(addr string) bool {
	return !slices.Contains(r.tried[r.settled:r.asked], addr)
}

// Begin starts a call at now that must end by deadline. For a Write inc is the incarnation in which its Request was
// issued; every send names it (R4). For reads it is zero and the Place decides at each send. Op opens its errors.
// A Resolve starts out as "may have been applied"; only the cell's verdict changes that.
func (c *Call) Begin(purpose Purpose, op string, p *Place, inc cell.Incarnation, now, deadline time.Duration, dice Dice) {
	*c = Call{purpose: purpose, op: op, id: p.id, inc: inc, began: now, deadline: deadline, dice: dice, start: -1, finds: p.finds}
	c.maybe, c.stale = purpose == Resolve, purpose == StaleRead
}

// writes reports that the request has an identity, an effect, and so perhaps an unknown outcome.
func (c *Call) writes() bool { return c.purpose == Write || c.purpose == Resolve }

// Sends is how often the request was handed to a connection.
func (c *Call) Sends() uint32 { return c.sends }

// TimedOut reports that the call was stopped by its deadline.
func (c *Call) TimedOut() bool { return c.timedOut }

// Next decides. It never blocks, and it ends the call by its deadline, or before when all that is left is a pause
// beyond it. The budget is the client's.
func (c *Call) Next(now time.Duration, p *Place, rules *Rules, budget Spender) Step {
	step := c.decide(now, p, rules, budget)
	step.Find, c.wantFind = c.wantFind, false
	return step
}

func (c *Call) decide(now time.Duration, p *Place, rules *Rules, budget Spender) Step {
	for {
		switch {
		case c.over:
			return Step{Do: Stop, Err: c.err}
		case now >= c.deadline || c.pauseUntil >= c.deadline:
			c.timedOut = true
			p.begin = max(c.start, 0) // or calls that are short would ask the same few for ever, dead or not
			return Step{Do: Stop, Err: c.Abandon(now, false)}
		case now < c.pauseUntil:
			return Step{Do: Pause, Until: c.pauseUntil}
		case c.guessing(p) && c.await(now, p, rules):
			return Step{Do: Await, Until: min(c.deadline, now+rules.FindTimeout)}
		}
		if addr := c.candidate(p, rules); addr != "" {
			if c.affords(now, rules, budget) {
				return c.ask(now, addr, p, rules)
			}
			continue
		}
		if !c.round.heard && c.await(now, p, rules) {
			return Step{Do: Await, Until: min(c.deadline, now+rules.FindTimeout)}
		}
		c.endRound(now, p, rules)
	}
}

// guessing reports that nobody has been asked in this round and there is no route to go by.
func (c *Call) guessing(p *Place) bool { return c.round.asked == 0 && p.lost() && p.proposer == "" }

// await decides to wait for a lookup, once per round, and starts it if nobody has.
func (c *Call) await(now time.Duration, p *Place, rules *Rules) bool {
	if c.round.awaited {
		return false
	}
	c.wantFind = p.find(now, rules) || c.wantFind
	c.round.awaited = p.finding
	return p.finding
}

// affords pays for a retry; with an empty budget it waits in long pauses until there is something in it.
func (c *Call) affords(now time.Duration, rules *Rules, budget Spender) bool {
	if !c.owes || c.paid || budget.Spend(now) {
		return true
	}
	c.pauseUntil = now + c.slow(now, rules)
	return false
}

// slow is how long to wait for something in the budget.
func (c *Call) slow(now time.Duration, rules *Rules) time.Duration {
	pause := rules.BackoffMax/2 + c.dice.below(rules.BackoffMax/2)
	return max(rules.BackoffMin, min(pause, (c.deadline-now)/2))
}

// Overdue is asked when the time of an Ask is over and no answer is here. It returns until when to go on waiting for it; if that
// is not after now, the Ask is lost. It is not given up for a retry that the budget does not afford: its server may just have much to do, and
// the late answer costs the colony nothing more.
func (c *Call) Overdue(now time.Duration, rules *Rules, budget Spender) (until time.Duration) {
	if now >= c.deadline {
		return now
	}
	if budget.Spend(now) {
		c.paid = true
		return now
	}
	return min(c.deadline, now+c.slow(now, rules))
}

// ask makes the step that sends to addr.
func (c *Call) ask(now time.Duration, addr string, p *Place, rules *Rules) Step {
	patience := rules.AttemptTimeout
	for i := 0; i < c.lostAsks && patience < c.deadline-now; i++ {
		patience *= 2
	}
	if !c.writes() {
		c.inc = p.Incarnation()
	}
	c.least = p.Revision()
	r := &c.round
	r.tried[r.asked] = addr
	r.asked++
	if addr == r.hint {
		r.hint = ""
		r.hints++
	}
	c.owes, c.paid, c.rested = false, false, false
	step := Step{Do: Ask, Addr: addr, Incarnation: c.inc, Attempt: c.sends, Until: min(c.deadline, now+patience)}
	if c.purpose == StaleRead {
		step.Least, step.Stale = c.least, true
	}
	c.sends++
	return step
}

// candidate picks whom to ask next in this round, or nobody.
func (c *Call) candidate(p *Place, rules *Rules) string {
	r := &c.round
	if r.asked == roundAsksMax {
		return ""
	}
	if r.hint != "" && r.hints < hintsMax && r.followable(r.hint) {
		return r.hint
	}
	if c.purpose != StaleRead && p.proposer != "" && r.fresh(p.proposer) {
		return p.proposer
	}
	if addr := c.member(p, rules); addr != "" {
		return addr
	}
	if p.proposer != "" && r.fresh(p.proposer) {
		return p.proposer
	}
	for i := range p.past {
		if r.fresh(p.past[i].Addr) {
			return p.past[i].Addr
		}
	}
	return c.probe(p, rules)
}

// member goes round the members, from the one after the last that failed, so that all calls of a cell meet at the same
// successor when its proposer is gone; a call behind one that ran out of time goes on where that stopped. Stale reads start where the
// client's preference lies.
func (c *Call) member(p *Place, rules *Rules) string {
	n := len(p.members)
	if n == 0 {
		return ""
	}
	if c.start < 0 {
		c.start = p.begin
	}
	if c.start == 0 {
		first := spread(p.id)
		if c.purpose == StaleRead {
			first += rules.Preference
		}
		c.start = int(first % uint32(n))
	}
	for i := range n {
		if m := &p.members[(c.start+i)%n]; c.round.fresh(m.Addr) {
			return m.Addr
		}
	}
	return ""
}

// probe tries servers that were named in the configuration: they may host the cell, or know who does.
func (c *Call) probe(p *Place, rules *Rules) string {
	r := &c.round
	if !p.lost() && (r.heard || r.denied == 0 && c.failures == 0) {
		return ""
	}
	n := len(rules.Servers)
	for r.probes < min(n, probesMax) {
		addr := rules.Servers[(int(spread(p.id)%uint32(n))+c.probed)%n]
		r.probes++
		c.probed++
		if r.fresh(addr) {
			return addr
		}
	}
	return ""
}

// endRound pauses before the next round, or ends the call when everybody denied the cell often enough.
func (c *Call) endRound(now time.Duration, p *Place, rules *Rules) {
	r := &c.round
	if !r.heard && r.deletion != nil {
		c.finish(r.deletion)
		return
	}
	c.deniedBy = r.denied
	if c.deniedByAll(p, rules) {
		c.unanimous++
	} else {
		c.unanimous = 0
	}
	if c.unanimous >= unanimousRounds && c.probed >= len(rules.Servers) {
		c.finish(&cell.Error{Op: c.op, Kind: cell.UnknownHere, Cell: p.id,
			Detail: fmt.Sprintf("nobody knows this cell: no discovery copy, and none of %d servers asked, %d times over", c.deniedBy, c.unanimous),
			Hint:   "check the name with: physalia cell list; a cell that was just created may take a moment to be found"})
		return
	}
	if n := len(p.members); n > 0 && r.contradicted >= n {
		p.Doubt()
	}
	c.wantFind = p.find(now, rules) || c.wantFind // the route did not help, so it may be old
	if !c.rested {
		c.pause(now, 0, rules)
	}
	c.rested = false
	c.freshen()
	c.round = round{}
}

// freshen turns every other round of a stale read into one for the proposer, once everybody was found behind its session: while
// nobody leads, nobody catches up, and a read for the proposer makes somebody ask for the cell.
func (c *Call) freshen() {
	if !c.stale || !c.round.behind && c.purpose == StaleRead {
		return
	}
	c.behind++
	if c.purpose = StaleRead; c.behind >= behindRounds && c.behind%2 == 0 {
		c.purpose = Read
	}
}

// deniedByAll reports that in this round everybody answered, and nobody knew the cell: neither a server nor, lately,
// discovery: a copy that came up with another route is no denial.
func (c *Call) deniedByAll(p *Place, rules *Rules) bool {
	r := &c.round
	lately := !rules.Discovery || !p.finding && (p.denied || p.finds > c.finds && p.fruitless > 0)
	return !r.heard && !r.silent && lately && (r.denied > 0 || p.denied)
}

// pause waits with full jitter, at least BackoffMin (R2) and at least as long as the server asked for.
func (c *Call) pause(now, retryAfter time.Duration, rules *Rules) {
	floor := max(rules.BackoffMin, min(retryAfter, retryAfterMax))
	c.pauseUntil = now + Backoff(&c.dice, floor, rules.BackoffMin, rules.BackoffMax, c.failures)
	c.failures++
	c.owes, c.rested = true, true
	c.round.settled = c.round.asked
}
