package core

import (
	"fmt"
	"time"

	"physalia/cell"
	"physalia/internal/wire"
	"physalia/paxos"
)

// RequestKind is what a client or the control plane wants of one cell.
type RequestKind uint8

// The kinds of requests about one cell.
const (
	RequestTxn RequestKind = iota
	RequestRead
	RequestStaleRead
	RequestExplain
	RequestSeal
	RequestChange
	RequestExport
)

// Request is one request about one cell, decoded and checked by ParseRequest.
type Request struct {
	Origin  Origin
	Kind    RequestKind
	Header  wire.Header
	Request cell.Request     // RequestTxn
	Log     wire.CommandKind // RequestTxn: what is logged, a transaction or something about a lease
	Txn     cell.Txn
	Lease   cell.LeaseOp  // RequestTxn that is not a transaction
	List    bool          // RequestRead: of the cell's leases, not Txn
	Least   cell.Revision // RequestStaleRead
	Command []byte        // RequestTxn: as it goes into the log
	Change  *wire.ChangeCell
	Content bool // RequestExport
	Confirm bool // RequestRead: ask the jury even under a read lease
	Bytes   int  // as it arrived; the shell's

	forwarded bool // by another member: it goes no further
}

// requestOps names the kinds of requests in errors, as the client called them.
var requestOps = [...]string{wire.MethodTxn, wire.MethodRead, wire.MethodRead, wire.MethodExplain, wire.MethodSeal, wire.MethodChange,
	wire.MethodExport}

func (r *Request) op() string {
	switch {
	case r.List:
		return wire.MethodLeases
	case r.Log != wire.CommandTxn:
		return [...]string{wire.CommandGrant: wire.MethodGrant, wire.CommandKeepAlive: wire.MethodKeepAlive, wire.CommandRevoke: wire.MethodRevoke}[r.Log]
	}
	return requestOps[r.Kind]
}

// Op names the request in errors, as its client called it.
func (r *Request) Op() string { return r.op() }

// ParseRequest is the gate for requests from outside: it decodes and bounds them, and refuses what could not be applied.
// It touches no state, so the shell calls it on the connections' goroutines.
func ParseRequest(method string, params []byte) (*Request, *cell.Error) {
	r := &Request{}
	var logged []byte
	switch method {
	case wire.MethodTxn:
		var m wire.TxnRequest
		var err error
		if logged, err = wire.UnmarshalTxn(params, &m); err != nil {
			return nil, cell.AsError(method, cell.Invalid, err)
		}
		r.Header, r.Request, r.Txn = m.Header, m.Request, m.Txn
		if m.Txn.IsRead() && !m.Txn.IsResolve() {
			r.Kind = RequestRead
		}
	case wire.MethodRead:
		var m wire.ReadRequest
		if err := wire.UnmarshalRead(params, &m); err != nil {
			return nil, cell.AsError(method, cell.Invalid, err)
		}
		r.Kind, r.Header, r.Txn, r.Least, r.Confirm = RequestRead, m.Header, m.Txn, m.Least, m.Confirm
		if m.Stale {
			r.Kind = RequestStaleRead
		}
		if !m.Txn.IsRead() {
			return nil, &cell.Error{Op: method, Kind: cell.Invalid, Cell: m.Header.Cell,
				Detail: "a read may only get and scan", Hint: "use " + wire.MethodTxn}
		}
	case wire.MethodExplain:
		var m wire.ExplainRequest
		if err := wire.Unmarshal(params, &m); err != nil {
			return nil, cell.AsError(method, cell.Invalid, err)
		}
		r.Kind, r.Header = RequestExplain, m.Header
		return r, r.checkHeader()
	case wire.MethodSeal:
		var m wire.SealCell
		if err := wire.Unmarshal(params, &m); err != nil {
			return nil, cell.AsError(method, cell.Invalid, err)
		}
		r.Kind = RequestSeal
		r.Header = wire.Header{Cell: m.Cell, Incarnation: m.Incarnation, Timeout: m.Timeout, Attempt: m.Attempt}
		return r, r.checkHeader()
	case wire.MethodExport:
		var m wire.ExportNode
		if err := wire.Unmarshal(params, &m); err != nil {
			return nil, cell.AsError(method, cell.Invalid, err)
		}
		r.Kind, r.Content, r.Header = RequestExport, m.Content, wire.Header{Cell: m.Cell, Incarnation: m.Incarnation, Timeout: m.Timeout}
		return r, r.checkHeader()
	case wire.MethodGrant, wire.MethodKeepAlive, wire.MethodRevoke, wire.MethodLeases:
		return parseLease(method, params)
	case wire.MethodChange:
		return parseChange(params)
	default:
		return nil, &cell.Error{Op: method, Kind: cell.Invalid, Detail: "unknown method"}
	}
	if err := r.checkHeader(); err != nil {
		return nil, err
	}
	if r.Kind == RequestTxn {
		return r, r.toLog(logged)
	}
	return r, r.invalid(r.Txn.Check())
}

// toLog makes the command that a request of kind RequestTxn logs, if it passes the gate; of a transaction it may have come encoded
// already (wire.UnmarshalTxn).
func (r *Request) toLog(logged []byte) *cell.Error {
	command := wire.Command{Kind: r.Log, Request: r.Request, Txn: r.Txn, Lease: r.Lease}
	if err := command.Check(); err != nil {
		return r.invalid(err)
	}
	if logged != nil {
		r.Command = wire.AppendTxnCommand(make([]byte, 0, len(logged)+wire.TxnCommandBytes), logged)
		return nil
	}
	r.Command = command.Append(nil)
	return nil
}

// invalid words what a gate found wrong with a request, nil when it found nothing.
func (r *Request) invalid(err error) *cell.Error {
	e := cell.AsError(r.op(), cell.Invalid, err)
	if e != nil {
		e.Cell = r.Header.Cell
	}
	return e
}

// checkHeader bounds what all requests have in common.
func (r *Request) checkHeader() *cell.Error {
	if err := r.Header.Cell.Check(); err != nil {
		return cell.AsError(r.op(), cell.Invalid, err)
	}
	if r.Header.Timeout == 0 {
		return &cell.Error{Op: r.op(), Kind: cell.Invalid, Cell: r.Header.Cell, Detail: "timeout is 0 ms", Hint: "say how long you will wait"}
	}
	return nil
}

// OnRequest takes one request about one cell. It is answered exactly once, in this turn or in a later one; the shell
// relies on that, since a second answer to one request of a connection is a bug that it does not forgive.
func (c *Core) OnRequest(r *Request) {
	h := c.find(r.Header.Cell)
	if err := c.admit(h, r); err != nil {
		c.reply(r.Origin, nil, err)
		return
	}
	c.whenHot(h, input{request: r})
}

// admit refuses what this server cannot serve, before anything is loaded for it.
func (c *Core) admit(h *hosted, r *Request) *cell.Error {
	id := r.Header.Cell
	switch {
	case !c.ready:
		return &cell.Error{Op: r.op(), Kind: cell.Unavailable, Cell: id, Detail: "the server is starting", RetryAfter: 50 * time.Millisecond}
	case h == nil:
		if dead, ok := c.tombstones[id]; ok && r.Header.Incarnation != 0 && r.Header.Incarnation <= dead {
			return &cell.Error{Op: r.op(), Kind: cell.Deleted, Cell: id, Detail: fmt.Sprintf("incarnation %d was deleted", r.Header.Incarnation)}
		}
		if p := c.pointers.of[id]; p != nil && p.configuration != nil && r.Header.Incarnation <= p.incarnation {
			return c.moved(r.op(), id, p.incarnation, p.configuration)
		}
		return &cell.Error{Op: r.op(), Kind: cell.UnknownHere, Cell: id, Detail: fmt.Sprintf("server %s hosts no node of it", c.cfg.Server),
			Hint: "look the cell up again; it may exist elsewhere"}
	case r.Header.Incarnation != 0 && r.Header.Incarnation != h.incarnation:
		return &cell.Error{Op: r.op(), Kind: cell.Stale, Cell: id,
			Detail: fmt.Sprintf("request is for incarnation %d, this node is of %d", r.Header.Incarnation, h.incarnation), Hint: "look the cell up again"}
	case h.sealed && r.Kind != RequestExplain && r.Kind != RequestSeal && r.Kind != RequestExport:
		return c.deleted(r.op(), h)
	case c.waiters >= c.cfg.WaitersMax:
		c.refused("requests in flight")
		return &cell.Error{Op: r.op(), Kind: cell.Overloaded, Cell: id,
			Detail: fmt.Sprintf("%d requests are in flight on this server", c.waiters), RetryAfter: 20 * time.Millisecond}
	case h.hot != nil && h.hot.waiters.len() >= c.cfg.CellWaitersMax:
		c.refused("requests of the cell in flight")
		return &cell.Error{Op: r.op(), Kind: cell.Overloaded, Cell: id,
			Detail: fmt.Sprintf("%d requests of this cell are in flight", h.hot.waiters.len()), RetryAfter: 20 * time.Millisecond}
	}
	return nil
}

// deleted is the answer of a sealed incarnation.
func (c *Core) deleted(op string, h *hosted) *cell.Error {
	return &cell.Error{Op: op, Kind: cell.Deleted, Cell: h.id, Detail: fmt.Sprintf("incarnation %d is sealed", h.incarnation)}
}

// serve answers a request on a hot node, now or later.
func (c *Core) serve(h *hosted, r *Request) {
	if r.Kind != RequestExplain && !h.isMember() {
		c.outsider(h, r)
		return
	}
	switch r.Kind {
	case RequestExplain:
		c.reply(r.Origin, c.explain(h), nil)
	case RequestStaleRead:
		c.staleRead(h, r)
	case RequestExport:
		c.export(h, r)
	case RequestSeal:
		c.seal(h, r)
	case RequestRead:
		if c.leads(h, r) {
			c.linearize(h, r)
		}
	case RequestTxn:
		c.transact(h, r)
	case RequestChange:
		c.change(h, r)
	}
}

// transact proposes a transaction, unless its outcome is known already (rule 14). Any member may tell a recorded outcome,
// however far it lags: outcomes never change, and a request that is expired here is expired everywhere. A request that is
// not recorded here may still be applied elsewhere, so it is proposed, and the log decides whether it is the first.
func (c *Core) transact(h *hosted, r *Request) {
	if r.Log == wire.CommandKeepAlive {
		if c.keepAlive(h, r) {
			return
		}
	} else if outcome, ok := c.current(h).Recall(r.Request); ok {
		c.answer(h, r, &outcome)
		return
	}
	key := requestKey{r.Request.Client, r.Request.Sequence}
	if h.hot.waiters.join(key, r, c.now) {
		c.serving = nil
		c.waiters++
		return // the same request is on its way: one proposal, two answers
	}
	if !c.leads(h, r) || c.isDisputed(h, r) {
		return
	}
	if err := c.mayWrite(h, r); err != nil {
		c.reply(r.Origin, nil, err)
		return
	}
	if c.behind() {
		c.refused("disk is behind")
		waits := c.now - c.support.waiting[0].at
		c.reply(r.Origin, nil, &cell.Error{Op: r.op(), Kind: cell.Overloaded, Cell: h.id, RetryAfter: waits, Hint: "come back later, with jitter",
			Detail: fmt.Sprintf("batches wait for %v for the server's disk", waits)})
		return
	}
	w := h.hot.waiters.add(r, c.now)
	c.serving = nil
	c.waiters++
	c.spare(h)
	var refusal paxos.Refusal
	ok := c.guard(h, func() { refusal = h.hot.replica.Propose(c.worded(h, r.Command), paxos.Proposal(w.token)) })
	if !ok {
		return // quarantined; its waiters were answered
	}
	if refusal != paxos.Accepted {
		h.hot.waiters.removeTxn(key)
		c.waiters--
		c.reply(r.Origin, nil, c.refusal(r.op(), h, refusal))
		return
	}
	c.touch(h)
	c.activate(h)
}

// refusal words why the replica did not take a request. It never reached the pipeline, so every kind says "not applied".
func (c *Core) refusal(op string, h *hosted, why paxos.Refusal) *cell.Error {
	switch why {
	case paxos.Sealed:
		return c.deleted(op, h)
	case paxos.PipelineFull:
		c.refused("pipeline of the cell")
		return &cell.Error{Op: op, Kind: cell.Overloaded, Cell: h.id, Detail: "the cell's pipeline and its next batch are full",
			RetryAfter: 5 * time.Millisecond}
	}
	return c.redirect(op, h, c.whoLeads(h, 0))
}

// read starts a quorum-confirmed read (P6). A candidate takes it, too: the round begins when it leads.
func (c *Core) read(h *hosted, r *Request) {
	w := h.hot.waiters.addRead(r, c.now)
	c.serving = nil
	c.waiters++
	c.spare(h)
	if refusal := h.hot.replica.Read(paxos.ReadToken(w.token)); refusal != paxos.Accepted {
		h.hot.waiters.takeRead(paxos.ReadToken(w.token))
		c.waiters--
		c.reply(r.Origin, nil, c.refusal(r.op(), h, refusal))
		return
	}
	c.touch(h)
	c.activate(h)
}

// staleRead answers from the applied state, a consistent prefix, if it is recent enough for the client's session.
func (c *Core) staleRead(h *hosted, r *Request) {
	if have := c.current(h).Revision(); have < r.Least {
		c.reply(r.Origin, nil, &cell.Error{Op: r.op(), Kind: cell.Unavailable, Cell: h.id,
			Detail: fmt.Sprintf("this member is at revision %d, the session has seen %d", have, r.Least), RetryAfter: 10 * time.Millisecond})
		return
	}
	c.answerRead(h, r)
}

// answerRead answers a read from the applied state; whether that is recent enough was decided before.
func (c *Core) answerRead(h *hosted, r *Request) {
	if r.Kind == RequestChange {
		c.reply(r.Origin, c.configured(h, 0), nil) // a Look
		return
	}
	if m := c.current(h); r.List {
		c.reply(r.Origin, &wire.Leases{Incarnation: h.incarnation, Revision: m.Revision(), Leases: m.Leases()}, nil)
		return
	}
	result, err := c.current(h).Read(&r.Txn)
	if err != nil {
		err.Op, err.Cell = r.op(), h.id
		c.reply(r.Origin, nil, err)
		return
	}
	c.reply(r.Origin, &wire.ReadReply{Incarnation: h.incarnation, Result: result}, nil)
}

// seal asks for the last entry of the incarnation (rule 15). It is answered once the seal was applied here: from then on
// nothing is chosen any more, and the nodes may be wiped in any order.
func (c *Core) seal(h *hosted, r *Request) {
	if h.sealed {
		c.reply(r.Origin, nil, nil)
		return
	}
	if !c.leads(h, r) {
		return
	}
	refusal := h.hot.replica.ProposeSeal()
	if refusal == paxos.NotProposer { // still a candidate
		c.reply(r.Origin, nil, &cell.Error{Op: r.op(), Kind: cell.Unavailable, Cell: h.id, Detail: "this node is asking for the cell's votes",
			RetryAfter: 20 * time.Millisecond, Leader: c.cfg.Server})
		return
	}
	h.hot.waiters.addSeal(r, c.now)
	c.serving = nil
	c.waiters++
	c.touch(h)
	c.activate(h)
}

// reply answers a request at the end of this turn, whether or not its batch is durable by then. What must not be told
// before it is durable goes through hold.
func (c *Core) reply(to Origin, result wire.Message, err *cell.Error) {
	if c.serving != nil && c.serving.Origin == to {
		c.serving = nil
	}
	if f, ok := to.Conn.(forwardedBy); ok {
		c.answerForwarded(f, result, err)
		return
	}
	c.out.Replies = append(c.out.Replies, Reply{To: to, Result: result, Err: err})
}
