package lifecycle

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"time"

	"physalia/cell"
	"physalia/internal/must"
	"physalia/internal/wire"
)

// incarnation is one incarnation of a cell in memory. A million of them are held, so what only unfinished ones need is
// apart, in work.
type incarnation struct {
	Record
	pending   pending   // what of Record was not handed out to be stored yet
	forgotten bool      // the store shall not hold it any more
	held      bool      // ended ByLoss: its nodes are not dropped before its successor lives
	since     uint32    // round in which its members were set: who is not seen by the end of that round is not missed yet
	seen      memberSet // members whose nodes were reported, or confirmed, in this round of the census
	unended   memberSet // of those, who did not report the seal
	hosting   memberSet // unended as of the end of the last round

	recovery *recovery    // the state to found it with, until every member has it; nil for a cell that begins empty
	older    *incarnation // the earlier one, if not all of its nodes were wiped when this one was planned; and so on
	work     *work        // nil once nothing is to be done and nobody waits
}

// work is what the manager does about one incarnation now. None of it is stored.
type work struct {
	queued  memberSet              // members whose task is in a queue, in flight or parked until a time
	heard   memberSet              // absent members whose server said, after the end, that it hosts nothing of the name
	refused memberSet              // members that answered the founding with an error that is not about load
	foreign memberSet              // members that host this incarnation with another jury, so they will never host this one
	tries   [wire.MembersMax]uint8 // how often each member has declined
	lastErr *cell.Error            // the last thing that went wrong, for people
	lastBy  cell.ServerID

	sealing bool          // the seal is queued, in flight or parked
	asked   int           // position of the member that was asked for the seal last
	hint    cell.ServerID // whom a member named as the proposer, until it is asked
	hints   int           // hints followed in a row
	attempt uint32        // seals asked for
	parked  int           // times in a row that nobody could be asked, or the answer was no

	move *moving // nil: no member is being replaced

	waiters []waiter
}

// The streams that are derived from Config.Seed.
const (
	diceStream  = 1
	placeStream = 2
)

// Manager decides what becomes of cells: it is the authority on which incarnations exist and who founds them. It is a
// step machine with a single owner: call its inputs and then Effects, from one goroutine, with a time that never runs
// backwards. See the package comment for the caller's duties.
type Manager struct {
	config  Config
	planner *planner
	dice    *rand.Rand    // jitter
	now     time.Duration // of the current input
	texts   intern

	names  map[cell.ID]*incarnation // the newest of each name, tombstones included
	order  nameIndex                // its keys
	counts [Deleted + 1]int         // incarnations by state

	servers map[cell.ServerID]*server
	active  []*server // servers that may have something to be told
	calls   map[CallID]*call
	lastID  CallID
	telling int            // batches in flight
	seals   []*incarnation // whose seal shall be asked for
	sealing int            // seals in flight
	moves   []*moving      // replacements that have a next step
	moving  int            // calls about replacements in flight

	guard       guard
	pauses      [actionMax + 1]*Order // by action
	heldDrops   []task                // that wait until deletions are resumed
	heldMoves   []*moving             // that wait until their kind is resumed, before anything but planning has happened
	causes      [causeMax + 1]int     // replacements under way
	petitions   []*petition           // in order of arrival
	petitionsAt time.Duration         // when they are looked at
	drains      []*drain              // in order of servers
	open        openList              // what has not converged

	wishes   map[cell.ID]*wish // at most one for a name
	backlog  []*wish           // wishes to plan, in order of arrival
	lines    []*line           // wishes that a limit holds back
	blocked  []*wish           // wishes whose name is not free yet
	requests map[RequestID]*request
	late     []*request // to be looked at by answer
	timers   timers

	users     map[cell.ID]*users // where the users of volumes are, for the cells that were told
	following []*users           // whose cells shall be looked at
	followAt  time.Duration      // not before
	throngs   map[string]*throng // by brick
	level     level              // what balance is about

	retired    map[cell.ServerID]bool  // identities that never come back (rule 17)
	surveys    []*survey               // lost cells whose survivors shall be asked, in order
	surveying  int                     // surveys under way
	recovering map[cell.ID]*recovering // cells that a plan is being carried out for

	invitations map[SecretHash]*Invitation

	observer observer
	mode     mode
	highest  cell.Incarnation   // of all that were ever heard of
	claims   map[cell.ID]*claim // what servers say that no record explains
	strays   strays
	adopted  uint64 // incarnations adopted in this life of the process

	dirty []*incarnation // to be stored with the next Effects
	heard []*incarnation // to be stored soon
	due   bool           // soon is now
	out   Effects        // gathered since the last
}

// NewManager makes an empty manager. Feed it everything stored with Restore, then tell it which servers are there.
func NewManager(c Config) *Manager {
	c = c.withDefaults()
	return &Manager{
		config: c, planner: newPlanner(c.Seed), dice: rand.New(rand.NewPCG(c.Seed, diceStream)), texts: intern{},
		names: map[cell.ID]*incarnation{}, servers: map[cell.ServerID]*server{}, calls: map[CallID]*call{},
		wishes: map[cell.ID]*wish{}, requests: map[RequestID]*request{},
		users: map[cell.ID]*users{}, throngs: map[string]*throng{}, retired: map[cell.ServerID]bool{}, recovering: map[cell.ID]*recovering{},
		invitations: map[SecretHash]*Invitation{},
		open:        openList{of: map[*incarnation]*unsettled{}},
		guard:       guard{limits: c.Limits, bricks: map[string]*buckets{}},
		claims:      map[cell.ID]*claim{}, strays: strays{nodes: map[stray]*server{}, names: map[cell.ID]int{}},
	}
}

// Restore takes one stored pair, in the order of Store.Scan, before any input. An error means that the store must not
// be used: acting on half of it would plan juries a second time.
func (m *Manager) Restore(key, value []byte) error {
	if len(key) > 0 && key[0] == keyMode {
		return m.restoreMode(value)
	}
	if len(key) > 0 && key[0] == keyServer {
		g, err := decodeServer(value, m.texts)
		if err == nil {
			s := m.server(g.Server)
			s.reg, s.known = g, true
			m.planner.server(placeOf(&g), false)
		}
		return err
	}
	if len(key) > 1 {
		switch key[0] {
		case keyRetired, keyRecovery:
			return m.restoreRecovery(key, value)
		case keyInvitation:
			return m.restoreInvitation(key, value)
		case keyPause:
			return m.restorePause(value)
		case keyUsers:
			return m.restoreUsers(key, value)
		case keyDrain:
			return m.restoreDrain(key, value)
		}
	}
	rec, err := decodeRecord(value, m.texts)
	if err != nil {
		return err
	}
	if string(rec.key()) != string(key) {
		return damaged(fmt.Sprintf("key %q holds %v", key, &rec))
	}
	if plantedForgetFoundings && rec.State == Creating {
		return nil
	}
	if older := m.names[rec.Cell]; older != nil && !older.is(Wiping, Deleted) {
		return damaged(fmt.Sprintf("%v is stored beside %v", &older.Record, &rec))
	}
	if err := m.insert(&incarnation{Record: rec}); err != nil {
		return damaged(err.Error())
	}
	return nil
}

// insert makes in the newest incarnation of its name and resumes whatever it needs. The error is that of the book.
func (m *Manager) insert(in *incarnation) error {
	older := m.names[in.Cell]
	must.That(older == nil || older.Incarnation < in.Incarnation && older.is(Wiping, Deleted),
		"an incarnation is founded only when nothing can be chosen in the one before: %v after %v", in, older)
	switch {
	case older == nil:
		m.order.add(in.Cell)
	case older.State == Deleted:
		m.counts[Deleted]--
		m.forget(older)
		in.older = older.older
	default:
		in.older = older
		in.holdOlder()
	}
	m.names[in.Cell] = in
	m.counts[in.State]++
	m.highest = max(m.highest, in.Incarnation)
	in.since = m.observer.round
	m.unlevel()
	if in.State != Deleted && in.Ending != ByLoss {
		if err := m.account(in); err != nil {
			return err
		}
	}
	m.pursue(in)
	if !in.Moving().isZero() {
		m.countMove(in, 1)
	}
	if in.work != nil && in.work.move != nil {
		in.work.move.begun = true // nobody knows what was asked for in an earlier life
	}
	if in.Retry {
		m.wishAgain(in)
	}
	return nil
}

// account has placement count the members, and wakes the drains of those that shall be empty. The error is that of the book.
func (m *Manager) account(in *incarnation) error {
	for i := 0; i < len(in.Members) && len(m.drains) > 0; i++ {
		if d := m.drainOf(in.Members[i].Server()); d != nil {
			d.at = min(d.at, m.now)
		}
	}
	return m.planner.keep(&in.Record)
}

// pending tells how urgently an incarnation is to be stored.
type pending uint8

const (
	stored    pending = iota // nothing has changed since
	confirmed                // servers have confirmed something; in Manager.heard
	decided                  // something was decided; in Manager.dirty
)

// What servers confirm is stored soon, not at once: with the next batch that a decision makes necessary, or after confirmMax. So a
// cell costs one sync on its way to the answer, not one per confirmation. A crash in between loses nothing but the
// time in which the servers are asked again: they, not this store, are who knows that they host their nodes.
const (
	confirmMax     = 100 * time.Millisecond
	confirmedAtOne = 4096 // that many are stored without waiting longer
)

// save has the record stored with the next Effects, before anything that follows from it.
func (m *Manager) save(in *incarnation) {
	if in.pending != decided {
		in.pending = decided
		m.dirty = append(m.dirty, in)
	}
}

// saveSoon has a record stored soon that differs only by what servers have confirmed. Whoever relies on the record itself, and
// not on the servers, does not use it: a state to begin with, or an incarnation before, goes only once this one's record is there.
func (m *Manager) saveSoon(in *incarnation) {
	switch {
	case in.recovery != nil || in.older != nil:
		m.save(in)
	case in.pending == stored:
		in.pending = confirmed
		if len(m.heard) == 0 {
			m.after(confirmMax, func() { m.due = true })
		}
		m.heard = append(m.heard, in)
	}
}

// forget has a record removed with the next Effects: its successor's record says enough.
func (m *Manager) forget(in *incarnation) {
	in.forgotten = true
	m.open.note(in, m.now)
	m.save(in)
}

// become changes the state of an incarnation, as one decision.
func (m *Manager) become(in *incarnation, s State) {
	must.That(in.State < s, "states are not left backwards: %v becomes %v", in, s)
	m.enter(in, s)
	if u := m.users[in.Cell]; s > Live && u != nil && u.incarnation == in.Incarnation {
		m.forgetUsers(u, &cell.Error{Op: "lifecycle.locate", Kind: cell.Deleted, Cell: in.Cell, Detail: "the cell was deleted meanwhile"})
	}
	if s != Live {
		m.abandonMove(in, &cell.Error{Op: "lifecycle.replace", Kind: cell.Deleted, Cell: in.Cell,
			Detail: fmt.Sprintf("incarnation %d is %s meanwhile", in.Incarnation, s)})
	}
	m.save(in)
}

// enter is become without anything that follows.
func (m *Manager) enter(in *incarnation, s State) {
	m.counts[in.State]--
	m.counts[s]++
	in.State = s
}

// job is what is to be asked of one member.
type job uint8

const (
	nothing job = iota
	found       // host your node of this jury
	drop        // wipe it: its incarnation has ended
)

// job tells what member i is to be asked in the present state. A drop goes only to a server that has confirmed that it
// hosts this very jury's node, or that the incarnation is dead there: a founding asks it, idempotently. So a store that
// is wrong about who hosts a cell can never have a node dropped that it does not know (rule 16). The members of a lost
// incarnation were asked by the survey that ended it.
func (in *incarnation) job(i int) job {
	asked := in.settled().has(i) || in.Absent.has(i) || in.work != nil && in.work.foreign.has(i)
	switch {
	case in.State == Wiping && (in.held || in.Dropped.has(i)), in.State == Deleted:
		return nothing
	case in.State == Wiping && (in.settled().has(i) || in.Ending == ByLoss || in.work != nil && in.work.heard.has(i)):
		return drop
	case asked:
		return nothing
	}
	return found // also while it is being sealed: those that were founded may be lost, and the seal takes a majority
}

// reseat changes who the members are. What is known of those that stay goes with them to their new positions; what waits for
// the others comes up for nothing.
func (in *incarnation) reseat(members []Member) {
	if w := in.work; w != nil {
		was := *w
		w.queued, w.heard, w.refused, w.foreign, w.tries = 0, 0, 0, 0, [wire.MembersMax]uint8{}
		for k, mem := range members {
			i := slices.Index(in.Members, mem)
			if i < 0 {
				continue
			}
			for _, set := range [...]struct {
				was memberSet
				is  *memberSet
			}{{was.queued, &w.queued}, {was.heard, &w.heard}, {was.refused, &w.refused}, {was.foreign, &w.foreign}} {
				if set.was.has(i) {
					set.is.add(k)
				}
			}
			w.tries[k] = was.tries[i]
		}
	}
	in.Members = members
}

// begin returns the incarnation's work, starting it when there is none.
func (in *incarnation) begin() *work {
	if in.work == nil {
		in.work = &work{asked: -1}
	}
	return in.work
}

// pursue queues every task that the state calls for, and lets go of what is finished. It is called after every change.
func (m *Manager) pursue(in *incarnation) {
	busy := in.State == Sealing
	for i := range in.Members {
		if in.job(i) == nothing {
			continue
		}
		busy = true
		if w := in.begin(); !w.queued.has(i) {
			w.queued.add(i)
			m.queue(task{in, in.Members[i]})
		}
	}
	if in.State == Sealing && in.Record.founded() {
		if w := in.begin(); !w.sealing {
			w.sealing = true
			m.seals = append(m.seals, in)
		}
	}
	m.drive(in)
	m.open.note(in, m.now)
	w := in.work
	if w == nil || w.move != nil || busy || w.queued != 0 || w.sealing || len(w.waiters) > 0 {
		return
	}
	if w.foreign == 0 || in.State == Deleted { // who hosts another jury is worth remembering until then
		in.work = nil
	}
}

// advance moves an incarnation on as far as what its members have confirmed allows.
func (m *Manager) advance(in *incarnation) {
	switch in.State {
	case Creating:
		if in.Record.founded() {
			m.becomeLive(in)
		} else if in.hopeless() && in.recovery == nil { // the next incarnation would begin empty
			m.becomeVoid(in, true)
		}
	case Live:
		if in.settled() == in.all() {
			m.saveSoon(in)
		}
		if in.recovery != nil && m.isTold(in) {
			m.save(in)
			m.forgetRecovery(in)
		}
	case Sealing:
		if in.hopeless() {
			m.becomeVoid(in, false)
		}
	case Wiping:
		m.passRetired(in)
		if in.Dropped == in.all() {
			m.becomeDeleted(in)
			return
		}
		m.free(in.Cell)
	}
	m.pursue(in)
}

// becomeLive follows when a majority of the members have confirmed: the requesters need not wait for the others.
func (m *Manager) becomeLive(in *incarnation) {
	m.enter(in, Live)
	m.saveSoon(in)
	m.route(in)
	m.settle(in, toCreate, nil)
	m.releaseOlder(in)
}

// route tells discovery what is known of an incarnation.
func (m *Manager) route(in *incarnation) { m.out.Routes = append(m.out.Routes, m.routeOf(in)) }

// routeOf describes where an incarnation lives; without members once nothing can be chosen in it.
func (m *Manager) routeOf(in *incarnation) wire.Route {
	r := wire.Route{Cell: in.Cell, Incarnation: in.Incarnation, Configuration: in.Configuration, Deleted: in.Ending != NotEnded}
	if !r.Deleted {
		r.Members = m.founders(in.Members)
	}
	return r
}

// founders lists the members with the addresses known now.
func (m *Manager) founders(members []Member) []wire.Founder {
	list := make([]wire.Founder, len(members))
	for i, mem := range members {
		list[i] = wire.Founder{Node: mem.Node(), Server: mem.Server()}
		if s := m.servers[mem.Server()]; s != nil {
			list[i].PeerAddr, list[i].ClientAddr = s.reg.PeerAddr, s.reg.ClientAddr
		}
	}
	return list
}

// ServerUp tells that a server is connected, as it registered. Told again for a server that is up, it means a new
// connection; calls on the old one still end with Done. A registration that moves a known identity to another place is
// refused, since juries were chosen by the old one: the server then counts as down.
func (m *Manager) ServerUp(now time.Duration, g wire.Registration) error {
	m.now = now
	if m.retired[g.Server] {
		return Retired(g.Server)
	}
	if err := m.planner.check(placeOf(&g)); err != nil {
		m.ServerDown(now, g.Server)
		return err
	}
	s := m.server(g.Server)
	if !s.known || !sameServer(s.reg, g) {
		m.out.Persist = append(m.out.Persist, Write{serverKey(g.Server), appendServer(nil, &g)})
	}
	s.reg, s.known, s.up, s.failures, s.notBefore = g, true, true, 0, now
	m.planner.server(placeOf(&g), true)
	m.unlevel()
	m.wake(s)
	m.scanServer(s)
	m.doubtEmptiness(&g)
	return nil
}

// ServerDown tells that a server is not connected any more. A name whose wiping waits only for servers that are down is
// free, since nothing new is placed on those.
func (m *Manager) ServerDown(now time.Duration, id cell.ServerID) {
	m.now = now
	s := m.server(id)
	if !s.up {
		return
	}
	s.up = false
	m.leaveScan(s)
	m.planner.server(placeOf(&s.reg), false)
	m.blocked = stillBlocked(m.blocked)
	for _, w := range m.blocked {
		m.free(w.cell)
	}
}
