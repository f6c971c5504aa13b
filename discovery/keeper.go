package discovery

import (
	"context"
	"fmt"
	"time"

	"physalia/cell"
	"physalia/internal/snapshot"
	"physalia/internal/wire"
)

// KeeperConfig says where a copy keeps snapshots, and how often it writes them. The zero value of a field means its default.
type KeeperConfig struct {
	Store snapshot.Store // nil: no snapshots
	Copy  string         // name of this copy, of letters, digits, '.', '_' and '-'; default "discovery"
	Every time.Duration  // one snapshot begins so long after the one before, whether or not anything changed; default 1 min
	Keep  int            // snapshots of this copy that stay; default 3
	// ForeignMax is how old snapshots of other copies become before this one removes them; default 24 h.
	ForeignMax time.Duration
}

func (c KeeperConfig) withDefaults() KeeperConfig {
	if c.Copy == "" {
		c.Copy = "discovery"
	}
	if c.Every <= 0 {
		c.Every = time.Minute
	}
	if c.Keep <= 0 {
		c.Keep = 3
	}
	if c.ForeignMax <= 0 {
		c.ForeignMax = 24 * time.Hour
	}
	return c
}

// Kept tells how the snapshots stand.
type Kept struct {
	Written  uint64 // snapshots of this life
	Failed   uint64 // that could not be written
	Damaged  uint64 // that were found damaged
	Newest   uint64 // when the newest one that was written or read here was begun, ms since 1970; zero: none
	Took     time.Duration
	Bytes    uint64 // of the newest one written
	Restored uint64 // cells that came from a snapshot at the start
}

// Kept tells how the snapshots stand.
func (s *Service) Kept() Kept {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.kept
}

// load fills the cache from the newest snapshot that is whole. Those that are not are skipped, and it is said so. A store
// that cannot be read costs the time in which the servers and the other copies are asked instead.
func (s *Service) load(ctx context.Context) {
	if s.cfg.Keeper.Store == nil {
		return
	}
	refs, err := snapshot.List(ctx, s.cfg.Keeper.Store)
	if err != nil {
		s.log.Error("discovery cannot look for snapshots, and starts without one", "error", err)
		return
	}
	for i, ref := range refs {
		began := time.Now()
		cells, err := s.restore(ctx, ref)
		if err == nil {
			s.log.Info("discovery starts from a snapshot", "snapshot", ref, "cells", cells, "took", time.Since(began), "age", time.Since(time.UnixMilli(int64(ref.Written))))
			s.noteKept(func(k *Kept) { k.Newest, k.Restored = max(k.Newest, ref.Written), cells })
			return
		}
		if ctx.Err() != nil {
			return
		}
		s.noteKept(func(k *Kept) { k.Damaged++; k.Newest = max(k.Newest, ref.Written) })
		s.log.Error("a snapshot of discovery is damaged, the one before it is tried", "snapshot", ref, "left", len(refs)-i-1, "error", err)
	}
	if len(refs) > 0 {
		s.log.Error("no snapshot of discovery is whole; the servers are asked", "snapshots", len(refs))
	}
}

func (s *Service) noteKept(change func(k *Kept)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	change(&s.kept)
}

// restore takes one snapshot in. Routes of parts that were read before a damage was met stay: they were whole, and hints.
func (s *Service) restore(ctx context.Context, ref snapshot.Ref) (cells uint64, err error) {
	snap, err := snapshot.Open(ctx, s.cfg.Keeper.Store, ref)
	if err != nil {
		return 0, err
	}
	servers, err := snap.Servers(ctx)
	if err != nil {
		return 0, err
	}
	shares, err := snap.Shares(ctx)
	if err != nil {
		return 0, err
	}
	s.mu.Lock()
	err = s.cache.restoreServers(s.now(), time.Since(time.UnixMilli(int64(ref.Written))), servers)
	s.mu.Unlock()
	for part := 0; err == nil && part < len(snap.Head.Routes); part++ {
		var list []wire.SnapshotCell
		if list, err = snap.Cells(ctx, part); err == nil {
			cells += uint64(len(list))
			s.writing(func() { err = s.cache.restore(list, servers) })
		}
	}
	if err != nil {
		return cells, err
	}
	if cells != snap.Head.Cells {
		return cells, &cell.Error{Op: "discovery.restore", Kind: cell.Invalid, Detail: fmt.Sprintf("%s has %d cells, its head says %d", ref, cells, snap.Head.Cells)}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return cells, s.cache.restoreShares(shares, servers)
}

// keep writes snapshots on a fixed period until ctx ends.
func (s *Service) keep(ctx context.Context) {
	tick := time.NewTicker(s.cfg.Keeper.Every)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		if err := s.Save(ctx); err != nil && ctx.Err() == nil {
			s.log.Error("discovery cannot write its snapshot; the next attempt is in "+s.cfg.Keeper.Every.String(), "error", err)
		}
	}
}

// Save writes a snapshot now and removes old ones. It must not run twice at the same time, so while Run does, only tests
// have a use for it. What it holds the lock for is one part at a time.
func (s *Service) Save(ctx context.Context) error {
	began := time.Now()
	// A clock that was set back must not make the newest snapshot look old.
	ref := snapshot.Ref{Written: max(uint64(began.UnixMilli()), s.Kept().Newest+1), Copy: s.cfg.Keeper.Copy}
	w := snapshot.NewWriter(s.cfg.Keeper.Store, ref)
	if err := s.write(ctx, w); err != nil {
		s.noteKept(func(k *Kept) { k.Failed++ })
		return err
	}
	took := time.Since(began)
	s.noteKept(func(k *Kept) { k.Written++; k.Newest, k.Took, k.Bytes = ref.Written, took, w.Bytes })
	foreign := uint64(max(began.Add(-s.cfg.Keeper.ForeignMax).UnixMilli(), 0))
	removed, err := snapshot.Prune(ctx, s.cfg.Keeper.Store, s.cfg.Keeper.Copy, s.cfg.Keeper.Keep, foreign)
	s.log.Debug("snapshot of discovery", "snapshot", ref, "bytes", w.Bytes, "took", took, "removed", removed)
	return err
}

// write writes all parts in the order that their contents need: shares, then routes, then servers.
func (s *Service) write(ctx context.Context, w *snapshot.Writer) error {
	shares := reading(s, (*Cache).shares)
	const sharesOfPart = 16 // 4 KB each
	for ; len(shares) > 0; shares = shares[min(sharesOfPart, len(shares)):] {
		if err := w.Shares(ctx, shares[:min(sharesOfPart, len(shares))]); err != nil {
			return err
		}
	}
	for first := 0; first < wire.TableBuckets; {
		next := first
		part := reading(s, func(c *Cache) (p []wire.SnapshotCell) { p, next = c.cut(first); return p })
		if err := w.Cells(ctx, uint32(first), part); err != nil {
			return err
		}
		first = next
	}
	const serversOfPart = 512
	for first := 0; ; first += serversOfPart {
		list := reading(s, func(c *Cache) []wire.Contact { return c.contactsByNumber(s.now(), first, serversOfPart) })
		if len(list) == 0 {
			break
		}
		if err := w.Servers(ctx, list); err != nil {
			return err
		}
	}
	return w.Finish(ctx)
}
