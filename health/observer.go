package health

import (
	"context"
	"hash/fnv"
	"slices"
	"sync"
	"time"

	"physalia/cell"
	"physalia/internal/wire"
)

// Pinger reaches the servers that are connected to this control process. Both methods must be safe for concurrent use.
type Pinger interface {
	// Sessions lists the servers that are connected now. It must not block.
	Sessions() []cell.ServerID
	// Ping asks one of them for a sign of life, and gives up when ctx ends.
	Ping(ctx context.Context, id cell.ServerID) (wire.Pong, error)
}

// ObserverConfig is what an Observer works with.
type ObserverConfig struct {
	Rule     Config
	Pinger   Pinger
	Interval time.Duration // between two pings of one server; zero means 1 s
	Timeout  time.Duration // of one ping, at most Interval; zero means Interval
	InFlight int           // pings on the way at once, and goroutines for them; zero means 16
	// Report asks a server what it hears of others, and how large its nodes are; nil: nobody is asked. Safe for concurrent use.
	Report func(ctx context.Context, id cell.ServerID, req *wire.ReportRequest) (wire.ServerReport, error)
	// Load receives what every server says of its nodes once in LoadEvery; nil: nobody is interested.
	Load      func(id cell.ServerID, nodes, bytes uint64)
	LoadEvery time.Duration // zero means 1 min
	// Sick asks a server for its nodes that are out of service, a page at a time, and SickNodes receives all of them, when Load is due;
	// nil: nobody is asked.
	Sick      func(ctx context.Context, id cell.ServerID, req *wire.Census) (wire.CensusPage, error)
	SickNodes func(id cell.ServerID, nodes []wire.CensusNode)
	// Events receives every verdict, one at a time and in order. It may read the Observer, but must not call
	// ServerSeen, and should return soon: pings wait for it. May be nil.
	Events func(Verdict)
}

// Check fills in defaults and reports what is wrong, as a *cell.Error of kind Invalid, or nil.
func (c *ObserverConfig) Check() error {
	if c.Interval == 0 {
		c.Interval = time.Second
	}
	if c.Timeout == 0 {
		c.Timeout = c.Interval
	}
	if c.InFlight == 0 {
		c.InFlight = 16
	}
	if c.LoadEvery == 0 {
		c.LoadEvery = time.Minute
	}
	if c.Load == nil {
		c.Load = func(cell.ServerID, uint64, uint64) {}
	}
	if c.SickNodes == nil {
		c.Sick = nil
	}
	if c.Events == nil {
		c.Events = func(Verdict) {}
	}
	switch {
	case c.Pinger == nil:
		return invalid("there is no pinger")
	case c.Interval < 0 || c.Timeout < 0 || c.Timeout > c.Interval || c.InFlight < 0 || c.LoadEvery < 0:
		return invalid("interval is %v, timeout %v, in-flight %d", c.Interval, c.Timeout, c.InFlight)
	}
	return c.Rule.Check()
}

// Observer pings servers at its own pace and keeps the verdicts. Pings are smeared over the interval by a hash of the
// server's identity, at most InFlight are on the way, and when servers answer slowly the pace falls; a verdict does not
// depend on the pace. All methods are safe for concurrent use.
type Observer struct {
	config ObserverConfig
	start  time.Time

	mu      sync.Mutex // guards tracker and pending
	tracker *Tracker
	pending []Verdict

	delivery sync.Mutex // held while Events runs, so that verdicts stay in order
}

// NewObserver returns an observer that knows nobody; Run makes it work.
func NewObserver(config ObserverConfig) (*Observer, error) {
	if err := config.Check(); err != nil {
		return nil, err
	}
	tracker, err := NewTracker(config.Rule)
	if err != nil {
		return nil, err
	}
	// Durations since now are read from the monotonic clock: a change of the wall clock moves no verdict.
	return &Observer{config: config, start: time.Now(), tracker: tracker}, nil
}

// Now is the time of the verdicts.
func (o *Observer) Now() time.Duration { return time.Since(o.start) }

// Run pings, judges and inquires until ctx ends, and returns when all its goroutines have: twice InFlight at most, and a few
// more. Call it once.
func (o *Observer) Run(ctx context.Context) {
	jobs := make(chan cell.ServerID)
	var running sync.WaitGroup
	for range o.config.InFlight {
		running.Go(func() {
			for id := range jobs {
				o.ping(ctx, id)
			}
		})
	}
	running.Go(func() {
		defer close(jobs)
		o.pace(ctx, jobs)
	})
	if o.config.Report != nil {
		running.Go(func() { o.inquire(ctx) })
	}
	tick := time.NewTicker(max(o.config.Interval/4, time.Millisecond))
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			running.Wait()
			return
		case <-tick.C:
			o.judge()
		}
	}
}

// judge compares sessions and deadlines. A registration that arrives between the two looks disconnected until the next
// tick, which is well within DisconnectedMax.
func (o *Observer) judge() {
	ids := o.config.Pinger.Sessions()
	o.step(func(now time.Duration) []Verdict {
		o.tracker.Sessions(now, ids)
		return o.tracker.Tick(now)
	})
}

// pace hands every session to the ping goroutines once per interval, each at its own phase.
func (o *Observer) pace(ctx context.Context, jobs chan<- cell.ServerID) {
	timer := time.NewTimer(0)
	defer timer.Stop()
	until := func(at time.Time) bool {
		timer.Reset(time.Until(at))
		select {
		case <-ctx.Done():
			return false
		case <-timer.C:
			return true
		}
	}
	for {
		// A round that took longer than the interval is followed by the next at once: deadlines in the past do not wait.
		round := time.Now()
		for _, s := range o.phases() {
			if !until(round.Add(s.phase)) {
				return
			}
			select { // waits while all ping goroutines are busy: the pace falls, nothing piles up
			case <-ctx.Done():
				return
			case jobs <- s.id:
			}
		}
		if !until(round.Add(o.config.Interval)) {
			return
		}
	}
}

// phased is one session with its place in the interval.
type phased struct {
	id    cell.ServerID
	phase time.Duration
}

// phases orders the sessions by when in the interval each is due.
func (o *Observer) phases() []phased {
	var out []phased
	for _, id := range o.config.Pinger.Sessions() {
		h := fnv.New64a()
		h.Write([]byte(id))
		out = append(out, phased{id, time.Duration(h.Sum64() % uint64(o.config.Interval))})
	}
	slices.SortFunc(out, func(a, b phased) int { return int(a.phase - b.phase) })
	return out
}

// ping asks one server. A ping that ends because the observer stops says nothing about the server.
func (o *Observer) ping(ctx context.Context, id cell.ServerID) {
	o.step(func(now time.Duration) []Verdict {
		o.tracker.PingSent(now, id)
		return nil
	})
	asking, cancel := context.WithTimeout(ctx, o.config.Timeout)
	defer cancel()
	pong, err := o.config.Pinger.Ping(asking, id)
	if ctx.Err() != nil {
		return
	}
	o.step(func(now time.Duration) []Verdict {
		if err != nil {
			o.tracker.PingFailed(now, id, err.Error())
			return nil
		}
		return o.tracker.PongHeard(now, id, pong.Boot, pong.Nodes)
	})
}

// step runs one step of the tracker and delivers what it decided.
func (o *Observer) step(f func(now time.Duration) []Verdict) {
	o.mu.Lock()
	o.pending = append(o.pending, f(time.Since(o.start))...)
	o.mu.Unlock()
	o.deliver()
}

// deliver hands out pending verdicts in the order in which they were decided.
func (o *Observer) deliver() {
	o.delivery.Lock()
	defer o.delivery.Unlock()
	// Whoever holds delivery hands out everything decided so far, also by others; they then find nothing left.
	o.mu.Lock()
	verdicts := o.pending
	o.pending = nil
	o.mu.Unlock()
	for _, v := range verdicts {
		o.config.Events(v)
	}
}

// ServerSeen takes a registration; see Tracker.ServerSeen. Its verdicts have been delivered when it returns.
func (o *Observer) ServerSeen(r wire.Registration) error {
	var err error
	o.step(func(now time.Duration) (out []Verdict) {
		out, err = o.tracker.ServerSeen(now, r)
		return out
	})
	return err
}

// Recall takes a registration from a store; see Tracker.Recall. A server that is known already is left alone.
func (o *Observer) Recall(r wire.Registration) error {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.tracker.Knows(r.Server) {
		return nil
	}
	return o.tracker.Recall(time.Since(o.start), r)
}

// Forget drops a server that is gone for good, and reports whether it was known.
func (o *Observer) Forget(id cell.ServerID) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.tracker.Forget(id)
}

// Up reports whether a server is up.
func (o *Observer) Up(id cell.ServerID) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.tracker.Up(id)
}

// Margin tells how many members of a jury live, and how many more the cell can lose; see Tracker.Margin.
func (o *Observer) Margin(jury []cell.ServerID) (live, margin int) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.tracker.Margin(jury)
}

// List answers health.servers.
func (o *Observer) List(req wire.ListServers) wire.ServerList {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.tracker.List(req, time.Since(o.start))
}
