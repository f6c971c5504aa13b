package core

import (
	"testing"
	"time"

	"physalia/cell"
	"physalia/internal/wire"
	"physalia/paxos"
)

// Hazards H10 and H12 together. Members 2, 3 and 4 were away while 8 took the place of 7. Back again, they may not vote before a
// majority of their cell's servers told them what they remember of them; in the jury that they know, all others are dead by now.
// In the jury of today four are alive, and the one who knows of it asks for their votes: that is enough for them to ask it back.
func TestH12RestartedLaggardsLearnWhoCounts(t *testing.T) {
	c := newColony(t, 8)
	c.create("vol-1")
	c.wait(acquainted)
	c.mustCount(0, "vol-1", 1, 1)
	away := []int{1, 2, 3}
	for _, i := range away {
		c.crash(i, true)
	}
	c.replace("vol-1", 6, 7)
	c.add("vol-1", 2)
	for _, i := range []int{0, 4, 5, 6} {
		c.crash(i, true)
	}
	for _, i := range away {
		c.start(i)
	}
	c.wait(settled)
	for _, i := range away {
		if h := c.servers[i].core.find("vol-1"); c.servers[i].core.mayVote(h) || h.configuration.Number != 1 {
			t.Fatalf("s%d may vote, or knows of the change, so this test shows nothing: %s", i+1, h.configuration.Describe())
		}
	}
	c.write(3, 20*time.Second, 7, 1, 2, 3) // a whole state is taught by one who has it alone: see VouchPatience
}

// A founding that reaches the owner of ballot 1 last finds the cell led by another one, and then without that owner. Nobody needs to
// tell it; it believes to lead. What it says of its cell must not be how the cell was founded, or a manager that asks it would plan
// for that for ever. The question shows it what it missed.
func TestLookIsAnsweredByWhoLeads(t *testing.T) {
	c := newColony(t, 8)
	founding := foundingOf("vol-1", 1, 0, 1, 2, 3, 4, 5, 6)
	for i := 1; i < 7; i++ {
		if err := c.createAt(i, founding); err != nil {
			t.Fatal(err)
		}
	}
	c.crash(0, true)
	c.wait(settled)
	c.add("vol-1", 1)
	c.replace("vol-1", 0, 7)
	c.start(0)
	c.wait(acquainted)
	if err := c.createAt(0, founding); err != nil {
		t.Fatal(err)
	}
	c.wait(acquainted)
	look := func() Reply {
		to := c.send(0, wire.MethodChange, &wire.ChangeCell{Cell: "vol-1", Kind: wire.Look, Timeout: 100})
		c.wait(settled)
		return c.answer(to)
	}
	if r := look(); r.Err == nil {
		t.Errorf("a proposer that was replaced says that its cell is %+v", r.Result)
	}
	if r := look(); r.Err == nil || r.Err.Kind != cell.Moved {
		t.Errorf("asked again it says %+v, %v", r.Result, r.Err)
	}
	c.mustBeMoved(0, "vol-1", 2)
	c.replace("vol-1", 1, 0)
}

// Who leads answers a Look under its read lease at once, and without one as soon as its jury has confirmed it.
func TestLookIsConfirmed(t *testing.T) {
	c := newColony(t, 7)
	c.create("vol-1")
	look := func() *wire.Configured {
		t.Helper()
		r := c.answer(c.send(0, wire.MethodChange, &wire.ChangeCell{Cell: "vol-1", Kind: wire.Look, Timeout: 100}))
		if r.Err != nil {
			t.Fatal(r.Err)
		}
		return r.Result.(*wire.Configured)
	}
	if conf := look(); conf.Number != 1 || len(conf.Members) != 7 || c.servers[0].asked != 1 {
		t.Errorf("a new cell is %+v, asked %d times", conf, c.servers[0].asked)
	}
	c.wait(acquainted)
	c.mustCount(0, "vol-1", 1, 1)
	c.mustCount(0, "vol-1", 2, 2)
	if conf := look(); conf.Number != 1 || c.servers[0].local != 1 {
		t.Errorf("under a read lease it is %+v, %d answered locally", conf, c.servers[0].local)
	}
	c.lost = func(int, int, *paxos.Message) bool { return true }
	c.wait(settled)
	to := c.send(0, wire.MethodChange, &wire.ChangeCell{Cell: "vol-1", Kind: wire.Look, Timeout: 100})
	c.wait(settled)
	if r := c.answer(to); r.Err == nil {
		t.Errorf("without a majority it says %+v", r.Result)
	}
}
