package sim

import (
	"testing"
	"time"

	"physalia/paxos"
)

// The named interleavings that break a naive design (H1 to H21) and the mistakes that others made (R1 to R20), as far as
// what they concern exists. docs/testing.md has the whole list.

// A request waits in the inbox of a standing proposer, which is deposed meanwhile; when it goes on, its answer is of now.
func TestH03OldClock(t *testing.T) {
	s := scenario(t, func(p *Schedule) { p.Attempt = time.Second })
	s.pause(1)
	late := s.begins(s.me, opGet)
	s.pass(200 * millisecond)
	other := s.anotherClient()
	s.lead(3)
	s.does(other, opIncrement)
	s.resume(1)
	s.until("the late read", func() bool { return late.fate != pending })
	s.expectRead(other, 2)
	s.over()
}

// A member holds u in a slot in which w was chosen in a higher ballot, and hears then that the slot is chosen.
func TestH05ChosenThroughTheWrongValue(t *testing.T) {
	s := scenario(t)
	s.cut(allLanes, names([]int{1}), names([]int{2, 3, 4, 6, 7})) // the Accept of u reaches s5 alone
	s.begins(s.me, opIncrement)
	s.pass(20 * millisecond)
	s.isolate(1, 5)
	s.lead(3)
	s.does(s.anotherClient(), opPut) // w
	s.mend()
	s.lead(4)
	s.does(s.anotherClient(), opIncrement) // its Accept certifies the slot of u
	s.restart(5)
	s.over()
}

// A member missed more slots than a ring holds, and campaigns: it must not have anything chosen there again.
func TestH06RingOverwrite(t *testing.T) {
	s := scenario(t, func(p *Schedule) { p.Window = 8 })
	s.isolate(5)
	for range 20 {
		s.write()
	}
	s.mend()
	s.isolate(1, 3, 4)
	s.lead(5) // with 2, 6 and 7
	s.mend()
	s.expectRead(s.me, 21)
	if s.sent(paxos.MsgTeachAll) == 0 {
		t.Error("nobody was taught a state")
	}
	s.over()
}

// The owner of ballot 1 sends an Accept, forgets it in a crash, and comes back to propose something else.
func TestH07BallotReuse(t *testing.T) {
	s := scenario(t)
	s.server(1).slow = time.Second
	s.begins(s.me, opIncrement)
	s.until("the Accept leaves", func() bool { return s.sent(paxos.MsgAccept) > 6 })
	s.restart(1)
	s.server(1).slow = 0
	s.does(s.anotherClient(), opPut)
	s.over()
}

// A duplicate of an Accept that waits for the disk must not be answered before the first.
func TestH08AcknowledgementGatedOnNothing(t *testing.T) {
	s := scenario(t, func(p *Schedule) { p.Twice, p.Spread, p.Liveness = 100, 5*millisecond, time.Second/2 })
	for n := range 7 {
		s.server(n + 1).slow = 100 * millisecond
	}
	s.begins(s.me, opIncrement)
	s.pass(60 * millisecond)
	if s.restart(1, 2, 3, 4, 5, 6, 7); s.report.BatchesLost == 0 {
		t.Error("nothing was waiting for a disk")
	}
	s.does(s.anotherClient(), opPut)
	s.over()
}

// Whatever keeps a proposer from being useful, a cell whose client reaches a member that reaches four takes writes again.
func TestH09UselessProposer(t *testing.T) {
	others := names([]int{2, 3, 4, 5, 6, 7})
	for name, trouble := range map[string]func(s *story){
		"the Paxos lane is stuck":    func(s *story) { s.cut(PaxosLane, names([]int{1}), others) },
		"nothing comes back":         func(s *story) { s.cut(allLanes, others, names([]int{1})) },
		"only heartbeats get out":    func(s *story) { s.cut(PaxosLane|BulkLane, names([]int{1}), others) },
		"the disk is stalled":        func(s *story) { s.server(1).stalled++ },
		"it stands still":            func(s *story) { s.pause(1) },
		"clients do not reach it":    func(s *story) { s.reach(s.me, 2, 3, 4, 5, 6, 7) },
		"it is out of service there": func(s *story) { s.poison(&Fault{}, names([]int{1})); s.begins(s.me, opIncrement) },
	} {
		t.Run(name, func(t *testing.T) {
			s := scenario(t)
			trouble(s)
			s.does(s.me, opPut)
			s.does(s.anotherClient(), opIncrement)
			s.over()
		})
	}
}

// A bit of an acknowledged record flips while the server is down: its node goes out of service and never votes with it.
func TestH10FlippedBit(t *testing.T) {
	for bit := 7; bit < 20_000; bit += 1000 {
		s := scenario(t)
		s.write()
		s.strikeDisk(&Fault{Kind: Flip, Share: bit}, names([]int{2, 3, 4}))
		s.restart(1, 2, 3, 4, 5, 6, 7)
		s.expectRead(s.me, 2)
		s.over()
	}
}

// A node went cold since it last promised: what it answers rests on its ring, not on its older row.
func TestH11UnreadRow(t *testing.T) {
	s := scenario(t, func(p *Schedule) { p.Idle = 30 * millisecond })
	s.lead(5)
	s.write()
	s.pass(200 * millisecond)
	if r, _ := s.server(2).core.Inspect(s.cell.id); r != nil {
		t.Fatal("s2 did not go cold")
	}
	s.isolate(3, 4, 5)
	s.lead(6) // with 1, 2 and 7
	s.expectRead(s.me, 2)
	s.over()
}

// A copy of a request that was resolved as not applied waits in the inbox of a standing server, and comes too late.
func TestH14ResolvedBeforeItArrives(t *testing.T) {
	s := scenario(t, func(p *Schedule) { p.Patience = 60 * millisecond })
	s.pause(1)
	s.reach(s.me, 1)
	write := s.begins(s.me, opIncrement)
	s.until("a question", func() bool { return write.resolving })
	s.reach(s.me, 2, 3, 4, 5, 6, 7)
	s.until("its fate", func() bool { return write.fate != pending })
	s.resume(1)
	s.pass(100 * millisecond)
	s.over()
	if write.fate != void {
		t.Errorf("it was not resolved as void, it ended as %v", write.fate)
	}
}

// The reply is lost after the write took effect; the client repeats it, and it has one effect.
func TestH14RetryAfterALostReply(t *testing.T) {
	s := scenario(t)
	s.lostReplies = 100
	write := s.begins(s.me, opIncrement)
	s.pass(120 * millisecond)
	s.lostReplies = 0
	s.until("an answer", func() bool { return write.fate == answered })
	s.expectRead(s.anotherClient(), 2)
	s.over()
}

// A cell is deleted while three members are down, and wiped where it is known to be sealed. The three come back, find one
// who knows, and serve nobody.
func TestH15DeletedCellRises(t *testing.T) {
	s := scenario(t)
	s.each(names([]int{5, 6, 7}), func(x *server) { x.crash(100) })
	s.seal(s.cell, 0)
	s.until("the seal", func() bool { return s.cell.sealed })
	for n := 1; n <= 3; n++ {
		s.drop(n)
	}
	s.restart(5, 6, 7)
	late := s.begins(s.anotherClient(), opIncrement)
	s.until("an answer", func() bool { return late.fate != pending })
	if late.fate != refused {
		t.Errorf("a deleted cell answers: %v", late.fate)
	}
}

// The proposer's syncs hang while its network is fine; others take over; when the disk goes on, nothing of the past counts.
func TestR01StalledDisk(t *testing.T) {
	s := scenario(t)
	s.server(1).stalled++
	s.begins(s.me, opIncrement)
	s.pass(300 * millisecond)
	s.does(s.anotherClient(), opPut)
	s.server(1).release()
	s.does(s.anotherClient(), opIncrement)
	s.over()
}

// A server stands still with a linearizable read in its hands while the proposer changes twice.
func TestR02PausedRead(t *testing.T) {
	s := scenario(t, func(p *Schedule) { p.Attempt = time.Second })
	read := s.begins(s.me, opGet)
	s.until("it was taken", func() bool { return s.sent(paxos.MsgConfirm) > 0 })
	s.pause(1)
	s.lead(2)
	s.does(s.anotherClient(), opIncrement)
	s.lead(3)
	s.does(s.anotherClient(), opIncrement)
	s.resume(1)
	s.until("its answer", func() bool { return read.fate != pending })
	s.over()
}

// Nothing gets from one member to one other; everybody else hears both. The proposer stays.
func TestR03OneWayLoss(t *testing.T) {
	s := scenario(t)
	s.cut(allLanes, names([]int{1}), names([]int{2}))
	for range 10 {
		s.write()
		s.pass(100 * millisecond)
	}
	if s.report.Takeovers > 1 {
		t.Errorf("%d takeovers", s.report.Takeovers)
	}
	s.over()
}

// Three and three do not hear each other; the seventh hears both.
func TestR04Bridge(t *testing.T) {
	s := scenario(t)
	left, right := names([]int{1, 2, 3}), names([]int{5, 6, 7})
	s.cut(allLanes, left, right)
	s.cut(allLanes, right, left)
	for range 10 {
		s.write()
		s.pass(50 * millisecond)
	}
	s.over()
}

// The power fails for all seven at once, and nobody keeps what was not synced.
func TestR05PowerLossOfAll(t *testing.T) {
	s := scenario(t)
	for want := int64(2); want < 6; want++ {
		s.write()
		s.restart(1, 2, 3, 4, 5, 6, 7)
		s.expectRead(s.me, want)
	}
	s.over()
}

// One bit of a member's log flips, and it campaigns: it must never lead.
func TestR06DamagedCandidate(t *testing.T) {
	s := scenario(t)
	s.server(2).damaged = "by the test"
	s.server(2).crash(100)
	for n := range uint64(64) { // every value of the disk: its row, its ring, its state
		s.server(2).image = s.server(2).image.Flip(n)
	}
	s.revive(s.server(2))
	s.pass(millisecond)
	s.provoke(s.cell, s.server(2))
	s.pass(50 * millisecond)
	if s.proposer(s.cell) == s.server(2) {
		t.Error("it leads")
	}
	s.expectRead(s.me, 1)
	s.over()
}

// A server comes back with an empty disk and its old identity: it knows nothing, and does not vote.
func TestR09WipedDisk(t *testing.T) {
	s := scenario(t)
	s.strikeDisk(&Fault{Kind: Wipe}, names([]int{2, 3, 4}))
	s.restart(2, 3, 4)
	s.expectRead(s.me, 1)
	if nodes, _, _ := s.server(2).core.Counts(); nodes != 0 {
		t.Errorf("%d nodes are on an empty disk", nodes)
	}
	s.over()
}

// Discovery is away for the whole run: nobody who knows a cell, or a server, notices.
func TestR14NoControlPlane(t *testing.T) {
	s := scenario(t)
	s.noControl++
	s.restart(1)
	s.write()
	if o := s.does(s.anotherClient(), opGet); o.returned-o.called > time.Second {
		t.Errorf("a client that knows no route took %v", o.returned-o.called)
	}
	s.over()
}

// A quarter of the servers restarts at once.
func TestR18ManyRestartAtOnce(t *testing.T) {
	s := scenario(t)
	s.restart(1, 2)
	s.write()
	s.expectRead(s.anotherClient(), 2)
	s.over()
}
