package client

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"physalia/cell"
	"physalia/internal/rpc"
	"physalia/internal/wire"
)

// fakeCell is a deliberately naive cell that all fake servers of a test share: one map, one window without end.
type fakeCell struct {
	id cell.ID

	mu          sync.Mutex
	incarnation cell.Incarnation
	revision    cell.Revision
	entries     map[string]cell.Entry
	remembered  map[string]remembered
	applied     []cell.Request // in order, once each
	leader      *fakeServer
	sealed      bool
	forgetful   bool // retries get the fate without the results
	leases      map[cell.LeaseID]cell.Lease
}

type remembered struct {
	result cell.TxnResult
	err    *cell.Error
}

func newFakeCell(id cell.ID) *fakeCell {
	return &fakeCell{id: id, incarnation: 1, entries: map[string]cell.Entry{}, remembered: map[string]remembered{},
		leases: map[cell.LeaseID]cell.Lease{}}
}

// lease runs what is asked of a lease; a grant under its identity, like a transaction.
func (f *fakeCell) lease(method string, m *wire.LeaseRequest) (*wire.LeaseReply, *cell.Error) {
	key := fmt.Sprintf("%x/%d", m.Request.Client, m.Request.Sequence)
	if was, ok := f.remembered[key]; ok {
		return &wire.LeaseReply{Incarnation: f.incarnation, Revision: was.result.Revision, Lease: cell.LeaseID(was.result.Revision)}, was.err
	}
	l, held := f.leases[m.Lease.ID]
	switch {
	case method == wire.MethodGrant:
		f.revision++
		l = cell.Lease{ID: cell.LeaseID(f.revision), TTL: m.Lease.TTL, Label: m.Lease.Label}
		f.leases[l.ID] = l
		f.remembered[key] = remembered{result: cell.TxnResult{Revision: f.revision}}
	case !held:
		return nil, &cell.Error{Op: "fake", Kind: cell.NoLease}
	case method == wire.MethodRevoke:
		f.revision++
		delete(f.leases, l.ID)
	default:
		l.Renewals++
		f.leases[l.ID] = l
	}
	return &wire.LeaseReply{Incarnation: f.incarnation, Revision: f.revision, Lease: l.ID, Renewals: l.Renewals}, nil
}

// apply runs a transaction under its identity, as rule 14 says, with a window that forgets nothing.
func (f *fakeCell) apply(r cell.Request, txn *cell.Txn) (cell.TxnResult, *cell.Error) {
	key := fmt.Sprintf("%x/%d", r.Client, r.Sequence)
	if was, ok := f.remembered[key]; ok {
		if f.forgetful {
			was.result.Results = nil
		}
		return was.result, was.err
	}
	f.revision++
	if txn.IsResolve() {
		f.remembered[key] = remembered{err: &cell.Error{Op: "fake", Kind: cell.Void}}
		return cell.TxnResult{}, f.remembered[key].err
	}
	result, err := f.eval(txn, f.revision)
	f.remembered[key] = remembered{result, err}
	f.applied = append(f.applied, r)
	return result, err
}

// history returns the requests that were applied, in order.
func (f *fakeCell) history() []cell.Request {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Clone(f.applied)
}

// eval runs a transaction at a revision.
func (f *fakeCell) eval(txn *cell.Txn, at cell.Revision) (cell.TxnResult, *cell.Error) {
	result := cell.TxnResult{Succeeded: true, Failed: -1, Revision: at}
	for i, c := range txn.If {
		if !f.holds(c) {
			result.Succeeded, result.Failed = false, i
			break
		}
	}
	before := maps.Clone(f.entries)
	for _, op := range txn.Branch(result.Succeeded) {
		r, err := f.do(op, at)
		if err != nil {
			f.entries = before
			return cell.TxnResult{}, err
		}
		result.Results = append(result.Results, r)
	}
	return result, nil
}

func (f *fakeCell) holds(c cell.Condition) bool {
	e, exists := f.entries[c.Key]
	order := 0
	switch c.Target {
	case cell.OnExistence:
		return exists == (c.Compare == cell.Equal)
	case cell.OnValue:
		var comparable bool
		if order, comparable = e.Value.Compare(c.Value); !comparable {
			return c.Compare == cell.NotEqual
		}
	case cell.OnVersion:
		order = cmp.Compare(e.Version, c.Number)
	case cell.OnModRevision:
		order = cmp.Compare(uint64(e.ModRevision), c.Number)
	case cell.OnCreateRevision:
		order = cmp.Compare(uint64(e.CreateRevision), c.Number)
	}
	return map[cell.Comparison]bool{cell.Equal: order == 0, cell.NotEqual: order != 0, cell.Less: order < 0,
		cell.LessEqual: order <= 0, cell.Greater: order > 0, cell.GreaterEqual: order >= 0}[c.Compare]
}

func (f *fakeCell) do(op cell.Op, at cell.Revision) (cell.OpResult, *cell.Error) {
	e, exists := f.entries[op.Key]
	r := cell.OpResult{Found: exists, Entry: e}
	switch op.Kind {
	case cell.OpScan:
		return f.scan(op), nil
	case cell.OpDelete:
		delete(f.entries, op.Key)
		return r, nil
	case cell.OpGet:
		return r, nil
	}
	if !exists {
		e = cell.Entry{Key: op.Key, CreateRevision: at, Value: cell.Int(0)}
	}
	if op.Kind == cell.OpIncrement {
		sum, ok := e.Value.AsInt64()
		delta, _ := op.Value.AsInt64()
		if !ok {
			return r, &cell.Error{Op: "fake", Kind: cell.WrongType}
		}
		op.Value = cell.Int(sum + delta)
	}
	e.Value, e.ModRevision, e.Version = op.Value, at, e.Version+1
	f.entries[op.Key] = e
	r.Entry = e
	return r, nil
}

func (f *fakeCell) scan(op cell.Op) (r cell.OpResult) {
	for _, k := range slices.Sorted(maps.Keys(f.entries)) {
		if !strings.HasPrefix(k, op.Key) || k <= op.After {
			continue
		}
		if limit := op.Limit; limit > 0 && len(r.Entries) == int(limit) || len(r.Entries) == 4 {
			r.More = true
			break
		}
		r.Entries = append(r.Entries, f.entries[k])
	}
	return r
}

// act is what a script tells a server to do with one request instead of serving it.
type act uint8

const (
	serve      act = iota
	applyCut       // apply it, then cut the connection instead of answering
	applyMute      // apply it, and never answer
	applyLate      // apply it, and answer when the server's late is closed
	cut            // cut the connection
	mute           // never answer
	refuse         // answer with err
	applyError     // apply it, then answer with err all the same (for errors that mean "unknown")
)

// rule is one line of a script.
type rule struct {
	do  act
	err *cell.Error
}

// seen is one request as a server received it.
type seen struct {
	method string
	txn    wire.TxnRequest
	read   wire.ReadRequest
	lease  wire.LeaseRequest
}

// fakeServer is a storage server over a real socket. It serves the cells it hosts; requests take lines off its script
// first.
type fakeServer struct {
	name string
	addr string
	rpc  *rpc.Server

	mu     sync.Mutex
	cells  map[cell.ID]*fakeCell
	peers  []*fakeServer // members, for Explain
	script []rule
	random func() rule // takes over when the script is empty
	log    []seen
	dials  int
	late   chan struct{}
	deaf   bool          // gives no sign of life
	probes int           // was asked for one so often
	behind cell.Revision // stale reads that ask for more are Unavailable
}

func newFakeServer(t *testing.T, name string, cells ...*fakeCell) *fakeServer {
	t.Helper()
	s := &fakeServer{name: name, cells: map[cell.ID]*fakeCell{}}
	for _, c := range cells {
		s.cells[c.id] = c
		if c.leader == nil {
			c.leader = s
		}
	}
	s.listen(t, "127.0.0.1:0")
	return s
}

func (s *fakeServer) listen(t *testing.T, addr string) {
	t.Helper()
	ln, err := net.Listen("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	s.addr = ln.Addr().String()
	s.rpc = rpc.NewServer(ln, rpc.Config{Hello: wire.Hello{Server: cell.ServerID(s.name)}, Handler: rpc.HandlerFunc(s.handle),
		Check: func(wire.Hello) *cell.Error { s.mu.Lock(); s.dials++; s.mu.Unlock(); return nil }})
	t.Cleanup(func() { s.stop() })
}

func (s *fakeServer) stop() {
	if err := s.rpc.Close(); err != nil && !strings.Contains(err.Error(), "closed") {
		panic(err)
	}
}

// next adds lines to the script.
func (s *fakeServer) next(rules ...rule) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.script = append(s.script, rules...)
}

// rewrite replaces what is left of the script.
func (s *fakeServer) rewrite(rules ...rule) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.script = rules
}

// requests returns the transactions received so far, and forgets them.
func (s *fakeServer) requests() (txns []wire.TxnRequest, reads []wire.ReadRequest) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, l := range s.log {
		switch l.method {
		case wire.MethodTxn:
			txns = append(txns, l.txn)
		case wire.MethodRead:
			reads = append(reads, l.read)
		}
	}
	s.log = nil
	return txns, reads
}

func (s *fakeServer) handle(c *rpc.Conn, req rpc.Request) {
	var in seen
	in.method = req.Method
	header := &in.txn.Header
	var err error
	switch req.Method {
	case wire.MethodTxn:
		err = wire.Unmarshal(req.Params, &in.txn)
	case wire.MethodRead:
		err = wire.Unmarshal(req.Params, &in.read)
		header = &in.read.Header
	case wire.MethodGrant, wire.MethodKeepAlive, wire.MethodRevoke:
		err = wire.Unmarshal(req.Params, &in.lease)
		header = &in.lease.Header
	case wire.MethodExplain:
		s.explain(c, req)
		return
	case wire.MethodServer:
		s.mu.Lock()
		s.probes++
		deaf := s.deaf
		s.mu.Unlock()
		if !deaf {
			c.Reply(req.ID, &wire.ServerInfo{Name: s.name}, nil)
		}
		return
	}
	if err != nil {
		panic(err)
	}
	s.mu.Lock()
	s.log = append(s.log, in)
	var line rule
	if len(s.script) > 0 {
		line = s.script[0]
		s.script = s.script[1:]
	} else if s.random != nil {
		line = s.random()
	}
	host := s.cells[header.Cell]
	behind := s.behind
	s.mu.Unlock()
	switch line.do {
	case refuse:
		c.Reply(req.ID, nil, line.err)
		return
	case cut:
		c.Close(nil)
		return
	case mute:
		return
	}
	reply, failure := s.answer(host, &in, header, behind)
	switch line.do {
	case applyCut:
		c.Close(nil)
	case applyMute:
	case applyLate:
		go func(id uint32) { <-s.late; c.Reply(id, reply, failure) }(req.ID)
	case applyError:
		c.Reply(req.ID, nil, line.err)
	default:
		if failure != nil {
			c.Reply(req.ID, nil, failure)
			return
		}
		c.Reply(req.ID, reply, nil)
	}
}

// answer serves one request as a server that hosts the cell, or does not.
func (s *fakeServer) answer(host *fakeCell, in *seen, header *wire.Header, behind cell.Revision) (wire.Message, *cell.Error) {
	if host == nil {
		return nil, &cell.Error{Op: "fake", Kind: cell.UnknownHere}
	}
	host.mu.Lock()
	defer host.mu.Unlock()
	switch {
	case header.Timeout == 0:
		return nil, &cell.Error{Op: "fake", Kind: cell.Invalid, Detail: "no timeout"}
	case host.sealed:
		return nil, &cell.Error{Op: "fake", Kind: cell.Deleted}
	case header.Incarnation != 0 && header.Incarnation < host.incarnation:
		return nil, &cell.Error{Op: "fake", Kind: cell.Stale}
	case in.method == wire.MethodRead && in.read.Stale:
		if behind > 0 && in.read.Least > behind {
			return nil, &cell.Error{Op: "fake", Kind: cell.Unavailable, Detail: "behind"}
		}
	case host.leader != s:
		e := &cell.Error{Op: "fake", Kind: cell.NotProposer}
		if host.leader != nil {
			e.Leader, e.LeaderAddr = cell.ServerID(host.leader.name), host.leader.addr
		}
		return nil, e
	}
	reply := &wire.TxnReply{Incarnation: host.incarnation}
	var err *cell.Error
	switch in.method {
	case wire.MethodGrant, wire.MethodKeepAlive, wire.MethodRevoke:
		return host.lease(in.method, &in.lease)
	case wire.MethodRead:
		reply.Result, err = host.eval(&in.read.Txn, host.revision)
	default:
		reply.Result, err = host.apply(in.txn.Request, &in.txn.Txn)
	}
	return reply, err
}

func (s *fakeServer) explain(c *rpc.Conn, req rpc.Request) {
	var in wire.ExplainRequest
	if err := wire.Unmarshal(req.Params, &in); err != nil {
		panic(err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.cells[in.Header.Cell] == nil {
		c.Reply(req.ID, nil, &cell.Error{Kind: cell.UnknownHere})
		return
	}
	e := &wire.Explanation{Server: cell.ServerID(s.name), Cell: in.Header.Cell, Incarnation: 1, Configuration: 1}
	for i, p := range s.peers {
		e.Members = append(e.Members, wire.ExplainedMember{Node: uint64(i + 1), Server: cell.ServerID(p.name), Addr: p.addr, Alive: true})
	}
	c.Reply(req.ID, e, nil)
}

// fakeControl is a discovery copy.
type fakeControl struct {
	addr string
	rpc  *rpc.Server

	mu      sync.Mutex
	routes  map[cell.ID]wire.Route
	lookups [][]cell.ID
	silent  bool
}

func newFakeControl(t *testing.T) *fakeControl {
	t.Helper()
	f := &fakeControl{routes: map[cell.ID]wire.Route{}}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	f.addr = ln.Addr().String()
	f.rpc = rpc.NewServer(ln, rpc.Config{Handler: rpc.HandlerFunc(f.handle)})
	t.Cleanup(func() { f.rpc.Close() })
	return f
}

// place publishes a route.
func (f *fakeControl) place(id cell.ID, inc cell.Incarnation, conf uint64, members ...*fakeServer) {
	r := wire.Route{Cell: id, Incarnation: inc, Configuration: conf}
	for i, m := range members {
		r.Members = append(r.Members, wire.Founder{Node: uint64(i + 1), Server: cell.ServerID(m.name), ClientAddr: m.addr})
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.routes[id] = r
}

func (f *fakeControl) handle(c *rpc.Conn, req rpc.Request) {
	var in wire.LookupRequest
	if err := wire.Unmarshal(req.Params, &in); err != nil {
		panic(err)
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.lookups = append(f.lookups, in.Cells)
	if f.silent {
		return
	}
	out := &wire.Routes{}
	for _, id := range in.Cells {
		r, ok := f.routes[id]
		if !ok {
			r = wire.Route{Cell: id}
		}
		out.Routes = append(out.Routes, r)
	}
	c.Reply(req.ID, out, nil)
}

// newClient makes a client for tests: impatient, and closed at the end.
func newClient(t *testing.T, cfg Config) *Client {
	t.Helper()
	if cfg.AttemptTimeout == 0 {
		cfg.AttemptTimeout = 5 * time.Second // only tests of silence need less
	}
	if cfg.BackoffMin == 0 {
		cfg.BackoffMin, cfg.BackoffMax = time.Millisecond, 20*time.Millisecond
	}
	c, err := New(context.Background(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

// colony is three servers that all host one cell, of which the first leads, and a discovery copy that knows them.
type colony struct {
	cell    *fakeCell
	servers []*fakeServer
	control *fakeControl
}

func newColony(t *testing.T) *colony {
	t.Helper()
	f := &colony{cell: newFakeCell("vol-1"), control: newFakeControl(t)}
	for i := range 3 {
		f.servers = append(f.servers, newFakeServer(t, fmt.Sprintf("s%d", i), f.cell))
	}
	for _, s := range f.servers {
		s.peers = f.servers
	}
	f.control.place("vol-1", 1, 1, f.servers...)
	return f
}

// client makes a client that knows the colony by its discovery copy.
func (f *colony) client(t *testing.T) *Client {
	t.Helper()
	return newClient(t, Config{Control: []string{f.control.addr}})
}

// warm makes the client know proposer and revision, so that the next transaction is one hop.
func (f *colony) warm(t *testing.T, c *Client) *Cell {
	t.Helper()
	h := c.Cell("vol-1")
	if _, err := h.Put(t.Context(), "warm", cell.Bool(true)); err != nil {
		t.Fatal(err)
	}
	for _, s := range f.servers {
		s.requests()
	}
	return h
}
