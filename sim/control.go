package sim

import (
	"fmt"
	"math/rand/v2"
	"time"

	"physalia/cell"
	"physalia/health"
	"physalia/internal/wire"
	"physalia/lifecycle"
)

// control is the control plane of a world: the deciding code of packages lifecycle, health and placement, in processes that
// crash, pause, lose their connections, and sometimes run twice. What it knows outlives them in a vault.
type control struct {
	world   *World
	plan    *ControlPlan
	dice    *rand.Rand // of crashes and ways
	vault   vault
	active  *process // who is meant to do the work; it may be down
	rival   *process // nil: nobody else believes to be active
	started int      // processes so far
	cut     [siteMax]int
	pauses  int // that hold the active process
	downs   int // upsets that keep it down
	people  operators
	lives   map[life]*volume // of scratch names
	found   cell.Incarnation // which discovery finds of them
	checks  controlChecks
}

// life names one incarnation of a cell.
type life struct {
	cell        cell.ID
	incarnation cell.Incarnation
}

// process is one run of the control process, from its start to its end: a Manager, a Tracker and a Repairer with a thin shell.
//
// The shell does what lifecycle.Service, health.Observer and health.RepairService do in a real process, on one thread and one clock:
// inputs gather in an inbox; a turn hands them on and takes what was decided; nothing leaves before it is durable. A process that is
// dead keeps its state for whoever looks at it in a debugger, and does nothing any more: every closure that may come late asks for
// dead first, except those of packets that are on their way, which arrive.
type process struct {
	control  *control
	name     string
	dice     *rand.Rand
	clock    clock
	term     uint64 // under which it may write to the vault
	dead     bool
	paused   int
	manager  *lifecycle.Manager
	tracker  *health.Tracker
	repairer *health.Repairer
	links    [siteMax]link
	refused  Servers // whom the tracker did not take when they came last
	inbox    []func(now time.Duration)
	outcomes []func(now time.Duration) // for the repairer, once what it rests on is durable
	turning  bool
	storing  bool          // a batch is on its way to the vault; nothing else happens meanwhile
	alarm    time.Duration // of the world, when it wakes by itself; zero: not planned
	requests lifecycle.RequestID
	waiting  map[lifecycle.RequestID]func(lifecycle.Reply)
	rounds   uint64   // of beats
	late     []func() // what it decided before it stood still
}

// newControl makes the control plane of a world; its first process starts a moment later.
func newControl(w *World) *control {
	c := &control{world: w, plan: w.plan.Control, dice: w.stream("control"), lives: map[life]*volume{}}
	c.vault = newVault()
	c.checks = newControlChecks(c)
	w.after(time.Millisecond, func() { c.start() })
	c.keepCopies()
	c.people = operators{control: c, dice: w.stream("operators")}
	c.people.begin()
	for i := range c.plan.Upsets {
		u := &c.plan.Upsets[i]
		w.after(u.At, func() { c.upset(u) })
	}
	return c
}

// start runs a process, unless one runs or something keeps it down. Upsets overlap, so they are counted; whoever ends the last of
// them starts the process again, as an operator's supervisor would.
func (c *control) start() {
	if c.downs > 0 || c.active != nil && !c.active.dead {
		return
	}
	c.active = c.run()
	c.active.paused = c.pauses
}

// run starts a process on the vault as it is; whoever wrote there before may write no more. What it does first is what the
// control process does first: it restores the manager, asks for a rebuild if the operator knows that the store is not the newest,
// takes the routes that the store has, and makes known to health which servers there should be.
func (c *control) run() *process {
	c.started++
	w := c.world
	p := &process{control: c, name: fmt.Sprintf("control %d", c.started), dice: w.stream(fmt.Sprintf("control %d", c.started)),
		waiting: map[lifecycle.RequestID]func(lifecycle.Reply){}}
	p.clock = w.newClock(p.dice)
	p.term = c.vault.open()
	p.manager = lifecycle.NewManager(c.managerConfig(p.dice.Uint64()))
	if err := c.vault.scan(p.manager.Restore); err != nil {
		w.fail("health", place{}, "%s cannot use its store: %v", p.name, err)
		p.dead = true
		return p
	}
	p.watchHealth()
	w.trace.note(w.now, "%s starts in term %d", p.name, p.term)
	w.report.Controls++
	if c.vault.restored { // the operator begins with what was lost
		p.ask(func(now time.Duration, id lifecycle.RequestID) {
			p.manager.Rebuild(now, id, wire.Rebuild{Action: wire.RebuildBegin, Limit: 1})
		}, func(lifecycle.Reply) {})
	}
	routes, _, _ := p.manager.Routes("", wire.ListLimitMax)
	p.know(p.now(), routes)
	for _, g := range p.manager.KnownServers() {
		p.recall(g)
	}
	p.beat()
	p.wake()
	return p
}

// managerConfig is small wherever production is large: batches, pages and calls in flight, so that every bound is met, and pauses,
// so that a world of a few seconds sees many of them. The limits are the defaults, which this little world never reaches.
func (c *control) managerConfig(seed uint64) lifecycle.Config {
	return lifecycle.Config{Alpha: uint32(c.world.plan.Alpha), Seed: seed, Batch: 2, Calls: 8, CallsPerServer: 2, Moves: 4,
		ScanEvery: c.plan.Scan, ScanPace: 200, RebuildPace: 500, ScanPage: 2, RetryMin: 10 * time.Millisecond, RetryMax: 200 * time.Millisecond,
		CallTimeout: 300 * time.Millisecond, SealTimeout: 100 * time.Millisecond, BalanceEvery: 500 * time.Millisecond}
}

// now is the process's own time.
func (p *process) now() time.Duration { return p.clock.at(p.control.world.now) }

// after plans something by the process's clock; it does not happen if the process has ended by then.
func (p *process) after(d time.Duration, do func()) {
	p.control.world.after(p.clock.real(d), func() {
		if !p.dead {
			do()
		}
	})
}

// post hands an input to the process.
func (p *process) post(do func(now time.Duration)) {
	if !p.dead {
		p.inbox = append(p.inbox, do)
		p.wake()
	}
}

// ask makes a request; if the process ends before it answers, it is never answered.
func (p *process) ask(do func(now time.Duration, id lifecycle.RequestID), answer func(lifecycle.Reply)) {
	p.post(func(now time.Duration) {
		p.requests++
		p.waiting[p.requests] = answer
		do(now, p.requests)
	})
}

// wake plans a turn. While a batch is on its way to the vault, or the process stands still, inputs wait.
func (p *process) wake() {
	if p.dead || p.turning || p.storing || p.paused > 0 {
		return
	}
	p.turning = true
	p.after(between(p.dice, 200*time.Microsecond), p.turn)
}

// turn takes everything from the inbox, and what follows: the store first, then the calls and replies, as lifecycle.Service does.
func (p *process) turn() {
	p.turning = false
	if p.paused > 0 || p.storing {
		return
	}
	now := p.now()
	inbox := p.inbox
	p.inbox = nil
	for _, do := range inbox {
		do(now)
	}
	e := p.manager.Effects(now)
	outcomes := p.outcomes
	p.outcomes = nil
	if len(e.Persist) == 0 {
		p.carryOut(&e, outcomes)
		return
	}
	p.storing = true
	p.control.world.after(between(p.dice, storeTime), func() { p.stored(&e, outcomes) })
}

// storeTime is the longest that the vault takes for a batch.
const storeTime = 2 * time.Millisecond

// What is on its way reaches the vault in the order in which it was sent, since a process sends one batch at a time; between twins
// the term decides.
//
// stored is the end of a batch on its way to the vault. A process that died meanwhile may have left it there or not; one that was
// fenced stops, as package lifecycle's service does.
func (p *process) stored(e *lifecycle.Effects, outcomes []func(time.Duration)) {
	c := p.control
	if p.dead && c.dice.IntN(2) == 0 {
		return
	}
	ok := c.vault.put(p.term, e.Persist)
	if p.dead {
		return
	}
	if p.storing = false; !ok {
		c.world.trace.note(c.world.now, "%s is fenced: another one has written since term %d", p.name, p.term)
		p.kill()
		return
	}
	if p.paused > 0 {
		p.late = append(p.late, func() { p.carryOut(e, outcomes) })
		return
	}
	p.carryOut(e, outcomes)
	p.wake() // what came meanwhile
}

// carryOut does what a turn decided, once what it rests on is durable. A process that stands still does it when it goes on.
func (p *process) carryOut(e *lifecycle.Effects, outcomes []func(time.Duration)) {
	for i := range e.Calls {
		p.call(e.Calls[i])
	}
	for _, r := range e.Replies {
		if answer := p.waiting[r.Request]; answer != nil {
			delete(p.waiting, r.Request)
			answer(r)
		}
	}
	if len(e.Routes) > 0 {
		p.know(p.now(), e.Routes)
	}
	now := p.now()
	for _, do := range outcomes {
		do(now)
	}
	p.setAlarm()
}

// setAlarm plans the next turn, when the manager wants one without an input. An alarm that is set already and is early enough
// stays; one that has been overtaken by an earlier one does nothing when it comes.
func (p *process) setAlarm() {
	at, ok := p.manager.Next()
	w := p.control.world
	if !ok || p.dead {
		return
	}
	due := max(w.now+time.Microsecond, p.clock.when(at))
	if p.alarm > w.now && p.alarm <= due {
		return
	}
	p.alarm = due
	w.after(due-w.now, func() {
		if p.alarm == due {
			p.alarm = 0
			p.wake()
		}
	})
}

// kill ends a process at once; what it knew is gone, and nobody hears from it any more.
func (p *process) kill() {
	if p.dead {
		return
	}
	p.dead = true
	p.control.world.trace.note(p.control.world.now, "%s dies", p.name)
}

// living are the processes that run, the active one first.
func (c *control) living() (list []*process) {
	for _, p := range []*process{c.active, c.rival} {
		if p != nil && !p.dead {
			list = append(list, p)
		}
	}
	return list
}

// volumeOf is what the watchers know of one incarnation of a cell. Cells with clients have one incarnation each, which checker
// founding insists on; scratch cells have a volume for each of their incarnations, made when it is first heard of.
func (w *World) volumeOf(id cell.ID, inc cell.Incarnation) *volume {
	if w.control == nil || !isScratch(id) {
		return w.cellNamed(id)
	}
	key := life{id, inc}
	v := w.control.lives[key]
	if v == nil {
		v = &volume{at: -1, id: id, found: wire.Founding{Cell: id, Incarnation: inc}}
		w.control.lives[key] = v
	}
	return v
}

// isScratch reports whether a cell is one that is created and deleted again and again, and has no clients.
func isScratch(id cell.ID) bool { return len(id) > 3 && id[:4] == "tmp-" }
