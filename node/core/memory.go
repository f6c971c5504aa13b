package core

import (
	"fmt"

	"physalia/cell"
	"physalia/internal/wire/peer"
	"physalia/node/storage"
)

// Disks forget (rule 8, hazard H10): a storage engine drops the damaged end of its log without an error, an operator
// restores an image. A member that forgot a vote must not vote again. So every frame and heartbeat says up to which batch
// its sender's disk is durable, every server remembers the highest it heard of each peer, on disk once a second or so, and
// every heartbeat tells the receiver what is remembered of it. A server compares that with what it found on its disk, and
// no node of it votes before a majority of its cell's servers were heard: a vote that mattered was heard by one of them.

// remembered is what this server knows of a peer's disk, and whether the peer said what it knows of ours.
type remembered struct {
	known   storage.BatchNumber // highest batch heard to be durable in the newest boot
	before  storage.BatchNumber // the same of all boots before
	since   uint64              // the boot in which before was heard
	stale   bool                // not on disk as it is
	recalls bool                // it said in this life what it remembers of this server
}

// remembers moves on to a new boot of a peer.
func (c *Core) remembers(s *server, boot uint64) {
	if s.boot < boot {
		if s.known > s.before {
			s.before, s.since = s.known, s.boot
		}
		s.known, s.stale = 0, true
		c.support.wanted = true
	}
}

// seen notes that a peer's disk is durable up to a batch, in its newest boot.
func (c *Core) seen(s *server, durable storage.BatchNumber) {
	if durable > s.known {
		s.known, s.stale = durable, true
		c.support.wanted = true
	}
}

// remember writes what changed, all peers in one batch, about once a second (Config.MemoryEvery). The write also probes the disk: an
// idle server whose disk hangs finds out, and loses its support (hazard R1).
func (c *Core) remember() {
	if !c.ready || !c.support.wanted || c.now-c.support.wrote < c.cfg.MemoryEvery {
		return
	}
	c.support.wanted, c.support.wrote = false, c.now
	for _, s := range c.roster {
		if s.stale {
			s.stale = false
			m := peer.Memory{Server: s.id, Boot: s.boot, Known: uint64(s.known), Before: uint64(s.before), Since: s.since}
			c.value = peer.AppendMemory(c.value[:0], &m)
			c.key = append(append(c.key[:0], keyMemory), s.id...)
			c.write().Set(c.key, c.value)
		}
	}
}

// restoreMemory takes what the restart scan found of a peer.
func (c *Core) restoreMemory(pair *storage.Pair) error {
	m, err := peer.DecodeMemory(pair.Value)
	if err != nil {
		return fmt.Errorf("memory of %q: %w", pair.Key[1:], err)
	}
	s := c.server(m.Server)
	s.boot, s.known, s.before, s.since = m.Boot, storage.BatchNumber(m.Known), storage.BatchNumber(m.Before), m.Since
	return nil
}

// Remembers tells up to which batch a peer's disk was heard to be durable.
func (c *Core) Remembers(id cell.ServerID) storage.BatchNumber {
	if s := c.servers[id]; s != nil {
		return max(s.known, s.before)
	}
	return 0
}

// recall compares what a peer remembers of this server with what this server knows of itself. What the peer heard in this
// life is durable here by now; what it heard before was found at the start, or is lost.
func (c *Core) recall(s *server, h *peer.Heartbeat) error {
	known, before := storage.BatchNumber(h.Known), storage.BatchNumber(h.Before)
	switch {
	case plantedForgetful:
	case h.For > c.cfg.Boot:
		return c.forgot(s, fmt.Sprintf("it has met start %d of this server, but this directory is at start %d", h.For, c.cfg.Boot))
	case h.For == c.cfg.Boot && (h.Echo > s.sequence || known > c.durable):
		return c.forgot(s, fmt.Sprintf("it has heard heartbeat %d and batch %d of this server's start %d, which has sent %d and written %d: there are two copies of this directory",
			h.Echo, known, h.For, s.sequence, c.durable))
	case h.For < c.cfg.Boot && known > c.foundSince(h.For+1):
		return c.forgot(s, fmt.Sprintf("it has heard that batch %d is durable, but this directory ended at %d when it was opened after that", known, c.foundSince(h.For+1)))
	case before > c.foundSince(h.Since+1):
		return c.forgot(s, fmt.Sprintf("it has heard that batch %d is durable, but this directory ended at %d when it was opened after that", before, c.foundSince(h.Since+1)))
	}
	s.recalls = true
	return nil
}

// A directory that forgot something and was opened hands out the numbers of the batches that are lost once more. In the next life
// it would hold as many as anybody remembers, and the loss would not show. So what every life found is kept, and what was
// heard in one life is compared with what the life after it found.
//
// putLife adds this life to them, with the first batch that is written: a life that wrote nothing took no number.
func (c *Core) putLife() {
	c.lives = append(c.lives, peer.Life{Boot: c.cfg.Boot, Found: uint64(c.cfg.Recovered)})
	if n := len(c.lives) - peer.LivesMax; n > 0 {
		c.lives = c.lives[n:]
	}
	c.write().Set([]byte{keyLives}, peer.AppendLives(nil, c.lives))
}

// foundSince is what the first life found that is known of from a boot on. In a directory that forgot nothing, later ones found more.
func (c *Core) foundSince(boot uint64) storage.BatchNumber {
	for _, x := range c.lives {
		if x.Boot >= boot {
			return storage.BatchNumber(x.Found)
		}
	}
	return c.cfg.Recovered
}

// forgot is the error that stops a server whose disk forgot.
func (c *Core) forgot(s *server, detail string) error {
	return &cell.Error{Op: "server", Kind: cell.Refused,
		Detail: fmt.Sprintf("server %s must not serve: its data directory has forgotten what it acknowledged. Server %s remembers: %s", c.cfg.Server, s.id, detail),
		Hint: "the disk lost acknowledged writes, or the directory was restored or copied; move it away and start this server as a new one " +
			"on an empty directory: it gets a new identity, and the nodes of the old one are replaced"}
}

// mayVote reports whether a node may vote: in a directory that was never opened before, or once the memories of a majority
// of its cell's servers, itself included, were heard. That leaves a gap: a batch of which fewer than four of six others heard,
// none of them among those who answer now, is forgotten unnoticed (docs/guarantees.md, "Disks"). To ask a majority without
// itself would close it, and keep a cell with four live members from serving after one of them restarted.
func (c *Core) mayVote(h *hosted) bool {
	if h.recalled || c.cfg.Boot <= 1 {
		return true
	}
	n := 0
	for _, s := range h.members {
		if s.recalls || s.id == c.cfg.Server {
			n++
		}
	}
	h.recalled = n > len(h.members)/2
	return h.recalled
}
