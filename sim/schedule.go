package sim

import (
	"encoding/json"
	"fmt"
	"time"

	"physalia/paxos"
)

// Schedule is everything that a run depends on. It is plain data: the text of String, given to Parse, replays the run.
type Schedule struct {
	Seed    uint64        // of all dice
	Servers int           // jurySize to serversMax, or as Site says
	Cells   int           // 1 to 3, each on seven of the servers; up to 5 where there is a site
	Alpha   int           // slots in flight of each cell, 1 to 8
	Batch   int           // commands per slot at most
	Clients int           // per cell
	Ops     int           // operations of each client
	Span    time.Duration // how long faults come
	Loss    int           // percent of packets lost, all the time
	Twice   int           // percent of packets delivered twice, all the time
	Spread  time.Duration // a quarter of the packets takes up to that much longer
	Split   bool          // the messages of a frame travel on their own
	Sync    time.Duration // a sync of a disk takes up to that long
	Turn    time.Duration // a server lets inputs gather for up to that long
	Idle    time.Duration // nodes go cold after
	Cramped bool          `json:",omitempty"` // there is no room for nodes that have nothing to do, proposers included
	Thrifty bool          `json:",omitempty"` // proposers ask a majority only, while nothing is amiss
	Faults  []Fault       // in any order
	Dead    Servers       // stay down when the rest is healed, as far as every cell keeps four members

	// People beside the clients; zero is nobody.
	Lockers   int  `json:",omitempty"` // per cell, who compete for one lock
	Recorders int  `json:",omitempty"` // per cell, who change one volume record
	Crowd     int  `json:",omitempty"` // quick writes to every cell, so that it forgets old outcomes
	Reads     int  `json:",omitempty"` // percent of the operations of clients that are linearizable reads, beside the usual ones
	Store     bool `json:",omitempty"` // a block store on the first cell

	Control *ControlPlan `json:",omitempty"` // nil: cells are created, and members replaced, by something simpler
	Site    *Site        `json:",omitempty"` // nil: one brick of one color, three racks and power domains; needs Control

	// Knobs. Zero stands for the default of withDefaults.
	Window    int           `json:",omitempty"` // ring positions, at least twice Alpha
	Skew      int           `json:",omitempty"` // clocks differ from real time by up to that many thousandths of their rate
	Heartbeat time.Duration `json:",omitempty"` // between two
	Liveness  time.Duration `json:",omitempty"` // a peer that was silent for so long counts as dead
	Nudge     time.Duration `json:",omitempty"` // first pause before what may have been lost is repeated
	Notice    time.Duration `json:",omitempty"` // before members are told what is chosen without a next write
	Attempt   time.Duration `json:",omitempty"` // a client's patience with one server
	Backoff   time.Duration `json:",omitempty"` // a client's shortest pause; the longest is 16 times that
	Patience  time.Duration `json:",omitempty"` // a client's patience with a call, until everything is healed
}

// withDefaults returns a schedule with all knobs set. Whatever is large in production is small here, so that floors move,
// batches fill, nodes go cold and clients give up often.
func (p Schedule) withDefaults() Schedule {
	if p.Window == 0 {
		p.Window = 16
	}
	for _, knob := range []struct {
		value *time.Duration
		usual time.Duration
	}{
		{&p.Heartbeat, 40 * time.Millisecond}, {&p.Liveness, 150 * time.Millisecond}, {&p.Nudge, 20 * time.Millisecond},
		{&p.Notice, 60 * time.Millisecond}, {&p.Attempt, 100 * time.Millisecond}, {&p.Backoff, 2 * time.Millisecond}, {&p.Patience, time.Second},
	} {
		if *knob.value == 0 {
			*knob.value = knob.usual
		}
	}
	return p
}

// Servers is a set of servers, by number from 0 on.
type Servers uint32

// Some makes a set.
func Some(numbers ...int) (s Servers) {
	for _, i := range numbers {
		s |= 1 << i
	}
	return s
}

// Has reports whether a server is in the set.
func (s Servers) Has(i int) bool { return s&(1<<i) != 0 }

// String shows a schedule as the text that Parse reads.
func (p Schedule) String() string {
	b, err := json.Marshal(p)
	if err != nil {
		panic(err) // plain data
	}
	return string(b)
}

// Parse reads a schedule.
func Parse(text string) (Schedule, error) {
	var p Schedule
	if err := json.Unmarshal([]byte(text), &p); err != nil {
		return p, fmt.Errorf("sim: not a schedule: %w", err)
	}
	full := p.withDefaults()
	return p, full.check()
}

// check bounds a schedule from outside.
func (p *Schedule) check() error {
	switch {
	case p.Site == nil && (p.Servers < jurySize || p.Servers > serversMax):
		return fmt.Errorf("sim: %d servers, allowed are %d to %d", p.Servers, jurySize, serversMax)
	case p.Cells < 1 || p.Cells > cellsMax || p.Cells > 3 && p.Site == nil || p.Batch < 1:
		return fmt.Errorf("sim: %d cells, batch %d: allowed are 1 to 3, with a site to %d, and 1 or more", p.Cells, p.Batch, cellsMax)
	case p.Alpha < 1 || p.Window < paxos.WindowMin || p.Window > paxos.WindowMax || p.Window < 2*p.Alpha:
		return fmt.Errorf("sim: alpha %d, window %d: allowed are windows of %d to %d, at least twice alpha", p.Alpha, p.Window, paxos.WindowMin, paxos.WindowMax)
	case p.Skew < 0 || p.Skew > 500 || p.Loss < 0 || p.Twice < 0 || p.Span <= 0 || p.Sync < 0 || p.Turn < 0 || p.Spread < 0:
		return fmt.Errorf("sim: skew %d, loss %d, twice %d, span %v: out of range", p.Skew, p.Loss, p.Twice, p.Span)
	case min(p.Heartbeat, p.Liveness, p.Nudge, p.Notice, p.Attempt, p.Backoff, p.Patience) < time.Microsecond:
		return fmt.Errorf("sim: a knob is below a microsecond: %v", p)
	case p.Clients < 1 || p.Ops < 1 || p.Cells*p.Clients > 12 || p.Clients*p.Ops > opsMax:
		return fmt.Errorf("sim: %d clients per cell with %d operations each", p.Clients, p.Ops)
	}
	if p.Reads < 0 || p.Lockers < 0 || p.Recorders < 0 || p.Crowd < 0 || p.Cells*(p.Clients+p.Lockers+p.Recorders) > sessionsMax || p.Crowd > crowdMax {
		return fmt.Errorf("sim: %d lockers, %d recorders, a crowd of %d: too many", p.Lockers, p.Recorders, p.Crowd)
	}
	if err := p.Control.check(); err != nil {
		return err
	}
	if err := p.Site.check(p); err != nil {
		return err
	}
	for _, f := range p.Faults {
		if err := f.check(p); err != nil {
			return err
		}
	}
	return nil
}

// opsMax bounds the operations on one cell: with their resolutions they stay within its window of remembered outcomes, so
// that Expired needs no excuse here (node/core tests it).
const opsMax = 100

// crowdMax bounds the writes of a crowd.
const crowdMax = 1000
