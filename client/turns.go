package client

import (
	"context"
	"fmt"

	"physalia/cell"
)

// begun waits until it is a write's turn among those of its cell, first come, first served; ended must follow when it returns nil.
func (h *Cell) begun(ctx context.Context, x *exchange) *cell.Error {
	h.mu.Lock()
	if h.queue.Len() == 0 && h.turns.Take() {
		h.mu.Unlock()
		return nil
	}
	turn := make(chan struct{})
	place := h.queue.PushBack(turn)
	waiting := h.queue.Len()
	h.mu.Unlock()
	err := h.client.wait(ctx, x.timer, x.deadline, turn)
	h.mu.Lock()
	defer h.mu.Unlock()
	select {
	case <-turn:
		return nil // also when the caller is gone: the call finds that out by itself
	default:
	}
	h.queue.Remove(place)
	if err != nil {
		return &cell.Error{Op: x.op, Kind: cell.Unavailable, Cell: h.id, Detail: "not sent", Err: err}
	}
	return &cell.Error{Op: x.op, Kind: cell.Overloaded, Cell: h.id, Err: context.DeadlineExceeded, Hint: "send less to this cell",
		Detail: fmt.Sprintf("not sent: it was number %d of this client's writes that waited for those under way", waiting)}
}

// ended counts a write out, and lets those in whose turn it is.
func (h *Cell) ended(err *cell.Error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.turns.Done(err != nil && err.Kind == cell.Expired)
	for h.queue.Len() > 0 && h.turns.Take() {
		close(h.queue.Remove(h.queue.Front()).(chan struct{}))
	}
}
