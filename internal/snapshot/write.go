package snapshot

import (
	"context"
	"errors"
	"hash/crc32"
	"strings"

	"physalia/internal/wire"
)

// Store is what writing needs of an object store.
type Store interface {
	Files
	Put(ctx context.Context, name string, data []byte) error
	Delete(ctx context.Context, name string) error
}

// Writer writes one snapshot: parts in any order of kinds, then Finish. Until then nobody sees it. It has one user.
type Writer struct {
	ref   Ref
	to    Store
	head  wire.SnapshotHead
	Bytes uint64 // written so far
}

// NewWriter begins a snapshot.
func NewWriter(to Store, ref Ref) *Writer {
	return &Writer{ref: ref, to: to, head: wire.SnapshotHead{Copy: ref.Copy, Written: ref.Written}}
}

// put writes a part and adds it to the list.
func (w *Writer) put(ctx context.Context, k kind, parts *[]wire.SnapshotPart, first uint32, entries int, m wire.Message) error {
	data := seal(k, m)
	if err := w.to.Put(ctx, w.ref.part(k, len(*parts)), data); err != nil {
		return err
	}
	w.Bytes += uint64(len(data))
	*parts = append(*parts, wire.SnapshotPart{First: first, Entries: uint32(entries), Bytes: uint64(len(data)), Sum: crc32.Checksum(data, castagnoli)})
	return nil
}

// Servers adds the next servers, at most wire.SnapshotServersMax.
func (w *Writer) Servers(ctx context.Context, list []wire.Contact) error {
	return w.put(ctx, kindServers, &w.head.Servers, 0, len(list), &wire.SnapshotServers{Contacts: list})
}

// Shares adds shares, at most wire.SnapshotServersMax.
func (w *Writer) Shares(ctx context.Context, list []wire.SnapshotShare) error {
	return w.put(ctx, kindShares, &w.head.Shares, 0, len(list), &wire.SnapshotShares{Shares: list})
}

// Cells adds the routes of the buckets from first on, in order of buckets, at most wire.SnapshotCellsMax.
func (w *Writer) Cells(ctx context.Context, first uint32, list []wire.SnapshotCell) error {
	w.head.Cells += uint64(len(list))
	return w.put(ctx, kindRoutes, &w.head.Routes, first, len(list), &wire.SnapshotCells{Cells: list})
}

// Finish writes the head: from here on the snapshot exists.
func (w *Writer) Finish(ctx context.Context) error {
	data := seal(kindHead, &w.head)
	w.Bytes += uint64(len(data))
	return w.to.Put(ctx, w.ref.head(), data)
}

// Remove deletes a snapshot, its head first.
func Remove(ctx context.Context, s Store, ref Ref) error {
	if err := s.Delete(ctx, ref.head()); err != nil {
		return err
	}
	return removeParts(ctx, s, partPrefix+ref.base()+"/")
}

// removeParts deletes all objects below a prefix, as many of them as it can.
func removeParts(ctx context.Context, s Store, prefix string) error {
	names, err := s.List(ctx, prefix)
	if err != nil {
		return err
	}
	var errs []error
	for _, name := range names {
		errs = append(errs, s.Delete(ctx, name))
	}
	return errors.Join(errs...)
}

// Prune removes the snapshots of one copy but the newest keep, those of other copies that are older than foreign (in
// milliseconds since 1970) and not among the newest keep of all, and the parts of snapshots of this copy that were never
// finished. It returns how many were removed. It must not run while the copy writes one.
func Prune(ctx context.Context, s Store, copyName string, keep int, foreign uint64) (removed int, err error) {
	refs, err := List(ctx, s)
	if err != nil {
		return 0, err
	}
	own, finished := 0, map[Ref]bool{}
	for i, r := range refs {
		if r.Copy == copyName {
			own++
		}
		if r.Copy == copyName && own <= keep || r.Copy != copyName && (i < keep || r.Written >= foreign) {
			finished[r] = true
			continue
		}
		if err := Remove(ctx, s, r); err != nil {
			return removed, err
		}
		removed++
	}
	return removed, removeUnfinished(ctx, s, copyName, finished)
}

// removeUnfinished deletes what a writer of the same name left when it died before it could write a head. Parts of other
// writers are left alone, since those may be at work.
func removeUnfinished(ctx context.Context, s Store, copyName string, finished map[Ref]bool) error {
	names, err := s.List(ctx, partPrefix)
	if err != nil {
		return err
	}
	for _, name := range names {
		base, _, _ := strings.Cut(strings.TrimPrefix(name, partPrefix), "/")
		if r, ok := parseRef(base); ok && r.Copy == copyName && !finished[r] {
			if err := s.Delete(ctx, name); err != nil {
				return err
			}
		}
	}
	return nil
}
