// Package ledger is what a server tells discovery of its nodes: sums by which a discovery copy finds what it does not know,
// pages of what it asks for, and what changed meanwhile. It is a plain value machine with one owner, the server's loop.
//
// A change costs the same however many nodes there are, but for one shift within its bucket (a 512th of the nodes, 16 bytes
// each); sums are kept up, never computed. Nothing is done for a copy that asks for nothing. A node costs 16 bytes.
package ledger

import (
	"cmp"
	"encoding/binary"
	"slices"

	"physalia/cell"
	"physalia/internal/changes"
	"physalia/internal/wire"
)

// changesMax bounds what is remembered of changes: a copy that is further behind compares sums.
const changesMax = 8 << 10

// Ledger has one line per hosted node. The zero Ledger is not usable; see New.
type Ledger struct {
	buckets [wire.ShareBuckets][]line
	sums    [wire.ShareBuckets]uint64
	log     *changes.Log[uint64]
	nodes   int
}

// line is one node; lines of a bucket are in order of handles, which only rise.
type line struct {
	handle uint64
	hash   uint64
}

// New makes the ledger of a server without nodes.
func New() *Ledger { return &Ledger{log: changes.New[uint64](wire.ShareBuckets, changesMax, 0)} }

// bucketOf divides a server's nodes: a part of a discovery table's buckets, though nobody relies on that.
func bucketOf(id cell.ID) int { return wire.BucketOf(id) * wire.ShareBuckets / wire.TableBuckets }

// Changed notes how the route of a node is now, and reports whether that is news.
func (l *Ledger) Changed(n *wire.NodeInfo) bool {
	b := bucketOf(n.Cell)
	hash := wire.RouteHash(n.Cell, n.Incarnation, n.Configuration, n.Sealed)
	i, found := l.find(b, n.Handle)
	switch {
	case !found:
		l.buckets[b] = slices.Insert(l.buckets[b], i, line{n.Handle, hash})
		l.nodes++
	case l.buckets[b][i].hash == hash:
		return false
	default:
		l.sums[b] -= l.buckets[b][i].hash
		l.buckets[b][i].hash = hash
	}
	l.sums[b] += hash
	l.log.Note(n.Handle, b)
	return true
}

// Gone notes that a node was wiped, and reports whether that is news.
func (l *Ledger) Gone(handle uint64, id cell.ID) bool {
	b := bucketOf(id)
	i, found := l.find(b, handle)
	if !found {
		return false
	}
	l.sums[b] -= l.buckets[b][i].hash
	l.buckets[b] = slices.Delete(l.buckets[b], i, i+1)
	l.nodes--
	l.log.Note(handle, b)
	return true
}

// find is where in its bucket a node is, or would be.
func (l *Ledger) find(bucket int, handle uint64) (int, bool) {
	return slices.BinarySearchFunc(l.buckets[bucket], handle, func(x line, h uint64) int { return cmp.Compare(x.handle, h) })
}

// Position is how many changes there were in this life of the server.
func (l *Ledger) Position() uint64 { return l.log.Position() }

// Nodes is how many nodes there are.
func (l *Ledger) Nodes() int { return l.nodes }

// Digests answers a copy that knows sums of this total.
func (l *Ledger) Digests(known uint64) *wire.Digests {
	d := &wire.Digests{Position: l.Position()}
	if d.Same = wire.TotalOf(l.sums[:]) == known; !d.Same {
		d.Sums = slices.Clone(l.sums[:])
	}
	return d
}

// Route reads the route of a node; false when it was wiped meanwhile.
type Route func(handle uint64) (wire.Route, bool)

// Pull answers a request with one page. The error is a *cell.Error of kind Invalid.
func (l *Ledger) Pull(q *wire.PullRequest, route Route) (*wire.Pulled, error) {
	after := uint64(0)
	if len(q.Cursor) == 8 {
		after = binary.BigEndian.Uint64(q.Cursor)
	} else if len(q.Cursor) != 0 {
		return nil, &cell.Error{Op: wire.MethodPull, Kind: cell.Invalid, Detail: "the cursor is not one of a server"}
	}
	limit := limited(q.Limit)
	p := &wire.Pulled{Position: l.Position()}
	// The sum of a bucket is that of the moment at which its first page is read. What changes between two pages is in no sum
	// that was given out, so the next comparison finds it.
	for _, b := range q.Buckets {
		if b >= wire.ShareBuckets {
			return nil, &cell.Error{Op: wire.MethodPull, Kind: cell.Invalid, Detail: "there is no such bucket"}
		}
		if len(p.Routes) == limit {
			return p, nil
		}
		p.Sums = append(p.Sums, l.sums[b])
		i, _ := l.find(int(b), after+1)
		for _, x := range l.buckets[b][i:] {
			if len(p.Routes) == limit {
				p.Cursor = binary.BigEndian.AppendUint64(nil, after)
				return p, nil
			}
			if r, ok := route(x.handle); ok {
				p.Routes = append(p.Routes, r)
			}
			after = x.handle
		}
		after = 0
	}
	return p, nil
}

// limited is the size of a page, whatever was asked for.
func limited(asked uint32) int { return int(min(max(asked, 1), wire.PullRoutesMax)) }

// Changes is the push that brings whoever was told everything up to a position further; it tells nothing new when its To
// is that position.
func (l *Ledger) Changes(after uint64, limit uint32, route Route) *wire.RoutePush {
	page := l.log.After(after, limited(limit))
	push := &wire.RoutePush{From: after, To: page.To, Lost: page.Lost, Buckets: page.Buckets}
	for _, handle := range page.Keys {
		if r, ok := route(handle); ok {
			push.Routes = append(push.Routes, r)
		}
	}
	for _, b := range page.Buckets {
		push.Sums = append(push.Sums, l.sums[b])
	}
	return push
}
