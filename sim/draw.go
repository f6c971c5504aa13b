package sim

import "time"

// Draw makes a schedule. Small numbers mean calm, so that whoever shrinks them gets the simplest world that still fails.
//
// Whole classes of trouble are switched on or off per schedule (swarm testing): bad weather all the time, nodes that go cold
// quickly, dead servers. A world with a bit of everything every time would hide what needs one thing undisturbed.
func Draw(s Source) Schedule {
	p := Schedule{Seed: uint64(s.Draw("seed", 1<<31)), Servers: jurySize + s.Draw("spare servers", 3), Cells: [...]int{1, 1, 1, 2, 2, 3}[s.Draw("cells", 6)],
		Alpha: 1 + s.Draw("alpha-1", 8), Batch: 1 + s.Draw("batch-1", 3), Clients: 2 + s.Draw("more clients", 3), Ops: 8 + s.Draw("more ops", 18),
		Span: time.Second, Idle: 10 * time.Second, Sync: time.Millisecond, Turn: 100 * time.Microsecond}
	if s.Draw("weather", 2) == 1 {
		p.Loss = s.Draw("loss", 10)
		p.Twice = s.Draw("twice", 20)
		p.Spread = ms(s, "spread", 20)
		p.Split = s.Draw("split", 2) == 1
		p.Sync += ms(s, "sync", 10)
		p.Turn += ms(s, "turn", 5)
	}
	if s.Draw("forgetful", 3) == 1 {
		p.Idle = 30*time.Millisecond + ms(s, "idle", 300)
	}
	if s.Draw("with dead", 2) == 1 {
		p.Dead = drawServers(s, p.Servers, 3)
	}
	for range s.Draw("faults", 9) {
		p.Faults = append(p.Faults, patterns[s.Draw("pattern", len(patterns))](s, &p)...)
	}
	return p
}

// drawServers draws a set of at most most servers; small ones and the empty one are as likely as large ones.
func drawServers(s Source, servers, most int) (set Servers) {
	for range s.Draw("how many", most+1) {
		set |= 1 << s.Draw("server", servers)
	}
	return set
}

// ms draws a duration below n milliseconds.
func ms(s Source, what string, n int) time.Duration {
	return time.Duration(s.Draw(what, n)) * time.Millisecond
}

// patterns are what goes wrong together. A lone fault is more likely than all others together; each of the others is a
// bait for a kind of mistake that lone faults rarely bring to light.
var patterns = []func(Source, *Schedule) []Fault{
	loneFault, loneFault, loneFault, loneFault, loneFault, loneFault, forgetting, rivals, thinQuorum, lateAnswers, sealInTrouble,
}

// forgetting lets servers lose what they have not synced for long: whoever answers before it is durable is caught.
func forgetting(s Source, p *Schedule) []Fault {
	slow := Fault{Kind: SlowDisk, Cell: s.Draw("cell", p.Cells), At: ms(s, "at", 1000), For: 500 * time.Millisecond,
		Proposer: s.Draw("at the proposer", 2) == 1, Who: drawServers(s, p.Servers, 4), Delay: 50*time.Millisecond + ms(s, "delay", 200)}
	crash := slow
	crash.Kind, crash.At, crash.For, crash.Delay = Crash, slow.At+ms(s, "later", 200), ms(s, "down", 300), 0
	twins := Fault{Kind: Stormy, At: slow.At, For: slow.For, Share: s.Draw("twice", 60)}
	return []Fault{slow, twins, crash}
}

// rivals cuts the proposer off, with a few followers, and lets others look for a new one at once. What was on its way to
// the old one may reach it long after that.
func rivals(s Source, p *Schedule) []Fault {
	cut := Fault{Kind: Isolate, Cell: s.Draw("cell", p.Cells), At: ms(s, "at", 1000), For: 10*time.Millisecond + ms(s, "for", 500),
		Proposer: true, Who: drawServers(s, p.Servers, 3)}
	duel := Fault{Kind: Duel, Cell: cut.Cell, At: cut.At + ms(s, "later", 50), Who: drawServers(s, p.Servers, 3)}
	echo := Fault{Kind: Stormy, At: max(0, cut.At-60*time.Millisecond), For: 65 * time.Millisecond,
		Share: s.Draw("twice", 100), Delay: ms(s, "echo", 400)}
	return []Fault{cut, duel, echo}
}

// thinQuorum leaves the proposer with three others, a majority without a spare, and a disk that syncs late; then it crashes
// and comes back among the other three. Whatever it counted before it was durable is now known to a minority only.
func thinQuorum(s Source, p *Schedule) []Fault {
	at, span := ms(s, "at", 700), 50*time.Millisecond+ms(s, "for", 200)
	c, who := s.Draw("cell", p.Cells), Servers(0)
	for range 3 {
		who |= 1 << s.Draw("server", p.Servers)
	}
	return []Fault{
		{Kind: Isolate, Cell: c, At: at, For: span, Who: who, Proposer: true},
		{Kind: SlowDisk, Cell: c, At: at, For: span, Proposer: true, Delay: 300 * time.Millisecond},
		{Kind: Crash, Cell: c, At: at + span - time.Millisecond, For: ms(s, "down", 50), Proposer: true},
		{Kind: Isolate, Cell: c, At: at + span, For: 100*time.Millisecond + ms(s, "for", 400), Who: who},
		{Kind: Duel, Cell: c, At: at + span + ms(s, "later", 100), Who: (1<<p.Servers - 1) &^ who},
	}
}

// lateAnswers lets messages of one ballot arrive in the next, and the next but one.
func lateAnswers(s Source, p *Schedule) []Fault {
	storm := Fault{Kind: Stormy, At: ms(s, "at", 1000), For: 100*time.Millisecond + ms(s, "for", 400), Share: s.Draw("twice", 60),
		Delay: 50*time.Millisecond + ms(s, "delay", 400)}
	faults := []Fault{storm}
	for at, n := storm.At, 1+s.Draw("duels", 4); n > 0; n-- {
		at += ms(s, "later", 100)
		faults = append(faults, Fault{Kind: Duel, Cell: s.Draw("cell", p.Cells), At: at, Who: drawServers(s, p.Servers, 2), Proposer: s.Draw("at the proposer", 2) == 1})
	}
	return faults
}

// sealInTrouble has a cell sealed around the time at which its proposer is in trouble; rarely, since a sealed cell makes
// the rest of a run dull.
func sealInTrouble(s Source, p *Schedule) []Fault {
	faults := rivals(s, p)
	if s.Draw("really", 3) == 1 {
		seal := Fault{Kind: Seal, Cell: faults[0].Cell, At: faults[0].At + ms(s, "seal", 100)}
		faults = append(faults, seal)
	}
	return faults
}

// loneFault draws one fault of any kind but Seal, which has a pattern of its own.
func loneFault(s Source, p *Schedule) []Fault {
	f := Fault{Kind: FaultKind(s.Draw("kind", int(Seal))), Cell: s.Draw("cell", p.Cells), At: ms(s, "at", 1000),
		For: 10*time.Millisecond + ms(s, "for", 500), Proposer: s.Draw("at the proposer", 2) == 1, Who: drawServers(s, p.Servers, 3)}
	switch f.Kind {
	case Crash:
		f.Keep = s.Draw("keep", 3) * 50
		if s.Draw("power cut", 6) == 1 {
			f.Who = 1<<p.Servers - 1
		}
	case Ambush:
		f.Proposer = true
		f.Who, f.Share, f.Keep = 0, s.Draw("peers", 5), s.Draw("keep", 3)*50
	case Cut, Deafen, Isolate:
		if s.Draw("partial", 3) == 1 {
			f.Others = drawServers(s, p.Servers, 4)
		}
	case SlowDisk:
		f.Delay = 5*time.Millisecond + ms(s, "delay", 200)
	case Lossy:
		f.Share = 5 + s.Draw("loss", 60)
	case Stormy:
		f.Share, f.Delay = s.Draw("twice", 60), ms(s, "delay", 100)
	case LostReplies:
		f.Share = 10 + s.Draw("lost", 90)
	}
	return []Fault{f}
}
