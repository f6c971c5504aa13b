package sim

import (
	"fmt"
	"slices"
	"time"
)

// FaultKind says what happens.
type FaultKind uint8

// The kinds of faults; each says which fields of Fault it uses beside At. Unless it says otherwise, it strikes the servers
// in Who and ends after For.
const (
	Crash       FaultKind = iota // Keep: the servers die at once and come back after For
	Ambush                       // Keep, Share: each dies when its next Accept has reached Share peers, and comes back after For
	PowerCut                     // Keep: as Crash, but all servers
	RackLoss                     // Keep, Share: as Crash, but all servers of a rack
	DomainLoss                   // Keep, Share: as Crash, but all servers of a power domain
	BrokenDisk                   // Keep: a write fails; the server stops, and comes back after For
	Cut                          // Others: one-way; nothing gets from Who to the others
	Deafen                       // Others: one-way; nothing gets from the others to Who
	Isolate                      // Others: both ways
	RackCut                      // Share: all servers of a rack are isolated
	LaneCut                      // Others, Lanes: both ways, but only the lanes named
	Pause                        // the servers stand still, their inboxes fill
	SlowDisk                     // Delay: their syncs take that much longer
	StalledDisk                  // no sync ends; everything else goes on
	Rollback                     // Share: the servers crash after For and come back with their disks as of At, if enough others would notice
	Swap                         // two of the servers crash, and find each other's directories after For
	Wipe                         // the servers crash, and come back after For with an empty disk and the old identity
	Flip                         // Share: the servers crash, and come back after For with one bit of their disk flipped
	Poison                       // Cell: the next slot to be chosen makes the servers panic when they apply it
	Lossy                        // Share: percent of all packets lost
	Stormy                       // Share, Delay: percent of all packets twice, all up to Delay longer
	LostReplies                  // Share: percent of the replies to clients lost
	ClientCut                    // Clients: do not reach the servers
	ClientPause                  // Clients: stand still
	NoControl                    // discovery does not answer
	Duel                         // clients of Cell turn to each of Who as if nobody led
	HandOver                     // Cell: its proposer is asked to hand over to each of Who
	Seal                         // Cell: somebody has it sealed
	Move                         // Cell, Others, Share, Delay: one of Who is replaced by one of Others; Share: the manager dies after so many steps, and another follows after Delay
	FullDisk                     // Share: their disks run low on space, or, if it is odd, are all but full
	JuryLoss                     // Cell, Keep, Share: as Crash, but all servers of the cell's members; with Share 1 or 2 the rack or power domain with most of them
	Burn                         // the servers are gone for good, with their disks
	Probe                        // for as long as For every cell is asked to write; see probe.go
	faultKinds
)

// general reports whether a fault makes sense in any world; the others are drawn for worlds with a site only.
func (k FaultKind) general() bool { return k < JuryLoss }

var faultNames = [faultKinds]string{"crash", "ambush", "power cut", "rack loss", "domain loss", "broken disk", "cut", "deafen", "isolate",
	"rack cut", "lane cut", "pause", "slow disk", "stalled disk", "rollback", "swap", "wipe", "flip", "poison", "lossy", "stormy",
	"lost replies", "client cut", "client pause", "no control", "duel", "hand over", "seal", "move", "full disk", "jury loss", "burn", "probe"}

// notYet are faults that the servers cannot survive yet, and why: none now. They are never drawn; whoever builds what is
// missing takes them off the list.
var notYet = map[FaultKind]string{}

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
	At       time.Duration `json:",omitempty"` // since the beginning
	For      time.Duration `json:",omitempty"`
	Who      Servers       `json:",omitempty"`
	Proposer bool          `json:",omitempty"` // Who includes the server that leads Cell when it happens
	Others   Servers       `json:",omitempty"` // the other side of a cut; empty: everybody who is not in Who
	Clients  uint32        `json:",omitempty"` // a set of clients, by number; empty: all
	Lanes    Lanes         `json:",omitempty"`
	Cell     int           `json:",omitempty"`
	Keep     int           `json:",omitempty"` // percent of the un-synced batches that survive
	Share    int           `json:",omitempty"`
	Delay    time.Duration `json:",omitempty"`
}

// check bounds a fault from outside.
func (f *Fault) check(p *Schedule) error {
	switch {
	case f.Kind >= faultKinds, f.Cell < 0 || f.Cell >= p.Cells, f.Keep < 0 || f.Keep > 100, f.At < 0 || f.For < 0 || f.Delay < 0,
		f.Share < 0, f.Lanes > allLanes, f.Kind == LaneCut && f.Lanes == 0:
		return fmt.Errorf("sim: fault out of range: %+v", *f)
	}
	return nil
}

// Lanes is a set of the connections between two servers.
type Lanes uint8

// The lanes. Each is a connection of its own, and may be the only one that works, or does not.
const (
	PaxosLane Lanes = 1 << iota
	BulkLane
	HeartbeatLane
	ForwardLane
	allLanes = PaxosLane | BulkLane | HeartbeatLane | ForwardLane
)

// Racks and power domains: three of each, crosswise, so that no rack and no domain holds a majority of a cell's members.
const domains = 3

// rack and domain place a server by its number.
func (s *server) rack() int   { return s.at % domains }
func (s *server) domain() int { return s.at / domains % domains }

// in is the set of servers for which f holds.
func (w *World) in(f func(*server) bool) (set Servers) {
	for _, s := range w.servers {
		if f(s) {
			set |= 1 << s.at
		}
	}
	return set
}

// everybody is the set of all servers.
func (w *World) everybody() Servers { return 1<<len(w.servers) - 1 }

// struck is whom a fault strikes, now.
func (w *World) struck(f *Fault) Servers {
	switch f.Kind {
	case PowerCut:
		return w.everybody()
	case RackLoss, RackCut:
		return w.in(func(s *server) bool { return s.rack() == f.Share%domains })
	case DomainLoss:
		return w.in(func(s *server) bool { return s.domain() == f.Share%domains })
	case JuryLoss:
		return w.juryLoss(f)
	}
	who := f.Who & w.everybody()
	if f.Proposer {
		if s := w.proposer(w.cells[f.Cell]); s != nil {
			who |= 1 << s.at
		}
	}
	return who
}

// strike makes a fault happen, and plans its end. Faults overlap: what they do is counted or added, and taken back by the
// same amount.
func (w *World) strike(f *Fault) {
	if w.healed {
		return
	}
	who := w.struck(f)
	w.trace.note(w.now, "%s for %v at %09b, cell %d, keep %d, share %d, delay %v", f.Kind, f.For, who, f.Cell, f.Keep, f.Share, f.Delay)
	w.cover(f, who)
	w.watchUseful(f)
	w.faults++
	w.until(f, func() { w.faults-- })
	switch f.Kind {
	case Crash, PowerCut, RackLoss, DomainLoss, JuryLoss:
		w.each(who, func(s *server) { s.crash(f.Keep); w.after(f.For, func() { w.revive(s) }) })
	case Ambush:
		w.each(who, func(s *server) { s.ambush = &ambush{f.Share + 1, f} })
	case BrokenDisk, Rollback, Swap, Wipe, Flip, Poison, SlowDisk, StalledDisk, FullDisk:
		w.strikeDisk(f, who)
	case Cut, Deafen, Isolate, RackCut, LaneCut:
		w.strikeLinks(f, who)
	case Pause:
		w.each(who, func(s *server) { s.paused++ })
		w.until(f, func() { w.each(who, func(s *server) { s.paused--; s.wake() }) })
	case Duel:
		w.each(who, func(s *server) { w.provoke(w.cells[f.Cell], s) })
	case HandOver:
		w.each(who, func(s *server) { w.handOver(w.cells[f.Cell], s) })
	case Move:
		w.move(f, who)
	case Burn:
		w.each(who, func(s *server) { s.burn() })
	case Probe:
		w.probe(f)
	case Seal:
		if w.control != nil {
			w.control.people.delete(w.cells[f.Cell])
		} else {
			w.seal(w.cells[f.Cell], 0)
		}
	default:
		w.strikeAll(f, who)
	}
}

// strikeAll is strike for what concerns the network as a whole, or clients.
func (w *World) strikeAll(f *Fault, who Servers) {
	switch f.Kind {
	case Lossy:
		w.net.loss += f.Share
		w.until(f, func() { w.net.loss -= f.Share })
	case Stormy:
		w.net.twice, w.net.spread = w.net.twice+f.Share, w.net.spread+f.Delay
		w.until(f, func() { w.net.twice, w.net.spread = w.net.twice-f.Share, w.net.spread-f.Delay })
	case LostReplies:
		w.lostReplies += f.Share
		w.until(f, func() { w.lostReplies -= f.Share })
	case ClientCut:
		change := func(by int) {
			w.eachClient(f, func(s *session) { w.each(who, func(to *server) { w.net.clientCut[s.at][to.at] += by }) })
		}
		change(1)
		w.until(f, func() { change(-1) })
	case ClientPause:
		w.eachClient(f, func(s *session) { s.paused++ })
		w.until(f, func() {
			w.eachClient(f, func(s *session) {
				if s.paused--; s.paused == 0 {
					s.wake()
				}
			})
		})
	case NoControl:
		w.noControl++
		w.until(f, func() { w.noControl-- })
	default:
		panic("nobody knows what to do about " + f.Kind.String())
	}
}

// strikeLinks cuts links between servers.
func (w *World) strikeLinks(f *Fault, who Servers) {
	others, lanes := f.Others, f.Lanes
	if others == 0 {
		others = w.everybody() &^ who
	}
	if lanes == 0 {
		lanes = allLanes
	}
	if f.Kind != Deafen {
		w.cut(who, others, lanes, f)
	}
	if f.Kind != Cut {
		w.cut(others, who, lanes, f)
	}
}

// cut cuts the links from one set of servers to another.
func (w *World) cut(from, to Servers, lanes Lanes, f *Fault) {
	change := func(by int) {
		for a := range w.servers {
			for b := range w.servers {
				if a != b && from.Has(a) && to.Has(b) {
					w.net.change(a, b, lanes, by)
				}
			}
		}
	}
	change(1)
	w.until(f, func() { change(-1) })
}

// each calls do for the servers of a set, in order.
func (w *World) each(set Servers, do func(*server)) {
	for i, s := range w.servers {
		if set.Has(i) {
			do(s)
		}
	}
}

// eachClient calls do for the clients that a fault names.
func (w *World) eachClient(f *Fault, do func(*session)) {
	w.eachSession(func(s *session) {
		if s.at < sessionsMax && (f.Clients == 0 || f.Clients&(1<<s.at) != 0) {
			do(s)
		}
	})
}

// until ends a fault after its time, unless healing has ended all of them before.
func (w *World) until(f *Fault, end func()) {
	w.after(f.For, func() {
		if !w.healed {
			end()
		}
	})
}

// troubled reports whether a fault is in force.
func (w *World) troubled() bool { return w.faults > 0 }
