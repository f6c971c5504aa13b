package core

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"time"

	"physalia/cell/machine"
	"physalia/internal/must"
	"physalia/internal/wire/peer"
	"physalia/node/storage"
	"physalia/paxos"
)

// loadTogether is how many nodes are read at once at most, when many are asked for in one turn: an iterator over the store costs more than
// what it is moved over, and every answer wakes the loop. More would keep those waiting that need only one of them.
const loadTogether = 32

// load asks storage for everything of one node: the stored state and the whole ring, of which no part may be believed
// without the other (rule 7, hazard H11). Inputs wait in h.queue meanwhile; nothing writes to the node until it is hot, so
// the ranges belong together although they are read one after the other. What one turn asks for is read in few passes.
func (c *Core) load(h *hosted) {
	must.That(c.ready && h.journaled == 0, "node %d is loaded while records of it stand in the journal", h.handle)
	if n := len(c.out.Loads); n > 0 {
		last := &c.out.Loads[n-1]
		if together := len(c.loads[last.ID]); together > 0 && together < loadTogether {
			h.loading = true
			last.Ranges = append(last.Ranges, rangesOf(h)...)
			c.loads[last.ID] = append(c.loads[last.ID], h)
			return
		}
	}
	c.loadAlone(h)
}

// loadAlone is load in a pass of its own.
func (c *Core) loadAlone(h *hosted) {
	h.loading = true
	id := c.nextLoad
	c.nextLoad++
	c.loads[id] = []*hosted{h}
	c.out.Loads = append(c.out.Loads, Load{ID: id, Ranges: rangesOf(h)})
}

// rangesOf is where everything of a node is stored but its row.
func rangesOf(h *hosted) []storage.Range {
	return []storage.Range{handleRange(keyState, h.handle), handleRange(keyRing, h.handle)}
}

// OnLoaded takes storage's answer to a Load. An error means that the server cannot go on: the restart scan failed. A node
// that was dropped, or created anew, since it was asked for is recognised by its pointer.
func (c *Core) OnLoaded(id storage.ReadID, pairs []storage.Pair, err error) error {
	if id == bootLoad {
		if err != nil {
			return fmt.Errorf("restart scan: %w", err)
		}
		return c.boot(pairs)
	}
	switch id {
	case nameLoad:
		if err != nil {
			return fmt.Errorf("restart scan: %w", err)
		}
		return c.onName(pairs)
	case journalLoad:
		c.onJournal(pairs, err)
		return nil
	case ringLoad:
		c.onRings(pairs, err)
		return nil
	}
	nodes := c.loads[id]
	delete(c.loads, id)
	if errors.Is(err, storage.ErrCorrupt) && len(nodes) > 1 { // which of them the damage is in shows when each is read alone
		for _, h := range nodes {
			if c.warm[h.id] == h && h.hot == nil {
				c.loadAlone(h)
			}
		}
		return nil
	}
	for _, h := range nodes {
		n := 0 // of pairs that are this node's: they come in the order of the ranges
		for n < len(pairs) && Handle(binary.BigEndian.Uint64(pairs[n].Key[1:])) == h.handle {
			n++
		}
		c.loaded(h, pairs[:n], err)
		pairs = pairs[n:]
	}
	return nil
}

// loaded makes one node hot of what was read of it.
func (c *Core) loaded(h *hosted, pairs []storage.Pair, err error) {
	if c.warm[h.id] != h || h.hot != nil {
		return
	}
	h.loading = false
	if errors.Is(err, storage.ErrCorrupt) {
		c.quarantineError(h, "", err) // the disk has lost a piece of this node, and may be sound everywhere else
		return
	}
	if err != nil {
		c.cool(h, nil)
		return // storage reports its failure itself; the server stops
	}
	c.guard(h, func() {
		if err := c.restore(h, pairs); err != nil {
			c.quarantineError(h, "", err)
		}
	})
	c.drain(h)
}

// restore rebuilds a node from its stored state and ring. What is damaged is never voted with, and never mistaken for
// new: the node goes out of service.
//
// The promise is the highest of the row and of all ring records, those below the stored state included: a promise made
// together with an accept stands in that record only. The applied slot is the highest that any record carries, and the
// replica asserts that the ring holds everything up to there (rule 5).
func (c *Core) restore(h *hosted, pairs []storage.Pair) error {
	recovery := paxos.Recovery{Promised: h.promised, Learner: h.learner}
	state := machine.New()
	for _, pair := range pairs {
		switch pair.Key[0] {
		case keyState:
			snapshot, err := peer.DecodeStoredSnapshot(pair.Value)
			if err != nil {
				return fmt.Errorf("stored state: %w", err)
			}
			restored, err := machine.Restore(snapshot.State)
			if err != nil {
				return fmt.Errorf("stored state at slot %d: %w", snapshot.Applied, err)
			}
			if restored.Hash() != snapshot.Hash {
				return fmt.Errorf("stored state at slot %d hashes to %x, it says %x", snapshot.Applied, restored.Hash(), snapshot.Hash)
			}
			recovery.Snapshot, state = &snapshot, restored
		case keyRing:
			if plantedUnreadRing {
				continue
			}
			record, err := peer.DecodeRingRecord(pair.Value)
			if err != nil {
				return fmt.Errorf("ring record %x: %w", pair.Key[1:], err)
			}
			if position := int(binary.BigEndian.Uint16(pair.Key[9:])); position == int(record.Record.Slot%paxos.Slot(c.cfg.Window)) {
				recovery.Records = append(recovery.Records, record.Record)
			} else {
				recovery.Misplaced = append(recovery.Misplaced, record.Record)
			}
			if recovery.Promised.Less(record.Promised) {
				recovery.Promised = record.Promised
			}
			recovery.Applied = max(recovery.Applied, record.Applied)
		}
	}
	if h.plain { // what it learned of others after its last write is in no record; a candidate would propose that again
		recovery.Seen = h.applied
	}
	replica, err := paxos.Restore(c.paxosConfig(h), recovery)
	if err != nil {
		return err
	}
	c.heat(h, &hot{replica: replica, state: lagging{machine: state}, inherited: replica.Promised()})
	if recovery.Snapshot != nil {
		h.hot.proof.restart(recovery.Snapshot.Applied, state.Hash())
	}
	if h.freed { // heard while it was cold
		h.freed = false
		replica.Step(&paxos.Message{Kind: paxos.MsgResign, From: replica.Promised().Node, Ballot: replica.Promised()})
	}
	c.obey(h) // replays what was applied, before the first input reaches the node
	return nil
}

// boot takes the restart scan: existence, configuration and lower bounds of every node (rule 7). Pairs come in the order of
// the keys, so nodes come in the order of their handles. What cannot be read stops the server: a row that is skipped would
// be a node that is forgotten, and could be created again beside its own votes. First comes everything but rows, then the rows.
func (c *Core) boot(pairs []storage.Pair) error {
	if c.halted != nil {
		c.halted.next, c.halted.isNext = pairs, true
		return nil
	}
	rest, last := c.booting == 0, c.booting >= c.nextHandle
	if !rest && !last {
		c.bootRows() // storage reads while these are looked at
	}
	return c.bootPage(pairs, rest, last)
}

// bootPage looks at one answer of the restart scan, or at what is left of it.
func (c *Core) bootPage(pairs []storage.Pair, rest, last bool) error {
	decoder, row := peer.Decoder{InternServer: c.internServer}, peer.Row{}
	for i, pair := range pairs {
		switch {
		case pair.Key[0] == keyRow && len(pair.Key) == 9:
			err := c.restoreRow(&pair, &decoder, &row)
			if errors.Is(err, peer.ErrDamaged) {
				c.halt(pairs[i:], last, err)
				return nil
			}
			if err != nil {
				return err
			}
		case pair.Key[0] == keyTombstone:
			stone, err := peer.DecodeTombstone(pair.Value)
			if err != nil {
				return fmt.Errorf("tombstone %q: %w", pair.Key[1:], err)
			}
			c.dig(stone.Cell, stone.Incarnation)
		case pair.Key[0] == keyMemory:
			if err := c.restoreMemory(&pair); err != nil {
				return err
			}
		case pair.Key[0] == keyJournal && len(pair.Key) == 9:
			c.journal.found = append(c.journal.found, pair)
		case bytes.Equal(pair.Key, []byte{keyPeriod}):
			longest, err := peer.DecodePeriod(pair.Value)
			if err != nil {
				return fmt.Errorf("support period: %w", err)
			}
			c.support.longest = time.Duration(longest)
		case bytes.Equal(pair.Key, []byte{keyLives}):
			lives, err := peer.DecodeLives(pair.Value)
			if err != nil {
				return fmt.Errorf("lives of this directory: %w", err)
			}
			c.lives = lives
		case bytes.Equal(pair.Key, []byte{keyHandles}):
			next, err := peer.DecodeHandles(pair.Value)
			if err != nil {
				return fmt.Errorf("next handle: %w", err)
			}
			c.nextHandle = Handle(next)
		case pair.Key[0] == keyPointer:
			if err := c.restorePointer(&pair); err != nil {
				return err
			}
		case bytes.Equal(pair.Key, []byte{keyAge}) && len(pair.Value) == 8:
			c.pointers.base = binary.BigEndian.Uint64(pair.Value)
		default:
			return fmt.Errorf("restart scan: key %x is not known to this version", pair.Key)
		}
	}
	if rest {
		c.restoredPointers()
		c.bootRows()
	}
	if rest || !last {
		return nil
	}
	return c.dissolveFound()
}

// begin ends the restart scan.
func (c *Core) begin() {
	c.ready = true
	c.putPeriod()
	c.putLife()
	c.distrust()
}
