package admission

import (
	"cmp"
	"fmt"
	"time"

	"physalia/cell"
)

// Limits are the bounds of a Queue. Default returns those of a production server, Complete fills in what is missing.
type Limits struct {
	// TurnRequests is how many requests one turn of the loop takes; the rest waits for the next ones, so that heartbeats and
	// votes, which a turn takes first, never wait for more than so many requests.
	TurnRequests int
	// CellRequests and CellBytes bound what waits for the loop of one cell.
	CellRequests, CellBytes int
	// DelayMax is how long a request may wait for the loop. It should be well below the time in which clients lose patience.
	DelayMax time.Duration
	// CellRate bounds the requests of one cell that are let in per second.
	CellRate Rate
}

// Default returns the limits of a production server.
func Default() Limits {
	return Limits{TurnRequests: 2048, CellRequests: 8192, CellBytes: 16 << 20, DelayMax: 500 * time.Millisecond}
}

// Complete fills in the default of every bound that is zero.
func (l Limits) Complete() Limits {
	d := Default()
	l.TurnRequests, l.CellRequests = cmp.Or(l.TurnRequests, d.TurnRequests), cmp.Or(l.CellRequests, d.CellRequests)
	l.CellBytes, l.DelayMax = cmp.Or(l.CellBytes, d.CellBytes), cmp.Or(l.DelayMax, d.DelayMax)
	return l
}

// Validate reports what is wrong with complete limits.
func (l Limits) Validate() error {
	if l.TurnRequests < 1 || l.CellRequests < 1 || l.CellBytes < 1 || l.DelayMax < time.Millisecond {
		return fmt.Errorf("%d requests per turn, %d requests of %d bytes per cell and a delay of %v: all must be positive",
			l.TurnRequests, l.CellRequests, l.CellBytes, l.DelayMax)
	}
	return l.CellRate.validate("cell")
}

// Reason says which bound a request met. It is a label of a metric: there are few, and they stay.
type Reason string

// The reasons. The door is the server's inbox (package node), what is behind it is package core; both use the same words.
const (
	None             Reason = ""
	CellFull         Reason = "cell queue is full"
	CellSlow         Reason = "cell queue is slow"
	Waited           Reason = "waited too long"
	CellRate         Reason = "rate of the cell"
	IdentityRate     Reason = "rate of the identity"
	IdentityRequests Reason = "requests of the identity"
	IdentityBytes    Reason = "bytes of the identity"
)

// Refusal is why a request is not taken on, and when to come back; the zero value is none.
type Refusal struct {
	Reason     Reason
	Detail     string
	RetryAfter time.Duration
}

// Item is a request that waits.
type Item[R any] struct {
	Cell    cell.ID
	Bytes   int           // encoded
	Arrived time.Duration // of the owner's clock
	Expires time.Duration // its client waits no longer; 0: nobody said
	Request R
}

// Queue holds requests that wait for the loop, in order per cell. It has one owner. An empty one costs nothing but itself.
type Queue[R any] struct {
	limits Limits
	lines  map[cell.ID]*line[R]
	round  []*line[R] // lines that are not empty, in the order of their turns; from head on
	head   int
	spare  *line[R]
	count  int
	bytes  int
	rates  buckets[cell.ID]
	pace   pace
}

// line is what waits of one cell.
type line[R any] struct {
	cell  cell.ID
	items []Item[R] // from next on
	next  int
	bytes int
}

// NewQueue makes an empty queue.
func NewQueue[R any](l Limits) *Queue[R] {
	return &Queue[R]{limits: l, lines: make(map[cell.ID]*line[R])}
}

// Waiting is how many requests wait, and their bytes.
func (q *Queue[R]) Waiting() (requests, bytes int) { return q.count, q.bytes }

// Passes reports that so many new requests may be served at once, unseen: nobody waits before them, and all of them fit a turn.
func (q *Queue[R]) Passes(requests int) bool {
	return q.count == 0 && requests <= q.limits.TurnRequests && q.limits.CellRate.Off()
}

// Add queues a request behind those of its cell, or says why not.
func (q *Queue[R]) Add(now time.Duration, item Item[R]) Refusal {
	if !q.limits.CellRate.Off() {
		if wait := q.rates.take(item.Cell, q.limits.CellRate, now); wait > 0 {
			return Refusal{CellRate, fmt.Sprintf("the cell may be asked %g times per second", q.limits.CellRate.PerSecond), wait}
		}
	}
	l := q.lines[item.Cell]
	if l == nil {
		l = q.open(item.Cell)
	}
	if refusal := q.admits(now, l, &item); refusal.Reason != None { // then the line is not empty
		return refusal
	}
	l.items = append(l.items, item)
	l.bytes += item.Bytes
	q.count++
	q.bytes += item.Bytes
	return Refusal{}
}

// admits applies the bounds of one cell. An empty line takes anything.
func (q *Queue[R]) admits(now time.Duration, l *line[R], item *Item[R]) Refusal {
	n := l.len()
	if n == 0 {
		return Refusal{}
	}
	waited := now - l.items[l.next].Arrived
	switch {
	case n >= q.limits.CellRequests || l.bytes+item.Bytes > q.limits.CellBytes:
		return Refusal{CellFull, fmt.Sprintf("%d requests of %d bytes wait for the cell's turns", n, l.bytes), max(waited, q.limits.DelayMax/8)}
	}
	if waited = max(waited, q.pace.wait(min(q.count, (n+1)*len(q.lines)))); waited > q.limits.DelayMax/2 {
		return Refusal{CellSlow, fmt.Sprintf("%d requests wait for the cell's turns; one more would wait for about %v", n, waited), waited}
	}
	return Refusal{}
}

// open makes an empty line and gives it its place in the round.
func (q *Queue[R]) open(id cell.ID) *line[R] {
	l := q.spare
	if q.spare = nil; l == nil {
		l = &line[R]{}
	}
	l.cell = id
	q.lines[id] = l
	q.round = append(q.round, l)
	return l
}

// Turn serves the requests of one turn: one of each waiting cell, again and again, until there are TurnRequests. Those that
// waited too long are refused on the way; that is cheaper than serving, so four times as many may be.
func (q *Queue[R]) Turn(now time.Duration, serve func(R), refuse func(R, Refusal)) {
	served, refused := 0, 0
	for q.count > 0 && served < q.limits.TurnRequests && refused < 4*q.limits.TurnRequests {
		l := q.round[q.head]
		q.round[q.head] = nil
		q.head++
		item := l.take()
		q.count--
		q.bytes -= item.Bytes
		if l.len() > 0 {
			q.round = append(q.round, l)
		} else {
			q.close(l)
		}
		if waited := now - item.Arrived; waited >= q.limits.DelayMax || item.Expires != 0 && now >= item.Expires {
			refused++
			refuse(item.Request, Refusal{Waited, fmt.Sprintf("it waited for %v for the server's loop", waited), max(waited, q.limits.DelayMax/8)})
			continue
		}
		served++
		serve(item.Request)
	}
	q.round = q.round[:copy(q.round, q.round[q.head:])]
	q.head = 0
	if q.pace.turned(now, served); q.count == 0 {
		q.pace = pace{} // what comes next may come after a long rest
	}
}

// pace is how fast requests leave while there are always some that wait.
type pace struct {
	at     time.Duration // of the newest turn
	served int           // in it: what was done until the next one
	each   time.Duration // per request, smoothed; 0: not known yet
}

// turned notes a turn that served so many.
func (p *pace) turned(now time.Duration, served int) {
	if p.served > 0 && now > p.at {
		each := (now - p.at) / time.Duration(p.served)
		if p.each > 0 {
			each = (3*p.each + each) / 4
		}
		p.each = each
	}
	p.at, p.served = now, served
}

// wait is how long one waits behind so many others.
func (p *pace) wait(others int) time.Duration { return time.Duration(others) * p.each }

// close forgets a line that is empty.
func (q *Queue[R]) close(l *line[R]) {
	delete(q.lines, l.cell)
	*l = line[R]{items: l.items[:0]}
	if cap(l.items) <= lineKept {
		q.spare = l
	}
}

// lineKept is the longest line whose memory is kept.
const lineKept = 1024

func (l *line[R]) len() int { return len(l.items) - l.next }

// take removes the first item.
func (l *line[R]) take() Item[R] {
	item := l.items[l.next]
	l.items[l.next] = Item[R]{}
	l.next++
	l.bytes -= item.Bytes
	if l.next > lineKept && l.next > len(l.items)/2 { // a line that is never empty must not grow for ever
		rest := copy(l.items, l.items[l.next:])
		clear(l.items[rest:])
		l.items, l.next = l.items[:rest], 0
	}
	return item
}
