package core

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"physalia/cell"
	"physalia/internal/wire"
	"physalia/internal/wire/peer"
	"physalia/node/storage"
	"physalia/paxos"
)

// onDisk is what a server's disk holds in a range of keys.
func (c *colony) onDisk(i int, r storage.Range) (pairs []storage.Pair) {
	b := c.servers[i]
	read := storage.OpenModel(b.model.Disk(), reader(func(p []storage.Pair) { pairs = p }))
	read.Read(1, r)
	read.Pump()
	return pairs
}

// rows is the server's journal, rings what stands under the keys of its nodes.
func (c *colony) rows(i int) []storage.Pair  { return c.onDisk(i, journalRange(0, 1<<62)) }
func (c *colony) rings(i int) []storage.Pair { return c.onDisk(i, kindRange(keyRing)) }

// What is written goes to the journal; a restart moves it to the keys of its nodes, and finds what a node said before and after it went cold.
func TestJournalAcrossRestarts(t *testing.T) {
	c := newColony(t, 7)
	c.create("vol-1")
	c.create("vol-2")
	for round := range uint64(4) {
		for n := 5*round + 1; n <= 5*round+5; n++ {
			c.mustCount(0, "vol-1", n, int64(n))
			c.mustCount(0, "vol-2", n, int64(n))
		}
		if round%2 == 1 { // what the journal holds is older than what stands in the rings when the next life of the nodes ends
			c.wait(2 * Default().IdleAfter)
			c.mustCount(0, "vol-1", 5*round+6, int64(5*round+6))
			c.mustCount(0, "vol-2", 5*round+6, int64(5*round+6))
		}
		for i := range 7 {
			if len(c.rows(i)) == 0 {
				t.Errorf("round %d: %s has nothing in its journal", round, serverID(i))
			}
		}
		for i := range 7 {
			c.restart(i)
			if rows, rings := len(c.rows(i)), len(c.rings(i)); rows > 0 || rings == 0 {
				t.Errorf("round %d: %s has %d rows in its journal and %d in its rings after a restart", round, serverID(i), rows, rings)
			}
		}
		c.wait(3 * time.Second)
		if round%2 == 1 {
			continue
		}
		c.mustRead(0, "vol-1", int64(5*round+5))
		c.mustRead(0, "vol-2", int64(5*round+5))
	}
	for i := range 7 {
		if len(c.servers[i].sick) > 0 {
			t.Errorf("%s: out of service: %q", serverID(i), c.servers[i].sick)
		}
	}
}

// The journal stays about as long as it should, and is empty when nobody writes.
func TestJournalIsKeptShort(t *testing.T) {
	const most = 4 << 10
	c := newColony(t, 7)
	for i := range 7 {
		c.servers[i].core.cfg.JournalBytes = most
	}
	for k := range 20 {
		c.create(cell.ID(fmt.Sprintf("vol-%d", k)))
	}
	longest := 0
	for n := range 200 {
		c.mustCount(0, cell.ID(fmt.Sprintf("vol-%d", n%20)), uint64(n/20+1), int64(n/20+1))
		c.wait(20 * time.Millisecond)
		for i := range 7 {
			size := 0
			for _, p := range c.rows(i) {
				size += len(p.Value)
			}
			longest = max(longest, size)
		}
	}
	if longest < most/2 || longest > 2*most {
		t.Errorf("a journal had up to %d bytes, it should have %d", longest, most)
	}
	c.wait(2 * Default().IdleAfter)
	for i := range 7 {
		j := &c.servers[i].core.journal
		if rows := c.rows(i); len(rows) > 0 || j.bytes > 0 || len(j.segments) != 1 || j.segments[0].nodes != 0 {
			t.Errorf("%s: %d rows, %d bytes, segments %+v when all nodes are cold", serverID(i), len(rows), j.bytes, j.segments)
		}
	}
	for k := range 20 {
		c.mustCount(0, cell.ID(fmt.Sprintf("vol-%d", k)), 11, 11)
	}
}

// Whose votes stood in a damaged row nobody knows, so the server must not go on, and says what to do.
func TestDamagedJournalStopsTheServer(t *testing.T) {
	c := newColony(t, 7)
	c.create("vol-1")
	c.writes(1, 3)
	core := c.servers[2].core
	pairs := c.rows(2)
	pairs[0].Value[len(pairs[0].Value)/2] ^= 1
	core.journal.found = pairs
	err := core.dissolveFound()
	var e *cell.Error
	if !errors.As(err, &e) || e.Kind != cell.Quarantined || !errors.Is(err, peer.ErrDamaged) || !strings.Contains(e.Hint, "empty one") {
		t.Errorf("a damaged row of the journal: %v", err)
	}
}

// Who may have to go back to a build without a journal writes none, and dissolves what there is.
func TestNoJournalForOlderBuilds(t *testing.T) {
	c := newColony(t, 7)
	c.create("vol-1")
	c.writes(1, 3)
	c.tune = func(cfg *Config) { cfg.Unpacked = true }
	c.restart(2)
	c.wait(3 * time.Second)
	c.writes(4, 6)
	c.wait(time.Second)
	if rows, rings := c.rows(2), c.rings(2); len(rows) > 0 || len(rings) != 6 {
		t.Errorf("%d rows in the journal, %d records in rings", len(rows), len(rings))
	}
}

// The records of a node that goes out of service are moved to its keys while the others go on, and a build that understands more finds
// all of them there.
func TestStrandedRecordsAreMoved(t *testing.T) {
	c := newColony(t, 7)
	later := func(cfg *Config) {
		if cfg.Server != serverID(2) {
			return
		}
		cfg.Events.Applied = func(id cell.ID, _ cell.Incarnation, d *paxos.Delivery) {
			if id == "vol-1" && d.Slot == 2 {
				d.Entry.Commands = [][]byte{{'C', 0xff}} // what a later version may log
			}
		}
	}
	later(&c.servers[2].core.cfg)
	c.create("vol-1")
	c.create("vol-2")
	c.writes(1, 3)
	c.mustCount(0, "vol-2", 1, 1)
	b := c.servers[2]
	if c.machine(2, "vol-1"); len(b.sick) != 1 {
		t.Fatalf("out of service: %q", b.sick)
	}
	c.wait(time.Second)
	if j := &b.core.journal; len(j.stranded) > 0 || j.dissolving != nil || j.segments[0].nodes != 1 {
		t.Errorf("stranded: %v, segments %+v", j.stranded, j.segments)
	}
	if rings := c.rings(2); len(rings) != 3 {
		t.Errorf("%d records in rings, want those of the node that is out of service", len(rings))
	}
	c.tune = func(cfg *Config) { cfg.CommandSet = wire.CommandSet + 1 } // a build that understands it
	b.sick = nil
	c.restart(2)
	c.wait(3 * time.Second)
	if r := c.read(2, "vol-1", true); r.Err != nil || len(b.sick) > 0 {
		t.Errorf("after the next version: %v, out of service: %q", r.Err, b.sick)
	}
	c.writes(4, 6)
}

// Where the ring of a node is damaged that has records in the journal, this one node goes out of service, whichever others are moved
// together with it.
func TestDamagedRingBesideTheJournal(t *testing.T) {
	c := newColony(t, 7)
	for k := range 3 {
		id := cell.ID(fmt.Sprintf("vol-%d", k+1))
		c.create(id)
		for n := range uint64(3) {
			c.mustCount(0, id, n+1, int64(n+1))
		}
	}
	c.crash(2, true)
	c.start(2)
	b, reads, wrong := c.servers[2], 0, fmt.Errorf("read: %w", storage.ErrCorrupt)
	readsDamaged := func() bool { // of the second node
		d := b.core.journal.dissolving
		return d != nil && len(b.loaded) > 0 && slices.ContainsFunc(d.records[:d.reading], func(r journaled) bool { return r.handle == 2 })
	}
	for range 50 {
		b.model.Pump()
		if readsDamaged() {
			b.loaded, reads = nil, reads+1
			if err := b.core.OnLoaded(ringLoad, nil, wrong); err != nil {
				t.Fatal(err)
			}
		}
		c.turn(b, false)
	}
	if !b.core.Ready() || reads != 2 || len(b.sick) != 1 || !strings.HasPrefix(b.sick[0], string(Damaged)) {
		t.Fatalf("ready %v after %d reads of a damaged ring, out of service: %q", b.core.Ready(), reads, b.sick)
	}
	c.settle()
	c.wait(3 * time.Second)
	c.mustFail(c.read(2, "vol-2", true), cell.Quarantined)
	for _, id := range []cell.ID{"vol-1", "vol-3"} {
		c.mustBe(c.read(2, id, true), 3)
	}
}
