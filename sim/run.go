package sim

import (
	"fmt"
	"io"
	"time"

	"physalia/paxos"
)

// Report is what a run came to.
type Report struct {
	Schedule  Schedule
	Failure   *Failure      // nil: every property held
	Trace     uint64        // fingerprint of everything that happened
	Simulated time.Duration // how long the run was for those in it
	Events    int           // of the simulation
	Messages  [paxos.MsgBehind + 1]int
	Attempts  int // requests that clients sent
	Slots     int // chosen
	// Takeovers counts the ballots in which somebody led a cell. The first is among them, and, since nobody leads after a
	// restart, one for each cell after the last power cut.
	Takeovers   int
	Crashes     int // the last power cut included
	BatchesLost int // by crashes
	Fates       [useless + 1]int
	Faults      [faultKinds]int
	Undecided   int // histories whose linearizability took too long to decide
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

// Describe shows a failed run: what does not hold, its figures, and the line that replays it with a log of every event.
func (r *Report) Describe() string {
	return fmt.Sprintf("FAIL %v\n%v\nreplay: go test ./sim -v -run TestReplay -schedule='%v'", r.Failure, r, r.Schedule)
}

// Add adds the figures of another run; schedule, failure and trace stay.
func (r *Report) Add(other *Report) {
	r.Simulated += other.Simulated
	for _, sum := range []struct{ to, from *int }{{&r.Events, &other.Events}, {&r.Attempts, &other.Attempts}, {&r.Slots, &other.Slots},
		{&r.Takeovers, &other.Takeovers}, {&r.Crashes, &other.Crashes}, {&r.BatchesLost, &other.BatchesLost}, {&r.Undecided, &other.Undecided}} {
		*sum.to += *sum.from
	}
	for i := range r.Messages {
		r.Messages[i] += other.Messages[i]
	}
	for i := range r.Fates {
		r.Fates[i] += other.Fates[i]
	}
	for i := range r.Faults {
		r.Faults[i] += other.Faults[i]
	}
}

// convergeTime is how long clients may need for their answers in a healed world.
const convergeTime = 60 * time.Second

// Run plays a schedule, which must be one that Parse accepts.
func Run(p Schedule) *Report { return RunLogged(p, nil) }

// RunLogged is Run, and writes down what happens, if log is not nil.
func RunLogged(p Schedule, log io.Writer) *Report {
	if err := p.check(); err != nil {
		panic(err)
	}
	w := newWorld(p)
	w.trace.log = log
	w.play()
	w.report.Schedule, w.report.Failure, w.report.Trace, w.report.Simulated = p, w.failure, w.trace.sum, w.now
	for _, v := range w.cells {
		w.report.Slots += len(v.log)
	}
	return &w.report
}

// play runs the three phases of the package comment and asks the checkers. It stops at the first failure.
func (w *World) play() {
	w.runUntil(w.plan.Span, never)
	if w.failure != nil {
		return
	}
	w.heal()
	if !w.converge("after healing") {
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
			w.fail("answered", "%s: %s %v waits for an answer after %d attempts", when, c.current.kind, c.current.request, c.current.attempts)
		}
	}
	w.fail("answered", "%s: not everybody is done", when)
	return false
}

// quiet reports whether no client has anything to do or to wait for.
func (w *World) quiet() bool {
	for _, c := range w.clients {
		if c.current != nil || c.left > 0 {
			return false
		}
	}
	return true
}

// audit sends a client to every cell that reads all keys. A sealed cell answers nothing any more.
func (w *World) audit() {
	for _, v := range w.cells {
		if v.sealed {
			continue
		}
		c := w.newClient(v, len(w.clients))
		c.left, c.audit = 1, true
		w.clients = append(w.clients, c)
	}
}
