package snapshot

import (
	"context"
	"errors"
	"time"

	"physalia/cell"
	"physalia/internal/wire"
)

// Lookup finds single cells in the newest snapshot that is whole as far as it is read. It reads the head, the servers, and
// the parts that the cells are in, and keeps the first two. It has one user.
type Lookup struct {
	From    Files
	Refresh time.Duration            // a newer snapshot is looked for so long after the last look; zero: a minute
	Skipped func(ref Ref, err error) // told of damaged snapshots; may be nil

	listed  bool          // at least once
	at      time.Duration // of the last look
	current *Snapshot
	servers []wire.Contact // of current
	bad     map[Ref]bool
}

// refreshDefault is how old a head may become: snapshots are written about as often.
const refreshDefault = time.Minute

// Find returns one route per cell, in their order; a route without members means that the snapshot does not have the cell.
// The error is a *cell.Error: NotFound when there is no snapshot, Invalid when none is whole.
func (l *Lookup) Find(ctx context.Context, now time.Duration, cells []cell.ID) (*wire.Routes, error) {
	if l.Refresh == 0 {
		l.Refresh = refreshDefault
	}
	if l.listed && now-l.at < l.Refresh && l.current != nil {
		routes, err := l.find(ctx, cells)
		if err == nil {
			return routes, nil
		}
	}
	// What was current may be old, or damaged, or removed by its writer by now.
	refs, err := List(ctx, l.From)
	if err != nil {
		return nil, err
	}
	l.listed, l.at = true, now
	if l.bad == nil {
		l.bad = map[Ref]bool{}
	}
	var last error
	for _, ref := range refs {
		if l.bad[ref] {
			continue
		}
		routes, err := l.use(ctx, ref, cells)
		if err == nil {
			return routes, nil
		}
		if cell.KindOf(err) != cell.Invalid && cell.KindOf(err) != cell.NotFound {
			return nil, err // the store, not the snapshot
		}
		last = errors.Join(last, err)
		l.bad[ref] = true
		if l.Skipped != nil {
			l.Skipped(ref, err)
		}
	}
	l.current = nil
	if last != nil {
		return nil, &cell.Error{Op: "snapshot.find", Kind: cell.Invalid, Detail: "no snapshot is whole", Err: last}
	}
	return nil, &cell.Error{Op: "snapshot.find", Kind: cell.NotFound, Detail: "there is no snapshot that is whole",
		Hint: "compare the URL with --objects of the control plane"}
}

// use makes a snapshot the current one, unless it is, and looks the cells up in it.
func (l *Lookup) use(ctx context.Context, ref Ref, cells []cell.ID) (*wire.Routes, error) {
	if l.current == nil || l.current.Ref != ref {
		s, err := Open(ctx, l.From, ref)
		if err != nil {
			return nil, err
		}
		servers, err := s.Servers(ctx)
		if err != nil {
			return nil, err
		}
		l.current, l.servers = s, servers
	}
	return l.find(ctx, cells)
}

// find looks cells up in the current snapshot, reading each part once.
func (l *Lookup) find(ctx context.Context, cells []cell.ID) (*wire.Routes, error) {
	out := &wire.Routes{Routes: make([]wire.Route, len(cells)), Filling: true} // an old list proves nothing about what it lacks
	// Cells that were asked for together are rarely neighbours; those that are cost one object.
	parts := map[int][]int{}
	for i, id := range cells {
		out.Routes[i].Cell = id
		if part, ok := l.current.PartOf(id); ok {
			parts[part] = append(parts[part], i)
		}
	}
	for part, wanted := range parts {
		list, err := l.current.Cells(ctx, part)
		if err != nil {
			return nil, err
		}
		at := make(map[cell.ID]int, len(list))
		for i := range list {
			at[list[i].Cell] = i
		}
		for _, i := range wanted {
			k, ok := at[cells[i]]
			if !ok {
				continue
			}
			if out.Routes[i], err = Route(&list[k], l.servers); err != nil {
				return nil, err
			}
		}
	}
	return out, nil
}
