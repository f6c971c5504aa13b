package core

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"reflect"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"physalia/cell"
	"physalia/internal/wire"
	"physalia/internal/wire/peer"
	"physalia/node/storage"
	"physalia/paxos"
)

// lonely is a core whose disk is instant and forgets everything.
type lonely struct {
	t         *testing.T
	core      *Core
	backwards bool // what was asked last is answered first
}

func newLonely(t *testing.T) *lonely {
	t.Helper()
	cfg := Default()
	cfg.Server, cfg.Boot, cfg.Capacity = "s0", 1, 1<<20
	l := &lonely{t: t, core: New(cfg, time.Second, func() *storage.Batch { return &storage.Batch{} })}
	l.core.Flush()
	l.core.Recycle()
	return l
}

// answer gives the core the parts of the restart scan, as storage would.
func (l *lonely) answer(disk map[string][]byte) error {
	asked := []Load{{ID: bootLoad, Ranges: []storage.Range{{Start: []byte{0x01}, End: []byte{keyRow}}, {Start: []byte{keyRow + 1}, End: []byte{keyName}},
		{Start: []byte{keyName + 1}, End: []byte{0xff}}}}}
	for len(asked) > 0 {
		var pairs []storage.Pair
		at := 0
		if l.backwards {
			at = len(asked) - 1
		}
		for _, r := range asked[at].Ranges {
			pairs = append(pairs, between(disk, r)...)
		}
		if err := l.core.OnLoaded(asked[at].ID, pairs, nil); err != nil {
			return err
		}
		asked = append(slices.Delete(asked, at, at+1), l.core.Flush().Loads...)
		l.core.Recycle()
	}
	return nil
}

// between is what a disk holds in a range, in order.
func between(disk map[string][]byte, r storage.Range) (pairs []storage.Pair) {
	for _, key := range slices.Sorted(maps.Keys(disk)) {
		if key >= string(r.Start) && key < string(r.End) {
			pairs = append(pairs, storage.Pair{Key: []byte(key), Value: disk[key]})
		}
	}
	return pairs
}

// create founds nodes, whose juries are drawn from a hundred servers.
func (l *lonely) create(from, to int) {
	l.t.Helper()
	dice := rand.New(rand.NewPCG(1, uint64(from)))
	for i := from; i < to; {
		m := &wire.CreateNodes{}
		for ; i < to && len(m.Foundings) < wire.BatchMax; i++ {
			f := wire.Founding{Cell: cell.ID(fmt.Sprintf("vol-%017x", i)), Incarnation: 1, Alpha: 8, Owner: 1 + uint64(dice.IntN(7))}
			for n, other := range append([]int{0}, dice.Perm(99)[:6]...) {
				if n > 0 {
					other++
				}
				f.Members = append(f.Members, wire.Founder{Node: uint64(n + 1), Server: cell.ServerID(fmt.Sprintf("s%d", other)), ClientAddr: "127.0.0.1:1"})
			}
			m.Foundings = append(m.Foundings, f)
		}
		l.core.CreateNodes(Origin{}, m)
		l.core.Flush()
		l.core.OnDurable(l.core.Handed())
		l.core.Recycle()
		for _, r := range l.core.Flush().Replies {
			for _, o := range r.Result.(*wire.Outcomes).Outcomes {
				if o.Err != nil {
					l.t.Fatal(o.Err)
				}
			}
		}
		l.core.Recycle()
	}
}

// The budget of a node that nobody uses: bytes of memory, and nothing that runs.
func TestIdleNodeBudget(t *testing.T) {
	const nodes, budget = 50_000, 160
	l := newLonely(t)
	if err := l.answer(nil); err != nil {
		t.Fatal(err)
	}
	l.create(0, 1000) // servers, scratch
	goroutines := runtime.NumGoroutine()
	before := heapInUse()
	l.create(1000, nodes+1000)
	for range 10 {
		l.core.Tick(l.core.now + 20*time.Millisecond)
		l.core.Flush()
		l.core.Recycle()
	}
	per := (heapInUse() - before) / nodes
	t.Logf("%d bytes per idle node", per)
	if per > budget {
		t.Errorf("%d bytes per idle node, allowed are %d", per, budget)
	}
	if n, hot, _ := l.core.Counts(); n != nodes+1000 || hot != 0 || len(l.core.warm) != 0 {
		t.Errorf("%d nodes, %d hot, %d warm", n, hot, len(l.core.warm))
	}
	if n := runtime.NumGoroutine(); n != goroutines {
		t.Errorf("%d goroutines, there were %d", n, goroutines)
	}
	// A turn in which nothing happens looks at none of them.
	if allocs := testing.AllocsPerRun(100, func() { l.core.Tick(l.core.now); l.core.Flush(); l.core.Recycle() }); allocs != 0 {
		t.Errorf("an idle turn allocates %v times", allocs)
	}
	runtime.KeepAlive(l)
}

func heapInUse() int {
	var m runtime.MemStats
	runtime.GC()
	runtime.GC()
	runtime.ReadMemStats(&m)
	return int(m.HeapAlloc)
}

// A node that was forgotten is the same node, whatever it was.
func TestForgottenNodeIsTheSame(t *testing.T) {
	rapid.Check(t, func(r *rapid.T) {
		c := New(Default(), 0, func() *storage.Batch { return &storage.Batch{} })
		server := func(what string) paxos.ServerID {
			return paxos.ServerID(fmt.Sprintf("s%d", rapid.IntRange(0, 300).Draw(r, what)))
		}
		number := rapid.Uint64Max(1 << 40)
		conf := &paxos.Configuration{Number: paxos.ConfigurationNumber(number.Draw(r, "number")), Since: paxos.Slot(number.Draw(r, "since")), Alpha: 8,
			Owner: 3, Next: paxos.NodeNumber(rapid.Uint32().Draw(r, "next")), Unsettled: rapid.Bool().Draw(r, "unsettled")}
		for range rapid.IntRange(1, paxos.JuryMax).Draw(r, "members") {
			conf.Members = append(conf.Members, paxos.Member{Node: paxos.NodeNumber(rapid.Uint32().Draw(r, "node")), Server: server("member")})
		}
		for range rapid.IntRange(0, paxos.LearnersMax).Draw(r, "learners") {
			conf.Learners = append(conf.Learners, paxos.Learner{Member: paxos.Member{Node: 9, Server: server("learner")}, Request: rapid.Uint64().Draw(r, "request")})
		}
		if rapid.Bool().Draw(r, "left") {
			conf.Left = paxos.Member{Node: 5, Server: server("left")}
		}
		h := &hosted{id: "vol-1", incarnation: 7, node: 3, handle: 12, configuration: conf, founding: rapid.Uint64().Draw(r, "founding"),
			promised: paxos.Ballot{Round: 1 << 40, Node: 9}, sealed: rapid.Bool().Draw(r, "sealed"), virgin: rapid.Bool().Draw(r, "virgin"),
			learner: rapid.Bool().Draw(r, "learner")}
		c.add(h)
		c.cooling = append(c.cooling, h)
		c.forget()
		if len(c.warm) != 0 {
			r.Fatal("it is warm still")
		}
		back := c.find("vol-1")
		if back == h || !reflect.DeepEqual(back, h) {
			r.Fatalf("it was %+v with %+v, it is %+v with %+v", h, h.configuration, back, back.configuration)
		}
	})
}

// The restart scan comes in parts, over gaps in the handles; it finds every node, and stops at what it does not understand.
func TestRestartScanInParts(t *testing.T) {
	disk := map[string][]byte{}
	l := newLonely(t)
	if err := l.answer(nil); err != nil {
		t.Fatal(err)
	}
	l.create(0, 1)
	const nodes = 3*bootHandles + 7
	row := peer.Row{Incarnation: 1, Node: 1, Promised: paxos.Ballot{Round: 1, Node: 1}, Configuration: *l.core.find("vol-00000000000000000").configuration}
	for i := range nodes {
		row.Cell, row.Quarantined = cell.ID(fmt.Sprintf("vol-%d", i)), ""
		if i == 5000 {
			row.Quarantined = "a test"
		}
		disk[string(handleKey(nil, keyRow, Handle(3*i+1)))] = peer.AppendRow(nil, &row)
	}
	disk[string([]byte{keyHandles})] = peer.AppendHandles(nil, 3*nodes+1)
	l = newLonely(t)
	if err := l.answer(disk); err != nil || !l.core.Ready() {
		t.Fatal(err)
	}
	if n, _, _ := l.core.Counts(); n != nodes || len(l.core.warm) != 1 {
		t.Errorf("%d nodes of %d, %d warm", n, nodes, len(l.core.warm))
	}
	if info := l.core.ListNodes(&wire.ListNodes{After: 3*5000 + 0, Limit: 1}).Nodes[0]; info.Quarantined != "a test" || len(info.Members) != 7 {
		t.Errorf("node 5000 is %+v", info)
	}
	if s := l.core.servers["s0"]; s.shared != nodes {
		t.Errorf("%d nodes are shared with the server itself", s.shared)
	}
	first := disk[string(handleKey(nil, keyRow, 1))]
	for _, damaged := range []struct {
		at    string
		value []byte
		what  string
	}{
		{"h\xff", nil, "not known"},
		{string(handleKey(nil, keyRow, 2)), first, "are both of"},
		{string(handleKey(nil, keyRow, 1+3*bootHandles)), []byte("x"), "nothing else tells of which cell it is"},
	} {
		whole := disk[damaged.at]
		disk[damaged.at] = damaged.value
		if err := newLonely(t).answer(disk); err == nil || !strings.Contains(err.Error(), damaged.what) {
			t.Errorf("%s: %v", damaged.what, err)
		}
		if disk[damaged.at] = whole; whole == nil {
			delete(disk, damaged.at)
		}
	}
}
