package sim

import (
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"time"

	"physalia/cell"
	"physalia/internal/wire"
)

// client works on one cell: one operation at a time, each repeated with the same identity until there is an answer, or
// until its patience ends. It follows NotProposer.Leader, and asks somebody else when nobody answers.
type client struct {
	world    *World
	volume   *volume
	id       cell.ClientID
	dice     *rand.Rand
	sequence uint64
	since    cell.Revision // newest revision that it has seen
	values   [len(keys)]int64
	hint     *server // who is believed to lead
	left     int     // operations to come
	current  *op
	waiting  *attempt
	audit    bool // reads every key once, after everybody else is done
}

// op is one operation of a client, and what became of it.
type op struct {
	client    *client
	kind      opKind
	key       int
	request   cell.Request
	txn       cell.Txn
	expected  int64 // opSwap
	value     int64 // opPut, opSwap: to write
	least     cell.Revision
	called    time.Duration
	returned  time.Duration // zero: never
	fate      fate
	result    cell.TxnResult
	attempts  uint32
	dirty     bool // an attempt may have been taken by somebody, and nobody said that it was not applied
	resolving bool // the client asks for the fate only (rule 14): the empty transaction with the same identity
}

// opKind is what an operation does.
type opKind uint8

const (
	opIncrement opKind = iota // of key "n", by one
	opPut
	opSwap // put, if the value is what was last seen
	opGet
	opStale
	opAudit
	opKinds
)

// fate is how an operation ended.
type fate uint8

const (
	pending fate = iota
	answered
	refused // not applied, for certain
	unknown // it may have been applied, or still may be
	void    // resolved as not applied
	useless // a read without an answer
)

var opNames = [...]string{"increment", "put", "swap", "get", "stale get", "audit"}

// String names the kind.
func (k opKind) String() string { return opNames[k] }

var fateNames = [...]string{"pending", "answered", "refused", "unknown", "void", "useless"}

// String names the fate.
func (f fate) String() string { return fateNames[f] }

// keys are all keys of a cell; only increments touch the first.
var keys = [...]string{"n", "a", "b"}

// attempt is one sending of an operation, as the kind that the operation had then.
type attempt struct {
	op   *op
	kind opKind
	to   *server
}

// Times of clients: how long an attempt waits, and the way to a server and back.
const (
	attemptTime = 120 * time.Millisecond // told to the server
	patience    = attemptTime * 5 / 4
	wayMax      = 300 * time.Microsecond
)

// newClient makes a client that begins its work after a pause.
func (w *World) newClient(v *volume, i int) *client {
	c := &client{world: w, volume: v, left: w.plan.Ops, dice: w.stream(fmt.Sprintf("client %d of %s", i, v.id))}
	binary.BigEndian.PutUint64(c.id[:], uint64(v.at)<<32|uint64(i+1))
	w.after(c.pause(), c.start)
	return c
}

// pause is the time that a client thinks between operations.
func (c *client) pause() time.Duration {
	if c.world.healed {
		return between(c.dice, 2*time.Millisecond)
	}
	return between(c.dice, 2*c.world.plan.Span/time.Duration(c.world.plan.Ops))
}

// start begins the next operation, if one is left.
func (c *client) start() {
	if c.left == 0 {
		return
	}
	c.left--
	c.sequence++
	o := &op{client: c, called: c.world.now, least: c.since,
		request: cell.Request{Client: c.id, Sequence: c.sequence, Since: c.since}}
	c.choose(o)
	c.current = o
	c.world.ops = append(c.world.ops, o)
	c.send()
}

// choose makes up what an operation does. Values that are written are unique; swaps expect what the client saw last, so
// that many succeed and some do not.
func (c *client) choose(o *op) {
	if c.audit {
		o.kind = opAudit
		for _, k := range keys {
			o.txn.Then = append(o.txn.Then, cell.Op{Kind: cell.OpGet, Key: k})
		}
		return
	}
	o.kind = opKind(c.dice.IntN(int(opAudit)))
	if o.kind != opIncrement {
		o.key = 1 + c.dice.IntN(len(keys)-1)
	}
	if o.kind >= opGet {
		o.key = c.dice.IntN(len(keys))
	}
	key := keys[o.key]
	o.value, o.expected = int64(binary.BigEndian.Uint64(c.id[:])<<16|c.sequence), c.values[o.key]
	get, put := cell.Op{Kind: cell.OpGet, Key: key}, cell.Op{Kind: cell.OpPut, Key: key, Value: cell.Int(o.value)}
	switch o.kind {
	case opIncrement:
		o.txn.Then = []cell.Op{{Kind: cell.OpIncrement, Key: key, Value: cell.Int(1)}}
	case opPut:
		o.txn.Then = []cell.Op{put}
	case opSwap:
		o.txn = cell.Txn{If: []cell.Condition{is(key, o.expected)}, Then: []cell.Op{put}, Else: []cell.Op{get}}
	default:
		o.txn.Then = []cell.Op{get}
	}
}

// is is the condition that a key has a value; zero stands for absent.
func is(key string, value int64) cell.Condition {
	if value == 0 {
		return cell.Condition{Key: key, Target: cell.OnExistence, Compare: cell.NotEqual}
	}
	return cell.Condition{Key: key, Target: cell.OnValue, Compare: cell.Equal, Value: cell.Int(value)}
}

// writes reports whether the operation goes through the log.
func (o *op) writes() bool { return o.kind <= opSwap }

// message is what is sent for an operation: its method and params.
func (o *op) message() (string, []byte) {
	h := wire.Header{Cell: o.client.volume.id, Timeout: uint32(attemptTime / time.Millisecond), Attempt: o.attempts}
	switch {
	case o.resolving:
		return wire.MethodTxn, (&wire.TxnRequest{Header: h, Request: o.request}).Append(nil)
	case o.writes():
		return wire.MethodTxn, (&wire.TxnRequest{Header: h, Request: o.request, Txn: o.txn}).Append(nil)
	}
	m := wire.ReadRequest{Header: h, Txn: o.txn, Stale: o.kind == opStale, Least: o.least}
	return wire.MethodRead, m.Append(nil)
}

// send makes one attempt.
func (c *client) send() {
	o := c.current
	a := &attempt{o, o.kind, c.target()}
	c.waiting = a
	method, params := o.message()
	o.attempts++
	w := c.world
	w.report.Attempts++
	w.after(between(c.dice, wayMax), func() {
		if a.to.core == nil { // nobody listens: this attempt was not taken
			w.after(between(c.dice, wayMax), func() { c.hear(a, nil, &cell.Error{Kind: cell.Unavailable}) })
			return
		}
		w.after(patience, func() { c.wait(a) })
		a.to.submit(&call{method, func(result []byte, err *cell.Error) { c.comeBack(a, result, err) }}, params)
	})
}

// wait ends an attempt that was not answered in time.
func (c *client) wait(a *attempt) {
	if c.waiting == a {
		a.op.dirty = true
		c.hint = nil
		c.again(0)
	}
}

// target chooses whom to ask: who is believed to lead, else anybody. Stale reads may go to everybody.
func (c *client) target() *server {
	if c.hint != nil && c.current.kind != opStale {
		return c.hint
	}
	return c.volume.members[c.dice.IntN(jurySize)]
}

// comeBack is the way of a reply, on which it may get lost.
func (c *client) comeBack(a *attempt, result []byte, err *cell.Error) {
	if !percent(c.dice, c.world.lostReplies) {
		c.world.after(between(c.dice, wayMax), func() { c.hear(a, result, err) })
	}
}

// hear takes an answer. Kinds that are final end the operation, everything else leads to another attempt. An answer to an earlier attempt counts as well, if it is final.
func (c *client) hear(a *attempt, result []byte, err *cell.Error) {
	o := a.op
	if o != c.current || a.kind != o.kind {
		return // too late, or a stale read that is not wanted any more
	}
	if err == nil {
		c.take(a, result)
		return
	}
	c.world.trace.add(uint64(c.world.now), uint64(err.Kind))
	switch err.Kind {
	case cell.Void:
		c.finish(void)
		return
	case cell.Expired:
		c.finish(unknown)
		return
	case cell.Deleted:
		c.volume.sealed = true
		c.finish(o.surrender())
		return
	}
	o.dirty = o.dirty || err.Kind.MaybeApplied()
	if a != c.waiting {
		return // something newer is on its way
	}
	c.hint = nil
	if err.Leader != "" && err.Leader != a.to.id {
		c.hint = c.world.serverNamed(err.Leader)
	}
	c.again(err.RetryAfter + time.Millisecond)
}

// take finishes an operation that was applied.
func (c *client) take(a *attempt, result []byte) {
	var err error
	o := a.op
	if o.writes() {
		var m wire.TxnReply
		err = wire.Unmarshal(result, &m)
		o.result = m.Result
	} else {
		var m wire.ReadReply
		err = wire.Unmarshal(result, &m)
		o.result = m.Result
	}
	if err != nil {
		c.world.fail("health", "reply to %v cannot be read: %v", o.request, err)
		return
	}
	if o.kind != opStale {
		c.hint = a.to
	}
	c.since = max(c.since, o.result.Revision)
	if c.audit {
		c.volume.audited = new([len(keys)]int64)
		for i := range keys {
			c.volume.audited[i], _ = o.result.Results[i].Entry.Value.AsInt64()
		}
	} else if n := len(o.result.Results); n > 0 && !o.writes() {
		c.values[o.key], _ = o.result.Results[n-1].Entry.Value.AsInt64()
	} else if o.kind == opPut || o.kind == opSwap && o.result.Succeeded {
		c.values[o.key] = o.value
	}
	c.finish(answered)
}

// again repeats the operation after a pause, unless the client has had enough of it.
func (c *client) again(pause time.Duration) {
	o := c.current
	c.waiting = nil
	if o.kind == opStale && o.attempts == jurySize {
		o.kind = opGet // nobody who is up has seen as much as this session
	}
	if !c.world.healed && !o.resolving && o.attempts > 3 && c.dice.IntN(8) == 0 {
		if !o.writes() || !o.dirty || c.dice.IntN(2) == 0 {
			c.finish(o.surrender())
			return
		}
		o.resolving = true
	}
	c.world.after(pause+between(c.dice, 5*time.Millisecond), func() {
		if c.current == o && c.waiting == nil {
			c.send()
		}
	})
}

// surrender is the fate of an operation without a final answer. If every attempt was answered with "not applied", or never
// reached anybody, the operation was certainly not applied, and checker once holds the colony to that.
func (o *op) surrender() fate {
	switch {
	case !o.writes():
		return useless
	case o.dirty:
		return unknown
	}
	return refused
}

// finish ends the operation and plans the next.
func (c *client) finish(f fate) {
	o := c.current
	o.fate, o.returned = f, c.world.now
	c.current, c.waiting = nil, nil
	c.world.trace.add(uint64(c.world.now), uint64(f), uint64(o.result.Revision))
	c.world.report.Fates[f]++
	c.world.trace.note(c.world.now, "client %v: %v %s %v after %d attempts, revision %d", c.id, o.request, o.kind, f, o.attempts, o.result.Revision)
	c.world.after(c.pause(), c.start)
}

// provoke is how a duel begins: it makes a member campaign, as a client does that was sent around often.
func (w *World) provoke(v *volume, s *server) {
	if s.core == nil {
		return
	}
	m := wire.ReadRequest{Header: wire.Header{Cell: v.id, Timeout: 100, Attempt: 6}, Txn: cell.Txn{Then: []cell.Op{{Kind: cell.OpGet, Key: "n"}}}}
	s.submit(&call{wire.MethodRead, func([]byte, *cell.Error) {}}, m.Append(nil))
}

// seal asks one member after the other to have a cell sealed, until one says that it is.
func (w *World) seal(v *volume, attempt uint32) {
	s := v.members[int(attempt)%jurySize]
	done := false
	if s.core != nil {
		m := wire.SealCell{Cell: v.id, Incarnation: 1, Timeout: 50, Attempt: attempt}
		s.submit(&call{wire.MethodSeal, func(_ []byte, err *cell.Error) { done = done || err == nil }}, m.Append(nil))
	}
	w.after(60*time.Millisecond, func() {
		if done {
			v.sealed = true
		} else {
			w.seal(v, attempt+1)
		}
	})
}
