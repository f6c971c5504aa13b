package sim

import (
	"math/bits"
	"time"
)

// Draw makes a schedule. Small numbers mean calm, so that whoever shrinks them gets the simplest world that still fails.
//
// Whole classes of trouble are switched on or off per schedule (swarm testing): patterns of faults, bad weather all the
// time, nodes that go cold quickly, dead servers, knobs. A world with a bit of everything every time would hide what needs
// one thing undisturbed.
func Draw(s Source) Schedule { return drawFrom(s, patterns) }

func drawFrom(s Source, all []pattern) Schedule {
	p := Schedule{Seed: uint64(s.Draw("seed", 1<<31)), Servers: jurySize + s.Draw("spare servers", 3), Cells: [...]int{1, 1, 1, 2, 2, 3}[s.Draw("cells", 6)],
		Alpha: 1 + s.Draw("alpha-1", 8), Batch: 1 + s.Draw("batch-1", 3), Clients: 2 + s.Draw("more clients", 3), Ops: 8 + s.Draw("more ops", 18),
		Span: time.Second, Idle: 10 * time.Second, Sync: time.Millisecond, Turn: 100 * time.Microsecond}
	p.Thrifty = p.Seed%2 == 1
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
		p.Cramped = s.Draw("cramped", 2) == 1
	}
	drawKnobs(s, &p)
	drawPeople(s, &p)
	switch s.Draw("dead", 4) {
	case 1:
		p.Dead = drawServers(s, p.Servers, 3)
	case 2, 3: // any four of seven must do
		for p.Dead.count() < 3 {
			p.Dead |= 1 << s.Draw("dead server", p.Servers)
		}
	}
	var on []pattern
	for _, pattern := range all {
		if s.Draw("with "+pattern.name, 2) == 1 {
			for range pattern.weight {
				on = append(on, pattern)
			}
		}
	}
	if len(on) == 0 {
		return p
	}
	for range s.Draw("faults", 10) {
		p.Faults = append(p.Faults, on[s.Draw("pattern", len(on))].draw(s, &p)...)
	}
	return p
}

// drawKnobs turns some knobs; the others stay at their defaults.
func drawKnobs(s Source, p *Schedule) {
	knob := func(what string) bool { return s.Draw("turn "+what, 4) == 1 }
	if knob("window") {
		p.Window = max(4, 2*p.Alpha) + s.Draw("window", 64-2*max(2, p.Alpha)+1)
	}
	if knob("skew") {
		p.Skew = 1 + s.Draw("skew-1", 100)
	}
	if knob("heartbeat") {
		p.Heartbeat = 10*time.Millisecond + ms(s, "heartbeat", 60)
	}
	if knob("liveness") {
		p.Liveness = 100*time.Millisecond + ms(s, "liveness", 300)
	}
	if knob("nudge") {
		p.Nudge = 5*time.Millisecond + ms(s, "nudge", 60)
	}
	if knob("notice") {
		p.Notice = 5*time.Millisecond + ms(s, "notice", 200)
	}
	if knob("client") {
		p.Attempt = 20*time.Millisecond + ms(s, "attempt", 200)
		p.Backoff = time.Millisecond + ms(s, "backoff", 10)
		p.Patience = 100*time.Millisecond + ms(s, "patience", 1500)
	}
}

// count is how many servers are in the set.
func (s Servers) count() int { return bits.OnesCount32(uint32(s)) }

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

// pattern draws what goes wrong together, and has a name by which it is switched on.
type pattern struct {
	name   string
	weight int // how much more likely it is than others
	draw   func(Source, *Schedule) []Fault
}

// patterns are all of them: every kind of fault alone, and the baits for kinds of mistakes that lone faults rarely bring to
// light.
var patterns = append(lone(), pattern{"forgetting", 2, forgetting}, pattern{"rivals", 2, rivals}, pattern{"thin quorum", 2, thinQuorum},
	pattern{"late answers", 2, lateAnswers}, pattern{"seal in trouble", 2, sealInTrouble}, pattern{"struck campaign", 8, struckCampaign},
	pattern{"stale keeper", 1, staleKeeper}, pattern{"two proposers", 1, twoProposers}, pattern{"late retry", 1, lateRetry}, pattern{"deaf proposer", 1, deafProposer},
	pattern{"move", 2, move}, pattern{"struck move", 8, struckMove}, pattern{"procession", 1, procession}, pattern{"busy store", 1, busyStore},
	pattern{"slow expiry", 1, slowExpiry})

// lone makes a pattern of every kind of fault but Seal, which has one of its own, and those that nobody survives yet.
func lone() (all []pattern) {
	for k := range Seal {
		if notYet[k] == "" {
			all = append(all, pattern{k.String(), 1, func(s Source, p *Schedule) []Fault { return []Fault{loneFault(s, p, k)} }})
		}
	}
	return all
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

// struckCampaign lets servers campaign, and strikes them while they do, whatever the cell was doing before.
func struckCampaign(s Source, p *Schedule) []Fault {
	var kinds []FaultKind
	for k := range faultKinds {
		if k.victims() && k != Duel && k != HandOver && notYet[k] == "" {
			kinds = append(kinds, k)
		}
	}
	// The campaign lasts for a round trip and a sync; the strike comes within two milliseconds, so about every other one
	// finds a candidate.
	strike := loneFault(s, p, kinds[s.Draw("kind", len(kinds))])
	duel := Fault{Kind: Duel, Cell: strike.Cell, At: strike.At, Who: drawServers(s, p.Servers, 2) | 1<<s.Draw("server", p.Servers)}
	strike.At += time.Duration(s.Draw("campaign", 2000)) * time.Microsecond
	switch strike.Kind {
	case Ambush:
	case RackLoss, RackCut:
		duel.Who |= 1 << strike.Share
	case DomainLoss:
		duel.Who |= 1 << (strike.Share * domains)
	default:
		strike.Who |= duel.Who
	}
	return []Fault{duel, strike}
}

// loneFault draws one fault of a kind.
func loneFault(s Source, p *Schedule, k FaultKind) Fault {
	f := Fault{Kind: k, Cell: s.Draw("cell", p.Cells), At: ms(s, "at", 1000), For: 10*time.Millisecond + ms(s, "for", 500)}
	if s.Draw("early", 8) == 1 { // before anybody leads
		f.At = time.Duration(s.Draw("early at", 4000)) * time.Microsecond
	}
	if k.victims() {
		f.Proposer, f.Who = s.Draw("at the proposer", 2) == 1, drawServers(s, p.Servers, 3)
	}
	switch k {
	case Crash, BrokenDisk:
		f.Keep = s.Draw("keep", 3) * 50
	case PowerCut, RackLoss, RackCut, DomainLoss:
		f.Who, f.Proposer, f.Keep, f.Share = 0, false, s.Draw("keep", 3)*50, s.Draw("domain", domains)
	case Ambush:
		f.Proposer = true
		f.Who, f.Share, f.Keep = 0, s.Draw("peers", 5), s.Draw("keep", 3)*50
	case Cut, Deafen, Isolate, LaneCut:
		if s.Draw("partial", 3) == 1 {
			f.Others = drawServers(s, p.Servers, 4)
		}
		if k == LaneCut {
			f.Lanes = 1 << s.Draw("lane", lanesCount)
		}
	case FullDisk:
		f.Share = s.Draw("level", 2)
	case SlowDisk:
		f.Delay = 5*time.Millisecond + ms(s, "delay", 200)
	case Rollback, Swap, Wipe, Flip, Poison:
		f.Keep, f.Share = s.Draw("keep", 3)*50, s.Draw("bit", 1<<20)
	case Lossy:
		f.Share = 5 + s.Draw("loss", 60)
	case Stormy:
		f.Share, f.Delay = s.Draw("twice", 60), ms(s, "delay", 100)
	case LostReplies:
		f.Share = 10 + s.Draw("lost", 90)
	case ClientCut, ClientPause:
		f.Clients = uint32(s.Draw("clients", 1<<8))
	}
	return f
}
