package sim

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"slices"
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
	Turn    time.Duration // a server lets inputs gather for up to that long
	Idle    time.Duration // nodes go cold after
	Faults  []Fault       // in any order
	Dead    Servers       // stay down when the rest is healed; at most three of any cell
}

// FaultKind says what happens.
type FaultKind uint8

// The kinds of faults; each says which fields of Fault it uses beside At and Who. All but a crash end after For.
const (
	Crash       FaultKind = iota // For, Keep: the servers die at once and come back after For
	Ambush                       // For, Keep, Share: each dies when its next Accept has reached Share peers
	Cut                          // Others: one-way; nothing gets from Who to the others
	Deafen                       // Others: one-way; nothing gets from the others to Who
	Isolate                      // Others: both ways
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

// MarshalText writes the name.
func (k FaultKind) MarshalText() ([]byte, error) { return []byte(k.String()), nil }

// UnmarshalText reads the name.
func (k *FaultKind) UnmarshalText(name []byte) error {
	i := slices.Index(faultNames[:], string(name))
	if i < 0 {
		return fmt.Errorf("sim: no fault is called %q", name)
	}
	*k = FaultKind(i)
	return nil
}

// Fault is one thing that goes wrong.
type Fault struct {
	Kind     FaultKind
	At       time.Duration // since the beginning
	For      time.Duration
	Who      Servers
	Proposer bool    // Who includes the server that leads Cell when it happens
	Others   Servers // the other side of a cut; empty: everybody who is not in Who
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

// check bounds a schedule from outside.
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
