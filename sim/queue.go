package sim

import "time"

// event is something that happens at a time. Events of one time happen in the order in which they were planned.
type event struct {
	at  time.Duration
	seq uint64
	do  func()
}

// before orders events; no two are equal.
func (e *event) before(f *event) bool { return e.at < f.at || e.at == f.at && e.seq < f.seq }

// queue is a binary heap of events. The zero queue is empty. It is written out to keep events
// out of interfaces: a run has thousands of them.
type queue struct {
	heap []event
	seq  uint64
}

// add plans an event; the time may not lie in the past.
func (q *queue) add(at time.Duration, do func()) {
	q.seq++
	q.heap = append(q.heap, event{at, q.seq, do})
	for i := len(q.heap) - 1; i > 0; {
		parent := (i - 1) / 2
		if !q.heap[i].before(&q.heap[parent]) {
			break
		}
		q.heap[i], q.heap[parent] = q.heap[parent], q.heap[i]
		i = parent
	}
}

// peek tells the time of the earliest event; it reports false when there is none.
func (q *queue) peek() (time.Duration, bool) {
	if len(q.heap) == 0 {
		return 0, false
	}
	return q.heap[0].at, true
}

// next removes the earliest event of a queue that is not empty.
func (q *queue) next() event {
	first := q.heap[0]
	last := len(q.heap) - 1
	q.heap[0] = q.heap[last]
	q.heap[last] = event{}
	q.heap = q.heap[:last]
	q.sink()
	return first
}

// sink moves the root down to where it belongs.
func (q *queue) sink() {
	for i := 0; ; {
		child := 2*i + 1
		if child >= len(q.heap) {
			return
		}
		if right := child + 1; right < len(q.heap) && q.heap[right].before(&q.heap[child]) {
			child = right
		}
		if !q.heap[child].before(&q.heap[i]) {
			return
		}
		q.heap[i], q.heap[child] = q.heap[child], q.heap[i]
		i = child
	}
}
