package sim

import (
	"fmt"
	"io"
	"runtime/debug"
	"time"

	"physalia/client/route"
)

// Report is what a run came to.
type Report struct {
	Schedule  Schedule
	Failure   *Failure      // nil: every property held
	Trace     uint64        // fingerprint of everything that happened
	Simulated time.Duration // how long the run was for those in it
	Events    int           // of the simulation
	Messages  [256]int
	Attempts  int // requests that clients sent
	Slots     int // chosen
	// Takeovers counts the ballots in which somebody led a cell. The first is among them, and, since nobody leads after a
	// restart, one for each cell after the last power cut.
	Takeovers   int
	Crashes     int // the last power cut included
	BatchesLost int // by crashes
	Fates       [useless + 1]int
	Faults      [faultKinds]int
	Coverage    Coverage
	Undecided   int // histories whose linearizability took too long to decide
	Quarantined int // nodes that went out of service, as they must when they are damaged
	Stopped     int // servers that stopped for good, as they must when their disk is damaged
	Moves       int // replacements of members that were begun
	RolledBack  int // disks
	Moved       int // and that came about, as a manager saw
	// ReadsInTrouble counts the linearizable and stale reads that were answered while a fault was in force: there staleness
	// would show.
	ReadsInTrouble int
	Locks          int                       // locks taken
	LeaseEnds      [route.HoldClosed + 1]int // as their holders saw them
	BlockOps       int                       // operations that the block store acknowledged
	Records        int                       // changes of volume records that were acknowledged
	Lookups        int                       // of routes, that clients asked discovery for
	Controls       int                       // control processes that were started
	Created        int                       // creations that were acknowledged
	Deleted        int                       // and deletions
	Repairs        int                       // proposed by repairers, and taken by managers
	Rebuilds       int                       // of stores, that came to their end
	Upsets         [upsetKinds]int
	Probed         int // cells that were asked to write while parts of a site were lost
	Unserved       int // of them, that had no majority and did not answer
	ProbesVoid     int // probes during which something else happened
}

// String shows the figures of a run in one line.
func (r *Report) String() string {
	messages := 0
	for _, n := range r.Messages {
		messages += n
	}
	return fmt.Sprintf("%v simulated, %d events, %d messages, %d slots, %d takeovers, %d crashes (%d batches lost), %d attempts: "+
		"%d answered, %d refused, %d unknown, %d void; trace %016x", r.Simulated, r.Events, messages, r.Slots, r.Takeovers, r.Crashes,
		r.BatchesLost, r.Attempts, r.Fates[answered], r.Fates[refused], r.Fates[unknown], r.Fates[void], r.Trace)
}

// Describe shows a failed run: what does not hold, its figures, what the schedule had switched on, and the line that
// replays it with a log of every event.
func (r *Report) Describe() string {
	return fmt.Sprintf("FAIL %v\n  %v\n  %v\n  replay: physalia sim replay --log --schedule '%v'", r.Failure, r, r.Schedule.Swarm(), r.Schedule)
}

// Add adds the figures of another run; schedule, failure and trace stay.
func (r *Report) Add(other *Report) {
	r.Simulated += other.Simulated
	for _, sum := range []struct{ to, from *int }{{&r.Events, &other.Events}, {&r.Attempts, &other.Attempts}, {&r.Slots, &other.Slots},
		{&r.Takeovers, &other.Takeovers}, {&r.Crashes, &other.Crashes}, {&r.BatchesLost, &other.BatchesLost}, {&r.Undecided, &other.Undecided},
		{&r.Locks, &other.Locks}, {&r.BlockOps, &other.BlockOps}, {&r.Records, &other.Records}, {&r.Quarantined, &other.Quarantined}, {&r.Stopped, &other.Stopped},
		{&r.ReadsInTrouble, &other.ReadsInTrouble}, {&r.Moves, &other.Moves}, {&r.Moved, &other.Moved}, {&r.RolledBack, &other.RolledBack},
		{&r.Controls, &other.Controls}, {&r.Created, &other.Created}, {&r.Deleted, &other.Deleted}, {&r.Repairs, &other.Repairs},
		{&r.Rebuilds, &other.Rebuilds}, {&r.Probed, &other.Probed}, {&r.Unserved, &other.Unserved}, {&r.ProbesVoid, &other.ProbesVoid}} {
		*sum.to += *sum.from
	}
	for i := range r.Messages {
		r.Messages[i] += other.Messages[i]
	}
	for i := range r.LeaseEnds {
		r.LeaseEnds[i] += other.LeaseEnds[i]
	}
	for i := range r.Fates {
		r.Fates[i] += other.Fates[i]
	}
	for i := range r.Upsets {
		r.Upsets[i] += other.Upsets[i]
	}
	for i := range r.Faults {
		r.Faults[i] += other.Faults[i]
	}
	r.Coverage.add(&other.Coverage)
}

// convergeTime is how long clients may need for their answers in a healed world.
const convergeTime = 60 * time.Second

// Run plays a schedule, which must be one that Parse accepts.
func Run(p Schedule) *Report { return RunLogged(p, nil) }

// RunLogged is Run, and writes down what happens, if log is not nil.
func RunLogged(p Schedule, log io.Writer) *Report {
	full := p.withDefaults()
	if err := full.check(); err != nil {
		panic(err)
	}
	w := newWorld(full)
	w.trace.log = log
	w.playAll()
	w.report.Schedule, w.report.Failure, w.report.Trace, w.report.Simulated = p, w.failure, w.trace.sum, w.now
	for _, v := range w.cells {
		w.report.Slots += len(v.log)
	}
	return &w.report
}

// playAll is play, and makes a failure of a panic: a world that breaks must name its seed, too.
func (w *World) playAll() {
	defer func() {
		if p := recover(); p != nil {
			w.fail("panic", place{}, "%v", p)
			if w.trace.log != nil {
				w.trace.log.Write(debug.Stack())
			}
		}
	}()
	w.play()
}

// play runs the phases of the package comment and asks the checkers. It stops at the first failure.
func (w *World) play() {
	if w.runUntil(w.plan.Span, never); w.failure == nil {
		w.end()
	}
}

// end is what comes after the faults: healing, settling, the last power cut, and the verdict.
func (w *World) end() {
	w.heal()
	if !w.converge("after healing") {
		return
	}
	w.settling = true
	settled := w.settle()
	w.settling = false
	if !settled || !w.converge("after settling") {
		return
	}
	if w.control != nil && !w.control.settle("after settling") {
		return
	}
	w.audit()
	if !w.converge("at the first audit") {
		return
	}
	w.powerCut()
	w.audit()
	if !w.converge("after the last power cut") {
		return
	}
	w.judge()
}

// judge asks the checkers that look at the whole.
func (w *World) judge() {
	for _, v := range w.cells {
		v.history = replay(v.log)
	}
	for _, c := range w.checkers {
		if c.finish != nil && w.failure == nil {
			c.finish()
		}
	}
}

// converge lets time pass until every client has all its answers. Liveness is all that is asked for, within a generous bound:
// how fast is the business of the benchmarks.
func (w *World) converge(when string) bool {
	if w.runUntil(w.now+convergeTime, w.quiet) {
		return true
	}
	for _, c := range w.clients {
		if c.current != nil {
			w.fail("answered", place{v: c.session.volume}, "%s: %s %v waits for an answer since %v", when, c.current.kind, c.current.request, c.current.called)
		}
	}
	for _, l := range w.lockers {
		if !l.done {
			w.fail("answered", place{v: l.session.volume}, "%s: client %d does not get the lock, or its end", when, l.session.at)
		}
	}
	w.fail("answered", place{}, "%s: not everybody is done", when)
	return false
}

// quiet reports whether no client has anything to do or to wait for.
func (w *World) quiet() bool {
	for _, c := range w.clients {
		if c.current != nil || c.left > 0 {
			return false
		}
	}
	return w.idle()
}

// audit sends a client to every cell that reads all keys. A sealed cell answers nothing any more.
func (w *World) audit() {
	for _, v := range w.cells {
		if v.sealed || v.sealing {
			continue
		}
		c := w.newClient(v, len(w.clients))
		c.left, c.audit = 1, true
		c.begin()
	}
}

// Answered is how many operations were answered.
func (r *Report) Answered() int { return r.Fates[answered] }
