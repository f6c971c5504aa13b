package sim

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"time"
)

// Schedule is everything that a run depends on. It is plain data: the text of String, given to Parse, replays the run.
type Schedule struct {
	Seed    uint64        // of all dice
	Servers int           // jurySize to serversMax
	Cells   int           // 1 to 3, each on seven of the servers
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
	Idle    time.Duration // nodes go cold after
	Faults  []Fault
	Dead    Servers // stay down when the rest is healed; at most three of any cell
}

// FaultKind says what happens.
type FaultKind uint8

// The kinds of faults; each says which fields of Fault it uses beside At and Who. All but a crash end after For.
const (
	Crash       FaultKind = iota // For, Keep: the servers die at once and come back after For
	Ambush                       // For, Keep, Share: each dies when its next Accept has reached Share peers
	Cut                          // Share: one-way; nothing gets from Who to the servers not in Who
	Deafen                       // one-way; nothing gets to Who from the others
	Isolate                      // both ways
	Pause                        // the servers stand still, their inboxes fill
	SlowDisk                     // Delay: their syncs take that much longer
	Lossy                        // Share: percent of all packets lost
	Stormy                       // Share, Delay: percent of all packets twice, all up to Delay longer
	LostReplies                  // Share: percent of the replies to clients lost
	Duel                         // clients of Cell turn to each of Who as if nobody led
	Seal                         // Cell: somebody has it sealed
	faultKinds
)

var faultNames = [...]string{"crash", "ambush", "cut", "deafen", "isolate", "pause", "slow disk", "lossy", "stormy",
	"lost replies", "duel", "seal"}

// String names the kind.
func (k FaultKind) String() string { return faultNames[k] }

// Fault is one thing that goes wrong.
type Fault struct {
	Kind     FaultKind
	At       time.Duration // since the beginning
	For      time.Duration
	Who      Servers
	Proposer bool // Who includes the server that leads Cell when it happens
	Cell     int
	Keep     int // percent of the un-synced batches that survive
	Share    int
	Delay    time.Duration
}

// Servers is a set of servers, by number from 0 on.
type Servers uint16

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
	return p, p.check()
}

func (p *Schedule) check() error {
	switch {
	case p.Servers < jurySize || p.Servers > serversMax:
		return fmt.Errorf("sim: %d servers, allowed are %d to %d", p.Servers, jurySize, serversMax)
	case p.Cells < 1 || p.Cells > 3 || p.Alpha < 1 || p.Alpha > ringPositions/2 || p.Batch < 1:
		return fmt.Errorf("sim: %d cells, alpha %d, batch %d: allowed are 1 to 3, 1 to %d, 1 or more", p.Cells, p.Alpha, p.Batch, ringPositions/2)
	case p.Clients < 1 || p.Ops < 1 || p.Cells*p.Clients > 12 || p.Clients*p.Ops > opsMax:
		return fmt.Errorf("sim: %d clients per cell with %d operations each", p.Clients, p.Ops)
	}
	for _, f := range p.Faults {
		if f.Kind >= faultKinds || f.Cell < 0 || f.Cell >= p.Cells || f.Keep < 0 || f.Keep > 100 || f.At < 0 || f.For < 0 || f.Delay < 0 {
			return fmt.Errorf("sim: fault out of range: %+v", f)
		}
	}
	return nil
}

// opsMax bounds the operations on one cell: with their resolutions they stay within its window of remembered outcomes, so
// that Expired needs no excuse here (node/core tests it).
const opsMax = 100

// Source draws numbers from 0 to n-1; a seed is one, a generator of test cases is another.
type Source interface{ Draw(what string, n int) int }

// SeedSource draws from a seed.
func SeedSource(seed uint64) Source { return seedSource{rand.New(rand.NewPCG(seed, 1))} }

type seedSource struct{ dice *rand.Rand }

func (s seedSource) Draw(_ string, n int) int { return s.dice.IntN(n) }

// Draw makes a schedule. Small numbers mean calm, so that whoever shrinks them gets the simplest world that still fails.
func Draw(s Source) Schedule {
	p := Schedule{Seed: uint64(s.Draw("seed", 1<<31)), Servers: jurySize + s.Draw("spare servers", 3), Cells: 1 + s.Draw("more cells", 3)/2,
		Alpha: 1 + s.Draw("alpha-1", 8), Batch: 1 + s.Draw("batch-1", 3), Clients: 2 + s.Draw("more clients", 3), Ops: 8 + s.Draw("more ops", 18),
		Span: time.Second, Idle: 10 * time.Second, Sync: time.Millisecond}
	if s.Draw("weather", 2) == 1 {
		p.Loss = s.Draw("loss", 10)
		p.Twice = s.Draw("twice", 20)
		p.Spread = time.Duration(s.Draw("spread ms", 20)) * time.Millisecond
		p.Split = s.Draw("split", 2) == 1
		p.Sync += time.Duration(s.Draw("sync ms", 10)) * time.Millisecond
	}
	if s.Draw("forgetful", 3) == 1 {
		p.Idle = time.Duration(30+s.Draw("idle ms", 300)) * time.Millisecond
	}
	if s.Draw("with dead", 2) == 1 {
		p.Dead = drawServers(s, p.Servers, 3)
	}
	for range s.Draw("faults", 9) {
		p.Faults = append(p.Faults, drawFaults(s, &p)...)
	}
	return p
}

// drawServers draws a set of at most most servers.
func drawServers(s Source, servers, most int) (set Servers) {
	for range s.Draw("how many", most+1) {
		set |= 1 << s.Draw("server", servers)
	}
	return set
}

// drawFaults draws one fault, or a few that belong together.
func drawFaults(s Source, p *Schedule) []Fault {
	f := Fault{Kind: FaultKind(s.Draw("kind", int(faultKinds))), Cell: s.Draw("cell", p.Cells),
		At: time.Duration(s.Draw("at ms", 1000)) * time.Millisecond, For: time.Duration(10+s.Draw("for ms", 500)) * time.Millisecond}
	f.Proposer = s.Draw("at the proposer", 2) == 1
	f.Who = drawServers(s, p.Servers, 3)
	switch f.Kind {
	case Crash:
		f.Keep = s.Draw("keep", 3) * 50
		if s.Draw("power cut", 6) == 1 {
			f.Who = 1<<p.Servers - 1
		}
	case Ambush:
		f.Proposer = true
		f.Who, f.Share, f.Keep = 0, s.Draw("peers", 5), s.Draw("keep", 3)*50
	case SlowDisk:
		f.Delay = time.Duration(5+s.Draw("delay ms", 200)) * time.Millisecond
	case Lossy:
		f.Share = 5 + s.Draw("loss", 60)
	case Stormy:
		f.Share, f.Delay = s.Draw("twice", 60), time.Duration(s.Draw("delay ms", 100))*time.Millisecond
	case LostReplies:
		f.Share = 10 + s.Draw("lost", 90)
	case Seal:
		if s.Draw("really", 4) != 1 {
			f.Kind = Duel
		}
	case Isolate:
		if f.Proposer && s.Draw("rival", 2) == 1 { // and the others look for somebody else at once
			rival := Fault{Kind: Duel, Cell: f.Cell, At: f.At + time.Duration(s.Draw("later ms", 50))*time.Millisecond, Who: drawServers(s, p.Servers, 2)}
			return []Fault{f, rival}
		}
	}
	return []Fault{f}
}
