package health

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"physalia/cell"
	"physalia/internal/wire"
)

// repairWorld is a colony in virtual time: servers, cells, and a lifecycle manager that does what is proposed after a while.
// It checks what must hold of every proposal at the moment it is made.
type repairWorld struct {
	t       failer
	r       *Repairer
	rng     *rand.Rand
	now     time.Duration
	step    time.Duration // between turns
	takes   time.Duration // from a proposal to the new configuration
	servers []cell.ServerID
	place   map[cell.ServerID]wire.Registration
	dead    map[cell.ServerID]bool
	sick    map[cell.ServerID][]cell.ID // nodes that are out of service
	cells   map[cell.ID]*worldCell
	names   []cell.ID
	refuse  func(Repair) *cell.Error // nil: nothing is refused

	proposals []made
	withdrawn int
	notes     []Note
	changes   []change
}

// failer is what *testing.T and *rapid.T share.
type failer interface {
	Helper()
	Fatalf(format string, args ...any)
}

type worldCell struct {
	id            cell.ID
	configuration uint64
	members       []cell.ServerID
	remove        cell.ServerID // under way; empty: nothing
	planned       bool          // nothing but planning has happened
}

// made is a proposal with its time.
type made struct {
	at time.Duration
	Repair
	dead      int // members at that moment
	survivors []cell.ServerID
}

// change is a replacement that comes about.
type change struct {
	at   time.Duration
	cell cell.ID
	from cell.ServerID
}

// newRepairWorld makes a brick of racks times perRack servers; server i stands in rack i/perRack and power domain
// rack mod powers.
func newRepairWorld(t failer, c RepairConfig, seed uint64, racks, perRack, powers, cells int) *repairWorld {
	r, err := NewRepairer(c)
	if err != nil {
		t.Fatalf("%v", err)
	}
	w := &repairWorld{t: t, r: r, rng: rand.New(rand.NewPCG(seed, 1)), now: time.Hour, step: 100 * time.Millisecond, takes: 500 * time.Millisecond,
		place: map[cell.ServerID]wire.Registration{}, dead: map[cell.ServerID]bool{}, sick: map[cell.ServerID][]cell.ID{}, cells: map[cell.ID]*worldCell{}}
	for i := range racks * perRack {
		rack := i / perRack
		g := wire.Registration{Server: cell.ServerID(fmt.Sprintf("s%03d", i)), Brick: "b1", Rack: fmt.Sprintf("r%d", rack),
			Power: fmt.Sprintf("p%d", rack%powers), Color: "red", Boot: 1}
		w.servers = append(w.servers, g.Server)
		w.place[g.Server] = g
		r.Server(w.now, &g)
		r.Verdict(Verdict{Server: g.Server, Up: true, At: w.now})
	}
	for i := range cells {
		c := &worldCell{id: cell.ID(fmt.Sprintf("vol-%06d", i)), configuration: 1, members: w.jury()}
		w.cells[c.id] = c
		w.names = append(w.names, c.id)
		w.route(c)
	}
	return w
}

// jury draws seven servers, at most three of a rack and three of a power domain where that is possible.
func (w *repairWorld) jury() (out []cell.ServerID) {
	for most := 3; len(out) < 7; most++ {
		for _, i := range w.rng.Perm(len(w.servers)) {
			if s := w.servers[i]; len(out) < 7 && !slices.Contains(out, s) && w.fits(out, s, most) {
				out = append(out, s)
			}
		}
	}
	return out
}

func (w *repairWorld) fits(jury []cell.ServerID, s cell.ServerID, most int) bool {
	rack, power := 1, 1
	for _, m := range jury {
		if w.place[m].Rack == w.place[s].Rack {
			rack++
		}
		if w.place[m].Power == w.place[s].Power {
			power++
		}
	}
	return rack <= most && power <= most
}

func (w *repairWorld) route(c *worldCell) {
	r := wire.Route{Cell: c.id, Incarnation: 1, Configuration: c.configuration}
	for i, m := range c.members {
		r.Members = append(r.Members, wire.Founder{Node: uint64(i + 1), Server: m})
	}
	w.r.Route(w.now, &r)
}

func (w *repairWorld) die(servers ...cell.ServerID) {
	for _, s := range servers {
		w.dead[s] = true
		w.r.Verdict(Verdict{Server: s, At: w.now, Why: "test"})
	}
}

func (w *repairWorld) comeBack(servers ...cell.ServerID) {
	for _, s := range servers {
		w.dead[s] = false
		w.r.Verdict(Verdict{Server: s, Up: true, At: w.now, Why: "test"})
	}
}

// rack lists the servers of a rack; power those of a power domain.
func (w *repairWorld) rack(name string) []cell.ServerID {
	return w.where(func(g wire.Registration) bool { return g.Rack == name })
}

func (w *repairWorld) power(name string) []cell.ServerID {
	return w.where(func(g wire.Registration) bool { return g.Power == name })
}

func (w *repairWorld) where(f func(wire.Registration) bool) (out []cell.ServerID) {
	for _, s := range w.servers {
		if f(w.place[s]) {
			out = append(out, s)
		}
	}
	return out
}

// deadOf counts a cell's dead members.
func (w *repairWorld) deadOf(c *worldCell) (n int) {
	for _, m := range c.members {
		if w.gone(c.id, m) {
			n++
		}
	}
	return n
}

// gone reports whether a member does not serve.
func (w *repairWorld) gone(id cell.ID, m cell.ServerID) bool {
	return w.dead[m] || slices.Contains(w.sick[m], id)
}

// sicken takes nodes out of service; the server tells of it at once, and of nothing else.
func (w *repairWorld) sicken(s cell.ServerID, ids ...cell.ID) {
	w.sick[s] = ids
	w.tellSick(s)
}

// tellSick is a server's answer to the question for its nodes that are out of service.
func (w *repairWorld) tellSick(s cell.ServerID) {
	var list []wire.CensusNode
	for _, id := range w.sick[s] {
		list = append(list, wire.CensusNode{Cell: id, Incarnation: 1, Quarantined: "assertion: test"})
	}
	w.r.Sick(w.now, s, list)
}

// run lets time pass, with a turn every step.
func (w *repairWorld) run(d time.Duration) {
	for end := w.now + d; w.now < end; {
		w.now += w.step
		w.oneTurn()
	}
}

// oneTurn is one beat of the owner of a Repairer.
func (w *repairWorld) oneTurn() {
	w.t.Helper()
	for len(w.changes) > 0 && w.changes[0].at <= w.now {
		w.comesAbout(w.changes[0])
		w.changes = w.changes[1:]
	}
	for more := true; more; {
		turn := w.r.Turn(w.now)
		for _, d := range turn.Withdraw {
			w.withdraw(d)
		}
		for _, p := range turn.Propose {
			w.propose(p)
		}
		w.notes = append(w.notes, turn.Notes...)
		more = turn.More
	}
}

func (w *repairWorld) withdraw(d Withdrawal) {
	c := w.cells[d.Cell]
	given := c.remove == d.Remove && c.planned
	if given {
		c.remove = ""
		w.withdrawn++
	}
	w.r.Withdrawn(w.now, d.Cell, d.Remove, given)
}

// propose checks a proposal, and takes or refuses it.
func (w *repairWorld) propose(p Repair) {
	w.t.Helper()
	c := w.cells[p.Cell]
	dead := w.deadOf(c)
	switch {
	case c.remove != "" && c.remove != p.Remove:
		w.t.Fatalf("%v %v: %s is being replaced already", w.now, p, c.remove)
	case !slices.Contains(c.members, p.Remove) || !w.gone(p.Cell, p.Remove):
		w.t.Fatalf("%v %v: no dead member of %v", w.now, p, c.members)
	case len(c.members)-dead < len(c.members)/2+1:
		w.t.Fatalf("%v %v: %d of %d members are dead, the quorum is lost", w.now, p, dead, len(c.members))
	case p.Raise && len(c.members)-dead != len(c.members)/2+1:
		w.t.Fatalf("%v %v: raised with %d dead", w.now, p, dead)
	}
	if w.refuse != nil {
		if err := w.refuse(p); err != nil {
			w.r.Outcome(w.now, p.Cell, p.Remove, err)
			return
		}
	}
	survivors := slices.DeleteFunc(slices.Clone(c.members), func(s cell.ServerID) bool { return w.gone(c.id, s) })
	w.proposals = append(w.proposals, made{w.now, p, dead, survivors})
	again := c.remove != ""
	c.remove, c.planned = p.Remove, true
	w.r.Outcome(w.now, p.Cell, p.Remove, nil)
	if !again {
		w.changes = append(w.changes, change{w.now + w.takes, p.Cell, p.Remove})
	}
}

// comesAbout replaces a member, if it was not given up and a majority and a new server are there.
func (w *repairWorld) comesAbout(ch change) {
	c := w.cells[ch.cell]
	if c.remove != ch.from {
		return
	}
	c.remove = ""
	if len(c.members)-w.deadOf(c) < len(c.members)/2+1 {
		return
	}
	for _, i := range w.rng.Perm(len(w.servers)) {
		if s := w.servers[i]; !w.dead[s] && !slices.Contains(c.members, s) {
			c.members[slices.Index(c.members, ch.from)] = s
			c.configuration++
			w.route(c)
			return
		}
	}
}

// count tells how many cells have so many dead members.
func (w *repairWorld) count() (by [8]int) {
	for _, c := range w.cells {
		by[w.deadOf(c)]++
	}
	return by
}

// peak is the most proposals in any window, and their bytes when each is charged the same.
func peak(proposals []made, window time.Duration) (most int) {
	first := 0
	for i := range proposals {
		for proposals[i].at-proposals[first].at > window {
			first++
		}
		most = max(most, i-first+1)
	}
	return most
}

func logf(t *testing.T, w *repairWorld, format string, args ...any) {
	t.Helper()
	s := w.r.Stats()
	t.Logf("%v: %s; cells by dead members %v; queued waiting %d held %d lost %d aged %d urgent %d brink %d, in flight %d", w.now-time.Hour,
		fmt.Sprintf(format, args...), w.count(), s.Queued[classWaiting], s.Queued[classHeld], s.Queued[classLost], s.Queued[classAged],
		s.Queued[classUrgent], s.Queued[classBrink], s.InFlight)
}
