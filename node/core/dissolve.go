package core

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"maps"
	"slices"

	"physalia/cell"
	"physalia/internal/wire/peer"
	"physalia/node/storage"
	"physalia/paxos"
)

// What stands in the journal is moved to the keys of its nodes: all of it by a restart, before the server is ready, and that of nodes that
// went out of service while it serves. The rings are read first, since a place there may hold something newer: a node that was
// shelved left its rows behind. Nothing depends on a crash in between; the rows are deleted last.

// dissolveTogether is how many rings are read and written at once at most.
const dissolveTogether = 32

// dissolving is what is being moved.
type dissolving struct {
	records []journaled // the newest of each place, by handle and place, as far as they are not moved yet
	reading int         // how many of them belong to the rings that are being read
	alone   int         // how many rings are read one by one, since one of them is damaged
	nodes   []Handle    // that are out of service, and for which it is done; nil: for all, by a restart
}

// journaled is a record that was found in the journal.
type journaled struct {
	place
	slot   paxos.Slot
	ballot paxos.Ballot
	stored []byte
}

// place is one position in the ring of one node.
type place struct {
	handle   Handle
	position int
}

// isNewer compares two that are stored of one place.
func (j *journaled) isNewer(slot paxos.Slot, ballot paxos.Ballot) bool {
	return j.slot > slot || j.slot == slot && ballot.Less(j.ballot)
}

// newest finds the newest record of every place of the nodes that are wanted, ordered by handle and place.
func (c *Core) newest(rows []storage.Pair, wanted func(Handle) bool) ([]journaled, error) {
	var found []journaled
	at := make(map[place]int)
	for i := range rows {
		err := peer.DecodeJournal(rows[i].Value, func(node uint64, stored []byte) error {
			if !wanted(Handle(node)) {
				return nil
			}
			slot, ballot, err := peer.RingPlace(stored)
			j := journaled{place{Handle(node), c.positionOf(slot)}, slot, ballot, stored}
			if k, again := at[j.place]; !again {
				at[j.place] = len(found)
				found = append(found, j)
			} else if j.isNewer(found[k].slot, found[k].ballot) {
				found[k] = j
			}
			return err
		})
		if err != nil {
			return nil, fmt.Errorf("row %x of the journal: %w", rows[i].Key[1:], err)
		}
	}
	slices.SortFunc(found, func(a, b journaled) int {
		return cmp.Or(cmp.Compare(a.handle, b.handle), cmp.Compare(a.position, b.position))
	})
	return found, nil
}

// dissolveFound moves what the restart scan has found, and then ends it. A row that cannot be read stops the server, like the row of a node
// that nobody can name: it is not known whose votes are lost.
func (c *Core) dissolveFound() error {
	records, err := c.newest(c.journal.found, func(h Handle) bool { _, hosted := c.position(h); return hosted })
	if errors.Is(err, peer.ErrDamaged) {
		return &cell.Error{Op: "node.start", Kind: cell.Quarantined, Err: err, Detail: "a part of the journal is damaged, and nothing else tells of which nodes",
			Hint: "this data directory must not be used again: start the server on an empty one, its nodes are then replaced"}
	}
	if err != nil {
		return err
	}
	c.journal.dissolving = &dissolving{records: records}
	c.dissolve()
	return nil
}

// rescue moves what nodes that are out of service have in the journal, as many of them as there are by now.
func (c *Core) rescue() {
	j := &c.journal
	if len(j.stranded) == 0 || j.dissolving != nil {
		return
	}
	j.dissolving = &dissolving{nodes: slices.Sorted(maps.Keys(j.stranded))}
	c.out.Loads = append(c.out.Loads, Load{ID: journalLoad, Ranges: []storage.Range{journalRange(j.segments[0].first, c.handed+1)}})
}

// onJournal takes the rows that rescue asked for.
func (c *Core) onJournal(rows []storage.Pair, err error) {
	d := c.journal.dissolving
	if err != nil && !errors.Is(err, storage.ErrCorrupt) {
		return // storage reports its failure itself; the server stops
	}
	if err == nil {
		d.records, err = c.newest(rows, func(h Handle) bool { _, isOne := slices.BinarySearch(d.nodes, h); return isOne })
	}
	for i := 0; err != nil && i < len(d.nodes); i++ {
		c.spoil(d.nodes[i], err)
	}
	c.dissolve()
}

// dissolve asks for the next rings, or ends when nothing is left to be moved.
func (c *Core) dissolve() {
	d, together := c.journal.dissolving, dissolveTogether
	if len(d.records) == 0 {
		c.dissolved()
		return
	}
	if d.alone > 0 {
		d.alone, together = d.alone-1, 1
	}
	var rings []storage.Range
	for d.reading = 0; d.reading < len(d.records); d.reading++ {
		if handle := d.records[d.reading].handle; d.reading == 0 || handle != d.records[d.reading-1].handle {
			if len(rings) == together {
				break
			}
			rings = append(rings, handleRange(keyRing, handle))
		}
	}
	c.out.Loads = append(c.out.Loads, Load{ID: ringLoad, Ranges: rings})
}

// onRings takes the rings that dissolve asked for.
func (c *Core) onRings(rings []storage.Pair, err error) {
	d := c.journal.dissolving
	records := d.records[:d.reading]
	switch {
	case err == nil:
		c.move(records, rings)
	case !errors.Is(err, storage.ErrCorrupt):
		return // storage reports its failure itself; the server stops
	case records[0].handle != records[len(records)-1].handle:
		d.alone = dissolveTogether // which of them the damage is in shows when each is read alone
		d.reading = 0
	default:
		c.spoil(records[0].handle, err)
	}
	d.records = d.records[d.reading:]
	c.dissolve()
}

// move writes records under the keys of their places, where nothing newer stands. Both lists are in the order of those keys.
func (c *Core) move(records []journaled, rings []storage.Pair) {
	for i := range records {
		r := &records[i]
		if _, hosted := c.position(r.handle); !hosted {
			continue // wiped meanwhile
		}
		c.key = ringKey(c.key[:0], r.handle, r.position)
		for len(rings) > 0 && bytes.Compare(rings[0].Key, c.key) < 0 {
			rings = rings[1:]
		}
		if len(rings) > 0 && bytes.Equal(rings[0].Key, c.key) {
			slot, ballot, err := peer.RingPlace(rings[0].Value)
			if err != nil {
				c.spoil(r.handle, err)
				continue
			}
			if !plantedOlderWins && !r.isNewer(slot, ballot) {
				continue
			}
		}
		c.write().Set(c.key, r.stored)
	}
}

// dissolved ends what dissolve has begun.
func (c *Core) dissolved() {
	j := &c.journal
	d := j.dissolving
	j.dissolving = nil
	if d.nodes == nil {
		if len(j.found) > 0 {
			rows := journalRange(0, j.segments[0].first)
			c.write().DeleteRange(rows.Start, rows.End)
			j.found = nil
		}
		c.begin()
		return
	}
	for _, handle := range d.nodes {
		if h := j.stranded[handle]; h != nil {
			c.unstrand(h)
		}
	}
}

// strand notes that a node which went out of service has records in the journal.
func (c *Core) strand(h *hosted) {
	if h.journaled != 0 {
		c.journal.stranded[h.handle] = h
	}
}

// unstrand notes that a node needs the journal no longer.
func (c *Core) unstrand(h *hosted) {
	delete(c.journal.stranded, h.handle)
	c.leaveJournal(h)
}

// spoil takes a node out of service for good whose records cannot be moved. One that is out of service already may have been
// so for what a later version heals; this it would not.
func (c *Core) spoil(handle Handle, err error) {
	at, hosted := c.position(handle)
	if !hosted {
		return
	}
	h := c.find(cell.ID(c.cold.Name(at)))
	if h.quarantined == "" {
		c.quarantineError(h, "", err)
		return
	}
	if !h.rowLost && reasonOf(h.quarantined) != Damaged {
		c.mark(h, fmt.Sprintf("%s: %v; before: %s", Damaged, err, h.quarantined))
		c.putRow(h)
	}
}
