package sim

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"time"

	"physalia/cell"
	"physalia/sim/blockstore"
)

// store is a block store whose volume record is partition 0 of the first cell: copies on the machines of the first servers,
// and users of its blocks. Its messages meet the cuts and the weather of the world, its processes crash and pause by
// themselves, and what it asks of the cell goes through sessions like everybody's.
type store struct {
	world   *World
	volume  *volume    // the cell that holds its record
	dice    *rand.Rand // of its disks, and of its crashes
	copies  []*storeCopy
	users   []*storeUser
	split   blockstore.SplitBrain  // sees what leaves a copy
	lost    blockstore.Lost        // sees the same, and looks into disks
	history []blockstore.Operation // by all users
	twin    *history               // of the first slots of the cell's log
	slots   int                    // so many
}

// The size of a block store: two copies in the record and two spares, and few blocks, so that users meet.
const storeCopies, storeUsers, storeBlocks, storeOps = 4, 2, 4, 15

var storeTiming = blockstore.Timing{Resend: 20 * time.Millisecond, Silence: 100 * time.Millisecond, Lookup: 400 * time.Millisecond}

// storeCopy is the process of one copy, and its disk.
type storeCopy struct {
	store   *store
	at      int // of the server on whose machine it runs
	name    string
	session *session         // for what it asks of the cell; it outlives the process
	copy    *blockstore.Copy // nil while it is down
	disk    blockstore.State // what is durable
	life    int              // counts starts and ends; what was planned in an earlier one does not happen
	busy    time.Duration    // the disk is, until then, by the world's clock
}

// openStore makes the block store of a schedule that has one, and has its record attached.
func (w *World) openStore() {
	st := &store{world: w, volume: w.cells[0], dice: w.stream("block store"), twin: replay(nil)}
	w.store = st
	for i := range storeCopies {
		c := &storeCopy{store: st, at: i, name: string(rune('a' + i)), session: w.newSession(st.volume, storeFirst+i)}
		st.copies = append(st.copies, c)
		c.start()
	}
	for i := range storeUsers {
		st.newUser(i)
	}
	st.attach(st.copies[0].session)
	w.after(100*time.Millisecond, st.strike)
}

// attach names the first two copies in the record, unless somebody has, again and again until that is certain.
//
// Who asks again names both copies as before: a record that exists, an equal one too, is a conflict and no error.
func (st *store) attach(s *session) {
	txn, err := cell.AttachTxn(0, "a", "b")
	if err != nil {
		panic(err)
	}
	s.acquaint(func(err *cell.Error) {
		again := func(err *cell.Error) {
			if err != nil && !st.over() {
				s.rest(20*time.Millisecond, func() { st.attach(s) })
			}
		}
		if err != nil {
			again(err)
			return
		}
		s.send(s.place.Request(s.id), s.place.Incarnation(), &txn, s.deadline(), func(_ *exchange, err *cell.Error) { again(err) })
	})
}

// over reports whether nobody can be expected to get anywhere any more, because the cell is being deleted.
func (st *store) over() bool { return st.volume.sealed || st.volume.sealing }

// strike lets a process crash now and then, until everything is healed.
func (st *store) strike() {
	if st.world.healed {
		return
	}
	st.world.after(100*time.Millisecond+between(st.dice, 500*time.Millisecond), st.strike)
	c := st.copies[st.dice.IntN(storeCopies)]
	if c.copy == nil {
		return
	}
	st.world.trace.note(st.world.now, "copy %s crashes", c.name)
	c.copy = nil
	c.life++
	st.world.after(between(st.dice, 300*time.Millisecond), c.start)
}

// start begins a life of a copy with what its disk holds.
func (c *storeCopy) start() {
	c.life++
	c.busy = c.store.world.now
	cfg := blockstore.Config{Name: c.name, Blocks: storeBlocks, Timing: storeTiming}
	for i := range storeCopies {
		if i != c.at {
			cfg.Peers = append(cfg.Peers, string(rune('a'+i)))
		}
	}
	c.copy = blockstore.New(cfg, c.session.now(), c.disk)
	c.tick(c.life)
}

// tick lets the copy look at its clock, for as long as this life of it lasts.
func (c *storeCopy) tick(life int) {
	if c.life == life {
		c.step(blockstore.Tick{})
		c.session.after(storeTiming.Resend/4, func() { c.tick(life) })
	}
}

// step gives the copy an input; what it wants happens when its disk has caught up, if it lives that long.
func (c *storeCopy) step(in blockstore.Input) {
	w, life := c.store.world, c.life
	if c.copy == nil {
		return
	}
	defer func() {
		if v := recover(); v != nil {
			w.fail("block store", place{v: c.store.volume}, "copy %s: %v", c.name, v)
		}
	}()
	e := c.copy.Step(c.session.now(), in)
	if e.Persist != nil {
		c.busy = max(c.busy, w.now) + between(c.store.dice, w.plan.Sync)
	}
	if e.Persist != nil || len(e.Send) > 0 || e.Ask != nil {
		w.after(max(0, c.busy-w.now), func() {
			if c.life == life {
				c.obey(&e)
			}
		})
	}
}

// obey does what a step wanted. A copy that stands still meanwhile says it late.
func (c *storeCopy) obey(e *blockstore.Effects) {
	st, life := c.store, c.life
	if e.Persist != nil {
		c.disk.Blocks = slices.Clone(c.disk.Blocks)
		c.disk.Apply(e.Persist, storeBlocks)
	}
	c.session.awake(func() {
		if c.life != life {
			return
		}
		for _, m := range e.Send {
			if err := st.split.Sent(m); err != nil {
				st.world.fail("block store", place{v: st.volume}, "%v", err)
			}
			st.lost.Sent(m)
			st.carry(m)
		}
		if e.Ask != nil {
			st.ask(c.session, *e.Ask, func(a blockstore.Answer) {
				if c.life == life {
					c.step(a)
				}
			})
		}
	})
	st.inspect()
}

// ask asks the cell for what a copy or a user wants to know, and gives up like any client.
func (st *store) ask(s *session, a blockstore.Ask, answer func(blockstore.Answer)) {
	txn, err := a.Txn(0)
	if err != nil {
		st.world.fail("block store", place{v: st.volume}, "%v", err)
		return
	}
	deadline := s.now() + 2*st.world.plan.Attempt
	end := func(x *exchange, err *cell.Error) {
		if err != nil {
			answer(blockstore.Answered(a, cell.TxnResult{}, 0, err))
			return
		}
		answer(blockstore.Answered(a, x.result, x.incarnation, nil))
	}
	s.acquaint(func(err *cell.Error) {
		switch {
		case err != nil:
			end(nil, err)
		case a.Kind == blockstore.Lookup:
			s.read(&txn, false, deadline, end)
		default:
			s.send(s.place.Request(s.id), s.place.Incarnation(), &txn, deadline, end)
		}
	})
}

// carry takes a message through the network: between copies along the links of their machines, to and from users as between
// clients and servers.
func (st *store) carry(m blockstore.Message) {
	w := st.world
	from, to := st.find(m.From), st.find(m.To)
	times := 1
	if percent(w.net.dice, w.net.twice) {
		times = 2
	}
	for range times {
		delay := w.net.delay()
		if !st.open(from, to) || percent(w.net.dice, w.net.loss) {
			continue
		}
		w.after(delay, func() { to.session().awake(func() { to.step(m) }) })
	}
}

// party is a copy or a user: whoever sends messages and gets them. Exactly one of the two is set.
type party struct {
	copy *storeCopy
	user *storeUser
}

// find finds a party by its name: copies have one letter.
func (st *store) find(name string) party {
	for _, u := range st.users {
		if u.name == name {
			return party{user: u}
		}
	}
	return party{copy: st.copies[int(name[0]-'a')]}
}

// session is the process: its clock, its pauses, its way to the cell.
func (p party) session() *session {
	if p.user != nil {
		return p.user.session
	}
	return p.copy.session
}

// step gives it an input.
func (p party) step(in blockstore.Input) {
	if p.user != nil {
		p.user.step(in)
		return
	}
	p.copy.step(in)
}

// open reports whether a message that leaves now may arrive.
func (st *store) open(from, to party) bool {
	w := st.world
	switch {
	case from.user != nil:
		return w.reaches(from.user.session, w.servers[to.copy.at])
	case to.user != nil:
		return w.reaches(to.user.session, w.servers[from.copy.at])
	}
	return w.net.open(PaxosLane, from.copy.at, to.copy.at)
}

// inspect compares the disks of those whom the record names with what was acknowledged. The record is that of the log, as
// far as anybody has applied it.
func (st *store) inspect() {
	for ; st.slots < len(st.volume.log); st.slots++ {
		st.twin.follow(st.volume.log[st.slots])
	}
	kp, kr, kg := cell.VolumeKeys(0)
	primary, _ := st.twin.others[kp].value.AsString()
	replica, _ := st.twin.others[kr].value.AsString()
	generation, _ := st.twin.others[kg].value.AsInt64()
	record := cell.VolumeRecord{Primary: primary, Replica: replica, Generation: cell.Generation(generation)}
	for _, c := range st.copies {
		if c.name == primary || c.name == replica {
			if err := st.lost.Check(record, c.name, &c.disk); err != nil {
				st.world.fail("block store", place{v: st.volume}, "%v", err)
			}
		}
	}
}

// storeUser reads and writes blocks, each one operation at a time; when everything is healed it reads all of them once.
type storeUser struct {
	store   *store
	name    string
	session *session
	client  *blockstore.Client
	left    int // operations to come, before everything is healed
	last    int // reads of the end, to come
	number  uint64
	open    map[uint64]int // number of an operation to its place in store.history
}

// newUser makes a user that begins soon. Its operations wait until somebody can serve them.
func (st *store) newUser(i int) {
	u := &storeUser{store: st, name: fmt.Sprintf("user%d", i), session: st.world.newSession(st.volume, storeFirst+storeCopies+i), left: storeOps,
		last: storeBlocks, open: map[uint64]int{}}
	u.client = blockstore.NewClient(blockstore.ClientConfig{Name: u.name, Blocks: storeBlocks, Timing: storeTiming})
	st.users = append(st.users, u)
	u.session.rest(50*time.Millisecond, u.begin)
	u.tick()
}

// tick lets the user repeat what was not answered.
func (u *storeUser) tick() {
	u.step(blockstore.Tick{})
	u.session.after(storeTiming.Resend/2, u.tick)
}

// done reports whether the user has all answers, those of the end included.
func (u *storeUser) done() bool { return u.left == 0 && u.last == 0 && len(u.open) == 0 }

// begin starts an operation on a block of which none is under way, and plans the next.
func (u *storeUser) begin() {
	w, dice := u.store.world, u.session.dice
	if w.healed {
		u.left = 0
	}
	if u.done() {
		return
	}
	u.session.rest(2*time.Second/storeOps, u.begin)
	block, write := dice.IntN(storeBlocks), dice.IntN(2) == 0
	switch {
	case u.left > 0:
		u.left--
	case w.healed && u.last > 0 && len(u.open) == 0:
		u.last--
		block, write = u.last, false
	default:
		return
	}
	for _, i := range u.open { // in any order: it is only asked whether there is one
		if u.store.history[i].Block == block {
			return
		}
	}
	u.number++
	op := blockstore.Op{Number: u.number, Write: write, Block: block}
	o := blockstore.Operation{Client: u.name, Write: write, Block: block, Called: w.now}
	if write {
		o.Data = fmt.Sprintf("%s.%d", u.name, u.number)
		op.Data = []byte(o.Data)
	}
	u.open[op.Number] = len(u.store.history)
	u.store.history = append(u.store.history, o)
	u.step(op)
}

// step gives the user's client an input, and notes the operations that ended with it. A user has no disk, so nothing
// waits.
func (u *storeUser) step(in blockstore.Input) {
	st := u.store
	e := u.client.Step(u.session.now(), in)
	for _, m := range e.Send {
		st.carry(m)
	}
	if e.Ask != nil {
		st.ask(u.session, *e.Ask, func(a blockstore.Answer) { u.step(a) })
	}
	for _, d := range e.Done {
		o := &st.history[u.open[d.Op.Number]]
		delete(u.open, d.Op.Number)
		o.Done, o.Ended, o.Version = true, st.world.now, d.Version
		if !o.Write {
			o.Data = string(d.Data)
		}
		st.world.report.BlockOps++
	}
}

// blockStore: no two copies acknowledge under one fence, whatever was acknowledged is on the disks of whoever the record
// names (both watched while it runs), and no read shows overwritten data.
func blockStore(w *World) *checker {
	return &checker{name: "block store", finish: func() {
		if w.store != nil {
			if err := blockstore.Overwritten(w.store.history); err != nil {
				w.fail("block store", place{v: w.store.volume}, "%v", err)
			}
		}
	}}
}
