package blocks

import (
	"context"
	"fmt"
	"time"

	"physalia/cell"
	"physalia/sim/blockstore"
)

// use is one user of a volume: it writes and reads blocks, one at a time, until ctx ends and its last operation with it, or
// nobody serves it for long.
func (t *Trial) use(ctx context.Context, v *volume, name string) {
	u, end := t.newUser(ctx, v, name)
	defer end()
	pause := time.NewTimer(0)
	defer pause.Stop()
	for n := 1; ; n++ {
		select {
		case <-ctx.Done():
			return
		case <-pause.C:
		}
		op := blockstore.Op{Number: uint64(n), Write: n%2 == 1, Block: n / 2 % blockCount}
		if op.Write {
			op.Data = fmt.Appendf(nil, "%s wrote %d", name, n)
		}
		if !u.do(op) {
			return
		}
		pause.Reset(t.cfg.Pause)
	}
}

// patience is how long an operation may take when the load is over.
const patience = 15 * time.Second

// user is a client of a volume with its goroutine.
type user struct {
	trial *Trial
	v     *volume
	name  string
	inbox chan blockstore.Input // of its client's goroutine
	done  chan blockstore.Done  // its operation's end
	over  <-chan struct{}       // the load is
}

// newUser starts a client; it lives until end is called, so that its last operation can end.
func (t *Trial) newUser(load context.Context, v *volume, name string) (u *user, end func()) {
	ctx, cancel := context.WithCancel(t.life)
	inbox, deaf := v.net.listen(name)
	u = &user{trial: t, v: v, name: name, inbox: inbox, done: make(chan blockstore.Done, 1), over: load.Done()}
	// The client itself has no pause and no end: it repeats until it is served, or forgotten.
	machine := blockstore.NewClient(blockstore.ClientConfig{Name: name, Blocks: blockCount, Timing: t.cfg.Timing})
	r := &runner{now: t.now, step: machine.Step, volume: t.cfg.Open(0, v.id), inbox: inbox, partition: t.cfg.Partition}
	r.obey = func(e blockstore.Effects) {
		for _, m := range e.Send {
			v.net.send(m)
		}
		for _, d := range e.Done {
			u.done <- d
		}
	}
	ended := make(chan struct{})
	go func() { defer close(ended); r.run(ctx) }()
	return u, func() { cancel(); deaf(); <-ended }
}

// do runs one operation and notes it. It reports false when nobody served it within the patience, counted from the end of
// the load.
func (u *user) do(op blockstore.Op) bool {
	i := u.v.called(blockstore.Operation{Client: u.name, Write: op.Write, Block: op.Block, Data: string(op.Data), Called: u.trial.now()})
	select {
	case u.inbox <- op:
	case <-u.trial.life.Done():
		return false
	}
	select {
	case d := <-u.done:
		u.v.ended(i, d, u.trial.now())
		return true
	case <-u.over:
	}
	timer := time.NewTimer(patience)
	defer timer.Stop()
	select {
	case d := <-u.done:
		u.v.ended(i, d, u.trial.now())
		return true
	case <-timer.C: // it stays in the history as one that may have taken effect
	case <-u.trial.life.Done():
	}
	return false
}

// called notes the beginning of an operation.
func (v *volume) called(o blockstore.Operation) int {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.history = append(v.history, o)
	return len(v.history) - 1
}

// ended notes its end, and whether another server answers now.
func (v *volume) ended(i int, d blockstore.Done, at time.Duration) {
	v.mu.Lock()
	defer v.mu.Unlock()
	o := &v.history[i]
	o.Done, o.Version, o.Ended = true, d.Version, at
	if o.Write {
		v.acked++
	} else {
		o.Data = string(d.Data)
	}
	by := v.split.By[d.Fence]
	if v.last != "" && v.last != by && v.lastFence.Less(d.Fence) {
		v.handed++
		v.longest = max(v.longest, at-v.lastAt)
	}
	if !d.Fence.Less(v.lastFence) {
		v.last, v.lastFence, v.lastAt = by, d.Fence, at
	}
}

// sent lets a checker see what a copy says.
func (v *volume) sent(m blockstore.Message) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.split.Sent(m) != nil {
		v.splits++
	}
}

// Report is what a trial found.
type Report struct {
	Acked      uint64        // writes that were acknowledged
	Lost       int           // of these, what is not there in the end
	SplitBrain uint64        // acknowledgements under a fence under which another server had acknowledged
	Bent       []error       // for each volume that is not linearizable, why
	Unread     []cell.ID     // volumes that nobody serves in the end
	Failovers  int           // times that another server took a volume over
	Longest    time.Duration // between the last acknowledgement before a failover and the first one after it
}

// Stop ends the load, reads every block once more, ends everything and judges. All servers should be up.
func (t *Trial) Stop() Report {
	t.endLoad()
	t.users.Wait()
	var r Report
	for _, v := range t.volumes {
		last, ok := t.readBack(v)
		v.mu.Lock()
		if !ok {
			r.Unread = append(r.Unread, v.id)
		} else {
			r.Lost += blockstore.Final(v.history, last)
		}
		if err := blockstore.Overwritten(v.history); err != nil {
			r.Bent = append(r.Bent, fmt.Errorf("%s: %w", v.id, err))
		}
		r.Acked, r.SplitBrain, r.Failovers = r.Acked+v.acked, r.SplitBrain+v.splits, r.Failovers+v.handed
		r.Longest = max(r.Longest, v.longest)
		v.mu.Unlock()
	}
	t.End()
	return r
}

// readBack reads all blocks of a volume through a client that knows nothing yet.
func (t *Trial) readBack(v *volume) (last map[int]blockstore.Version, ok bool) {
	over, cancel := context.WithCancel(context.Background())
	cancel()
	u, end := t.newUser(over, v, "reader")
	defer end()
	last = map[int]blockstore.Version{}
	for block := range blockCount {
		if !u.do(blockstore.Op{Number: uint64(block + 1), Block: block}) {
			return nil, false
		}
		v.mu.Lock()
		last[block] = v.history[len(v.history)-1].Version
		v.mu.Unlock()
	}
	return last, true
}
