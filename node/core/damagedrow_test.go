package core

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"physalia/cell"
	"physalia/internal/wire"
	"physalia/internal/wire/peer"
	"physalia/node/storage"
	"physalia/paxos"
)

// scarred is a disk with many nodes, and with rows that are damaged where it is said.
func scarred(t *testing.T, nodes int, damaged func(i int) bool) map[string][]byte {
	disk := map[string][]byte{}
	l := newLonely(t)
	if err := l.answer(nil); err != nil {
		t.Fatal(err)
	}
	l.create(0, 1)
	row := peer.Row{Incarnation: 4, Node: 1, Promised: paxos.Ballot{Round: 1, Node: 1}, Configuration: *l.core.find("vol-00000000000000000").configuration}
	for i := range nodes {
		row.Cell = cell.ID(fmt.Sprintf("vol-%d", i))
		stored := peer.AppendRow(nil, &row)
		if damaged(i) {
			stored[len(stored)/2] ^= 4
		}
		disk[string(handleKey(nil, keyRow, Handle(i+1)))] = stored
		disk[string(handleKey(nil, keyName, Handle(i+1)))] = peer.AppendNodeName(nil, &peer.NodeName{Cell: row.Cell, Incarnation: 4, Node: 1})
	}
	disk[string([]byte{keyHandles})] = peer.AppendHandles(nil, uint64(nodes+1))
	return disk
}

// Rows that are damaged take their nodes out of service, wherever they stand in the restart scan and in whatever order the disk answers;
// all others serve, and the damaged nodes are neither forgotten nor made anew.
func TestDamagedRowsStopTheirNodesAlone(t *testing.T) {
	const nodes = 2*bootHandles + 11
	bad := map[int]bool{0: true, 1: true, bootHandles - 2: true, bootHandles - 1: true, bootHandles: true, nodes - 2: true, nodes - 1: true}
	disk := scarred(t, nodes, func(i int) bool { return bad[i] })
	for _, backwards := range []bool{false, true} {
		l := newLonely(t)
		l.backwards = backwards
		if err := l.answer(disk); err != nil || !l.core.Ready() {
			t.Fatalf("backwards %v: ready %v, %v", backwards, l.core.Ready(), err)
		}
		if n, _, _ := l.core.Counts(); n != nodes || l.core.Quarantined()[Damaged] != len(bad) {
			t.Errorf("%d nodes of %d, quarantined %v", n, nodes, l.core.Quarantined())
		}
		page := l.core.SickNodes(&wire.Census{Limit: 5})
		rest := l.core.SickNodes(&wire.Census{Limit: 5, After: page.Nodes[4].Handle})
		if len(page.Nodes) != 5 || !page.More || len(rest.Nodes) != 2 || rest.More {
			t.Errorf("pages of %d and %d nodes", len(page.Nodes), len(rest.Nodes))
		}
		for _, n := range append(page.Nodes, rest.Nodes...) {
			if i := int(n.Handle) - 1; !bad[i] || n.Cell != cell.ID(fmt.Sprintf("vol-%d", i)) || n.Incarnation != 4 || !strings.HasPrefix(n.Quarantined, "damaged: ") {
				t.Errorf("node %d is %+v", i, n)
			}
		}
		founding := &wire.Founding{Cell: "vol-0", Incarnation: 4, Alpha: 1, Owner: 1}
		for i := range 7 {
			founding.Members = append(founding.Members, wire.Founder{Node: uint64(i + 1), Server: cell.ServerID(fmt.Sprintf("s%d", i))})
		}
		if err := l.core.create(founding); err == nil || err.Kind != cell.Stale {
			t.Errorf("a node whose row is damaged is created anew: %v", err)
		}
		key := string(handleKey(nil, keyRow, 1))
		if out := l.core.Flush(); out.Batch != nil && writes(out.Batch, key) {
			t.Error("the damaged row was overwritten")
		}
		l.core.Recycle()
	}
}

// writes reports whether a batch sets a key.
func writes(b *storage.Batch, key string) bool {
	found := false
	var all pairs
	m := storage.NewModel(&all)
	b.Number = 1
	m.Commit(b)
	m.Read(1, storage.Range{})
	m.Pump()
	for _, p := range all {
		found = found || string(p.Key) == key
	}
	return found
}

// pairs is a sink that keeps what is read.
type pairs []storage.Pair

func (*pairs) Durable(storage.BatchNumber) {}
func (*pairs) Failed(error)                {}
func (p *pairs) ReadDone(_ storage.ReadID, read []storage.Pair, _ error) {
	*p = read
}

// Without a sound name nobody can tell which node would be forgotten: the server must not start.
func TestDamagedRowWithoutNameStopsTheServer(t *testing.T) {
	for what, spoil := range map[string]func(disk map[string][]byte, key string){
		"no name":      func(disk map[string][]byte, key string) { delete(disk, key) },
		"damaged name": func(disk map[string][]byte, key string) { disk[key][5] ^= 1 },
	} {
		disk := scarred(t, 9, func(i int) bool { return i == 3 })
		spoil(disk, string(handleKey(nil, keyName, 4)))
		err := newLonely(t).answer(disk)
		var e *cell.Error
		if !errors.As(err, &e) || e.Kind != cell.Quarantined || !errors.Is(err, peer.ErrDamaged) || e.Hint == "" {
			t.Errorf("%s: %v", what, err)
		}
	}
}

// What only an older build did not understand is looked at again by a newer one; everything else stays out of service.
func TestNewerBuildLooksAgain(t *testing.T) {
	for set, sick := range map[uint32]bool{0: true, 1: true, 2: false, 3: false} {
		c := newColony(t, 7)
		c.create("vol-1")
		c.create("vol-2")
		for n := uint64(1); n <= 3; n++ {
			c.mustCount(0, "vol-1", n, int64(n))
			c.mustCount(0, "vol-2", n, int64(n))
		}
		b := c.servers[2]
		b.core.quarantine(b.core.find("vol-1"), Unknown, "slot 4: a command of the future")
		b.core.quarantine(b.core.find("vol-2"), Violated, "P1")
		c.settle()
		c.tune = func(cfg *Config) { cfg.CommandSet = set }
		c.restart(2)
		for id, want := range map[cell.ID]bool{"vol-1": sick, "vol-2": true} {
			if got := c.servers[2].core.find(id).quarantined != ""; got != want {
				t.Errorf("command set %d, %s: quarantined %v, want %v", set, id, got, want)
			}
		}
		if !sick {
			c.mustCount(0, "vol-1", 4, 4)
			c.wait(noticed)
			c.mustBe(c.read(2, "vol-1", true), 4)
			c.tune = nil
			c.restart(2) // the mark is gone for good, and what no later record says to be applied is learnt again
			c.mustBe(c.read(2, "vol-1", true), 3)
		}
	}
}

// A read that meets a damaged part of the disk takes the node out of service that it lies in, also when several were read in one pass; the
// server goes on.
func TestDamagedReadStopsOneNode(t *testing.T) {
	c := newColony(t, 7)
	c.create("vol-1")
	c.create("vol-2")
	c.mustCount(0, "vol-1", 1, 1)
	c.mustCount(0, "vol-2", 1, 1)
	c.crash(2, true)
	c.start(2)
	c.settle()
	b := c.servers[2]
	b.core.load(b.core.find("vol-1"))
	b.core.load(b.core.find("vol-2"))
	corrupt := func(together int) {
		t.Helper()
		for id, nodes := range b.core.loads {
			if nodes[0].id != "vol-1" {
				continue
			}
			if len(nodes) != together {
				t.Fatalf("%d nodes are read together, want %d", len(nodes), together)
			}
			if err := b.core.OnLoaded(id, nil, fmt.Errorf("read: %w", storage.ErrCorrupt)); err != nil {
				t.Fatal(err)
			}
			return
		}
		t.Fatal("vol-1 is not being read")
	}
	corrupt(2)
	corrupt(1)
	c.settle()
	if n := b.core.Quarantined(); n[Damaged] != 1 || len(n) != 1 {
		t.Fatalf("quarantined %v", n)
	}
	c.mustFail(c.read(2, "vol-1", true), cell.Quarantined)
	c.mustCount(0, "vol-1", 2, 2)
	c.mustCount(0, "vol-2", 2, 2)
	c.wait(noticed)
	c.mustBe(c.read(2, "vol-2", true), 2)
	c.restart(2)
	c.mustFail(c.read(2, "vol-1", true), cell.Quarantined) // it is remembered
}

// A node that is out of service makes room for a learner of its cell with a higher number, and for nobody else; what it held is gone then.
func TestQuarantinedNodeMakesRoomForItsSuccessor(t *testing.T) {
	c := newColony(t, 7)
	c.create("vol-1")
	b := c.servers[2].core
	h := b.find("vol-1")
	learner := &wire.CreateLearner{Cell: "vol-1", Incarnation: h.incarnation, Node: 8, Number: 3, Alpha: 4}
	for i := range 7 {
		if i != 2 {
			learner.Members = append(learner.Members, wire.Founder{Node: uint64(i + 1), Server: serverID(i)})
		}
	}
	if err := b.createLearner(learner); err == nil || err.Kind != cell.Unavailable {
		t.Fatalf("beside a node that is well: %v", err)
	}
	b.quarantine(h, Violated, "a test")
	if err := b.createLearner(learner); err != nil {
		t.Fatal(err)
	}
	if now := b.find("vol-1"); now == h || now.node != 8 || now.quarantined != "" || len(b.Quarantined()) != 0 {
		t.Errorf("%+v, quarantined %v", now, b.Quarantined())
	}
}
