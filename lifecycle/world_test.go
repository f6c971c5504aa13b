package lifecycle

import (
	"fmt"
	"slices"
	"time"

	"physalia/cell"
	"physalia/internal/wire"
)

// incKey names one incarnation.
type incKey struct {
	cell cell.ID
	inc  cell.Incarnation
}

// fakeServer keeps the promises that a server makes to the lifecycle manager (see the package comment). All of its
// state is durable.
type fakeServer struct {
	reg    wire.Registration
	up     bool
	nodes  map[incKey]wire.Founding
	tombs  map[cell.ID]cell.Incarnation
	slots  map[incKey]uint64 // through which slot the nodes of recovered incarnations begin
	left   map[incKey]bool   // its node moved away; it never comes back
	stones []cell.ID         // names in tombs, in order
	lags   map[incKey]bool   // its node has not applied the seal
	lost   bool              // its disk is gone for good
	refuse *cell.Error       // answers every founding with it
	keep   *cell.Error       // answers every drop with it
}

// world is servers, a network of calls in flight, a store, and a manager that may crash. Everything it sees is checked
// against the invariants.
type world struct {
	fail    func(format string, args ...any)
	config  Config
	servers []*fakeServer
	byID    map[cell.ServerID]*fakeServer
	store   *MemStore
	m       *Manager
	now     time.Duration
	flight  []Call
	nextID  RequestID
	open    map[RequestID]asked
	replies map[RequestID]Reply

	cells  map[incKey]*fakeCell              // those that were asked to change
	juries map[incKey]wire.Founding          // the first that any server was told
	begun  map[incKey]string                 // the first state that any server was told to begin a recovered incarnation with
	made   map[incKey]map[cell.ServerID]bool // who has ever hosted it durably
	stood  map[incKey]bool                   // a majority is among them
	sealed map[incKey]bool                   // the seal was chosen
	routes []wire.Route
	steps  int // effects carried out, over all lives of the manager
	dieAt  int // crash before this effect; zero never
	died   bool
	stored func([]Write) // is shown every batch that was stored; nil: nobody looks
}

// asked remembers what a request asked for.
type asked struct {
	create []cell.ID
	drops  []wire.Drop
}

func newWorld(fail func(string, ...any), c Config, servers int) *world {
	w := &world{fail: fail, config: c, byID: map[cell.ServerID]*fakeServer{}, store: NewMemStore(),
		cells: map[incKey]*fakeCell{}, open: map[RequestID]asked{}, replies: map[RequestID]Reply{}, juries: map[incKey]wire.Founding{}, made: map[incKey]map[cell.ServerID]bool{}, stood: map[incKey]bool{}, sealed: map[incKey]bool{}, begun: map[incKey]string{}}
	for i := range servers {
		s := &fakeServer{reg: testServer(i), up: true, nodes: map[incKey]wire.Founding{}, tombs: map[cell.ID]cell.Incarnation{}, slots: map[incKey]uint64{},
			left: map[incKey]bool{}, lags: map[incKey]bool{}}
		w.servers = append(w.servers, s)
		w.byID[s.reg.Server] = s
	}
	w.start()
	return w
}

func testServer(i int) wire.Registration {
	id := fmt.Sprintf("s%02d", i+1)
	return wire.Registration{Server: cell.ServerID(id), Name: id, Colony: "test", Brick: "b1", Rack: "r" + id, Power: "p" + id,
		Color: "red", PeerAddr: id + ":1", ClientAddr: id + ":2", GossipAddr: id + ":3", Boot: 1, Capacity: 100000}
}

// start begins a life of the manager from the store.
func (w *world) start() {
	w.m = NewManager(w.config)
	if err := w.store.Scan(w.m.Restore); err != nil {
		w.fail("restore: %v", err)
	}
	for _, s := range w.servers {
		if s.up {
			w.join(s)
		}
	}
}

func (w *world) join(s *fakeServer) {
	s.reg.Nodes = uint64(len(s.nodes))
	if err := w.m.ServerUp(w.now, s.reg); err != nil {
		w.fail("server %s: %v", s.reg.Server, err)
	}
}

// crash ends the manager's life: what it knew is gone, as are its calls; requesters get no answer.
func (w *world) crash() {
	w.flight, w.open = nil, map[RequestID]asked{}
	w.start()
}

// step counts one effect and tells whether the manager dies before it.
func (w *world) step() bool {
	w.steps++
	if w.dieAt != 0 && w.steps == w.dieAt {
		w.died = true
		w.crash()
		return true
	}
	return false
}

// turn carries out the effects; a planned crash may cut them short.
func (w *world) turn() {
	e := w.m.Effects(w.now)
	if len(e.Persist) > 0 {
		if w.step() {
			return
		}
		if err := w.store.Put(e.Persist); err != nil {
			w.fail("put: %v", err)
		}
		if w.stored != nil {
			w.stored(e.Persist)
		}
	}
	for _, c := range e.Calls {
		if w.step() {
			return
		}
		w.flight = append(w.flight, c)
	}
	for _, r := range e.Replies {
		if w.step() {
			return
		}
		w.checkReply(r)
		w.replies[r.Request] = r
		delete(w.open, r.Request)
	}
	w.routes = append(w.routes, e.Routes...)
}

func (w *world) create(wait time.Duration, names ...cell.ID) RequestID {
	w.nextID++
	w.open[w.nextID] = asked{create: names}
	w.m.Create(w.now, w.nextID, wire.CreateCells{Cells: names, Wait: uint32(wait / time.Millisecond)})
	w.turn()
	return w.nextID
}

func (w *world) delete(wait time.Duration, drops ...wire.Drop) RequestID {
	w.nextID++
	w.open[w.nextID] = asked{drops: drops}
	w.m.Delete(w.now, w.nextID, wire.DeleteCells{Drops: drops, Wait: uint32(wait / time.Millisecond)})
	w.turn()
	return w.nextID
}

func (w *world) setUp(s *fakeServer, up bool) {
	if s.up == up {
		return
	}
	if s.up = up; up {
		w.join(s)
	} else {
		w.m.ServerDown(w.now, s.reg.Server)
	}
	w.turn()
}

// deliver lets a call in flight arrive, or not, and its answer come back, or not.
func (w *world) deliver(i int, arrives, answered bool) {
	c := w.flight[i]
	w.flight = slices.Delete(w.flight, i, i+1)
	lost := &cell.Error{Op: c.Method, Kind: cell.UnknownResult, Detail: "lost"}
	s := w.byID[c.Server]
	if !s.up || !arrives {
		w.m.Done(w.now, c.ID, nil, lost)
		w.turn()
		return
	}
	if q, ok := c.Params.(*wire.ExportNode); ok {
		x, err := w.export(s, q)
		if !answered {
			x, err = nil, lost
		}
		w.m.Exported(w.now, c.ID, x, err)
		w.turn()
		return
	}
	if w.deliverMove(s, c, answered) || w.deliverCensus(s, c, answered) {
		return
	}
	outcomes, err := w.serve(s, c)
	if !answered {
		outcomes, err = nil, lost
	}
	w.m.Done(w.now, c.ID, outcomes, err)
	w.turn()
}

func (w *world) serve(s *fakeServer, c Call) ([]wire.Outcome, *cell.Error) {
	var outcomes []wire.Outcome
	switch p := c.Params.(type) {
	case *wire.CreateNodes:
		for _, f := range p.Foundings {
			outcomes = append(outcomes, wire.Outcome{Err: w.found(s, f)})
		}
	case *wire.RecoverNodes:
		for i := range p.Recoveries {
			outcomes = append(outcomes, wire.Outcome{Err: w.recoverAt(s, &p.Recoveries[i])})
		}
	case *wire.DropNodes:
		for _, d := range p.Drops {
			outcomes = append(outcomes, wire.Outcome{Err: w.drop(s, p.Sealed, d)})
		}
	case *wire.SealCell:
		return nil, w.seal(s, p)
	}
	return outcomes, nil
}

func (w *world) found(s *fakeServer, f wire.Founding) *cell.Error {
	k := incKey{f.Cell, f.Incarnation}
	if first, told := w.juries[k]; !told {
		w.juries[k] = f
		w.checkNew(k)
	} else if !sameJury(first, f) {
		w.fail("L1: %v was founded as %v and as %v", k, first, f)
	}
	have, hosted := s.nodes[k]
	switch {
	case hosted && !sameJury(have, f):
		return &cell.Error{Kind: cell.Stale, Detail: "hosted with another jury"}
	case hosted:
		return nil
	case s.tombs[f.Cell] >= f.Incarnation:
		return &cell.Error{Kind: cell.Deleted}
	case s.left[k]:
		return nil
	case s.refuse != nil:
		return s.refuse
	}
	for inc := range f.Incarnation {
		if _, beside := s.nodes[incKey{f.Cell, inc}]; beside {
			w.fail("L4: %v is founded on %s beside incarnation %d", k, s.reg.Server, inc)
		}
	}
	s.nodes[k] = f
	w.hosts(s, k, f)
	return nil
}

func (w *world) drop(s *fakeServer, sealed bool, d wire.Drop) *cell.Error {
	k := incKey{d.Cell, d.Incarnation}
	if !sealed {
		w.fail("a drop of %v does not say that it is sealed", k)
	}
	if s.keep != nil {
		return s.keep
	}
	if f, hosted := s.nodes[k]; hosted && !(sameJury(f, w.juries[k]) && w.ended(k, f)) {
		w.fail("L2: %v is dropped at %s, but it can still choose", k, s.reg.Server)
	}
	// A recovered incarnation may itself be lost before a majority hosted it: then the one that was recovered from it counts.
	begun, stood := false, false
	for next := k.inc + 1; next <= w.newest(k.cell); next++ {
		begun, stood = begun || w.begun[incKey{k.cell, next}] != "", stood || w.stood[incKey{k.cell, next}]
	}
	if begun && !stood {
		w.fail("L5: %v is dropped at %s before what was recovered from it has a majority", k, s.reg.Server)
	}
	delete(s.nodes, k)
	s.tombs[d.Cell] = max(s.tombs[d.Cell], d.Incarnation)
	return nil
}

// newest is the highest incarnation of a cell that any server was told of.
func (w *world) newest(id cell.ID) (inc cell.Incarnation) {
	for k := range w.juries {
		if k.cell == id {
			inc = max(inc, k.inc)
		}
	}
	return inc
}

// ended reports whether nothing can be chosen in an incarnation any more: sealed, or a majority forbidden by tombstones.
func (w *world) ended(k incKey, f wire.Founding) bool {
	can := 0
	for _, mem := range w.jury(k, f) {
		s := w.byID[mem.Server]
		if have, hosted := s.nodes[k]; !s.lost && (hosted && sameJury(have, f) || !hosted && s.tombs[k.cell] < k.inc) {
			can++
		}
	}
	return w.sealed[k] || can < len(f.Members)/2+1
}

// jury is who has a vote in an incarnation now.
func (w *world) jury(k incKey, f wire.Founding) []wire.Founder {
	if c := w.cells[k]; c != nil {
		return c.conf.Members
	}
	return f.Members
}

// checkNew holds L2 for a jury that is told for the first time: no earlier incarnation can choose anything.
func (w *world) checkNew(k incKey) {
	for inc := range k.inc {
		other := incKey{k.cell, inc}
		if f, told := w.juries[other]; told && !w.ended(other, f) {
			w.fail("L2: %v is founded, but %v can still choose", k, other)
		}
	}
}

// seal has the seal chosen if a majority of the jury is up and hosts its node. Who lags behind one that is chosen needs them, too.
func (w *world) seal(s *fakeServer, p *wire.SealCell) *cell.Error {
	k := incKey{p.Cell, p.Incarnation}
	f, hosted := s.nodes[k]
	switch {
	case !hosted && s.tombs[p.Cell] >= p.Incarnation:
		return &cell.Error{Kind: cell.Deleted}
	case !hosted:
		return &cell.Error{Kind: cell.UnknownHere}
	case w.sealed[k] && !s.lags[k]:
		return nil
	case !sameJury(f, w.juries[k]):
		w.fail("L3: a cell that the manager does not know is sealed: %v at %s", k, s.reg.Server)
	}
	alive, jury := 0, w.jury(k, f)
	for _, mem := range jury {
		other := w.byID[mem.Server]
		if have, ok := other.nodes[k]; ok && other.up && sameJury(have, f) {
			alive++
		}
	}
	if alive < len(jury)/2+1 {
		return &cell.Error{Kind: cell.Unavailable, Detail: "no quorum"}
	}
	if leader := jury[int(p.Attempt)%len(jury)].Server; leader != s.reg.Server && p.Attempt < 3 {
		return &cell.Error{Kind: cell.NotProposer, Leader: leader}
	}
	w.sealed[k] = true
	return nil
}

func sameJury(a, b wire.Founding) bool {
	same := func(x, y wire.Founder) bool { return x.Node == y.Node && x.Server == y.Server }
	return a.Owner == b.Owner && a.Alpha == b.Alpha && slices.EqualFunc(a.Members, b.Members, same)
}

// checkReply holds the manager to its word: created means a durable majority, deleted means ended.
func (w *world) checkReply(r Reply) {
	q := w.open[r.Request]
	if r.Outcomes == nil || len(r.Outcomes.Outcomes) != len(q.create)+len(q.drops) {
		return
	}
	for i, name := range q.create {
		stood := false
		for k := range w.stood {
			stood = stood || k.cell == name && w.stood[k]
		}
		if r.Outcomes.Outcomes[i].Err == nil && !stood {
			w.fail("%s is reported as created, and no incarnation ever had a durable majority", name)
		}
	}
	for i, d := range q.drops {
		if r.Outcomes.Outcomes[i].Err != nil {
			continue
		}
		for k, f := range w.juries {
			if k.cell == d.Cell && k.inc == d.Incarnation && !w.ended(k, f) {
				w.fail("%v is reported as deleted and can still choose", k)
			}
		}
	}
}

// hosts notes that a server has made its node of a jury durable, and whether a majority of the jury has by now. What a server had
// counts also after it was destroyed: nobody can tell that, nor is anybody promised that a majority survives.
func (w *world) hosts(s *fakeServer, k incKey, f wire.Founding) {
	if w.made[k] == nil {
		w.made[k] = map[cell.ServerID]bool{}
	}
	w.made[k][s.reg.Server] = true
	w.stood[k] = w.stood[k] || len(w.made[k]) > len(f.Members)/2
}

// settle brings every server up and lets everything arrive until nothing is left to do.
func (w *world) settle() {
	for _, s := range w.servers {
		w.setUp(s, !s.lost)
	}
	for i := 0; ; i++ {
		if i > 20000 {
			w.fail("it does not converge: %+v", w.m.Stats())
			return
		}
		w.turn()
		if len(w.flight) > 0 {
			w.deliver(0, true, true)
			continue
		}
		at, ok := w.m.Next()
		if !ok {
			return
		}
		w.now = max(w.now, at)
	}
}

// checkSettled compares what servers host with what the manager lists, after settle.
func (w *world) checkSettled() {
	listed := map[incKey]wire.CellInfo{}
	for _, c := range w.list() {
		listed[incKey{c.Cell, c.Incarnation}] = c
		crippled := false
		buried := 0 // members whose server's tombstone forbids the node; to replace them is a repair
		for _, mem := range c.Members {
			s := w.byID[mem.Server]
			crippled = crippled || s.lost // to replace such a member is a repair, too
			if _, ok := s.nodes[incKey{c.Cell, c.Incarnation}]; ok || s.lost {
				continue
			}
			if buried++; s.tombs[c.Cell] < c.Incarnation {
				w.fail("%s.%d is live, and %s does not host it", c.Cell, c.Incarnation, mem.Server)
			}
		}
		if !crippled && (c.Waiting != "") != (buried > 0) || c.State != "live" && c.State != "deleted" {
			w.fail("%s.%d is %s and waits: %s", c.Cell, c.Incarnation, c.State, c.Waiting)
		}
	}
	for _, s := range w.servers {
		for k := range s.nodes {
			if listed[k].State != "live" {
				w.fail("%s hosts %v, which is listed as %q", s.reg.Server, k, listed[k].State)
			}
		}
	}
}

func (w *world) list() []wire.CellInfo {
	w.nextID++
	w.m.List(w.now, w.nextID, wire.ListCells{Limit: wire.ListLimitMax})
	w.turn()
	r := w.replies[w.nextID]
	if r.List == nil || r.List.More {
		w.fail("no complete list: %+v", r)
		return nil
	}
	return r.List.Cells
}
