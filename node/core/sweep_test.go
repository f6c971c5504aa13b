package core

import (
	"fmt"
	"testing"
	"time"

	"physalia/cell"
	"physalia/internal/wire"
	"physalia/paxos"
)

// fleet is seven servers that lead as many cells each, all written once.
func fleet(t *testing.T, each int, tune func(*Config)) (*colony, []cell.ID) {
	c := newColony(t, 7)
	var ids []cell.ID
	for n := range 7 * each {
		id, order := cell.ID(fmt.Sprintf("vol-%d", n)), []int{}
		for i := range 7 {
			order = append(order, (n+i)%7)
		}
		for _, i := range order {
			if err := c.createAt(i, foundingOf(id, 1, order...)); err != nil {
				t.Fatal(err)
			}
		}
		ids = append(ids, id)
	}
	c.wait(acquainted)
	for n, id := range ids {
		c.mustCount(n%7, id, 1, 1)
	}
	c.wait(2 * time.Second) // from now on a refused connection means that nobody is there
	c.tune = tune
	for _, b := range c.servers {
		tune(&b.core.cfg)
	}
	return c, ids
}

// sweeping is a fleet whose servers sweep, and whose nodes are cold unless they lead.
func sweepingFleet(t *testing.T, each int) (*colony, []cell.ID) {
	c, ids := fleet(t, each, func(cfg *Config) { cfg.SweepPerTick, cfg.IdleAfter = 2, time.Second })
	c.wait(5 * time.Second)
	for i, b := range c.servers {
		if _, hot, led := b.core.Counts(); hot != led || led != each {
			t.Fatalf("%s leads %d cells, and %d nodes are hot; want %d of both", serverID(i), led, hot, each)
		}
	}
	return c, ids
}

// leaderOf returns the servers that lead a cell.
func (c *colony) leaderOf(id cell.ID) (led []int) {
	for i, b := range c.servers {
		if b.core == nil {
			continue
		}
		if r, _ := b.core.Inspect(id); r != nil && r.Role() == paxos.Proposer {
			led = append(led, i)
		}
	}
	return led
}

// kill ends a server's process, and everybody finds that nothing listens at its address.
func (c *colony) kill(i int) {
	c.crash(i, true)
	for _, b := range c.servers {
		if b.core != nil {
			b.core.Gone(serverID(i))
		}
	}
}

// A death costs each cell that the dead server led one ballot and one load, and no other cell anything.
func TestSweep(t *testing.T) {
	const each = 12
	c, ids := sweepingFleet(t, each)
	swept, answered := map[SweepResult]int{}, 0
	for _, b := range c.servers {
		b.core.cfg.Events.Swept = func(r SweepResult) { swept[r]++ }
		b.core.cfg.Events.AnsweredCold = func() { answered++ }
	}
	c.kill(0)
	c.wait(2500 * time.Millisecond)
	for n, id := range ids {
		want := n % 7
		if want == 0 {
			want = 1 // the next in each of these juries
		}
		if led := c.leaderOf(id); len(led) != 1 || led[0] != want {
			t.Errorf("%s is led by %v, want %s", id, led, serverID(want))
		}
	}
	if n := c.campaigns(); n != each {
		t.Errorf("%d campaigns for %d cells", n, each)
	}
	if swept[SweptAsked] != each || swept[SweptOther] != 5*each || swept[SweptForbidden] != 0 {
		t.Errorf("six servers looked at %d cells each: %v", each, swept)
	}
	for i, b := range c.servers[1:] {
		want := each // what it led before; everybody else's nodes stay cold
		if i == 0 {
			want = 2 * each
		}
		if _, hot, _ := b.core.Counts(); hot != want {
			t.Errorf("%d nodes are hot on %s, want %d", hot, serverID(i+1), want)
		}
	}
	if answered < 5*each {
		t.Errorf("%d answers were given by cold nodes, want one per member and cell at least", answered)
	}
	for n, id := range ids {
		c.mustCount(max(n%7, 1), id, 2, 2)
	}
	// A follower's absence wakes nobody: once swept, a dead server is no work.
	for _, b := range c.servers[1:] {
		if b.core.Sweeping() != 0 {
			t.Error("there is still something to be looked at")
		}
	}
}

// A second death names other successors.
func TestSweepAfterTheSuccessorDied(t *testing.T) {
	const each = 5
	c, ids := sweepingFleet(t, each)
	c.kill(0)
	c.wait(400 * time.Millisecond)
	c.kill(1)
	c.wait(4 * time.Second)
	for n, id := range ids {
		if led := c.leaderOf(id); n%7 < 2 && (len(led) != 1 || led[0] != 2) {
			t.Errorf("%s is led by %v, want s3", id, led)
		}
	}
}

// A server that hears nobody must not load everything that it hosts; nor does one ask for the cells of somebody who was dead before it
// started, since others lead them.
func TestSweepInVain(t *testing.T) {
	const each = 5
	c, ids := sweepingFleet(t, each)
	c.apart(0)
	c.wait(6 * time.Second)
	if _, hot, _ := c.servers[0].core.Counts(); hot > each || c.servers[0].began != 0 {
		t.Errorf("alone, s1 has %d hot nodes and asked %d times", hot, c.servers[0].began)
	}
	for n, id := range ids {
		if led := c.leaderOf(id); n%7 == 0 && (len(led) == 0 || led[len(led)-1] != 1) {
			t.Errorf("%s is led by %v, want s2", id, led)
		}
	}
	c.cut = nil
	c.wait(acquainted)
	c.kill(1)
	c.wait(3 * time.Second)
	c.servers[2].began = 0
	c.restart(2)
	c.wait(4 * time.Second)
	if n := c.servers[2].began; n != 0 {
		t.Errorf("s3 asked for %d cells of a server that was dead when it started", n)
	}
}

// Who is merely silent may be out of breath. Its cells are left to it for longer, and to clients.
func TestSweepSparesTheBreathless(t *testing.T) {
	c, _ := sweepingFleet(t, 3)
	c.servers[0].paused = true
	c.wait(2 * time.Second)
	c.servers[0].paused = false
	c.wait(2 * time.Second)
	if n := c.campaigns(); n != 0 {
		t.Errorf("%d campaigns after a pause of two seconds", n)
	}
	c.servers[0].paused = true
	c.wait(6 * time.Second)
	if n := c.campaigns(); n != 3 {
		t.Errorf("%d campaigns for the three cells of a server that hangs", n)
	}
}

// follow writes a cell through whoever leads it, as a client does, and returns who that was.
func (c *colony) follow(id cell.ID, sequence uint64, want int64) int {
	c.t.Helper()
	at := 1 // who came back believes that it leads, and would have to find out first
	for attempt := uint32(0); attempt < 5; attempt++ {
		m := &wire.TxnRequest{Header: header(id), Request: requestOf(sequence), Txn: increment("n")}
		m.Header.Attempt = attempt
		to := c.send(at, wire.MethodTxn, m)
		for range 5 { // ticks, at most: a cell that is being handed over answers when its heir leads
			if _, ok := c.replies[to.ID]; !ok {
				c.wait(20 * time.Millisecond)
			}
		}
		r := c.answer(to)
		switch {
		case r.Err == nil:
			if got := r.Result.(*wire.TxnReply).Result.Results[0].Entry.Value; !got.Equal(cell.Int(want)) {
				c.t.Fatalf("%s is %v, want %d", id, got, want)
			}
			return at
		case r.Err.Kind != cell.NotProposer || r.Err.Leader == "":
			c.t.Fatalf("%s on %s: %v", id, serverID(at), r.Err)
		}
		for i := range c.servers {
			if serverID(i) == r.Err.Leader {
				at = i
			}
		}
	}
	c.t.Fatalf("%s: nobody leads", id)
	return 0
}

// Cells in use return to a server that came back, slowly, up to its share, and no client sees more than who leads now.
func TestBalance(t *testing.T) {
	const each, after = 20, 5 * time.Second
	for _, perSecond := range []int{10, 0} {
		c, ids := fleet(t, each, func(cfg *Config) { cfg.SweepPerTick, cfg.BalancePerSecond, cfg.BalanceAfter = 64, perSecond, after })
		used := ids[:len(ids)-14] // the last two that each server leads stay alone
		write := func(sequence uint64) {
			for _, id := range used {
				c.follow(id, sequence, int64(sequence))
			}
		}
		c.kill(0)
		c.wait(3 * time.Second)
		c.start(0)
		c.wait(time.Second)
		write(2)
		c.wait(after - 1500*time.Millisecond)
		if _, _, led := c.servers[0].core.Counts(); led != 0 {
			t.Fatalf("s1 leads %d cells before it was well for long", led)
		}
		sequence := uint64(3)
		for range 30 {
			write(sequence)
			sequence++
			c.wait(time.Second)
		}
		_, _, led := c.servers[0].core.Counts()
		if perSecond == 0 {
			if led != 0 {
				t.Errorf("s1 was given %d cells although that is switched off", led)
			}
			continue
		}
		if led < each/3 || led > each+balanceSlack {
			t.Errorf("s1 leads %d of %d cells in the end", led, len(ids))
		}
		for _, id := range ids[len(used):] {
			if by := c.leaderOf(id); len(by) != 1 || by[0] == 0 {
				t.Errorf("%s, which nobody uses, is led by %v", id, by)
			}
		}
		// It is over: nobody hands anything over any more.
		handed := 0
		for _, b := range c.servers {
			b.core.cfg.Events.HandedOver = func(cell.ID, cell.ServerID) { handed++ }
		}
		for range 20 {
			write(sequence)
			sequence++
			c.wait(time.Second)
		}
		if handed != 0 {
			t.Errorf("%d cells were handed over after everybody had about as many", handed)
		}
	}
}
