package member

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/raft"

	"physalia/bench/thin"
)

// cacheEntries is how many entries of each group's log are kept in memory for followers, as the library's largest users do.
const cacheEntries = 512

// puppets runs all groups of github.com/hashicorp/raft, which brings its own goroutines, timers and loops for each group.
type puppets struct {
	cfg    Config
	calls  *calls    // of all groups, over the one mesh
	groups []*puppet // by number
}

// puppet is this process's member of one group. It is the group's state machine, too.
type puppet struct {
	raft      *raft.Raft // set once it was founded
	transport *hashiTransport

	mu    sync.Mutex // the library applies on one goroutine, reads come from others
	state state

	settled atomic.Bool // this process leads, and has applied all that was chosen before it did

	readsMu sync.Mutex
	reads   []thin.Request // that wait for the next confirmation
	asking  bool           // a goroutine asks for one
}

// newPuppets makes the groups; all of them begin with the same seven voters.
func newPuppets(cfg Config, st *store, m *mesh) (*puppets, error) {
	p := &puppets{cfg: cfg, calls: &calls{mesh: m, waiting: map[uint64]*call{}}}
	m.lost = p.calls.lost
	for i := range cfg.Groups {
		p.groups = append(p.groups, &puppet{state: state{}, transport: &hashiTransport{calls: p.calls, group: i, me: cfg.Me, consumer: make(chan raft.RPC, consumerMost)}})
	}
	// Many at a time, so that they share the syncs of their foundings.
	failures := make([]error, cfg.Groups)
	room := make(chan struct{}, 64)
	var wait sync.WaitGroup
	for i, g := range p.groups {
		room <- struct{}{}
		wait.Go(func() {
			defer func() { <-room }()
			failures[i] = g.found(cfg, &hashiLog{db: st.db, group: i})
		})
	}
	wait.Wait()
	return p, errors.Join(failures...)
}

// found makes the group's configuration durable; start runs it.
func (g *puppet) found(cfg Config, log *hashiLog) error {
	var founding raft.Configuration
	for i := range cfg.Peers {
		founding.Servers = append(founding.Servers, raft.Server{ID: raft.ServerID(strconv.Itoa(i)), Address: address(i)})
	}
	c := settings(cfg, g.transport.group)
	if err := raft.BootstrapCluster(c, log, log, raft.NewDiscardSnapshotStore(), g.transport, founding); err != nil {
		return err
	}
	cached, err := raft.NewLogCache(cacheEntries, log)
	if err != nil {
		return err
	}
	g.raft, err = raft.NewRaft(c, g, cached, log, raft.NewDiscardSnapshotStore(), g.transport)
	return err
}

// timing is what a group waits before it replaces its leader, and how often an idle leader tells its followers what is chosen. With the
// timing of a few groups, the heartbeats of a thousand take several processors and elections never end; whoever runs so many chooses longer
// times, and pays when a leader dies.
func timing(groups int) (election, commit time.Duration) {
	if groups > 200 {
		return 5 * electionTimeout, time.Second
	}
	return electionTimeout, raft.DefaultConfig().CommitTimeout
}

// patience is the election timeout of those that shall not lead at first; once there is a leader, all have the same.
const patience = 20 * time.Second

// settings are a group's settings. Leaders are dealt over the processes, as a deployment would balance them: the one that shall lead has the
// shortest patience in the beginning.
func settings(cfg Config, group int) *raft.Config {
	c := raft.DefaultConfig()
	// What it would log for each election of a thousand groups would be measured, too.
	c.LocalID = raft.ServerID(strconv.Itoa(cfg.Me))
	c.Logger, c.LogLevel = hclog.NewNullLogger(), "OFF"
	election, commit := timing(cfg.Groups)
	c.CommitTimeout, c.LeaderLeaseTimeout = commit, election/2
	c.HeartbeatTimeout, c.ElectionTimeout = patience, patience
	if group%len(cfg.Peers) == cfg.Me {
		c.HeartbeatTimeout, c.ElectionTimeout = election/2, election/2
	}
	c.BatchApplyCh, c.MaxAppendEntries = true, 256
	c.SnapshotInterval, c.SnapshotThreshold = 24*time.Hour, 1<<40 // never
	c.NoLegacyTelemetry = true                                    // each metric once, not twice
	return c
}

// run implements engine.
func (p *puppets) run(ctx context.Context) error {
	var wait sync.WaitGroup
	for _, g := range p.groups {
		wait.Go(func() { g.settle(ctx) })
	}
	err := p.even(ctx)
	<-ctx.Done()
	wait.Wait()
	// The groups end before their store does.
	var ending []raft.Future
	for _, g := range p.groups {
		ending = append(ending, g.raft.Shutdown())
	}
	for _, f := range ending {
		err = errors.Join(err, f.Error())
	}
	return err
}

// even gives every member the same election timeout once its group has a leader.
func (p *puppets) even(ctx context.Context) error {
	election, _ := timing(p.cfg.Groups)
	look := time.NewTicker(50 * time.Millisecond)
	defer look.Stop()
	for _, g := range p.groups {
		for {
			// There is one as soon as its first heartbeat has come.
			if _, leader := g.raft.LeaderWithID(); leader != "" {
				break
			}
			select {
			case <-ctx.Done():
				return ctx.Err()
			case <-look.C:
			}
		}
		c := g.raft.ReloadableConfig()
		c.HeartbeatTimeout, c.ElectionTimeout = election, election
		if err := g.raft.ReloadConfig(c); err != nil {
			return fmt.Errorf("election timeout: %w", err)
		}
	}
	return nil
}

// settle waits for leadership and then for all that was chosen before it: until then, no read may be answered.
func (g *puppet) settle(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case leads := <-g.raft.LeaderCh():
			g.settled.Store(false) // until the barrier is through, also after a term in between
			// When the barrier fails, leadership is lost again, and the channel says so.
			g.settled.Store(leads && g.raft.Barrier(0).Error() == nil)
		}
	}
}

// receive implements engine.
func (p *puppets) receive(from int, frame []byte) {
	if len(frame) < callHead {
		return
	}
	group, number := int(binary.LittleEndian.Uint32(frame[1:])), binary.LittleEndian.Uint64(frame[5:])
	switch {
	case frame[0] == answerMark:
		p.calls.answered(number, frame[13] == 1, frame[callHead:])
	case frame[0] == callMark && group < len(p.groups):
		p.groups[group].transport.serve(from, number, frame[13], frame[callHead:])
	}
}

// handle implements engine.
func (p *puppets) handle(r thin.Request) {
	if r.Group < 0 || r.Group >= len(p.groups) {
		r.Reply(thin.Failed, []byte("no such group"))
		return
	}
	g := p.groups[r.Group]
	if r.Op == thin.OpGet {
		g.ask(r)
		return
	}
	// The library's queue blocks when it is full, which must not hold up other groups.
	go func() {
		err := g.raft.Apply(command(0, p.cfg.Me, r.Key, r.Value), answerMax).Error()
		if err != nil {
			g.refuse([]thin.Request{r}, err)
			return
		}
		r.Reply(thin.OK, nil)
	}()
}

// refuse says why requests were not done.
func (g *puppet) refuse(requests []thin.Request, err error) {
	if !errors.Is(err, raft.ErrNotLeader) && !errors.Is(err, raft.ErrEnqueueTimeout) {
		fail(requests, thin.Failed, []byte(err.Error()))
		return
	}
	leader := byte(thin.NoLeader)
	if addr, _ := g.raft.LeaderWithID(); addr != "" {
		if at, err := peer(addr); err == nil && at != g.transport.me {
			leader = byte(at)
		}
	}
	fail(requests, thin.NotLeader, []byte{leader})
}

// ask has a read confirmed, together with all that come while another confirmation is under way.
func (g *puppet) ask(r thin.Request) {
	g.readsMu.Lock()
	defer g.readsMu.Unlock()
	g.reads = append(g.reads, r)
	if !g.asking {
		g.asking = true
		go g.confirm()
	}
}

// confirm asks a majority, once for all reads that have come, until there are none.
func (g *puppet) confirm() {
	for {
		g.readsMu.Lock()
		reads := g.reads
		g.reads, g.asking = nil, len(reads) > 0
		g.readsMu.Unlock()
		if len(reads) == 0 {
			return
		}
		err := error(raft.ErrNotLeader)
		if g.settled.Load() {
			err = g.raft.VerifyLeader().Error()
		}
		if err != nil {
			g.refuse(reads, err)
			continue
		}
		g.mu.Lock()
		for _, r := range reads {
			g.state.read(r)
		}
		g.mu.Unlock()
	}
}

// Apply implements raft.FSM.
func (g *puppet) Apply(l *raft.Log) any { return g.ApplyBatch([]*raft.Log{l})[0] }

// ApplyBatch implements raft.BatchingFSM.
func (g *puppet) ApplyBatch(logs []*raft.Log) []any {
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, l := range logs {
		if l.Type == raft.LogCommand {
			g.state.apply(l.Data)
		}
	}
	return make([]any, len(logs))
}

// Snapshot implements raft.FSM; none is ever asked for.
func (g *puppet) Snapshot() (raft.FSMSnapshot, error) {
	return nil, errors.New("this harness has no snapshots")
}

// Restore implements raft.FSM.
func (g *puppet) Restore(io.ReadCloser) error { return errors.New("this harness has no snapshots") }
