package sim

import "time"

// Baits for kinds of mistakes that lone faults rarely bring to light, because several things must come together.

// home is the server that owns ballot 1 of a cell, and leads it unless something happened.
func (p *Schedule) home(c int) int { return 2 * c % p.Servers }

// allClients is every session that faults can name.
const allClients = 1<<sessionsMax - 1

// allOf is the set of the plain clients of a cell.
func allOf(c int, p *Schedule) uint32 { return (1<<p.Clients - 1) << (c * p.Clients) }

// staleKeeper cuts a proposer off from everybody but one holder of a lease, for longer than it takes others to expire that
// lease: a proposer that answers keep-alives from memory makes the holder believe in what somebody else has by then.
func staleKeeper(s Source, p *Schedule) []Fault {
	p.Lockers = max(p.Lockers, 2)
	c := s.Draw("cell", p.Cells)
	keeper := uint32(1) << p.lockerAt(c, s.Draw("keeper", p.Lockers))
	f := Fault{Kind: Isolate, Cell: c, At: 60*time.Millisecond + ms(s, "at", 200), For: 2 * time.Second, Proposer: true}
	p.Span = max(p.Span, f.At+1500*time.Millisecond)
	others := Fault{Kind: ClientCut, Cell: c, At: f.At, For: f.For, Proposer: true, Clients: allClients &^ keeper}
	return []Fault{others, f}
}

// twoProposers keeps a proposer and its successor from hearing each other, while some clients reach only the one and all
// others only the other. The old one may be cut off from all at first, so that the support for it ends; later that heals,
// and it has not sent or heard anything of its cell yet when its clients ask. It takes a cell that nothing else has troubled.
func twoProposers(s Source, p *Schedule) []Fault {
	if len(p.Faults) > 0 {
		return nil
	}
	c := s.Draw("cell", p.Cells)
	a := p.home(c)
	b := (a + 1 + s.Draw("successor", jurySize-1)) % p.Servers
	writer := uint32(1) << (c*p.Clients + s.Draw("writer", p.Clients))
	readers := allOf(c, p) &^ writer
	at, whole, apart := 20*time.Millisecond+ms(s, "at", 300), 500*time.Millisecond+ms(s, "for", 400), time.Duration(0)
	p.Reads, p.Ops = 40+s.Draw("reads", 40), max(p.Ops, 20)
	faults := []Fault{
		{Kind: Isolate, At: at, For: whole, Who: 1 << a, Others: 1 << b},
		{Kind: ClientCut, At: at, For: whole, Who: 1 << a, Clients: allClients &^ readers},
		{Kind: ClientCut, At: at, For: whole, Who: 1<<serversMax - 1 - 1<<a, Clients: readers},
	}
	if s.Draw("apart", 3) > 0 {
		apart = 100*time.Millisecond + ms(s, "lapse", 250)
		faults = append(faults, Fault{Kind: Isolate, At: at, For: apart, Who: 1 << a},
			Fault{Kind: ClientPause, At: at, For: apart + ms(s, "patience of the readers", 120), Clients: readers})
	}
	for n := range 6 {
		faults = append(faults, Fault{Kind: Duel, Cell: c, At: at + apart*time.Duration(n)/5 + time.Duration(n)*5*time.Millisecond, Who: 1 << b})
	}
	return faults
}

// lateRetry lets a request take effect, loses the answer, and lets its client ask again only when a crowd has made the cell
// forget it.
func lateRetry(s Source, p *Schedule) []Fault {
	p.Crowd, p.Batch, p.Patience = max(p.Crowd, 500), max(p.Batch, 8), max(p.Patience, 3*time.Second)
	p.Span = max(p.Span, 1500*time.Millisecond)
	lost := Fault{Kind: LostReplies, At: 20*time.Millisecond + ms(s, "at", 100), For: 5*time.Millisecond + ms(s, "for", 20), Share: 100}
	away := Fault{Kind: ClientCut, At: lost.At + lost.For, For: 700*time.Millisecond + ms(s, "away", 500), Clients: 1<<(p.Cells*p.Clients) - 1}
	return []Fault{lost, away}
}

// deafProposer lets nothing get to the proposer of a cell, for long, when all other faults are over. The checker "useful"
// wants the cell to take writes again while that lasts.
func deafProposer(s Source, p *Schedule) []Fault {
	f := Fault{Kind: Deafen, Cell: s.Draw("cell", p.Cells), At: 1700*time.Millisecond + ms(s, "at", 100), For: usefulTime + time.Second, Proposer: true}
	p.Span = max(p.Span, f.At+usefulTime+100*time.Millisecond)
	return []Fault{f}
}

// busyStore is no fault: it sees to it that there is a block store, and clients of it that are worth cutting off.
func busyStore(_ Source, p *Schedule) []Fault {
	p.Store = true
	return nil
}

// slowExpiry keeps a proposer from having a read lease, so that keep-alives go through the log, and makes disks slow, so that
// an expiry is proposed while a keep-alive is on its way to being chosen.
func slowExpiry(s Source, p *Schedule) []Fault {
	p.Lockers, p.Span = 3, 2*time.Second
	f := Fault{Kind: LaneCut, Cell: s.Draw("cell", p.Cells), At: 50*time.Millisecond + ms(s, "at", 100), For: 2 * time.Second, Proposer: true, Lanes: HeartbeatLane}
	slow := Fault{Kind: SlowDisk, At: f.At, For: f.For, Who: 1<<p.Servers - 1, Delay: 20*time.Millisecond + ms(s, "delay", 60)}
	return []Fault{f, slow}
}
