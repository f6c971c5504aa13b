package client

import (
	"context"
	"sync"

	"physalia/cell"
	"physalia/client/route"
	"physalia/internal/snapshot"
	"physalia/internal/wire"
)

// finder is the shell around route.Finder: one goroutine that looks cells up, many at once.
type finder struct {
	mu     sync.Mutex
	wanted []cell.ID     // since the goroutine last looked
	wake   chan struct{} // capacity 1: wanted is not empty

	// The goroutine's own.
	decide    *route.Finder
	dice      route.Dice
	snapshots *snapshot.Lookup // nil: there are none
}

func (f *finder) init(c *Client) {
	f.wake = make(chan struct{}, 1)
	f.decide = route.NewFinder(c.cfg.Control, &c.rules, route.Dice(c.seed))
	f.dice = route.Dice(^c.seed)
	if c.cfg.Snapshots != nil {
		f.decide.UseSnapshot()
		f.snapshots = &snapshot.Lookup{From: c.cfg.Snapshots, Skipped: func(ref snapshot.Ref, err error) {
			c.cfg.Logger.Error("physalia: a snapshot of discovery is damaged, the one before it is tried", "snapshot", ref, "err", err)
		}}
	}
}

// want asks for a lookup; its end is reported to the cell's Place.
func (f *finder) want(id cell.ID) {
	f.mu.Lock()
	f.wanted = append(f.wanted, id)
	f.mu.Unlock()
	select {
	case f.wake <- struct{}{}:
	default: // it has been told
	}
}

// runFinder looks cells up until the Client is closed.
func (c *Client) runFinder() {
	f := &c.finder
	for {
		f.mu.Lock()
		for _, id := range f.wanted {
			f.decide.Want(id)
		}
		f.wanted = f.wanted[:0]
		f.mu.Unlock()
		step := f.decide.Next(c.now())
		c.found(step.Ended)
		if step.Ask {
			var routes *wire.Routes
			if step.Snapshot {
				routes = c.consult(step.Cells)
			} else {
				routes = c.lookup(step.Addr, step.Cells)
			}
			c.found(f.decide.Answered(c.now(), routes, c.accept))
			if c.ctx.Err() != nil {
				return
			}
			continue
		}
		select {
		case <-f.wake:
		case <-c.ctx.Done():
			return
		}
	}
}

// lookup asks one discovery copy; nil means that it did not answer.
func (c *Client) lookup(addr string, cells []cell.ID) *wire.Routes {
	routes := &wire.Routes{}
	if err := c.query(addr, wire.MethodLookup, &wire.LookupRequest{Cells: cells}, routes); err != nil {
		if c.ctx.Err() == nil {
			c.cfg.Logger.Warn("physalia: lookup failed", "addr", addr, "cells", len(cells), "err", err)
		}
		c.finder.decide.Refused(asError(err).RetryAfter)
		return nil
	}
	return routes
}

// consult looks cells up in the newest snapshot; nil means that there is none that helps.
func (c *Client) consult(cells []cell.ID) *wire.Routes {
	ctx, cancel := context.WithTimeout(c.ctx, snapshotPatience*c.cfg.AttemptTimeout)
	defer cancel()
	routes, err := c.finder.snapshots.Find(ctx, c.now(), cells)
	if err != nil {
		if c.ctx.Err() == nil {
			c.cfg.Logger.Warn("physalia: no snapshot helps", "cells", len(cells), "err", err)
		}
		return nil
	}
	return routes
}

// snapshotPatience is how long to wait for the object store, in attempts: several objects are read.
const snapshotPatience = 5

// query is one request that belongs to no call.
func (c *Client) query(addr, method string, params, result wire.Message) error {
	ctx, cancel := context.WithTimeout(c.ctx, c.cfg.AttemptTimeout)
	defer cancel()
	l := c.link(addr)
	for {
		conn, dialing, why := l.get()
		switch {
		case conn != nil:
			err := conn.Call(ctx, method, params, result)
			if err == nil {
				l.replies.Add(1)
			}
			return err
		case dialing == nil:
			return why
		}
		select {
		case <-dialing:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// accept shows a route to its cell and reports whether it is better than what was known.
func (c *Client) accept(r *wire.Route) bool {
	h := c.known(r.Cell)
	if h == nil {
		return false
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.place.Accept(r)
}

// found reports the ends of lookups to their cells and wakes who waits for them.
func (c *Client) found(ends []route.FindEnd) {
	for _, e := range ends {
		h := c.known(e.Cell)
		if h == nil {
			continue
		}
		h.mu.Lock()
		h.place.Found(c.now(), &c.rules, &c.finder.dice, e.Improved, e.Denied)
		if h.changed != nil {
			close(h.changed)
			h.changed = nil
		}
		h.mu.Unlock()
	}
}

// question is an informant to be asked who the members of a cell are.
type question struct {
	cell *Cell
	addr string
}

// questionsMax bounds the questions that wait; more are forgotten and come up again later.
const questionsMax = 1024

// learn asks, some time, the server at addr who the members of the cell are.
func (c *Client) learn(h *Cell, addr string) {
	select {
	case c.learner <- question{h, addr}:
	default:
		h.learned(nil)
	}
}

// runLearner repairs routes without discovery, by asking members, until the Client is closed.
func (c *Client) runLearner() {
	for {
		var q question
		select {
		case q = <-c.learner:
		case <-c.ctx.Done():
			return
		}
		h := q.cell
		request := &wire.ExplainRequest{Header: wire.Header{Cell: h.id, Timeout: milliseconds(c.cfg.AttemptTimeout)}}
		e := &wire.Explanation{}
		if err := c.query(q.addr, wire.MethodExplain, request, e); err != nil {
			e = nil // whoever answered a moment ago will do so again, and the question comes up again
		}
		h.learned(e)
	}
}

// learned takes a member's word, or nil, for the route.
func (h *Cell) learned(e *wire.Explanation) {
	h.mu.Lock()
	defer h.mu.Unlock()
	improved := false
	if e != nil {
		r := route.FromExplanation(e)
		improved = h.place.Accept(&r)
	}
	h.place.Learned(h.client.now(), improved)
}
