package sim

import (
	"testing"
	"time"
)

// moves begins to replace a member of the story's cell, by numbers from 1 on; the managers of the fault work at it.
func (s *story) moves(old, to int, f Fault) {
	f.Others = names([]int{to})
	s.move(&f, names([]int{old}))
}

// replaces waits until it has come about.
func (s *story) replaces(old, to int) {
	s.t.Helper()
	s.moves(old, to, Fault{})
	s.until("a replacement", func() bool { return s.cell.job.over })
}

// nine is two servers more than the cell needs.
func nine(p *Schedule) { p.Servers = 9 }

// All seven members are replaced, each while one server is down, and the last of them come back to where the first were.
func TestAllSevenAreReplaced(t *testing.T) {
	s := scenario(t, nine)
	for i, to := range []int{8, 9, 1, 2, 3, 4, 5} {
		s.server(1 + (i+4)%7).crash(0)
		s.replaces(i+1, to)
		s.write()
		s.revive(s.server(1 + (i+4)%7))
	}
	s.expectRead(s.anotherClient(), 8)
	if s.cell.jury.Members[0].Node <= jurySize || s.report.Moved != jurySize {
		t.Errorf("members %v after %d replacements", s.cell.jury.Members, s.report.Moved)
	}
	s.over()
}

// The same by the dice: clients work, managers die, packets get lost.
func TestProcession(t *testing.T) {
	p := small()
	p.Servers, p.Loss, p.Ops, p.Span = 9, 2, 30, 2*time.Second
	for i := range jurySize {
		at := time.Duration(i) * 280 * millisecond
		p.Faults = append(p.Faults, Fault{Kind: Move, At: at, Who: 0x1ff &^ (1<<i - 1), Others: 0x1ff, Share: 3, Delay: 20 * millisecond},
			Fault{Kind: Crash, At: at + 20*millisecond, For: 50 * millisecond, Who: 1 << ((i + 3) % 7)})
	}
	r := play(t, p)
	must(t, r.Moved >= 5, r)
}

// A member that led long ago, with the promises of an old jury, proposes again after the jury has changed.
func TestH04BallotAcrossAChange(t *testing.T) {
	s := scenario(t, nine)
	s.isolate(1, 2, 3)
	s.lead(4)
	s.mend()
	s.lead(1)
	s.isolate(4, 5, 6) // they do not hear of the change
	s.replaces(7, 8)
	s.mend()
	s.reach(s.me, 4)
	late := s.begins(s.me, opIncrement)
	s.does(s.anotherClient(), opPut)
	s.until("an answer", func() bool { return late.fate != pending })
	s.over()
}

// A change is chosen while three lag, then the proposer and the newcomer die: those who lag are needed, and let themselves be
// taught by messages of a configuration that they do not know.
func TestH12LaggardsAreNeeded(t *testing.T) {
	s := scenario(t, nine)
	s.isolate(5, 6, 7)
	s.replaces(7, 8)
	s.write()
	s.each(names([]int{1, 8}), func(x *server) { x.crash(0) })
	s.mend()
	s.does(s.anotherClient(), opIncrement)
	s.over()
}

// Three were down when the proposer left the cell. Its server lives on, and they must not stand by it.
func TestH12ProposerThatLeft(t *testing.T) {
	s := scenario(t, nine)
	s.each(names([]int{4, 5, 6}), func(x *server) { x.crash(100) })
	s.replaces(1, 8)
	s.write()
	s.server(2).crash(0)
	s.each(names([]int{4, 5, 6}), func(x *server) { s.revive(x) })
	s.each(names([]int{3}), func(x *server) { x.crash(0) })
	s.does(s.anotherClient(), opIncrement)
	s.over()
}

// Two managers work at the same replacement, and the first dies over it: one node number is issued, and one node is created.
func TestH13TwoManagers(t *testing.T) {
	for steps := range 8 {
		s := scenario(t, nine)
		s.moves(7, 8, Fault{Share: 1 + steps, Delay: 10 * millisecond})
		s.moves(7, 8, Fault{})
		s.until("a replacement", func() bool { return s.cell.job.over })
		if next := s.cell.jury.Next; s.cell.job.managers < 2 || next != jurySize+2 {
			t.Errorf("%d managers; the next node number is %d", s.cell.job.managers, next)
		}
		s.over()
	}
}

// Three are down, so the member that leaves is needed for the slots before its successor's first. Then it is a pointer, and its
// server may get the cell back: the new node finds nothing of the old one.
func TestH19RemovedAndBack(t *testing.T) {
	s := scenario(t, nine, func(p *Schedule) { p.Alpha, p.Window = 8, 16 })
	s.each(names([]int{4, 5, 6}), func(x *server) { x.crash(0) })
	s.replaces(7, 8)
	s.write()
	s.until("a pointer", func() bool { return s.server(7).core.Pointers() == 1 })
	s.replaces(6, 7)
	s.each(names([]int{4, 5}), func(x *server) { s.revive(x) })
	s.restart(7)
	s.expectRead(s.me, 2)
	s.over()
}

// A member misses more than a ring while a change is pending, and is taught: it must know the change, and then decide with the
// right jury.
func TestH21TaughtInsideTheWindow(t *testing.T) {
	s := scenario(t, nine, func(p *Schedule) { p.Alpha, p.Window = 8, 16 })
	s.isolate(6)
	for range 20 {
		s.write()
	}
	s.moves(7, 8, Fault{})
	s.until("a pending change", func() bool { r, _ := s.server(1).core.Inspect(s.cell.id); return r.Pending() != nil })
	s.mend()
	s.until("a replacement", func() bool { return s.cell.job.over })
	s.each(names([]int{3, 4, 5}), func(x *server) { x.crash(0) })
	s.lead(6)
	s.expectRead(s.me, 21)
	s.over()
}

// A cell's disk is put back to an earlier moment, of which the others know that it was not the last: the server refuses to serve.
func TestH10RolledBackDisk(t *testing.T) {
	s := scenario(t)
	s.strikeDisk(&Fault{Kind: Rollback, For: 400 * millisecond}, names([]int{2}))
	s.write()
	s.pass(500 * millisecond)
	s.write()
	if s.pass(500 * millisecond); s.report.RolledBack != 1 || !s.server(2).stopped {
		t.Errorf("%d disks rolled back; stopped: %v", s.report.RolledBack, s.server(2).stopped)
	}
	s.over()
}

// A server finds the data directory of another one.
func TestR10SwappedDirectories(t *testing.T) {
	s := scenario(t)
	s.strikeDisk(&Fault{Kind: Swap}, names([]int{2, 3}))
	s.pass(5 * millisecond)
	if s.expectRead(s.me, 1); !s.server(2).stopped || !s.server(3).stopped {
		t.Error("they serve")
	}
	s.over()
}

// The proposer is to be replaced, and the next member in the jury is out of service on a server that lives: somebody else must
// take over.
func TestProposerIsReplacedBesideAQuarantinedMember(t *testing.T) {
	s := scenario(t, nine)
	s.poison(&Fault{}, names([]int{2}))
	s.write()
	s.pass(50 * millisecond)
	s.replaces(1, 8)
	s.over()
}
