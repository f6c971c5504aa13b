package core

import (
	"cmp"
	"container/heap"
	"time"

	"physalia/cell"
	"physalia/internal/wire"
	"physalia/paxos"
)

// The timing of client leases (rule 18). The log alone decides what becomes of a lease; the proposer's clock only decides
// when an expiry is proposed. All leases of the cells that are led from here stand in one heap, by deadline, so a cell
// without leases costs nothing, and one with them one entry each, looked at when it is due.
//
// A deadline is cell.LeaseRateBound times the lease's duration after the latest of: its grant was applied here; a
// keep-alive of it was applied here; this node began to lead the cell. Whatever the holder counts from, it sent before
// that, so its count begins no later than ours; and our clock must run more than LeaseRateBound times as fast as the
// holder's to be through first. A proposer that did not see a keep-alive of its predecessor began to lead after the
// holder sent it, or finds it in the log, where it raises the count of renewals: the expiry names the count that was seen
// here, and does nothing if it has moved (hazard H18).
//
// A cell whose proposer died has no proposer until the sweep comes by, or, without one, until somebody asks, and its leases stay. The request of
// whoever wants what a lease guards makes a member campaign, and the successor counts the full time from then. So a lease
// may expire late, never early.
type leaseTimer struct {
	node     *hosted
	life     *hot // the hot part that led when it was made
	id       cell.LeaseID
	ttl      time.Duration
	renewals uint64        // the last that was seen
	deadline time.Duration // when the next step is due
	expiring bool          // an expiry that has seen all renewals may be in the pipeline
	at       int           // position in the heap, negative when it is out
}

const (
	// leaseRetry is how long an expiry that the pipeline had no room for waits.
	leaseRetry = 500 * time.Millisecond
	// leaseAgain is when an expiry that is under way is proposed once more. It is only lost together with the lead, and who
	// leads again counts anew; so this is for what nobody thought of, and rare, since a cell without a majority must not
	// fill its pipeline with it.
	leaseAgain = time.Minute
	// leasesPerTick bounds the expiries of one tick; the others are late by a tick. Servers that were cut off must not
	// fill their turns with what happened meanwhile.
	leasesPerTick = 128
)

// leaseHeap orders timers by deadline; ties by node and lease, so that the order never depends on how they came in.
type leaseHeap []*leaseTimer

func (q leaseHeap) Len() int { return len(q) }

func (q leaseHeap) Less(i, j int) bool {
	return cmp.Or(cmp.Compare(q[i].deadline, q[j].deadline), cmp.Compare(q[i].node.handle, q[j].node.handle),
		cmp.Compare(q[i].id, q[j].id)) < 0
}

func (q leaseHeap) Swap(i, j int) {
	q[i], q[j] = q[j], q[i]
	q[i].at, q[j].at = i, j
}

// Push implements heap.Interface.
func (q *leaseHeap) Push(x any) {
	t := x.(*leaseTimer)
	t.at = len(*q)
	*q = append(*q, t)
}

// Pop implements heap.Interface.
func (q *leaseHeap) Pop() any {
	last := len(*q) - 1
	t := (*q)[last]
	(*q)[last] = nil
	*q = (*q)[:last]
	t.at = -1
	return t
}

// countLeases begins to count every lease of a cell anew, from now: this node began to lead it, was taught its state, or
// lost and regained its read lease.
func (c *Core) countLeases(h *hosted) {
	c.forgetLeases(h)
	for _, l := range c.current(h).Held() {
		c.countLease(h, l)
	}
}

// countLease begins to count one lease anew, from now.
func (c *Core) countLease(h *hosted, l cell.Lease) {
	t := h.hot.leases[l.ID]
	if t == nil {
		t = &leaseTimer{node: h, life: h.hot, id: l.ID, ttl: l.TTL, at: -1}
		if h.hot.leases == nil {
			h.hot.leases = make(map[cell.LeaseID]*leaseTimer)
		}
		h.hot.leases[l.ID] = t
	}
	t.renewals, t.expiring = l.Renewals, false
	c.dueLease(t, c.now+cell.LeaseRateBound*l.TTL)
}

// dueLease puts a timer where its deadline belongs.
func (c *Core) dueLease(t *leaseTimer, deadline time.Duration) {
	if t.deadline = deadline; t.at < 0 {
		heap.Push(&c.leases, t)
	} else {
		heap.Fix(&c.leases, t.at)
	}
}

// forgetLease stops counting a lease.
func (c *Core) forgetLease(t *leaseTimer) {
	delete(t.life.leases, t.id)
	if t.at >= 0 {
		heap.Remove(&c.leases, t.at)
	}
}

// forgetLeases stops counting the leases of a cell.
func (c *Core) forgetLeases(h *hosted) {
	for _, t := range h.hot.leases {
		c.forgetLease(t) // in any order: what is left in the heap does not depend on it
	}
	h.hot.leases = nil
}

// leaseApplied brings the timers of a cell up to date with a command that was applied. A follower has none.
func (c *Core) leaseApplied(h *hosted, o *outcome) {
	if o.Kind == wire.CommandTxn || !h.hot.led {
		return
	}
	l, held := h.hot.state.machine.Lease(o.Lease)
	t := h.hot.leases[o.Lease]
	switch {
	case held && (t == nil || t.renewals != l.Renewals):
		c.countLease(h, l)
	case !held && t != nil:
		c.forgetLease(t)
	}
}

// expireLeases proposes the expiry of the leases that are due.
func (c *Core) expireLeases() {
	for n := 0; n < leasesPerTick && len(c.leases) > 0 && c.leases[0].deadline <= c.now; n++ {
		t := c.leases[0]
		if t.node.hot != t.life || t.node.sealed || t.life.replica.Role() != paxos.Proposer {
			c.forgetLease(t) // the node is about to notice that it does not lead any more, or nobody does
			continue
		}
		c.dueLease(t, c.now+leaseRetry)
		c.guard(t.node, func() { c.expireLease(t) })
	}
}

// expireLease proposes the expiry of one lease. It has no waiter: what becomes of it is seen when it is applied.
func (c *Core) expireLease(t *leaseTimer) {
	h := t.node
	command := wire.Command{Kind: wire.CommandExpire, Request: cell.Request{Client: cell.LogClient, Sequence: uint64(t.id)},
		Lease: cell.LeaseOp{ID: t.id, Renewals: t.renewals}}
	h.hot.waiters.next++ // a token that no waiter has
	if h.hot.replica.Propose(c.worded(h, command.Append(nil)), paxos.Proposal(h.hot.waiters.next)) == paxos.Accepted {
		t.expiring = true
		c.dueLease(t, c.now+leaseAgain)
		c.touch(h)
		c.activate(h)
	}
}

// keepAliveLocally reports whether a keep-alive that was just received may be answered without the log: only under a read
// lease that is valid by a clock read after the request arrived (rule 18), and when everything that is known to be chosen was
// applied, since the end of the lease may be among it.
func (c *Core) keepAliveLocally(h *hosted) bool {
	return !h.isDirty && c.readLease(h) || plantedBlindKeeping
}

// keepAlive answers a keep-alive from memory, if that is allowed, and reports whether it did. Its count does not move
// then, so it must not be while an expiry that names the same count may be under way.
func (c *Core) keepAlive(h *hosted, r *Request) bool {
	t := h.hot.leases[r.Lease.ID]
	if t == nil || t.expiring || !h.hot.led || !c.keepAliveLocally(h) {
		return false
	}
	c.dueLease(t, c.now+cell.LeaseRateBound*t.ttl)
	c.reply(r.Origin, &wire.LeaseReply{Incarnation: h.incarnation, Revision: c.current(h).Revision(), Lease: t.id, Renewals: t.renewals}, nil)
	return true
}

// leaseCommands says what each method about one lease logs.
var leaseCommands = map[string]wire.CommandKind{
	wire.MethodGrant: wire.CommandGrant, wire.MethodKeepAlive: wire.CommandKeepAlive, wire.MethodRevoke: wire.CommandRevoke,
}

// parseLease is the part of ParseRequest for requests about leases.
func parseLease(method string, params []byte) (*Request, *cell.Error) {
	r := &Request{Kind: RequestTxn, Log: leaseCommands[method], List: method == wire.MethodLeases}
	if r.List {
		var m wire.LeasesRequest
		if err := wire.Unmarshal(params, &m); err != nil {
			return nil, cell.AsError(method, cell.Invalid, err)
		}
		r.Kind, r.Header = RequestRead, m.Header
		return r, r.checkHeader()
	}
	var m wire.LeaseRequest
	if err := wire.Unmarshal(params, &m); err != nil {
		return nil, cell.AsError(method, cell.Invalid, err)
	}
	r.Header, r.Request, r.Lease = m.Header, m.Request, m.Lease
	if err := r.checkHeader(); err != nil {
		return nil, err
	}
	return r, r.toLog(nil)
}

// leaseReply is the answer to a request about a lease that was applied. A grant that is answered again names the same
// lease, held or not: the holder counts from before it first sent.
func leaseReply(h *hosted, r *Request, o *outcome) *wire.LeaseReply {
	m := &wire.LeaseReply{Incarnation: h.incarnation, Revision: o.Result.Revision, Lease: r.Lease.ID, Renewals: o.Renewals}
	if r.Log == wire.CommandGrant {
		m.Lease = cell.LeaseID(o.Result.Revision)
	}
	return m
}
