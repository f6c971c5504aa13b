package contest

import (
	"context"
	"errors"
	"fmt"
	"math"
	"os"
	"slices"
	"sync"
	"time"

	"physalia/bench/ground"
)

// Plan says what is measured of every subject. Every field is required but Say.
type Plan struct {
	Dir        string        // on the disk that is meant; each subject gets an empty directory below it, which is removed afterwards
	Clients    []int         // numbers of clients
	Kinds      []Kind        // of work
	ValueBytes int           // of each value, at least eight
	Point      time.Duration // how long each number of clients does each kind of work
	Idle       time.Duration // how long nobody asks anything
	StartLimit time.Duration // for a start with one write on every volume; beyond it the subject did not finish
	Limit      time.Duration // for everything about one subject in one round
	Say        func(format string, args ...any)
}

// turn is one subject in one round.
type turn struct {
	Plan
	s      Subject
	result Result
}

// measure takes one subject through everything. What ends it early is in the result; only what nobody can go on after is an error.
func (p Plan) measure(ctx context.Context, s Subject, round int) (r Result, err error) {
	dir, err := os.MkdirTemp(p.Dir, "subject-")
	if err != nil {
		return r, err
	}
	t := &turn{Plan: p, s: s, result: Result{Facts: s.Facts(), Round: round}}
	limited, cancel := context.WithTimeout(ctx, p.Limit)
	defer cancel()
	defer func() { err = errors.Join(err, s.Stop(), os.RemoveAll(dir)) }()
	t.say("starting")
	if err := t.start(limited, dir); err != nil {
		t.result.DidNotFinish = "start: " + err.Error()
	} else if err := t.load(limited); err != nil {
		t.result.DidNotFinish = err.Error()
	}
	if t.result.DidNotFinish != "" {
		t.say("did not finish: %s", t.result.DidNotFinish)
	}
	return t.result, ctx.Err()
}

// say tells how far this subject is.
func (t *turn) say(format string, args ...any) {
	t.Say("round %d, %s, %d groups: %s", t.result.Round, t.result.System, t.result.Groups, fmt.Sprintf(format, args...))
}

// start starts the subject and writes every volume once.
func (t *turn) start(ctx context.Context, dir string) error {
	ctx, cancel := context.WithTimeout(ctx, t.StartLimit)
	defer cancel()
	began := time.Now()
	if err := t.s.Start(ctx, dir); err != nil {
		return err
	}
	if _, err := t.touch(ctx, startKey, callLimit); err != nil {
		return err
	}
	t.result.StartS = millis(time.Since(began)) / 1000
	t.say("every volume took a write after %.1f s", t.result.StartS)
	return nil
}

// touches bounds how many volumes are written at the same time when all of them are: in the run, all.
const touches = 8192

// impatience is how long a write waits after a kill before it is sent again, twice as long from time to time. Some systems lose what is sent
// while they have no leader, and let it wait for their own, longer limits; a client that wants to write again does not.
const impatience = time.Second

// touch writes every volume once, and returns how long after its beginning each write was acknowledged, sorted. It goes on until each has
// been, or ctx ends; an attempt is given up after patience.
func (t *turn) touch(ctx context.Context, key string, patience time.Duration) ([]time.Duration, error) {
	began := time.Now()
	times, failures := make([]time.Duration, t.result.Volumes), make([]error, t.result.Volumes)
	var wait sync.WaitGroup
	room := make(chan struct{}, touches)
	for v := range times {
		room <- struct{}{}
		wait.Go(func() {
			defer func() { <-room }()
			client := t.s.Client(v)
			for patience := patience; ctx.Err() == nil; patience = min(2*patience, callLimit) {
				attempt, cancel := context.WithTimeout(ctx, patience)
				failures[v] = client.Put(attempt, v, key, []byte(key))
				cancel()
				if failures[v] == nil {
					times[v] = time.Since(began)
					return
				}
				pause(ctx, 20*time.Millisecond)
			}
			failures[v] = errors.Join(ctx.Err(), failures[v])
		})
	}
	wait.Wait()
	slices.Sort(times)
	missing := 0
	var last error
	for _, err := range failures {
		if err != nil {
			missing, last = missing+1, err
		}
	}
	if missing > 0 {
		return times, errors.Join(fmt.Errorf("%d of %d volumes took no write within %.0f s: %w", missing, len(times), time.Since(began).Seconds(), last), t.s.Failed())
	}
	return times, nil
}

// pause waits, or until ctx ends.
func pause(ctx context.Context, d time.Duration) {
	select {
	case <-ctx.Done():
	case <-time.After(d):
	}
}

// load measures a subject that has started.
func (t *turn) load(ctx context.Context) error {
	if err := t.idle(ctx); err != nil {
		return fmt.Errorf("idle: %w", err)
	}
	var ws []*worker
	for _, clients := range t.Clients {
		part := workers(clients, t.result.Volumes, t.ValueBytes, t.s.Client)
		for _, w := range part { // keys of their own, also apart from those of other numbers of clients
			w.number += len(ws)
		}
		for _, kind := range t.Kinds {
			if kind == ReadSure && !t.result.Sure {
				continue
			}
			point, err := t.point(ctx, part, kind)
			if err != nil {
				return fmt.Errorf("%s with %d clients: %w", kind, clients, err)
			}
			t.result.Points = append(t.result.Points, point)
		}
		ws = append(ws, part...)
	}
	if err := t.memory(ctx); err != nil {
		return fmt.Errorf("memory: %w", err)
	}
	if err := t.failover(ctx); err != nil {
		return fmt.Errorf("kill -9: %w", err)
	}
	return t.verify(ctx, ws)
}

// idle measures what the servers use when nobody asks anything.
func (t *turn) idle(ctx context.Context) error {
	before, err := t.servers(ctx)
	if err != nil {
		return err
	}
	began := time.Now()
	pause(ctx, t.Idle)
	after, err := t.servers(ctx)
	if err != nil {
		return err
	}
	t.result.IdleCores = math.Round(1000*(after.CPU-before.CPU).Seconds()/time.Since(began).Seconds()) / 1000
	return nil
}

// servers is the usage of all servers together.
func (t *turn) servers(ctx context.Context) (sum Usage, err error) {
	each, err := t.s.Servers(ctx)
	for _, u := range each {
		sum.CPU, sum.RSS = sum.CPU+u.CPU, sum.RSS+u.RSS
	}
	return sum, errors.Join(err, t.s.Failed())
}

// memory notes the resident memory of a server.
func (t *turn) memory(ctx context.Context) error {
	each, err := t.s.Servers(ctx)
	if err != nil || len(each) == 0 {
		return errors.Join(err, t.s.Failed())
	}
	sum := int64(0)
	for _, u := range each {
		sum += u.RSS
	}
	t.result.RSSMiB = tenths(float64(sum) / float64(len(each)) / (1 << 20))
	return nil
}

// point lets the workers do one kind of work. Counters are read right before the first operation and right after the last.
func (t *turn) point(ctx context.Context, ws []*worker, kind Kind) (p Point, err error) {
	p = Point{Kind: kind, Clients: len(ws), LoadAverage: ground.Load()}
	before, err := t.servers(ctx)
	if err != nil {
		return p, err
	}
	syncsBefore, err := t.s.Syncs(ctx)
	if err != nil {
		return p, err
	}
	clientsBefore := ground.OwnCPU()
	began := time.Now()
	end := began.Add(t.Point)
	all(ws, func(w *worker) {
		w.times, w.inTime, w.errs, w.first, w.until = w.times[:0], 0, 0, nil, end
		// Once at least, so that even a machine that is late measures something.
		for again := true; again && ctx.Err() == nil; again = time.Now().Before(end) {
			w.work(ctx, kind)
		}
	})
	took := time.Since(began)
	clientsUsed := ground.OwnCPU() - clientsBefore
	after, err := t.servers(ctx)
	if err != nil {
		return p, err
	}
	syncsAfter, err := t.s.Syncs(ctx)
	if err != nil {
		return p, err
	}
	p.Seconds = end.Sub(began).Seconds()
	p.sum(ws, took, after.CPU-before.CPU, clientsUsed, syncsAfter-syncsBefore)
	t.say("%s, %d clients: %.0f/s, p50 %.2f ms, p99 %.2f ms, %d errors", kind, p.Clients, p.PerS, p.P50MS, p.P99MS, p.Errors)
	return p, ctx.Err()
}

// sum fills a point in. The rate is that of the operations that ended in time; latencies, and what an operation costs, are those of all, for
// the last ones, however late, are not to be forgotten.
func (p *Point) sum(ws []*worker, took, servers, clients time.Duration, syncs float64) {
	var times []time.Duration
	inTime := 0
	for _, w := range ws {
		times, inTime = append(times, w.times...), inTime+w.inTime
		p.Errors += w.errs
		if w.first != nil && p.FirstFailure == "" {
			p.FirstFailure = w.first.Error()
		}
	}
	p.latencies(times)
	p.Operations = len(times)
	p.PerS, p.SyncsPerS = tenths(float64(inTime)/p.Seconds), tenths(syncs/took.Seconds()/Servers)
	if n := float64(len(times)); n > 0 {
		p.ServersUS, p.ClientsUS = tenths(float64(servers.Microseconds())/n), tenths(float64(clients.Microseconds())/n)
		p.SyncsPerOp = math.Round(1000*syncs/n) / 1000
	}
}

// failover kills a leader and writes every volume at once: each write is sent after the death, so the slowest tells for how long some
// volume took none.
func (t *turn) failover(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, t.StartLimit)
	defer cancel()
	if err := t.s.KillLeader(ctx); err != nil {
		return err
	}
	times, err := t.touch(ctx, "failover", impatience)
	if err != nil {
		return err
	}
	t.result.FailoverP50MS, t.result.FailoverAllMS = millis(percentile(times, 50)), millis(percentile(times, 100))
	t.say("kill -9: every volume took a write after %.0f ms", t.result.FailoverAllMS)
	return nil
}

// verify reads every acknowledged key while one server is dead.
func (t *turn) verify(ctx context.Context, ws []*worker) error {
	kept, lost := make([]int, len(ws)), make([]int, len(ws))
	var wait sync.WaitGroup
	for i, w := range ws {
		wait.Go(func() { kept[i], lost[i] = w.verify(ctx) })
	}
	wait.Wait()
	for i := range ws {
		t.result.VerifiedKeys += kept[i]
		t.result.LostKeys += lost[i]
	}
	t.say("verified with one server dead: %d keys there, %d missing", t.result.VerifiedKeys, t.result.LostKeys)
	if t.result.LostKeys > 0 {
		for _, w := range ws {
			if w.first != nil {
				return fmt.Errorf("verify: %d keys are missing or unreadable; the first error of a client: %w", t.result.LostKeys, w.first)
			}
		}
		return fmt.Errorf("verify: %d keys are missing", t.result.LostKeys)
	}
	return ctx.Err()
}
