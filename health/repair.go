package health

import (
	"fmt"
	"slices"
	"time"

	"physalia/cell"
	"physalia/internal/wire"
)

// Repairer decides which members of which cells should be replaced, and when: slow repair. It proposes; the lifecycle manager
// disposes, and chooses the new member. It knows verdicts about servers, where they stand, and the members of cells, and
// it never scans all cells: what happens to a server touches the cells of that server, a page per turn.
//
// A Repairer is a step machine with one owner, and not safe for concurrent use. Time is a duration since any fixed moment, the
// same as in the verdicts, and must not run backwards. The owner must
//
//  1. feed it registrations, verdicts and routes as they come; older routes than known ones are ignored;
//  2. call Turn a few times per second, and again at once while it says More;
//  3. carry out what a Turn says in its order, and report the end of every proposal with Outcome and of every withdrawal
//     with Withdrawn, once each.
//
// Two Repairers that both believe to own a brick are harmless: the manager refuses the second proposal for a cell.
type Repairer struct {
	config RepairConfig
	now    time.Duration
	turn   uint32
	census

	pools   []pool
	poolOf  map[poolKey]uint16
	bricks  []brick
	brickOf map[string]uint16
	domains []domain
	domOf   map[string]domainRef
	holds   []domainRef // that are on, oldest first

	colony   bucket
	active   map[cellRef]*active
	wakes    wakeHeap // of active
	inFlight int      // proposed or begun
	pages    []hostRef
	troubled []hostRef // dead or returning
	owns     func(brick string) bool

	out   Turn
	stats RepairStats
}

// poolKey names a pool: servers of one brick and color, out of which a cell's members are chosen.
type poolKey struct{ brick, color string }

// pool keeps the cells of one brick and color that are not as they should be, by class.
type pool struct {
	brick    uint16
	color    string
	queues   [classes]queue
	refusals int           // in a row; while there are any, one proposal at a time is on the way
	asked    int           // proposals on the way
	stalled  time.Duration // nothing is proposed before; zero: nothing stands in the way
	why      string        // the last refusal, for people
	looked   int           // cells looked at in this turn
}

// brick is what is counted per brick.
type brick struct {
	name    string
	bucket  bucket
	blocked uint32 // turn in which its budget was used up
}

// RepairStats counts what a Repairer holds and did.
type RepairStats struct {
	Cells, Servers    int    // indexed
	Proposed, Raised  uint64 // proposals, and those among them that raise a cell on the brink under a hold
	Begun, Done       uint64 // that the manager took; after which the member was gone
	Refused           uint64 // by the manager
	Withdrawn         uint64 // given up in time
	RefusedRoutes     uint64 // malformed, or beyond a bound
	BytesProposed     uint64 // by the estimate
	Holds             uint64 // begun
	Queued            [classes]int
	InFlight, Resting int
	Troubled          int // servers that are dead or returning
	HoldsOn           int // now
	Sick              int // members whose node is out of service although the server is not
}

// Repair is one proposal: replace a member of a cell.
type Repair struct {
	Cell        cell.ID
	Incarnation cell.Incarnation
	Remove      cell.ServerID
	Raise       bool   // the cell is on the brink and under a hold: it is raised by one member and no further
	Why         string // for people, with the numbers
}

// Withdrawal gives a proposal up, if nothing but planning has happened.
type Withdrawal struct {
	Cell   cell.ID
	Remove cell.ServerID
}

// Note tells people that a hold began or ended.
type Note struct {
	Hold   bool   // a hold began; else it ended
	Domain string // for example "rack:b1/r2"
	Text   string
}

// Turn is what a Repairer wants done.
type Turn struct {
	Withdraw []Withdrawal
	Propose  []Repair // the most urgent first
	Notes    []Note
	More     bool // there is work that waits for nothing
}

// NewRepairer returns a Repairer that knows nothing and owns every brick; config must pass Check.
func NewRepairer(config RepairConfig) (*Repairer, error) {
	if err := config.Check(); err != nil {
		return nil, err
	}
	return &Repairer{config: config, census: newCensus(config.Seed), pools: make([]pool, 1), bricks: make([]brick, 1), domains: make([]domain, 1),
		poolOf: map[poolKey]uint16{{}: 0}, brickOf: map[string]uint16{"": 0}, domOf: map[string]domainRef{}, active: map[cellRef]*active{},
		owns: func(string) bool { return true }}, nil
}

// Own says which bricks are this Repairer's; for the others it proposes nothing. It is asked in every turn.
func (r *Repairer) Own(owns func(brick string) bool) { r.owns = owns }

// Server takes a server's registration: its place, which never changes. One that is not well-formed, contradicts what is
// known or is beyond a bound is ignored; the tracker refuses it and says so.
func (r *Repairer) Server(now time.Duration, g *wire.Registration) {
	r.advance(now)
	ref := r.host(g.Server, r.config.ServersMax)
	if ref == 0 || r.hosts[ref].placed || len(r.bricks) > 1<<15 || len(r.pools) > 1<<15 {
		return
	}
	h := &r.hosts[ref]
	h.placed, h.pool = true, r.poolFor(g.Brick, g.Color)
	for i, name := range domainNames(g) {
		h.domains[i] = r.domainFor(name)
		d := &r.domains[h.domains[i]]
		d.hosts = append(d.hosts, ref)
	}
	// Cells may have been heard of before their servers; they are put where they belong.
	r.lookAt(ref)
	if h.state == hostDead {
		r.correlate(ref)
	}
}

// Load takes what a server reports of itself: how many nodes it hosts and the bytes that all of them hold. The average is what
// a repair is charged.
func (r *Repairer) Load(id cell.ServerID, nodes, bytes uint64) {
	if ref := r.byName[id]; ref != 0 && nodes > 0 {
		r.hosts[ref].nodeBytes = min(bytes/nodes, 1<<30)
	}
}

// poolFor finds or makes a pool.
func (r *Repairer) poolFor(name, color string) uint16 {
	key := poolKey{name, color}
	if at, ok := r.poolOf[key]; ok {
		return at
	}
	b, ok := r.brickOf[name]
	if !ok {
		b = uint16(len(r.bricks))
		r.bricks = append(r.bricks, brick{name: name})
		r.brickOf[name] = b
	}
	r.poolOf[key] = uint16(len(r.pools))
	r.pools = append(r.pools, pool{brick: b, color: color})
	return r.poolOf[key]
}

// Verdict takes the tracker's change of opinion about a server.
func (r *Repairer) Verdict(v Verdict) {
	r.advance(v.At)
	ref := r.host(v.Server, r.config.ServersMax)
	if ref == 0 {
		return
	}
	r.watch() // who stayed long enough by now is back, although no turn came to see it
	h := &r.hosts[ref]
	switch {
	case v.Up && h.state == hostDead:
		// Nothing is proposed for it any more, but what was is given up only when it stays.
		h.state, h.returned = hostReturning, r.now
	case v.Up && h.state == hostUnknown:
		h.state = hostUp
	case v.Up:
		return
	case h.state == hostReturning:
		h.state = hostDead // as if it had never come: its death is the old one
		r.lookAt(ref)
	case h.state != hostDead:
		h.state, h.died, h.looks = hostDead, r.now, 0
		r.troubled = append(r.troubled, ref)
		r.correlate(ref)
		r.lookAt(ref)
	}
}

// Forget drops what is known of a server's health, when it is gone for good and no cell has a member there; its place in the
// table stays.
func (r *Repairer) Forget(now time.Duration, id cell.ServerID) {
	r.advance(now)
	if ref := r.byName[id]; ref != 0 && r.hosts[ref].state != hostUnknown {
		r.back(ref)
		r.hosts[ref].state = hostUnknown
		r.troubled = slices.DeleteFunc(r.troubled, func(t hostRef) bool { return t == ref })
	}
}

// Route takes the members of one cell; the newest incarnation and configuration wins, and a deleted cell is forgotten. A
// route that comes again later for a forgotten cell is believed: the manager refuses what is proposed for it.
func (r *Repairer) Route(now time.Duration, route *wire.Route) {
	r.advance(now)
	ref := r.find(route.Cell)
	if ref != 0 {
		w := r.row(ref)
		if route.Incarnation < w.incarnation || route.Incarnation == w.incarnation && !route.Deleted && route.Configuration <= w.configuration {
			return
		}
	}
	if route.Deleted {
		if ref != 0 {
			r.drop(ref)
		}
		return
	}
	members := r.membersOf(route)
	if members == nil || ref == 0 && r.cells >= r.config.CellsMax {
		r.stats.RefusedRoutes++
		return
	}
	if ref == 0 {
		ref = r.add(route.Cell)
	}
	r.moved(ref, route, members)
}

// membersOf interns a route's servers; nil when the route is malformed or there is no room.
func (r *Repairer) membersOf(route *wire.Route) []hostRef {
	if n := len(route.Members); n == 0 || n > wire.MembersMax || route.Incarnation == 0 {
		return nil
	}
	members := make([]hostRef, len(route.Members))
	for i := range route.Members {
		ref := r.host(route.Members[i].Server, r.config.ServersMax)
		if ref == 0 || slices.Contains(members[:i], ref) {
			return nil
		}
		members[i] = ref
	}
	return members
}

// moved gives a cell its new members, and ends the replacement that brought them about.
func (r *Repairer) moved(ref cellRef, route *wire.Route, members []hostRef) {
	w := r.row(ref)
	if a := r.active[ref]; a != nil && (route.Incarnation != w.incarnation || !slices.Contains(members, a.remove)) {
		if route.Incarnation == w.incarnation {
			r.stats.Done++
		}
		r.retire(ref, a)
	}
	if w.class != classBusy {
		r.unqueue(ref)
	}
	if route.Incarnation != w.incarnation {
		r.forgetSick(ref, nil)
	} else {
		r.forgetSick(ref, members)
	}
	w.incarnation, w.configuration = route.Incarnation, route.Configuration
	r.seatAll(ref, members)
	r.assess(ref)
}

// drop forgets a cell.
func (r *Repairer) drop(ref cellRef) {
	if a := r.active[ref]; a != nil {
		r.retire(ref, a)
	}
	r.unqueue(ref)
	r.forgetSick(ref, nil)
	r.seatAll(ref, nil)
	r.remove(ref)
}

// Turn does a bounded piece of the work that is due, and says what to do. The slices are the caller's.
func (r *Repairer) Turn(now time.Duration) Turn {
	r.advance(now)
	r.turn++
	r.watch()
	r.expireHolds()
	r.wake()
	more := r.look()
	r.choose()
	out := r.out
	r.out = Turn{}
	out.More = more
	return out
}

// watch passes the moments of servers in trouble: one that stays is back, one that stays away has its cells looked at when
// Settle and when Patience are over.
func (r *Repairer) watch() {
	r.troubled = slices.DeleteFunc(r.troubled, func(ref hostRef) bool {
		h := &r.hosts[ref]
		if h.state == hostReturning && r.now-h.returned >= r.config.ReturnMin {
			r.back(ref)
			return true
		}
		if h.state == hostDead {
			for due := [...]time.Duration{r.config.Settle, r.config.Patience}; int(h.looks) < len(due) && r.now-h.died >= due[h.looks]; h.looks++ {
				r.lookAt(ref)
			}
		}
		return false
	})
}

// back takes a server as well again.
func (r *Repairer) back(ref hostRef) {
	h := &r.hosts[ref]
	h.state, h.held, h.released = hostUp, false, false
	r.lookAt(ref)
	r.relaxHolds()
}

// lookAt has all cells of a server looked at, in pages.
func (r *Repairer) lookAt(ref hostRef) {
	h := &r.hosts[ref]
	if !h.paging {
		h.paging = true
		r.pages = append(r.pages, ref)
	}
	h.cursor = uint32(len(h.cells))
}

// look assesses one page of the cells that are to be looked at, and reports whether there are more.
func (r *Repairer) look() bool {
	left := r.config.Page
	for len(r.pages) > 0 {
		h := &r.hosts[r.pages[0]]
		h.cursor = min(h.cursor, uint32(len(h.cells)))
		for ; h.cursor > 0; left-- {
			if left == 0 {
				return true
			}
			h.cursor--
			r.assess(h.cells[h.cursor])
		}
		h.paging = false
		r.pages = r.pages[1:]
	}
	r.pages = nil
	return false
}

// advance moves time; it never runs backwards.
func (r *Repairer) advance(now time.Duration) { r.now = max(r.now, now) }

// Stats counts what the Repairer holds and did.
func (r *Repairer) Stats() RepairStats {
	s := r.stats
	s.Cells, s.Servers, s.InFlight, s.Resting, s.Troubled = r.cells, len(r.hosts)-1, r.inFlight, len(r.active)-r.inFlight, len(r.troubled)
	s.HoldsOn = len(r.holds)
	for i := range r.hosts {
		s.Sick += len(r.hosts[i].sick)
	}
	for i := range r.pools {
		for c := range r.pools[i].queues {
			s.Queued[c] += r.pools[i].queues[c].len
		}
	}
	return s
}

// String shows a proposal in one line.
func (p Repair) String() string {
	cause := "repair"
	if p.Raise {
		cause = "raise"
	}
	return fmt.Sprintf("%s %s.%d without %s: %s", cause, p.Cell, p.Incarnation, p.Remove, p.Why)
}
