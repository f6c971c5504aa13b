package core

import (
	"slices"

	"physalia/internal/wire/peer"
	"physalia/node/storage"
	"physalia/paxos"
)

// Every slot that a node votes for is a record for storage. Under a key of its own, which is the node's and the slot's place in the ring, it
// costs a walk through a memtable in which every step is a miss of the caches: a sixth of a busy server's processor time. So the records
// that all nodes write in one turn go to storage as one value, a row, under the number of the turn's batch. Such keys only ever
// rise, so the walk ends where the one before it ended. The rows are the journal.
//
// Nobody reads the journal but a restart: a node with records in it is hot, so its ring is in memory. It is kept short:
//
//   - A segment, some thousand rows in a row, is deleted when no node has a record in it that a restart would need. A node counts from the
//     segment of the first such record on, and no longer when it stores its state, which supersedes them all (isSuperseded).
//   - While the journal is longer than Config.JournalBytes, the nodes that count in its oldest segment are shelved: they write what a restart
//     needs of them to keys of their own, as everybody did before there was a journal, a few per tick.
//   - A node is shelved before it goes cold, so that loading it finds everything under its own keys (load asserts it), and when its cell
//     was not written for as long, though it stays hot (tidy).
//   - One that goes out of service cannot be shelved from memory. What stands in the journal is moved to its keys from the disk
//     (dissolve.go).
//   - A restart moves all of it, before the server is ready. So a server that runs knows of every row why it is there.
//
// Where one place in a ring stands several times, in rows and under its key, the newest is the one with the highest slot, and of one slot the one
// with the highest ballot, whichever was written last. Records below a stored state mean nothing, wherever they stand. The promise
// that went to storage with a record that is given up is in a later one, or goes to the row (persist).

// Bounds of the upkeep of the journal.
const (
	journalSegments = 8    // about, when it is full
	shelvePerTick   = 32   // nodes; twice as many when it is twice as long as it should be, and so on
	shelveLooks     = 2048 // hot nodes that are looked at for it per tick
	shelveFew       = 32   // slots up to which a node that is shelved writes records; its state costs about as much as so many
)

// journal is what the core knows of the rows on disk.
type journal struct {
	row      []byte    // of this turn, as far as it got
	segments []segment // oldest first; the last is the one that is written to
	base     uint64    // number of the oldest; the first ever is 1
	bytes    int       // of all segments
	at       int       // place in Core.hotList of the next look for nodes to shelve

	found      []storage.Pair     // by the restart scan
	stranded   map[Handle]*hosted // out of service, with records in the journal
	dissolving *dissolving        // nil: nothing is
}

// segment is a part of the journal that is deleted as one.
type segment struct {
	first storage.BatchNumber // lowest key
	bytes int
	nodes int // that count from here on
}

// open begins the journal of a process with the next batch.
func (j *journal) open(next storage.BatchNumber) {
	j.segments, j.base, j.stranded = []segment{{first: next}}, 1, make(map[Handle]*hosted)
}

// JournalBytes is how much stands in the journal.
func (c *Core) JournalBytes() int { return c.journal.bytes }

// waits reports whether the journal has to be looked after at the next tick.
func (j *journal) waits(most int) bool {
	return j.bytes > most || len(j.stranded) > 0 || len(j.segments) > 1 && j.segments[0].nodes == 0
}

// putRecord writes one ring record.
func (c *Core) putRecord(h *hosted, rec *peer.RingRecord) {
	b := c.write()
	if c.cfg.JournalBytes <= 0 || c.cfg.Unpacked || h.hot.shelving {
		c.value = peer.AppendRingRecord(c.value[:0], rec)
		c.key = ringKey(c.key[:0], h.handle, c.positionOf(rec.Record.Slot))
		b.Set(c.key, c.value)
		return
	}
	j := &c.journal
	j.row = peer.AppendJournaled(j.row, uint64(h.handle), rec)
	if h.journaled == 0 {
		h.journaled = j.base + uint64(len(j.segments)) - 1
		j.count(h, 1)
	}
}

// positionOf is a slot's position in the ring.
func (c *Core) positionOf(s paxos.Slot) int { return int(s % paxos.Slot(c.cfg.Window)) }

// putJournal adds the turn's row to its batch, whose number is Core.handed.
func (c *Core) putJournal() {
	j := &c.journal
	if len(j.row) == 0 {
		return
	}
	j.row = peer.FinishJournal(j.row)
	c.key = journalKey(c.key[:0], c.handed)
	c.batch.Set(c.key, j.row)
	last := &j.segments[len(j.segments)-1]
	last.bytes += len(j.row)
	j.bytes += len(j.row)
	if last.bytes >= c.cfg.JournalBytes/journalSegments {
		j.segments = append(j.segments, segment{first: c.handed + 1})
	}
	j.row = j.row[:0]
}

// isSuperseded reports whether what a node stores now, its state with it, is all that a restart needs of it: no record beyond the applied
// slot stands elsewhere, nor the promise.
func (c *Core) isSuperseded(h *hosted, p *paxos.Persist) bool {
	r, beyond := h.hot.replica, 0
	for i := range p.Records {
		if p.Records[i].Slot > p.Applied {
			beyond++
		}
	}
	return r.Beyond() == beyond && (len(p.Records) > 0 || h.promised == r.Promised())
}

// leaveJournal notes that a restart needs nothing of a node from the journal, but for what this turn still writes.
func (c *Core) leaveJournal(h *hosted) {
	if h.journaled != 0 {
		c.journal.count(h, -1)
		h.journaled = 0
	}
}

// count counts a node in or out of its segment.
func (j *journal) count(h *hosted, by int) {
	if !plantedCutJournal {
		j.segments[h.journaled-j.base].nodes += by
	}
}

// shelve has a node write all that a restart needs of it to keys of its own, in this turn.
func (c *Core) shelve(h *hosted) {
	if c.guard(h, func() { h.hot.replica.Rewrite(shelveFew) }) {
		h.hot.shelving = true
		c.touch(h)
	}
}

// isShelved reports whether a node has stored everything where loading it looks; it sees to that otherwise.
func (c *Core) isShelved(h *hosted) bool {
	if h.journaled != 0 {
		c.shelve(h)
		return false
	}
	if h.hot.replica.Store() {
		c.touch(h)
		return false
	}
	return true
}

// trim deletes segments that nobody needs, the one that is written to included when nobody needs any, and keeps the journal short.
func (c *Core) trim() {
	j := &c.journal
	last, free := len(j.segments)-1, 0
	for free < last && j.segments[free].nodes == 0 {
		free++
	}
	if free == last && j.segments[last].nodes == 0 && j.segments[last].bytes > 0 && len(j.row) == 0 {
		j.segments = append(j.segments, segment{first: c.handed + 1})
		free++
	}
	if free > 0 {
		for i := range j.segments[:free] {
			j.bytes -= j.segments[i].bytes
		}
		j.segments = slices.Delete(j.segments, 0, free)
		j.base += uint64(free)
		rows := journalRange(0, j.segments[0].first)
		c.write().DeleteRange(rows.Start, rows.End)
	}
	if j.bytes > c.cfg.JournalBytes {
		c.shelveOldest()
	}
	c.rescue()
}

// shelveOldest shelves nodes that count in the oldest segment: so many per tick, and more the longer the journal is.
func (c *Core) shelveOldest() {
	j := &c.journal
	shelved := 0
	most := shelvePerTick * (j.bytes / max(1, c.cfg.JournalBytes))
	for range min(shelveLooks, len(c.hotList)) {
		if j.at >= len(c.hotList) {
			j.at = 0
		}
		if h := c.hotList[j.at]; h.hot != nil && h.journaled == j.base && !h.hot.shelving {
			if shelved++; shelved > most {
				return
			}
			c.shelve(h)
		}
		j.at++
	}
}
