package member

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"log"
	"sync"
	"time"

	"go.etcd.io/raft/v3"
	pb "go.etcd.io/raft/v3/raftpb"
	"google.golang.org/protobuf/proto"

	"physalia/bench/thin"
)

// tickEvery is the library's unit of time here.
const tickEvery = 100 * time.Millisecond

// stepper runs all groups of go.etcd.io/raft/v3 on one goroutine, with the library's asynchronous storage writes: a turn takes everything
// that has come, steps the groups that are concerned, hands what is to be stored to the one that stores, and sends the messages. So the
// loop never waits for the disk, and a leader's disk works while its followers' do. This is how the library's own documentation and its
// largest users run it.
type stepper struct {
	cfg    Config
	me     uint64 // the library's number of this process: index plus one
	st     *store
	mesh   *mesh
	groups []*group
	dirty  []*group // to be looked at in this turn

	mu    sync.Mutex // of the inbox alone: everything else belongs to the loop
	inbox []item
	wake  chan struct{} // holds one while the inbox has something

	toStore *queue // appends that wait for the disk
	number  uint64 // of the last request that was proposed or asked
}

// item is something that has come: a message, a request, appends that are durable, or a tick.
type item struct {
	group   int
	message *pb.Message   // of another process
	request *thin.Request // of a client
	durable []append_     // of any groups, in the order in which they were handed over
	tick    bool          // for all groups
}

// group is this process's member of one group.
type group struct {
	index   int
	node    *raft.RawNode
	log     *raft.MemoryStorage // what the library reads; filled when it is durable
	state   state
	applied uint64
	dirty   bool
	writes  []*pb.Entry               // proposals of this turn
	reads   []thin.Request            // reads of this turn
	waiting map[uint64]waiting        // proposals by number
	asked   map[uint64]waiting        // reads by number of their round
	later   map[uint64][]thin.Request // confirmed reads by the index that must be applied first
	ticks   int                       // since the start
}

// waiting is who waits for one proposal, or for one round of reads.
type waiting struct {
	since    time.Time      // when it was proposed or asked
	requests []thin.Request // answered together
}

// newStepper makes the groups; all of them begin with the same seven voters.
func newStepper(cfg Config, st *store, m *mesh) (*stepper, error) {
	s := &stepper{cfg: cfg, me: uint64(cfg.Me) + 1, st: st, mesh: m, wake: make(chan struct{}, 1), toStore: newQueue()}
	quiet := &raft.DefaultLogger{Logger: log.New(io.Discard, "", 0)}
	voters := make([]uint64, len(cfg.Peers))
	for i := range voters {
		voters[i] = uint64(i) + 1
	}
	for i := range cfg.Groups {
		g := &group{index: i, log: raft.NewMemoryStorage(), state: state{}, applied: 1, waiting: map[uint64]waiting{}, asked: map[uint64]waiting{}, later: map[uint64][]thin.Request{}}
		founding := &pb.Snapshot{Metadata: &pb.SnapshotMetadata{Index: new(uint64(1)), Term: new(uint64(1)), ConfState: &pb.ConfState{Voters: voters}}}
		if err := g.log.ApplySnapshot(founding); err != nil {
			return nil, err
		}
		var err error
		g.node, err = raft.NewRawNode(&raft.Config{ID: s.me, Applied: 1, Storage: g.log, Logger: quiet, AsyncStorageWrites: true,
			HeartbeatTick: int(heartbeatEvery / tickEvery), ElectionTick: int(electionTimeout / tickEvery), CheckQuorum: true, PreVote: true,
			DisableProposalForwarding: true, ReadOnlyOption: raft.ReadOnlySafe,
			MaxSizePerMsg: 1 << 20, MaxInflightMsgs: 256, MaxUncommittedEntriesSize: 64 << 20})
		if err != nil {
			return nil, err
		}
		s.groups = append(s.groups, g)
	}
	return s, nil
}

// put adds to the inbox.
func (s *stepper) put(i item) {
	s.mu.Lock()
	s.inbox = append(s.inbox, i)
	s.mu.Unlock()
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

// handle implements engine.
func (s *stepper) handle(r thin.Request) {
	if r.Group < 0 || r.Group >= len(s.groups) {
		r.Reply(thin.Failed, []byte("no such group"))
		return
	}
	s.put(item{group: r.Group, request: &r})
}

// receive implements engine: group (4 bytes) and a message.
func (s *stepper) receive(_ int, frame []byte) {
	var m pb.Message
	if len(frame) < 4 || proto.Unmarshal(frame[4:], &m) != nil {
		return // dropped as a network would drop it
	}
	if g := int(binary.LittleEndian.Uint32(frame)); g < len(s.groups) {
		s.put(item{group: g, message: &m})
	}
}

// run implements engine.
func (s *stepper) run(ctx context.Context) error {
	stored := make(chan error, 1)
	go func() { stored <- s.runStore(ctx) }()
	// Leaders are dealt over the processes, as a deployment would balance them.
	for _, g := range s.groups {
		if g.index%len(s.cfg.Peers) == s.cfg.Me {
			if err := g.node.Campaign(); err != nil {
				return err
			}
			s.touch(g)
		}
	}
	if err := s.finish(); err != nil {
		return err
	}
	ticker := time.NewTicker(tickEvery)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			s.toStore.close()
			return <-stored
		case err := <-stored:
			return err
		case <-ticker.C:
			s.put(item{tick: true})
		case <-s.wake:
			if err := s.turn(); err != nil {
				return err
			}
		}
	}
}

// turn takes everything that has come.
func (s *stepper) turn() error {
	s.mu.Lock()
	items := s.inbox
	s.inbox = nil
	s.mu.Unlock()
	for _, i := range items {
		if err := s.step(i); err != nil {
			return err
		}
	}
	return s.finish()
}

// touch notes that a group has to be looked at in this turn.
func (s *stepper) touch(g *group) {
	if !g.dirty {
		g.dirty, s.dirty = true, append(s.dirty, g)
	}
}

// step takes one thing.
func (s *stepper) step(i item) error {
	switch {
	case i.tick:
		for _, g := range s.groups {
			s.tick(g)
		}
	case i.durable != nil:
		for _, a := range i.durable {
			if err := s.stored(s.groups[a.group], a.message); err != nil {
				return err
			}
		}
	case i.message != nil:
		g := s.groups[i.group]
		s.touch(g)
		// A message that the group cannot use, as one of an old term, is no failure of ours.
		_ = g.node.Step(i.message)
	case i.request.Op == thin.OpGet:
		g := s.groups[i.group]
		g.reads = append(g.reads, *i.request)
		s.touch(g)
	default:
		g := s.groups[i.group]
		s.number++
		g.waiting[s.number] = waiting{time.Now(), []thin.Request{*i.request}}
		g.writes = append(g.writes, &pb.Entry{Data: command(s.number, s.cfg.Me, i.request.Key, i.request.Value)})
		s.touch(g)
	}
	return nil
}

// tick moves a group's time on, and answers requests that nobody will.
func (s *stepper) tick(g *group) {
	g.node.Tick()
	if g.node.HasReady() {
		s.touch(g)
	}
	if g.ticks++; g.ticks%10 != 0 {
		return
	}
	for _, table := range []map[uint64]waiting{g.waiting, g.asked} {
		for number, w := range table {
			if time.Since(w.since) > answerMax {
				delete(table, number)
				fail(w.requests, thin.Failed, []byte("no result in time; it may have happened"))
			}
		}
	}
}

// fail answers requests that have no result.
func fail(requests []thin.Request, status byte, payload []byte) {
	for _, r := range requests {
		r.Reply(status, payload)
	}
}

// finish proposes and asks what came in this turn, and does what the groups want done.
func (s *stepper) finish() error {
	var appends []append_
	for _, g := range s.dirty {
		g.dirty = false
		s.propose(g)
		s.ask(g)
		for g.node.HasReady() {
			var err error
			if appends, err = s.obey(g, g.node.Ready(), appends); err != nil {
				return err
			}
		}
	}
	s.dirty = s.dirty[:0]
	if len(appends) > 0 {
		s.toStore.put(appends)
	}
	return nil
}

// propose hands all writes of a turn over at once.
func (s *stepper) propose(g *group) {
	if len(g.writes) == 0 {
		return
	}
	// One message for all of them: the library appends them as one, and sends them on as one.
	err := g.node.Step(&pb.Message{Type: pb.MsgProp.Enum(), From: new(s.me), Entries: g.writes})
	if err != nil {
		for _, e := range g.writes {
			number := binary.LittleEndian.Uint64(e.Data)
			s.redirect(g, g.waiting[number].requests)
			delete(g.waiting, number)
		}
	}
	g.writes = nil
}

// redirect tells clients whom to ask instead.
func (s *stepper) redirect(g *group, requests []thin.Request) {
	leader := byte(thin.NoLeader)
	if lead := g.node.BasicStatus().Lead; lead != 0 && lead != s.me {
		leader = byte(lead - 1)
	}
	fail(requests, thin.NotLeader, []byte{leader})
}

// ask asks a majority once for all reads of a turn.
func (s *stepper) ask(g *group) {
	if len(g.reads) == 0 {
		return
	}
	if g.node.BasicStatus().RaftState != raft.StateLeader {
		s.redirect(g, g.reads)
	} else {
		s.number++
		g.asked[s.number] = waiting{time.Now(), g.reads}
		g.node.ReadIndex(binary.LittleEndian.AppendUint64(nil, s.number))
	}
	g.reads = nil
}

// obey does what a group wants: appends are collected, what was chosen is applied, messages are sent, confirmed reads are answered.
func (s *stepper) obey(g *group, rd raft.Ready, appends []append_) ([]append_, error) {
	for _, confirmed := range rd.ReadStates {
		number := binary.LittleEndian.Uint64(confirmed.RequestCtx)
		g.later[confirmed.Index] = append(g.later[confirmed.Index], g.asked[number].requests...)
		delete(g.asked, number)
	}
	for _, m := range rd.Messages {
		switch m.GetTo() {
		case raft.LocalAppendThread:
			appends = append(appends, append_{g.index, m})
		case raft.LocalApplyThread:
			if err := s.apply(g, m); err != nil {
				return nil, err
			}
		default:
			if err := s.send(g, m); err != nil {
				return nil, err
			}
		}
	}
	// A confirmed read sees at least what was chosen when it was asked.
	for index, requests := range g.later {
		if index <= g.applied {
			delete(g.later, index)
			for _, r := range requests {
				g.state.read(r)
			}
		}
	}
	return appends, nil
}

// apply applies what was chosen and answers those who proposed it here.
func (s *stepper) apply(g *group, m *pb.Message) error {
	for _, e := range m.Entries {
		g.applied = e.GetIndex()
		if len(e.Data) == 0 {
			continue // a new leader's first entry
		}
		number, proposer := g.state.apply(e.Data)
		if proposer != s.cfg.Me {
			continue
		}
		fail(g.waiting[number].requests, thin.OK, nil)
		delete(g.waiting, number)
	}
	return s.respond(g, m)
}

// respond delivers what was to be told once a message's work was done.
func (s *stepper) respond(g *group, m *pb.Message) error {
	for _, r := range m.Responses {
		if r.GetTo() != s.me {
			if err := s.send(g, r); err != nil {
				return err
			}
			continue
		}
		if err := g.node.Step(r); err != nil && !errors.Is(err, raft.ErrProposalDropped) {
			return fmt.Errorf("group %d: %w", g.index, err)
		}
	}
	return nil
}

// send sends a message to another process; one that cannot be sent is dropped, which the library expects.
func (s *stepper) send(g *group, m *pb.Message) error {
	var failure error
	err := s.mesh.send(int(m.GetTo())-1, func(b []byte) []byte {
		b, failure = proto.MarshalOptions{}.MarshalAppend(binary.LittleEndian.AppendUint32(b, uint32(g.index)), m)
		return b
	})
	if err != nil {
		g.node.ReportUnreachable(m.GetTo())
	}
	return failure
}
