package sim

import (
	"physalia/internal/wire/peer"
	"physalia/node/core"
	"physalia/node/storage"
)

// Faults of disks. Those that take something for good are limited, so that every cell stays recoverable: at most three of
// its seven members are ever damaged. A failure in a world with more would mean nothing.

// mayDamage reports whether a server may be damaged, and if so counts it as damaged from now on. What it holds may stop,
// be quarantined, or be gone; it must not be wrong.
func (w *World) mayDamage(s *server, how string) bool {
	if s.damaged == "" && !w.spared(1<<s.at) {
		w.trace.note(w.now, "%s is spared", s.id)
		return false
	}
	s.damaged = how
	return true
}

// strikeDisk is strike for what concerns disks, and the nodes on them.
func (w *World) strikeDisk(f *Fault, who Servers) {
	switch f.Kind {
	case SlowDisk:
		w.each(who, func(s *server) { s.slow += f.Delay })
		w.until(f, func() { w.each(who, func(s *server) { s.slow -= f.Delay }) })
	case StalledDisk:
		w.each(who, func(s *server) { s.stalled++ })
		w.until(f, func() {
			w.each(who, func(s *server) {
				if s.stalled--; s.stalled == 0 {
					s.release()
				}
			})
		})
	case FullDisk:
		level := core.Low + core.Space(f.Share%2)
		w.each(who, func(s *server) { s.lack(level, 1) })
		w.until(f, func() { w.each(who, func(s *server) { s.lack(level, -1) }) })
	case BrokenDisk:
		w.each(who, func(s *server) { s.breakDisk(f) })
	case Rollback:
		w.each(who, func(s *server) { w.rollBack(s, f) })
	case Swap:
		w.swap(f, who)
	case Wipe:
		w.each(who, func(s *server) {
			w.exchange(s, f, "wiped", func(*storage.Image) *storage.Image {
				s.boot, s.owner = 0, s.id
				return storage.NewModel(s).Crash(0)
			})
		})
	case Flip:
		w.each(who, func(s *server) {
			w.exchange(s, f, "flipped", func(i *storage.Image) *storage.Image { return i.Flip(uint64(f.Share)) })
		})
	case Poison:
		w.poison(f, who)
	}
}

// exchange crashes a server and lets it come back with another disk, if it may be damaged.
func (w *World) exchange(s *server, f *Fault, how string, other func(*storage.Image) *storage.Image) {
	if !w.mayDamage(s, how) {
		return
	}
	// It is down already, perhaps: then the disk is changed all the same, as it lies there.
	s.crash(f.Keep)
	s.image = other(s.image)
	w.trace.note(w.now, "%s has its disk %s", s.id, how)
	w.after(f.For, func() { w.revive(s) })
}

// rollBack keeps the disk as it is now; later the server crashes and comes back with that.
func (w *World) rollBack(s *server, f *Fault) {
	if s.core == nil {
		return
	}
	old, boot := s.model.Disk(), s.boot
	w.after(f.For, func() {
		if w.healed {
			return
		}
		next := s.boot
		if f.Share%2 == 0 {
			next = boot // the whole directory, not only the database in it
		}
		if s.damaged != "" || !w.missed(s, old.Last(), next+1) {
			w.trace.note(w.now, "%s is not rolled back to batch %d: too few would notice", s.id, old.Last())
			return
		}
		w.exchange(s, f, rolledBack, func(*storage.Image) *storage.Image {
			w.report.RolledBack++
			s.boot = next
			return old
		})
	})
}

// rolledBack is how a server was damaged that must never vote again.
const rolledBack = "rolled back"

// missed reports whether the others would notice that a server forgot what came after a batch, if it came back in some boot: of
// any three that it may ask (three of seven make a majority with it), one must have it on its disk that a later batch was
// durable. What fewer heard of is forgotten for good, and docs/guarantees.md says so.
func (w *World) missed(s *server, found storage.BatchNumber, boot uint64) bool {
	unaware := 0
	for _, o := range w.servers {
		image := o.image
		if o.core != nil {
			image = o.model.Disk()
		}
		var heard pairsOf
		m := storage.OpenModel(image, &heard)
		m.Read(1, core.MemoryRange(s.id))
		m.Pump()
		if o != s && !heard.tell(found, boot) {
			unaware++
		}
	}
	return unaware < jurySize/2
}

// pairsOf takes what is read from a disk that nobody uses.
type pairsOf []storage.Pair

// Durable, ReadDone and Failed implement storage.Sink.
func (*pairsOf) Durable(storage.BatchNumber) {}

// ReadDone keeps what was read.
func (p *pairsOf) ReadDone(_ storage.ReadID, pairs []storage.Pair, _ error) { *p = pairs }

// Failed is never called.
func (*pairsOf) Failed(error) {}

// tell reports whether the memory that was read contradicts a disk that ends with a batch and is opened in a boot.
func (p pairsOf) tell(found storage.BatchNumber, boot uint64) bool {
	for _, pair := range p {
		m, err := peer.DecodeMemory(pair.Value)
		if err == nil && (m.Boot > boot || storage.BatchNumber(m.Before) > found || m.Boot < boot && storage.BatchNumber(m.Known) > found) {
			return true
		}
	}
	return false
}

// swap exchanges the disks of the first two servers of a set.
func (w *World) swap(f *Fault, who Servers) {
	var pair []*server
	w.each(who, func(s *server) { pair = append(pair, s) })
	if len(pair) < 2 || !w.mayDamage(pair[0], "swapped") || !w.mayDamage(pair[1], "swapped") {
		return
	}
	a, b := pair[0], pair[1]
	a.crash(f.Keep)
	b.crash(f.Keep)
	a.image, b.image = b.image, a.image
	a.boot, b.boot, a.owner, b.owner = b.boot, a.boot, b.owner, a.owner
	w.after(f.For, func() { w.revive(a); w.revive(b) })
}

// poison makes servers panic when they apply the next slot of a cell, now and whenever they replay it.
func (w *World) poison(f *Fault, who Servers) {
	v := w.cells[f.Cell]
	// One poisoned slot per cell: who meets it is out of service, and a second one would strike the same servers.
	if v.poisoned != 0 {
		return
	}
	w.each(who, func(s *server) {
		if w.hosts(v, s) && w.mayDamage(s, "poisoned") {
			v.poisonedFor |= 1 << s.at
			v.poisoned, v.poisonOld = len(v.log)+1, f.Share%2 == 1
		}
	})
}
