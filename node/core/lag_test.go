package core

import (
	"strings"
	"testing"
	"time"

	"physalia/cell"
	"physalia/cell/machine"
	"physalia/internal/wire"
	"physalia/paxos"
)

// machine is the machine on server i with everything applied that was delivered; nil when the node is not hot.
func (c *colony) machine(i int, id cell.ID) *machine.Machine {
	core := c.servers[i].core
	h := core.warm[id]
	if h == nil || !core.makeCurrent(h) {
		return nil
	}
	return h.hot.state.machine
}

// waits is how many delivered slots wait on server i.
func (c *colony) waits(i int, id cell.ID) int {
	return len(c.servers[i].core.warm[id].hot.state.waiting)
}

// A follower lets slots wait, never many; whoever looks finds all of them, and so does a restart.
func TestFollowersApplyTogether(t *testing.T) {
	c := newColony(t, 7)
	c.create("vol-1")
	most := 0
	for n := uint64(1); n <= 100; n++ {
		c.mustCount(0, "vol-1", n, int64(n))
		if c.waits(0, "vol-1") > 0 {
			t.Fatalf("after %d writes %d slots wait at the proposer", n, c.waits(0, "vol-1"))
		}
		most = max(most, c.waits(1, "vol-1"))
	}
	if want := min(lagMax, c.window) - 1; most != want { // a state is stored once per window, and covers what waits
		t.Errorf("up to %d slots wait, want %d", most, want)
	}
	c.wait(time.Second) // the others are told that the last one is chosen
	for n := uint64(101); c.waits(2, "vol-1") == 0 || c.waits(3, "vol-1") == 0; n++ {
		c.mustCount(0, "vol-1", n, int64(n))
	}
	c.wait(time.Second)
	c.restart(3)
	c.wait(acquainted)
	c.read(3, "vol-1", true) // loads it
	last := uint64(c.machine(0, "vol-1").Revision()) + 1
	c.mustCount(0, "vol-1", last, int64(last))
	c.wait(time.Second)
	want := c.machine(0, "vol-1").Snapshot(nil)
	for _, i := range []int{2, 3} {
		if r := c.read(i, "vol-1", true); r.Err != nil {
			t.Fatal(r.Err)
		}
		if c.waits(i, "vol-1") > 0 || string(c.machine(i, "vol-1").Snapshot(nil)) != string(want) {
			t.Errorf("%d slots wait on %s, or its state is another one", c.waits(i, "vol-1"), serverID(i))
		}
	}
}

// What is not understood takes a node out of service once it is applied, by whoever looks, and is never skipped (rule 9). Until then the
// node votes, and what it stored holds the slot.
func TestPoisonWaits(t *testing.T) {
	for name, look := range map[string]func(*colony){
		"a read":      func(c *colony) { c.mustFail(c.read(2, "vol-1", true), cell.Quarantined) },
		"explaining":  func(c *colony) { c.explain(2, "vol-1") },
		"a report":    func(c *colony) { c.servers[2].core.Report(&wire.ReportRequest{}) },
		"going cold":  func(c *colony) { c.wait(2 * Default().IdleAfter) },
		"more writes": func(c *colony) { c.mustCount(0, "vol-1", 4, 4); c.writes(5, 4+lagMax) },
		"a restart": func(c *colony) {
			c.restart(2)
			c.wait(acquainted)
			c.mustFail(c.read(2, "vol-1", true), cell.Quarantined)
		},
		"leading": func(c *colony) {
			c.crash(0, false)
			c.crash(1, false)
			c.wait(3 * time.Second)
			c.send(2, wire.MethodTxn, &wire.TxnRequest{Header: header("vol-1"), Request: requestOf(9), Txn: increment("n")})
			c.wait(3 * time.Second)
		},
	} {
		t.Run(name, func(t *testing.T) {
			c := newColony(t, 7)
			c.tune = func(cfg *Config) {
				if cfg.Server != serverID(2) {
					return
				}
				cfg.Events.Applied = func(_ cell.ID, _ cell.Incarnation, d *paxos.Delivery) {
					if d.Slot == 2 {
						d.Entry.Commands = [][]byte{{'C', 0xff}} // what a later version may log
					}
				}
			}
			c.tune(&c.servers[2].core.cfg)
			c.create("vol-1")
			c.writes(1, 3)
			if c.waits(2, "vol-1") < 2 || len(c.servers[2].sick) > 0 {
				t.Fatalf("%d slots wait, out of service: %q", c.waits(2, "vol-1"), c.servers[2].sick)
			}
			look(c)
			if sick := c.servers[2].sick; len(sick) != 1 || !strings.HasPrefix(sick[0], string(Unknown)) || !strings.Contains(sick[0], "slot 2: ") {
				t.Errorf("out of service: %q", sick)
			}
			for i := range 7 {
				if i != 2 && len(c.servers[i].sick) > 0 {
					t.Errorf("%s is out of service: %q", serverID(i), c.servers[i].sick)
				}
			}
			c.tune = func(cfg *Config) { cfg.CommandSet = wire.CommandSet + 1 } // a build that understands it finds everything
			c.servers[2].sick = nil
			c.restart(2)
			c.wait(acquainted)
			r := c.read(2, "vol-1", true)
			if r.Err != nil || len(c.servers[2].sick) > 0 {
				t.Errorf("after the next version: %v, out of service: %q", r.Err, c.servers[2].sick)
			}
		})
	}
}

// writes counts up from one number to another.
func (c *colony) writes(from, to uint64) {
	c.t.Helper()
	for n := from; n <= to; n++ {
		c.mustCount(0, "vol-1", n, int64(n))
	}
}
