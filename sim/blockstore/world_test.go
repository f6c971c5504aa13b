package blockstore

import (
	"container/heap"
	"errors"
	"fmt"
	"hash/fnv"
	"math/rand/v2"
	"slices"
	"time"

	"physalia/cell"
	"physalia/cell/machine"
	"physalia/internal/must"
	"physalia/internal/wire"
)

// world is a partition with its cell, its copies and its clients on one thread, driven by one seed. The cell is the real
// state machine, reached over a bad network; copies have disks that sync late, and lose what was not synced.
type world struct {
	now     time.Duration
	queue   events
	planned uint64
	dice    *rand.Rand
	weather weather
	healed  bool

	cell        *machine.Machine
	incarnation cell.Incarnation
	record      cell.VolumeRecord
	asked       uint64

	hosts []*host
	users []*user
	cut   map[[2]string]int // from, to: how many faults cut this way

	split   SplitBrain
	lost    Lost
	outside bool                          // only what clients can see is judged
	hold    func(from string, a Ask) bool // transactions that do not reach the cell yet
	held    []func()                      // which they do when a test calls them
	answers map[string]int                // acknowledgements by a copy, for tests
	history []Operation
	failure error
	seen    tally
	hash    uint64
	log     func(format string, args ...any) // nil: nobody reads it
}

// weather is how bad the network and the cell are, in parts of a thousand and times.
type weather struct {
	lost, twice, slow int
	answerLost        int
	crashes           bool
	faultEvery        time.Duration
}

// tally counts what happened, so that a test can tell whether the worlds are interesting.
type tally struct{ steps, acks, promotions, replacements, crashes, pauses, cuts, unknown, late int }

// host is one storage server.
type host struct {
	world  *world
	name   string
	copy   *Copy // nil: dead
	disk   State
	life   int
	busy   time.Duration // the disk is, until then
	paused bool
	held   []func() // what a paused process has missed
}

// user is a client and what it wants.
type user struct {
	world   *world
	client  *Client
	name    string
	left    int
	number  uint64
	open    map[uint64]int // number of an operation -> index in world.history
	auditor bool           // reads every block once
}

const (
	blocks     = 4
	copies     = 4
	userCount  = 3
	span       = 3 * time.Second
	patience   = 30 * time.Second // until everybody must have an answer, once the world is healed
	askTimeout = 150 * time.Millisecond
)

var timing = Timing{Resend: 20 * time.Millisecond, Silence: 100 * time.Millisecond, Lookup: 400 * time.Millisecond}

func copyName(i int) string { return string(rune('a' + i)) }

// newWorld makes a world in which a and b are attached and c and d are spares.
func newWorld(seed uint64) *world {
	w := &world{dice: rand.New(rand.NewPCG(seed, 1)), cell: machine.New(), incarnation: 1, cut: map[[2]string]int{}, answers: map[string]int{}, hash: seed}
	w.weather = weather{lost: w.dice.IntN(80), twice: w.dice.IntN(80), slow: w.dice.IntN(60), answerLost: w.dice.IntN(250),
		crashes: w.dice.IntN(4) > 0, faultEvery: time.Duration(40+w.dice.IntN(300)) * time.Millisecond}
	for i := range copies {
		w.hosts = append(w.hosts, &host{world: w, name: copyName(i)})
	}
	txn, err := cell.AttachTxn(0, copyName(0), copyName(1))
	if err != nil {
		panic(err)
	}
	w.apply(txn)
	for _, h := range w.hosts {
		h.start()
	}
	for i := range userCount {
		w.newUser(fmt.Sprintf("user%d", i), 60)
	}
	return w
}

func (w *world) newUser(name string, ops int) *user {
	u := &user{world: w, name: name, left: ops, open: map[uint64]int{},
		client: NewClient(ClientConfig{Name: name, Blocks: blocks, Timing: timing})}
	w.users = append(w.users, u)
	w.after(w.between(time.Millisecond, 20*time.Millisecond), u.begin)
	w.after(timing.Resend/4, u.tick)
	return u
}

// play runs the world: faults, healing, the last words. It returns what was found wrong.
func (w *world) play() error {
	defer func() {
		if v, ok := recover().(*must.Violation); ok {
			w.fail(fmt.Errorf("assertion: %w", v))
		}
	}()
	w.after(w.weather.faultEvery, w.strike)
	w.run(func() bool { return w.now >= span })
	w.end()
	return w.failure
}

// end heals the world, lets everybody get his answers, reads every block once more, and judges.
func (w *world) end() {
	w.heal()
	w.run(w.idle)
	if w.failure == nil && !w.idle() {
		w.fail(fmt.Errorf("answered: somebody waits in a healed world, in which the record is %v", w.record))
	}
	w.newUser("auditor", blocks).auditor = true
	w.run(w.idle)
	w.judge()
}

// run lets things happen until a condition holds.
func (w *world) run(until func() bool) {
	for w.failure == nil && len(w.queue) > 0 && !until() && w.now < span+patience {
		e := heap.Pop(&w.queue).(event)
		w.now = e.at
		e.do()
	}
}

func (w *world) idle() bool {
	return !slices.ContainsFunc(w.users, func(u *user) bool { return u.left > 0 || len(u.open) > 0 })
}

// judge looks at what clients saw, with an eye that trusts versions and, if that finds nothing, with one that does not.
func (w *world) judge() {
	if err := Overwritten(w.history); err != nil {
		w.fail(err)
	} else if err := search(w.history); err != nil {
		w.fail(err)
	}
}

func (w *world) fail(err error) {
	if w.failure == nil {
		w.failure = err
	}
	w.say("FAILURE %v", err)
}

func (w *world) say(format string, args ...any) {
	if w.log != nil {
		w.log("%10v  "+format, append([]any{w.now}, args...)...)
	}
}

// note mixes something into the fingerprint of the run.
func (w *world) note(text string) {
	h := fnv.New64a()
	fmt.Fprintf(h, "%d %d %s", w.hash, w.now, text)
	w.hash = h.Sum64()
	w.say("%s", text)
}

// event is something that happens at a time; seq orders those of one time.
type event struct {
	at  time.Duration
	seq uint64
	do  func()
}

type events []event

func (q events) Len() int { return len(q) }
func (q events) Less(i, j int) bool {
	return q[i].at < q[j].at || q[i].at == q[j].at && q[i].seq < q[j].seq
}
func (q events) Swap(i, j int) { q[i], q[j] = q[j], q[i] }
func (q *events) Push(e any)   { *q = append(*q, e.(event)) }
func (q *events) Pop() any {
	last := (*q)[len(*q)-1]
	*q = (*q)[:len(*q)-1]
	return last
}

func (w *world) after(d time.Duration, do func()) {
	w.planned++
	heap.Push(&w.queue, event{w.now + d, w.planned, do})
}

func (w *world) between(from, to time.Duration) time.Duration {
	return from + time.Duration(w.dice.Int64N(int64(to-from)))
}

// chance happens so many times in a thousand, and never in a healed world.
func (w *world) chance(thousandth int) bool { return !w.healed && w.dice.IntN(1000) < thousandth }

// start begins a life of a copy.
func (h *host) start() {
	h.life++
	h.busy = h.world.now
	cfg := Config{Name: h.name, Blocks: blocks, Timing: timing}
	for i := range copies {
		if name := copyName(i); name != h.name {
			cfg.Peers = append(cfg.Peers, name)
		}
	}
	h.copy = New(cfg, h.world.now, h.disk)
	life := h.life
	var tick func()
	tick = func() {
		if h.life == life {
			h.step(Tick{})
			h.world.after(timing.Resend/4, tick)
		}
	}
	tick()
}

// crash ends it. What the disk had not synced is gone, and so is what was to be sent after it.
func (h *host) crash() {
	h.copy, h.held, h.paused = nil, nil, false
	h.life++
}

// step gives the copy an input, or keeps it for when the process goes on.
func (h *host) step(in Input) {
	w := h.world
	if h.copy == nil {
		return
	}
	if h.paused {
		h.held = append(h.held, func() { h.step(in) })
		return
	}
	w.seen.steps++
	e := h.copy.Step(w.now, in)
	if e.Persist != nil {
		h.busy = max(h.busy, w.now) + w.between(50*time.Microsecond, 2*time.Millisecond)
	}
	if e.Persist == nil && len(e.Send) == 0 && e.Ask == nil {
		return
	}
	life := h.life
	w.after(max(h.busy, w.now)-w.now, func() { h.obey(life, e) })
}

// obey does what a step wanted, once its disk has caught up.
func (h *host) obey(life int, e Effects) {
	w := h.world
	if h.life != life {
		return
	}
	if h.paused {
		h.held = append(h.held, func() { h.obey(life, e) })
		return
	}
	if e.Persist != nil {
		h.disk.Blocks = slices.Clone(h.disk.Blocks)
		h.disk.Apply(e.Persist, blocks)
		w.note(fmt.Sprintf("%s persists %d blocks under %v", h.name, len(e.Persist.Blocks), e.Persist.Fence))
		w.inspect()
	}
	for _, m := range e.Send {
		w.say("%s", m.Describe())
		if err := w.split.Sent(m); err != nil {
			w.fail(err)
		}
		w.lost.Sent(m)
		if m.Kind == WriteDone || m.Kind == ReadDone {
			w.answers[h.name]++
		}
		w.send(m)
	}
	if len(e.Send) > 0 {
		w.inspect()
	}
	if e.Ask != nil {
		w.ask(h.name, *e.Ask, func(a Answer) {
			if h.life == life {
				h.step(a)
			}
		})
	}
}

// inspect compares the disks of those that the record names with what was acknowledged.
func (w *world) inspect() {
	if w.outside || w.incarnation > 1 {
		return
	}
	for _, h := range w.hosts {
		if h.name == w.record.Primary || h.name == w.record.Replica {
			if err := w.lost.Check(w.record, h.name, &h.disk); err != nil {
				w.fail(err)
			}
		}
	}
}

// send takes a message through the network.
func (w *world) send(m Message) {
	if w.cut[[2]string{m.From, m.To}] > 0 || w.chance(w.weather.lost) {
		return
	}
	times := 1
	if w.chance(w.weather.twice) {
		times = 2
	}
	for range times {
		delay := w.between(100*time.Microsecond, 2*time.Millisecond)
		if w.chance(w.weather.slow) {
			delay = w.between(time.Millisecond, 400*time.Millisecond)
		}
		w.after(delay, func() { w.deliver(m) })
	}
}

func (w *world) deliver(m Message) {
	for _, h := range w.hosts {
		if h.name == m.To {
			h.step(m)
		}
	}
	for _, u := range w.users {
		if u.name == m.To {
			u.step(m)
		}
	}
}

// ask brings a transaction to the cell, perhaps much too late, and its answer back, perhaps never.
func (w *world) ask(from string, a Ask, answer func(Answer)) {
	txn, err := a.Txn(0)
	if err != nil {
		w.fail(err)
		return
	}
	open := true
	end := func(with Answer) {
		if open {
			open = false
			answer(with)
		}
	}
	w.after(askTimeout, func() {
		if open {
			w.seen.unknown++
		}
		end(Answer{Ask: a, Failed: cell.UnknownResult})
	})
	if w.cut[[2]string{from, "cell"}] > 0 || w.chance(w.weather.answerLost/3) {
		return
	}
	way := w.between(500*time.Microsecond, 5*time.Millisecond)
	if w.chance(w.weather.answerLost) {
		way = w.between(time.Millisecond, time.Second)
	}
	arrive := func() {
		if !open {
			w.seen.late++
		}
		result, failure := w.apply(txn)
		with := Answered(a, result, w.incarnation, failure)
		if w.cut[[2]string{"cell", from}] > 0 || w.chance(w.weather.answerLost) {
			return
		}
		w.after(w.between(500*time.Microsecond, 5*time.Millisecond), func() { end(with) })
	}
	if w.hold != nil && w.hold(from, a) {
		w.held = append(w.held, arrive)
		return
	}
	w.after(way, arrive)
}

// apply runs a transaction in the cell and takes note of the record.
func (w *world) apply(txn cell.Txn) (cell.TxnResult, error) {
	w.asked++
	c := wire.Command{Request: cell.Request{Client: cell.ClientID{1}, Sequence: w.asked, Since: w.cell.Revision()}, Txn: txn}
	out, err := w.cell.Apply(c.Append(nil))
	if err != nil {
		panic(err)
	}
	if out.Err != nil {
		return out.Result, out.Err
	}
	record, err := cell.ParseRecord(out.Result)
	var conflict *cell.VolumeConflict
	if err == nil && record != w.record {
		if record.Primary != w.record.Primary {
			w.seen.promotions++
		} else {
			w.seen.replacements++
		}
		w.record = record
		w.note(fmt.Sprintf("the record is %v", record))
		w.inspect()
	} else if err != nil && !errors.As(err, &conflict) {
		return out.Result, err
	}
	return out.Result, nil
}

// begin starts an operation, and plans the next.
func (u *user) begin() {
	w := u.world
	if u.left == 0 {
		return
	}
	w.after(w.between(time.Millisecond, 2*span/60), u.begin)
	block := w.dice.IntN(blocks)
	if u.auditor {
		block = u.left - 1
	}
	if w.healed && !u.auditor {
		u.left = 0
		return
	}
	for _, i := range u.open {
		if w.history[i].Block == block {
			return // one at a time
		}
	}
	u.left--
	u.number++
	op := Op{Number: u.number, Write: !u.auditor && w.dice.IntN(2) == 0, Block: block}
	o := Operation{Client: u.name, Write: op.Write, Block: block, Called: w.now}
	if op.Write {
		o.Data = fmt.Sprintf("%s.%d", u.name, u.number)
		op.Data = []byte(o.Data)
	}
	u.open[op.Number] = len(w.history)
	w.history = append(w.history, o)
	u.step(op)
}

func (u *user) tick() {
	u.step(Tick{})
	u.world.after(timing.Resend/4, u.tick)
}

func (u *user) step(in Input) {
	w := u.world
	e := u.client.Step(w.now, in)
	for _, m := range e.Send {
		w.send(m)
	}
	if e.Ask != nil {
		w.ask(u.name, *e.Ask, func(a Answer) { u.step(a) })
	}
	for _, d := range e.Done {
		o := &w.history[u.open[d.Op.Number]]
		delete(u.open, d.Op.Number)
		o.Done, o.Ended, o.Version = true, w.now, d.Version
		if !o.Write {
			o.Data = string(d.Data)
		}
		w.seen.acks++
		w.note(o.String())
	}
}

// strike lets a fault happen to somebody, for a while.
func (w *world) strike() {
	if w.healed {
		return
	}
	w.after(w.between(w.weather.faultEvery/2, w.weather.faultEvery*3/2), w.strike)
	h := w.hosts[w.dice.IntN(copies)]
	if w.dice.IntN(2) == 0 { // whoever is in the record makes more of it
		for _, other := range w.hosts {
			if other.name == w.record.Primary {
				h = other
			}
		}
	}
	long := w.between(5*time.Millisecond, 500*time.Millisecond)
	switch w.dice.IntN(4) {
	case 0:
		if h.copy != nil && w.weather.crashes {
			w.seen.crashes++
			w.note(h.name + " crashes")
			h.crash()
			life := h.life
			w.after(long, func() { h.revive(life) })
		}
	case 1:
		if h.copy != nil && !h.paused {
			w.seen.pauses++
			w.note(h.name + " pauses")
			h.paused = true
			w.after(long, h.resume)
		}
	default:
		w.isolate(h.name, long)
	}
}

func (h *host) revive(life int) {
	if h.life == life && h.copy == nil {
		h.world.note(h.name + " restarts")
		h.start()
	}
}

// resume lets a paused process go on with everything that it has missed.
func (h *host) resume() {
	if !h.paused {
		return
	}
	h.paused = false
	missed := h.held
	h.held = nil
	for _, do := range missed {
		do()
	}
}

// isolate cuts one server from some of the others and the cell, in one direction or both.
func (w *world) isolate(name string, long time.Duration) {
	w.seen.cuts++
	ways := 1 + w.dice.IntN(3) // out, in, both
	others := []string{"cell"}
	for i := range copies {
		others = append(others, copyName(i))
	}
	for i := range userCount {
		others = append(others, fmt.Sprintf("user%d", i))
	}
	share := 1 + w.dice.IntN(3)
	for _, other := range others {
		if other == name || w.dice.IntN(3) >= share {
			continue
		}
		for way, pair := range [][2]string{{name, other}, {other, name}} {
			if ways&(1<<way) != 0 {
				w.note(fmt.Sprintf("cut %v", pair))
				w.cut[pair]++
				w.after(long, func() { w.cut[pair] = max(0, w.cut[pair]-1) })
			}
		}
	}
}

// heal ends all faults, but for what is still on its way.
func (w *world) heal() {
	w.healed = true
	clear(w.cut)
	for _, h := range w.hosts {
		h.resume()
		h.revive(h.life)
	}
}
