package route

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"physalia/cell"
	"physalia/internal/wire"
)

// Member is one server that hosts a node of a cell.
type Member struct {
	Server cell.ServerID
	Addr   string // client address
}

// Place is what a client knows about one cell, and its session with it. Everything in it but the session is a hint:
// a wrong route costs time, never correctness. A Place has one owner at a time.
type Place struct {
	id cell.ID

	// The route. R1: (routeInc, routeConf) only rises, until the route is doubted; zero: it is.
	routeInc  cell.Incarnation
	routeConf uint64
	members   []Member
	answerer  int        // which of them is likely to have answered
	past      []Member   // of former routes and no longer members; they may hold pointers
	proven    bool       // a member of the route answered as one
	doubted   wire.Route // the last route that none of its members confirmed
	proposer  string     // address that last answered as proposer, or that a NotProposer named
	begin     int        // where in the members the next call goes on, one that ran out of time having got there; zero: it chooses

	// The session. inc and revision come from the cell's own replies only, never from a route.
	inc      cell.Incarnation // highest that answered; zero: none yet
	gone     cell.Incarnation // highest known to be sealed or replaced
	revision cell.Revision    // highest seen in inc: lower bound for since and for monotonic reads
	sequence uint64

	// Lookups and questions to informants.
	finding    bool
	finds      uint64 // lookups ended
	denied     bool   // the last lookup ended with a copy that answered and did not know the cell
	fruitless  int    // lookups in a row that did not improve the route
	findAfter  time.Duration
	learning   bool
	learnAfter time.Duration
	learnPause time.Duration
}

// NewPlace starts from nothing.
func NewPlace(id cell.ID) *Place { return &Place{id: id} }

// Cell is whose place it is.
func (p *Place) Cell() cell.ID { return p.id }

// Incarnation is what requests should name: the one that answered last, or zero when none is known to live.
func (p *Place) Incarnation() cell.Incarnation {
	if p.inc <= p.gone {
		return 0
	}
	return p.inc
}

// Ready reports whether a Write may begin: a revision of a living incarnation has been read.
func (p *Place) Ready() bool { return p.inc > p.gone }

// Gone reports that an incarnation is known to be over.
func (p *Place) Gone(inc cell.Incarnation) bool { return inc <= p.gone }

// Revision is the highest revision seen of the incarnation in use; a monotonic read asks for at least this one.
func (p *Place) Revision() cell.Revision {
	if !p.Ready() {
		return 0
	}
	return p.revision
}

// Request issues the identity of a new transaction of the client; Ready must hold. Since is the highest revision seen,
// which was read before the request is first sent, as rule 14 demands.
func (p *Place) Request(client cell.ClientID) cell.Request {
	p.sequence++
	return cell.Request{Client: client, Sequence: p.sequence, Since: p.revision}
}

// Saw takes the incarnation and revision of a reply and reports whether the reply is of the present: one of an
// incarnation that is known to be over, or older than one that answered already, is not.
func (p *Place) Saw(inc cell.Incarnation, revision cell.Revision) bool {
	switch {
	case inc <= p.gone || inc < p.inc:
		return false
	case inc > p.inc:
		p.inc, p.revision = inc, revision
	case revision > p.revision:
		p.revision = revision
	}
	return true
}

// Over notes that an incarnation is sealed or replaced. What follows it has to introduce itself by a reply.
func (p *Place) Over(inc cell.Incarnation) {
	if inc > p.gone {
		p.gone = inc
		p.proposer = ""
		p.findAfter = 0
	}
}

// Accept takes a route from discovery, a snapshot or a member, and reports whether it replaced the known one (R1).
// A route without a usable address, of another cell, or that was doubted before, is ignored.
func (p *Place) Accept(r *wire.Route) bool {
	if r.Cell != p.id || r.Incarnation == 0 || p.same(r) {
		return false
	}
	if r.Incarnation < p.routeInc || r.Incarnation == p.routeInc && r.Configuration <= p.routeConf {
		return false
	}
	members := make([]Member, 0, len(r.Members))
	for i := range r.Members {
		if m := (Member{r.Members[i].Server, r.Members[i].ClientAddr}); m.Addr != "" && !hasAddr(members, m.Addr) {
			members = append(members, m)
		}
	}
	if len(members) == 0 {
		return false
	}
	former := append(p.members, p.past...)
	p.routeInc, p.routeConf, p.members, p.past, p.proven = r.Incarnation, r.Configuration, members, nil, false
	for _, m := range former {
		if len(p.past) < pastMax && !hasAddr(members, m.Addr) && !hasAddr(p.past, m.Addr) {
			p.past = append(p.past, m)
		}
	}
	return true
}

// Follow takes the word of a server that a node moved away from, and reports whether it led on: a pointer is followed only to
// a higher incarnation and configuration than the known ones, so that servers which point at each other lead nowhere (rule 11).
func (p *Place) Follow(to *cell.Pointer) bool {
	if to == nil {
		return false
	}
	r := wire.Route{Cell: p.id, Incarnation: to.Incarnation, Configuration: to.Configuration}
	for _, s := range to.Servers {
		r.Members = append(r.Members, wire.Founder{Server: s.Server, ClientAddr: s.ClientAddr})
	}
	return p.Accept(&r)
}

// Doubt gives a route up that all of its members contradict: they know nothing of the cell, or know where it went from them
// at an earlier configuration, or cannot be reached although none of them ever answered by this route. Its number then proves nothing, and must not keep the truth out, so the next route is taken
// whatever its number is, only not the same again. Its members stay as a last resort. That a session never goes back to an
// incarnation that is over does not rest on routes.
func (p *Place) Doubt() {
	if len(p.members) == 0 || p.routeInc == 0 {
		return
	}
	p.doubted = wire.Route{Cell: p.id, Incarnation: p.routeInc, Configuration: p.routeConf}
	for _, m := range p.members {
		p.doubted.Members = append(p.doubted.Members, wire.Founder{Server: m.Server, ClientAddr: m.Addr})
	}
	p.routeInc, p.routeConf = 0, 0
	p.findAfter = 0 // what was fruitless, or improved the route, is void
}

// same reports that a route is the one that was doubted last.
func (p *Place) same(r *wire.Route) bool {
	d := &p.doubted
	if r.Incarnation != d.Incarnation || r.Configuration != d.Configuration || len(r.Members) != len(d.Members) {
		return false
	}
	for i := range r.Members {
		if r.Members[i].ClientAddr != d.Members[i].ClientAddr {
			return false
		}
	}
	return true
}

// contradicts reports that a pointer from a member of the route shows the route to be wrong: the cell left that member before
// the configuration in which the route says that it is one.
func (p *Place) contradicts(addr string, to *cell.Pointer) bool {
	return to != nil && hasAddr(p.members, addr) &&
		(to.Incarnation < p.routeInc || to.Incarnation == p.routeInc && to.Configuration < p.routeConf)
}

func hasAddr(ms []Member, addr string) bool { return indexOf(ms, addr) >= 0 }

func indexOf(ms []Member, addr string) int {
	for i := range ms {
		if ms[i].Addr == addr {
			return i
		}
	}
	return -1
}

// lost reports that the route leads nowhere: there is none, or its incarnation is over.
func (p *Place) lost() bool { return len(p.members) == 0 || p.routeInc <= p.gone }

// find asks for a lookup unless one is under way or the pause after a fruitless one has not passed.
func (p *Place) find(now time.Duration, rules *Rules) bool {
	if !rules.Discovery || p.finding || now < p.findAfter {
		return false
	}
	p.finding = true
	return true
}

// Found reports the end of a lookup that a Step with Find began: whether it improved the route, and whether a copy
// answered that it does not know the cell.
func (p *Place) Found(now time.Duration, rules *Rules, dice *Dice, improved, denied bool) {
	p.finding = false
	p.finds++
	p.denied = denied
	if improved {
		p.fruitless = 0
	}
	unit := lookupPauseUnits * rules.BackoffMin
	p.findAfter = now + Backoff(dice, unit, unit, lookupPauseMax, p.fruitless)
	if !improved {
		p.fruitless++
	}
}

// Finds counts the lookups that ended; a waiting call goes on when it moves.
func (p *Place) Finds() uint64 { return p.finds }

// Learn reports whether the server that just answered should be asked who the members are (MethodExplain): it is not
// on the route, so the route is old, and discovery need not be alive to repair it. Learned must follow.
func (p *Place) Learn(now time.Duration, addr string) bool {
	if i := p.answerer; i < len(p.members) && p.members[i].Addr == addr {
		return false // mostly the same one, the proposer, answers
	}
	if p.learning || now < p.learnAfter {
		return false
	}
	if i := indexOf(p.members, addr); i >= 0 {
		p.answerer = i
		return false
	}
	p.learning = true
	return true
}

// Learned ends what Learn began. A question that taught nothing new is not repeated soon.
func (p *Place) Learned(now time.Duration, improved bool) {
	p.learning = false
	if improved || p.learnPause == 0 {
		p.learnPause = learnPauseMin
	} else {
		p.learnPause = min(2*p.learnPause, learnPauseMax)
	}
	p.learnAfter = now + p.learnPause
}

// FromExplanation turns what a member says about its cell into a route.
func FromExplanation(e *wire.Explanation) wire.Route {
	r := wire.Route{Cell: e.Cell, Incarnation: e.Incarnation, Configuration: e.Configuration}
	for _, m := range e.Members {
		r.Members = append(r.Members, wire.Founder{Node: m.Node, Server: m.Server, ClientAddr: m.Addr})
	}
	return r
}

// Describe shows the place in one line, for tests and dumps.
func (p *Place) Describe() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s route %d.%d", p.id, p.routeInc, p.routeConf)
	for _, m := range p.members {
		mark := ""
		if m.Addr == p.proposer {
			mark = "*"
		}
		b.WriteString(" " + m.Addr + mark)
	}
	if p.proposer != "" && !hasAddr(p.members, p.proposer) {
		b.WriteString(" (" + p.proposer + "*)")
	}
	fmt.Fprintf(&b, " incarnation %d gone %d revision %d", p.inc, p.gone, p.revision)
	return b.String()
}

// Members is a copy of the route's members, in the order of the route.
func (p *Place) Members() []Member { return slices.Clone(p.members) }
