package sim

import (
	"fmt"
	"math/rand/v2"
	"strconv"
	"time"

	"physalia/cell"
	"physalia/internal/wire"
	"physalia/node/core"
	"physalia/node/storage"
	"physalia/paxos"
)

// World is a colony with its clients, its weather and its watchers. It has one owner and one thread.
type World struct {
	plan      Schedule
	now       time.Duration
	queue     queue
	trace     trace
	net       network
	servers   []*server
	cells     []*volume
	clients   []*client
	grants    []grant
	holds     []hold
	lockers   []*locker // these and those below are the people of people.go
	crowds    []*crowd
	store     *store // nil: there is none
	gone      []loss // leases of which lockers were told that they are over
	recorders []*recorder
	control   *control // nil: cells are created, and members replaced, by create and mover
	ops       []*op
	checkers  []*checker
	report    Report
	failure   *Failure

	sessions    int // clients so far
	faults      int // in force
	lostReplies int // percent of the replies to clients
	noControl   int // faults that keep discovery from answering
	healed      bool
	settling    bool
	dead        Servers // stay down now that everything is healed
}

// volume is a cell of the world, with what the watchers know of it.
type volume struct {
	at       int
	id       cell.ID
	members  []*server // the jury, as the newest configuration has it that anybody has come to
	found    wire.Founding
	jury     *paxos.Configuration // of members; nil until the first is seen
	juryAt   paxos.Slot           // that had been applied by then
	before   []*server            // the members before those of jury
	routed   wire.Route           // what discovery knows
	created  [siteMax]bool        // servers that said so
	log      []paxos.Entry
	history  *history          // of log, made when the run is over
	audited  *[len(keys)]int64 // what the newest audit read
	led      paxos.Ballot      // the highest in which somebody led
	job      *replacement      // the newest, nil: none so far
	managers int               // who have worked at one
	sealing  bool              // somebody has it sealed
	sealed   bool              // a client was told so

	poisoned    int     // a slot, zero: none
	poisonedFor Servers // who panics when they apply it
	poisonOld   bool    // they do not panic: they are of an older version, and do not understand it

	// What the checkers of a control plane know of it.
	known   wire.Configured // the newest configuration that any server has told
	hosted  [siteMax]bool   // who ever had a node of it
	applied int             // the highest slot
	ended   bool            // its deletion was acknowledged
}

// newWorld builds everything and plans the first events; nothing has happened yet.
func newWorld(plan Schedule) *World {
	plan = plan.withDefaults()
	w := &World{plan: plan}
	w.net = network{dice: w.stream("network"), loss: plan.Loss, twice: plan.Twice, spread: plan.Spread, split: plan.Split}
	for i := range plan.Servers {
		s := &server{world: w, at: i, id: cell.ServerID(fmt.Sprintf("s%d", i+1)), dice: w.stream(fmt.Sprintf("server %d", i))}
		s.image = storage.NewModel(s).Crash(0)
		s.owner, s.time = s.id, w.newClock(s.dice)
		w.servers = append(w.servers, s)
	}
	w.checkers = newCheckers(w)
	for _, s := range w.servers {
		s.start()
	}
	for i := range plan.Cells {
		w.cells = append(w.cells, w.newVolume(i))
	}
	for _, v := range w.cells {
		for _, s := range v.members {
			w.create(v, s)
		}
		for i := range plan.Clients {
			w.newClient(v, i).begin()
		}
	}
	w.people()
	if plan.Control != nil {
		w.control = newControl(w)
	}
	for i := range plan.Faults {
		w.after(plan.Faults[i].At, func() { w.strike(&w.plan.Faults[i]) })
	}
	return w
}

// newVolume places a cell on seven servers that depend on its number; member i owns ballot 1.
func (w *World) newVolume(i int) *volume {
	v := &volume{at: i, id: cell.ID(fmt.Sprintf("vol-%d", i+1))}
	v.found = wire.Founding{Cell: v.id, Incarnation: 1, Alpha: uint32(w.plan.Alpha), Owner: uint64(i%jurySize + 1)}
	if w.plan.Control != nil { // it says where
		v.found.Alpha = 0
		return v
	}
	for n := range jurySize {
		s := w.servers[(i+n)%len(w.servers)]
		v.members = append(v.members, s)
		v.found.Members = append(v.found.Members, wire.Founder{Node: uint64(n + 1), Server: s.id, ClientAddr: string(s.id)})
	}
	v.routed = wire.Route{Cell: v.id, Incarnation: v.found.Incarnation, Configuration: 1, Members: v.found.Members}
	return v
}

const jurySize = 7

// stream is a source of dice for one purpose, so that one purpose's appetite does not change another's luck.
func (w *World) stream(purpose string) *rand.Rand { return childStream(w.plan.Seed, purpose) }

// after plans something; it happens whatever becomes of those who planned it.
func (w *World) after(d time.Duration, do func()) { w.queue.add(w.now+d, do) }

// Servers and cells are found by the number in their names; most have one digit.
func (w *World) serverNamed(id cell.ServerID) *server {
	if len(id) == 2 {
		return w.servers[int(id[1]-'1')]
	}
	n, err := strconv.Atoi(string(id[1:]))
	if err != nil {
		panic(err) // the names are those of newWorld
	}
	return w.servers[n-1]
}

func (w *World) cellNamed(id cell.ID) *volume { return w.cells[int(id[len(id)-1]-'1')] }

// runUntil lets time pass until done says so or the time is over; it reports whether done said so. A failure ends it. The
// world is its queue of events: whoever wants to be asked again plans another one.
func (w *World) runUntil(end time.Duration, done func() bool) bool {
	for w.failure == nil && !done() {
		if at, ok := w.queue.peek(); !ok || at > end {
			w.now = end
			return false
		}
		e := w.queue.next()
		w.now = e.at
		w.report.Events++
		e.do()
	}
	return w.failure == nil
}

func never() bool { return false }

// create is the control plane of this world: it asks a server to create its node of a cell, again and again until it says that it did.
func (w *World) create(v *volume, s *server) {
	if v.created[s.at] || s.damaged != "" {
		return // a node that was once there, and is gone with a disk, is never planned again (rule 4)
	}
	if s.core != nil {
		c := &call{method: wire.MethodCreateNodes, answer: func(result []byte, err *cell.Error) {
			var m wire.Outcomes
			if err != nil || wire.Unmarshal(result, &m) != nil {
				w.fail("health", place{s: s, v: v}, "it answered a creation with %v", err)
				return
			}
			v.created[s.at] = v.created[s.at] || m.Outcomes[0].Err == nil
		}}
		s.inbox.calls = append(s.inbox.calls, func(k *core.Core) {
			k.CreateNodes(core.Origin{Conn: c}, &wire.CreateNodes{Foundings: []wire.Founding{v.found}})
		})
		s.wake()
	}
	w.after(60*time.Millisecond, func() { w.create(v, s) })
}

// proposer is the server that leads a cell, or nil: of several the one with the highest ballot.
func (w *World) proposer(v *volume) *server {
	var best *server
	var ballot paxos.Ballot
	for _, s := range w.servers {
		if s.core == nil {
			continue
		}
		if r, _ := s.core.Inspect(v.id); r != nil && r.Role() == paxos.Proposer && ballot.Less(r.Promised()) {
			best, ballot = s, r.Promised()
		}
	}
	return best
}
