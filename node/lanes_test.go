package node

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"physalia/cell"
	"physalia/client"
	"physalia/internal/wire"
)

// lane is one direction of one kind of connection between two servers, by index.
type lane struct {
	from, to int
	purpose  wire.Purpose
}

// lanes is a network between the servers of a colony that can lose what one lane carries, and only that. A lane that is lost
// looks well to its sender, as it does until the kernel gives up.
type lanes struct {
	servers func(peerAddr string) int // index of the server at an address
	lost    atomic.Pointer[func(lane) bool]
	eaten   atomic.Uint64 // writes that were lost
}

func (n *lanes) isLost(l lane) bool {
	lost := n.lost.Load()
	return lost != nil && (*lost)(l)
}

// cut loses the lanes that lost accepts; nil loses none.
func (n *lanes) cut(lost func(lane) bool) { n.lost.Store(&lost) }

func (n *lanes) heal() { n.lost.Store(nil) }

// dialer is how server i opens its lanes.
func (n *lanes) dialer(i int) func(ctx context.Context, network, addr string) (net.Conn, error) {
	return func(ctx context.Context, network, addr string) (net.Conn, error) {
		var d net.Dialer
		nc, err := d.DialContext(ctx, network, addr)
		if err != nil {
			return nil, err
		}
		return &laneConn{Conn: nc, net: n, lane: lane{from: i, to: n.servers(addr)}}, nil
	}
}

// laneConn is one lane, seen from the side that dialled. Its first write is the Hello, which tells what it is for.
type laneConn struct {
	net.Conn
	net *lanes

	mu   sync.Mutex
	lane lane
	torn bool // something was lost: when the network is well again, the connection is not
}

func (c *laneConn) Write(b []byte) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.lane.purpose == 0 {
		var hello wire.Hello
		if err := wire.Unmarshal(b[wire.FrameHeaderBytes:], &hello); err != nil {
			return 0, err
		}
		c.lane.purpose = hello.Purpose
	}
	switch lost := c.net.isLost(c.lane); {
	case lost:
		c.torn = true
		c.net.eaten.Add(1)
		return len(b), nil
	case c.torn:
		return 0, errors.Join(syscall.ECONNRESET, c.Conn.Close())
	}
	return c.Conn.Write(b)
}

// Every way to lose a kind of lane around one server that proposes, or around all. Heartbeats that say that all is well while
// Paxos is stuck must not keep a proposer in office (rule 13), and Paxos that works must not need them.
func TestLanes(t *testing.T) {
	const victim = 0
	of := func(p wire.Purpose) func(lane) bool {
		return func(l lane) bool { return l.purpose == p && (l.from == victim || l.to == victim) }
	}
	from := func(f func(lane) bool) func(lane) bool { return func(l lane) bool { return f(l) && l.from == victim } }
	to := func(f func(lane) bool) func(lane) bool { return func(l lane) bool { return f(l) && l.to == victim } }
	for _, c := range []struct {
		name string
		lost func(lane) bool
	}{
		{"paxos", of(wire.ForPaxos)},
		{"paxos out", from(of(wire.ForPaxos))},
		{"paxos in", to(of(wire.ForPaxos))},
		{"all but heartbeats", func(l lane) bool { return l.purpose != wire.ForHeartbeat && (l.from == victim || l.to == victim) }},
		{"heartbeats", of(wire.ForHeartbeat)},
		{"heartbeats everywhere", func(l lane) bool { return l.purpose == wire.ForHeartbeat }},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			w := startLanes(t)
			w.work()
			w.net.cut(c.lost)
			slowest := w.written(2 * supportDefault)
			if w.net.eaten.Load() == 0 {
				t.Error("nothing was lost")
			}
			w.net.heal()
			slowest = max(slowest, w.written(supportDefault))
			w.conclude()
			t.Logf("longest unwritable: %v, promised are 3 s", slowest)
		})
	}
}

// lanesWorld is a colony on such a network, a cell per server, and a writer per cell.
type lanesWorld struct {
	*testing.T
	net    *lanes
	client *client.Client
	cells  []cell.ID
	stop   chan struct{}
	end    func() // closes stop, once
	wait   sync.WaitGroup
	since  []atomic.Int64 // per cell: when its newest acknowledged write was called
	acked  []uint64       // per cell, of its writer
	began  time.Time
}

func startLanes(t *testing.T) *lanesWorld {
	w := &lanesWorld{T: t, stop: make(chan struct{}), began: time.Now(), since: make([]atomic.Int64, 7), acked: make([]uint64, 7)}
	w.end = sync.OnceFunc(func() { close(w.stop) })
	var mu sync.Mutex
	addrs := make(map[string]int)
	w.net = &lanes{servers: func(addr string) int {
		mu.Lock()
		defer mu.Unlock()
		return addrs[addr]
	}}
	c := newTestColony(t, 7, func(i int, cfg *Config) { cfg.dialPeer = w.net.dialer(i) })
	var clients []string
	for i, s := range c.servers { // nobody dials before the first cell exists
		mu.Lock()
		addrs[s.PeerAddr()] = i
		mu.Unlock()
		clients = append(clients, s.ClientAddr())
	}
	for i := range c.servers {
		w.cells = append(w.cells, cell.ID(fmt.Sprintf("vol-%d", i)))
		c.createOwned(w.cells[i], uint64(i+1))
	}
	var err error
	if w.client, err = client.New(context.Background(), client.Config{Servers: clients, CallTimeout: 2 * patience}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		w.end()
		w.client.Close()
		w.wait.Wait()
	})
	return w
}

// counterKey is what the writers increment.
const counterKey = "counter"

// work starts the writers and waits until each has written. A writer also reads: what it reads is never less than what it knows.
func (w *lanesWorld) work() {
	for i, id := range w.cells {
		w.wait.Go(func() {
			pause := time.NewTicker(20 * time.Millisecond)
			defer pause.Stop()
			for ; ; w.acked[i]++ {
				select {
				case <-w.stop:
					return
				case <-pause.C:
				}
				called := time.Since(w.began)
				if _, err := w.client.Cell(id).Increment(context.Background(), counterKey, 1); err != nil {
					w.Error(err)
					return
				}
				entry, err := w.client.Cell(id).Get(context.Background(), counterKey)
				if n, _ := entry.Value.AsInt64(); err != nil || n != int64(w.acked[i]+1) {
					w.Errorf("%s: the only writer has written %d times, and reads %d: %v", id, w.acked[i]+1, n, err)
					return
				}
				w.since[i].Store(int64(called))
			}
		})
	}
	w.written(0)
}

// written lets some time pass in which the writers must write all the time, and then waits until each has written since. It
// returns the longest time that a cell had no write.
func (w *lanesWorld) written(d time.Duration) (slowest time.Duration) {
	w.Helper()
	from := time.Since(w.began)
	look := time.NewTicker(time.Millisecond)
	defer look.Stop()
	for range look.C {
		now := time.Since(w.began)
		behind := false
		for i := range w.since {
			newest := max(time.Duration(w.since[i].Load()), from)
			slowest = max(slowest, now-newest)
			behind = behind || newest <= from+d
		}
		if !behind {
			break
		}
		if slowest > patience {
			w.Fatalf("waited %v in vain: every cell is written", slowest)
		}
	}
	return slowest
}

// conclude stops the writers; every cell must have counted exactly the acknowledged writes.
func (w *lanesWorld) conclude() {
	w.end()
	w.wait.Wait()
	var got []uint64
	for _, id := range w.cells {
		entry, err := w.client.Cell(id).Get(context.Background(), counterKey)
		n, _ := entry.Value.AsInt64()
		if err != nil {
			w.Error(err)
		}
		got = append(got, uint64(n))
	}
	if !slices.Equal(got, w.acked) {
		w.Errorf("the cells counted %d, acknowledged were %d", got, w.acked)
	}
}
