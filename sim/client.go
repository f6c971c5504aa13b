package sim

import (
	"encoding/binary"
	"time"

	"physalia/cell"
	"physalia/internal/wire"
	"physalia/node/core"
)

// client works on one cell: one operation at a time, each a call of the client library (session). What became of it is
// what the checkers look at.
type client struct {
	session *session
	values  [len(keys)]int64 // as last seen
	left    int              // operations to come
	current *op
	audit   bool // reads every key once, after everybody else is done
	settler bool // writes until everybody has caught up
}

// op is one operation of a client, and what became of it.
type op struct {
	client      *client
	kind        opKind
	key         int
	request     cell.Request // of a write that was sent; zero before
	gone        []identity   // under which it was sent before, and expired: not applied, for certain
	incarnation cell.Incarnation
	txn         cell.Txn
	expected    int64         // opSwap
	value       int64         // opPut, opSwap: to write
	least       cell.Revision // what the session had seen when it began
	called      time.Duration
	returned    time.Duration // zero: never
	troubled    bool          // faults were in force when it began, or when it ended
	healed      bool          // it began when everything was repaired
	fate        fate
	result      cell.TxnResult
	attempts    uint32
	resolving   bool // it ended as unknown, and its fate was asked for (rule 14)
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

// newClient makes a client that begins its work after a pause.
func (w *World) newClient(v *volume, i int) *client {
	c := &client{session: w.newSession(v, i), left: w.plan.Ops}
	w.clients = append(w.clients, c)
	return c
}

// begin lets a client work.
func (c *client) begin() { c.session.after(c.pause(), c.start) }

// pause is the time that a client thinks between operations.
func (c *client) pause() time.Duration {
	w := c.session.world
	if w.healed {
		return between(c.session.dice, 2*time.Millisecond)
	}
	return between(c.session.dice, 2*w.plan.Span/time.Duration(w.plan.Ops))
}

// start begins the next operation, if one is left. In a healed world nobody goes on asking for a cell that is gone: where its nodes are
// wiped, or never were, no server says that it was deleted, so every call would take all its patience.
func (c *client) start() {
	if c.session.world.healed && c.session.volume.sealed {
		c.left = 0
	}
	if c.left == 0 || c.current != nil {
		return
	}
	c.left--
	o := c.newOp()
	c.choose(o)
	c.run(o)
}

// newOp makes an operation that begins now.
func (c *client) newOp() *op {
	w := c.session.world
	return &op{client: c, called: w.now, least: c.session.place.Revision(), incarnation: c.session.place.Incarnation(),
		troubled: w.troubled(), healed: w.healed}
}

// choose makes up what an operation does. Values that are written are unique; swaps expect what the client saw last, so
// that many succeed and some do not.
func (c *client) choose(o *op) {
	dice := c.session.dice
	switch {
	case c.audit:
		c.shape(o, opAudit, 0)
	case c.settler:
		c.shape(o, opIncrement, 0)
	default:
		kind, key := opKind(dice.IntN(int(opAudit))), 0
		if percent(dice, c.session.world.plan.Reads) {
			kind = opGet
		}
		if kind != opIncrement {
			key = 1 + dice.IntN(len(keys)-1)
		}
		if kind >= opGet {
			key = dice.IntN(len(keys))
		}
		c.shape(o, kind, key)
	}
}

// shape makes the transaction of an operation.
func (c *client) shape(o *op, kind opKind, at int) {
	o.kind, o.key = kind, at
	key := keys[at]
	o.value, o.expected = int64(binary.BigEndian.Uint64(c.session.id[:])<<16|uint64(len(c.session.world.ops)+1)), c.values[at]
	get, put := cell.Op{Kind: cell.OpGet, Key: key}, cell.Op{Kind: cell.OpPut, Key: key, Value: cell.Int(o.value)}
	switch kind {
	case opIncrement:
		o.txn.Then = []cell.Op{{Kind: cell.OpIncrement, Key: key, Value: cell.Int(1)}}
	case opPut:
		o.txn.Then = []cell.Op{put}
	case opSwap:
		o.txn = cell.Txn{If: []cell.Condition{is(key, o.expected)}, Then: []cell.Op{put}, Else: []cell.Op{get}}
	case opAudit:
		for _, k := range keys {
			o.txn.Then = append(o.txn.Then, cell.Op{Kind: cell.OpGet, Key: k})
		}
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

// run begins an operation: a write through the log, a read as it was chosen, each under the deadline of its time.
func (c *client) run(o *op) {
	c.current = o
	c.session.world.ops = append(c.session.world.ops, o)
	deadline := c.session.deadline()
	if o.writes() {
		c.write(o, deadline)
		return
	}
	c.read(o, deadline)
}

// read runs a read.
func (c *client) read(o *op, deadline time.Duration) {
	s := c.session
	s.read(&o.txn, o.kind == opStale, deadline, func(x *exchange, err *cell.Error) {
		o.attempts += x.call.Sends()
		switch {
		case err == nil:
			c.take(o, x)
		default:
			c.finish(o, useless, err)
		}
	})
}

// write runs a write as package client does: introduced first, and, when it expired before it was applied, anew as another
// request.
func (c *client) write(o *op, deadline time.Duration) {
	s := c.session
	s.introduce(deadline, func(err *cell.Error) {
		if err != nil {
			c.finish(o, refused, err)
			return
		}
		o.request, o.incarnation = s.place.Request(s.id), s.place.Incarnation()
		s.send(o.request, o.incarnation, &o.txn, deadline, func(x *exchange, err *cell.Error) {
			o.attempts += x.call.Sends()
			switch {
			case err == nil:
				c.take(o, x)
			case err.Kind == cell.Expired:
				o.gone = append(o.gone, o.identity())
				c.afresh(o, deadline)
			case err.Kind == cell.NoRoom && o.healed && len(o.gone) < anewMax:
				// There is room again, and in a heartbeat everybody knows: a person waits as he is told to.
				o.gone = append(o.gone, o.identity())
				s.after(err.RetryAfter, func() { c.write(o, deadline) })
			case err.Kind == cell.UnknownResult:
				c.doubt(o, err)
			default:
				c.finish(o, refused, err)
			}
		})
	})
}

// anewMax is how often a write that expired starts anew.
const anewMax = 3

// afresh reads the newest revision, and sends the write anew.
func (c *client) afresh(o *op, deadline time.Duration) {
	if len(o.gone) > anewMax {
		c.finish(o, refused, &cell.Error{Kind: cell.Expired})
		return
	}
	txn := cell.Txn{Then: []cell.Op{{Kind: cell.OpGet, Key: keys[0]}}}
	c.session.read(&txn, false, deadline, func(_ *exchange, err *cell.Error) {
		if err != nil {
			c.finish(o, refused, err)
			return
		}
		c.write(o, deadline)
	})
}

// doubt ends a write of unknown outcome, or first asks the cell for its fate, once or more often. Fates are not asked for
// in a healed world without end: what began before may stay unknown, what began in it must not be.
func (c *client) doubt(o *op, err *cell.Error) {
	s := c.session
	if s.dice.IntN(3) == 0 {
		c.finish(o, unknown, err)
		return
	}
	o.resolving = true
	s.after(between(s.dice, s.world.plan.Attempt), func() {
		s.send(o.request, o.incarnation, &cell.Txn{}, s.deadline(), func(x *exchange, err *cell.Error) {
			o.attempts += x.call.Sends()
			switch {
			case err == nil:
				c.take(o, x)
			case err.Kind == cell.Void:
				c.finish(o, void, err)
			case err.Kind == cell.UnknownResult:
				c.doubt(o, err)
			default:
				c.finish(o, unknown, err)
			}
		})
	})
}

// take finishes an operation that was answered.
func (c *client) take(o *op, x *exchange) {
	o.result, o.incarnation = x.result, x.incarnation
	if o.kind == opAudit {
		v := c.session.volume
		v.audited = new([len(keys)]int64)
		for i := range keys {
			v.audited[i], _ = o.result.Results[i].Entry.Value.AsInt64()
		}
	} else if n := len(o.result.Results); n > 0 && !o.writes() {
		c.values[o.key], _ = o.result.Results[n-1].Entry.Value.AsInt64()
	} else if o.kind == opPut || o.kind == opSwap && o.result.Succeeded {
		c.values[o.key] = o.value
	}
	c.finish(o, answered, nil)
}

// finish ends the operation and plans the next. What begins in a healed world must be answered.
func (c *client) finish(o *op, f fate, err *cell.Error) {
	w, v := c.session.world, c.session.volume
	if o.fate != pending {
		w.fail("health", place{v: v}, "%s %v ended twice, as %v and as %v", o.kind, o.request, o.fate, f)
		return
	}
	o.fate, o.returned, o.troubled = f, w.now, o.troubled || w.troubled()
	c.current = nil
	w.trace.add(uint64(w.now), uint64(f), uint64(o.result.Revision))
	w.report.Fates[f]++
	if o.troubled && f == answered && !o.writes() {
		w.report.ReadsInTrouble++
	}
	w.trace.note(w.now, "client %d: %v %s %v after %d attempts, revision %d %v", c.session.at, o.request, o.kind, f, o.attempts, o.result.Revision, err)
	if err != nil && (err.Kind == cell.Deleted || err.Kind == cell.Stale) {
		v.sealed = true
		c.left = 0
	}
	if o.healed && f != answered && !v.sealed && !v.sealing {
		w.fail("answered", place{v: v}, "%s %v began at %v in a healed world and ended as %v: %v", o.kind, o.request, o.called, f, err)
	}
	c.session.after(c.pause(), c.start)
}

// provoke is how a duel begins: it makes a member campaign, as a client does that was sent around often.
func (w *World) provoke(v *volume, s *server) {
	if s.core == nil {
		return
	}
	m := wire.ReadRequest{Header: wire.Header{Cell: v.id, Timeout: 100, Attempt: 6}, Txn: cell.Txn{Then: []cell.Op{{Kind: cell.OpGet, Key: "n"}}}}
	s.submit(&call{wire.MethodRead, func([]byte, *cell.Error) {}}, m.Append(nil))
}

// handOver asks the proposer of a cell to hand over to another server, as draining and balancing do.
func (w *World) handOver(v *volume, to *server) {
	if p := w.proposer(v); p != nil && p != to {
		p.inbox.calls = append(p.inbox.calls, func(c *core.Core) { c.HandOver(v.id, to.id) })
		p.wake()
	}
}

// seal asks one member after the other to have a cell sealed, until one says that it is.
func (w *World) seal(v *volume, attempt uint32) {
	v.sealing = true
	s := v.members[int(attempt)%len(v.members)]
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
