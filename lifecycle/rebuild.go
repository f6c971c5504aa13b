package lifecycle

import (
	"slices"
	"time"

	"physalia/cell"
	"physalia/internal/wire"
)

// A rebuild recreates a store that was lost, or brings an old one up to date, from what the servers host. While it lasts the
// manager does nothing but listen: nothing is created, deleted, moved, founded, sealed or dropped, by request or by itself.
// Only an operator ends it, who has read what could not be decided. It survives restarts.
//
// Cells serve all the time: no server does anything but answer the census.

// mode is what is stored beside the records: whether the store is being rebuilt, and what was learnt for good.
type mode struct {
	rebuilding bool
	restoring  bool // a backup is being copied into this store, and did not end
	why        string
	floor      cell.Incarnation // names that nobody knows begin above it
}

// refuse answers a request that has to wait.
func (x *mode) refuse(op string) *cell.Error {
	return &cell.Error{Op: op, Kind: cell.Unavailable, Detail: "the store is being rebuilt from the servers: " + x.why,
		Hint: "cells that exist serve; see `physalia control rebuild`, and end it with `physalia control resume`", RetryAfter: time.Second}
}

// appendMode adds the stored form: [rebuilding, restoring, why, floor] in the frame of a record.
func appendMode(b []byte, x *mode) []byte {
	start := len(b)
	b = append(b, formatMode, storedVersion)
	b = wire.AppendBool(wire.AppendBool(wire.AppendArray(b, 4), x.rebuilding), x.restoring)
	return appendSum(wire.AppendUint(wire.AppendString(b, x.why), uint64(x.floor)), start)
}

// decodeMode reads the stored form; errors as of decodeRecord.
func decodeMode(b []byte) (mode, error) {
	r, err := storedBody(formatMode, b)
	if err != nil {
		return mode{}, err
	}
	r.Struct(4, "mode")
	x := mode{rebuilding: r.Bool(), restoring: r.Bool(), why: r.String(wire.DetailBytesMax, "reason"), floor: cell.Incarnation(r.Uint())}
	if err := r.Done(); err != nil {
		return mode{}, damaged(err.Error())
	}
	return x, nil
}

// restoreMode takes the stored mode.
func (m *Manager) restoreMode(value []byte) (err error) {
	if m.mode, err = decodeMode(value); err == nil && m.mode.restoring {
		err = &cell.Error{Op: "lifecycle.load", Kind: cell.Refused, Detail: "a backup was being restored into this store, and did not end",
			Hint: "remove the directory and run `physalia control restore` again"}
	}
	return err
}

// saveMode has the mode stored.
func (m *Manager) saveMode() {
	m.out.Persist = append(m.out.Persist, m.mode.write())
}

// write is what stores a mode.
func (x *mode) write() Write { return Write{[]byte{keyMode}, appendMode(nil, x)} }

// doubtEmptiness begins a rebuild by itself when a store that knows no cell meets a server that hosts nodes: then it is the
// store that was lost, not the cells. A manager whose loop is open (no ScanEvery) trusts its store.
func (m *Manager) doubtEmptiness(g *wire.Registration) {
	if m.config.ScanEvery > 0 && !m.mode.rebuilding && m.mode.floor == 0 && len(m.names) == 0 && g.Nodes > 0 {
		m.beginRebuild("the store knows no cell, and " + string(g.Server) + " hosts nodes")
	}
}

// beginRebuild stops everything and begins to listen.
func (m *Manager) beginRebuild(why string) {
	m.mode.rebuilding, m.mode.why = true, why
	m.saveMode()
	o := &m.observer
	for _, s := range m.servers {
		m.leaveScan(s)
		s.scanned, s.first = 0, 0
	}
	o.state, o.ended, o.whole, o.claims = idle, 0, true, nil
	o.graves, o.nodes, o.began = nil, nil, m.now-rebuildEvery-m.config.ScanEvery
}

// Rebuild takes a request to begin or end a rebuild, or to tell how far it is.
func (m *Manager) Rebuild(now time.Duration, id RequestID, req wire.Rebuild) {
	m.now = now
	switch {
	case req.Action == wire.RebuildBegin && !m.mode.rebuilding:
		m.beginRebuild("asked for by an operator")
	case req.Action == wire.RebuildEnd && m.mode.rebuilding:
		if !m.complete() && !req.Force {
			m.out.Replies = append(m.out.Replies, Reply{Request: id, Err: &cell.Error{Op: "lifecycle.rebuild", Kind: cell.Refused,
				Detail: "the servers that are connected were not all heard yet",
				Hint:   "wait for it: `physalia control rebuild` shows how far it is. What is not heard of now would not be known to exist"}})
			return
		}
		m.endRebuild()
	}
	m.out.Replies = append(m.out.Replies, Reply{Request: id, Rebuild: m.rebuildState(&req)})
}

// endRebuild lets the manager act again on what it has learnt.
func (m *Manager) endRebuild() {
	m.mode.rebuilding, m.mode.why = false, ""
	m.mode.floor = max(m.mode.floor, m.highest)
	m.saveMode()
	for _, s := range m.servers {
		m.wake(s)
	}
}

// rebuildState describes what is known, with a page of the findings of the last complete round.
func (m *Manager) rebuildState(req *wire.Rebuild) *wire.RebuildState {
	o := &m.observer
	s := &wire.RebuildState{Rebuilding: m.mode.rebuilding, Why: m.mode.why, Round: uint64(o.round), Complete: m.complete(), Scanned: o.heard,
		Nodes: o.reported, Live: uint64(m.counts[Live]), Adopted: m.adopted, Deleted: uint64(m.counts[Deleted]), Found: o.lastFound}
	for id, srv := range m.servers {
		switch {
		case srv.up:
			s.Connected++
		case !m.retired[id]:
			s.Silent = append(s.Silent, id)
		}
	}
	slices.Sort(s.Silent)
	s.Silent = s.Silent[:min(len(s.Silent), wire.BatchMax)]
	limit := int(req.Limit)
	if limit < 1 || limit > wire.ListLimitMax {
		limit = wire.ListLimitMax
	}
	from := int(min(req.After, uint64(len(o.last))))
	size := 0
	for _, f := range o.last[from:] {
		if len(s.Findings) == limit || size > listBytesMax {
			s.More = true
			break
		}
		size += 64 + len(f.Cell) + min(len(f.Detail), wire.DetailBytesMax)
		s.Findings = append(s.Findings, f)
	}
	return s
}
