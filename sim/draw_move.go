package sim

import "time"

// loneMove draws the replacement of a member by a server that has no node of the cell, or had one before. Every other manager
// dies on its way.
func loneMove(s Source, p *Schedule) Fault {
	p.Servers = max(p.Servers, jurySize+1)
	everybody := Servers(1<<p.Servers - 1)
	f := Fault{Kind: Move, Cell: s.Draw("cell", p.Cells), At: ms(s, "at", 900), For: time.Millisecond, Proposer: s.Draw("at the proposer", 3) == 1,
		Others: everybody}
	if !f.Proposer {
		// The first of them that is a member is replaced.
		f.Who = everybody &^ (1<<s.Draw("from server", p.Servers) - 1)
	}
	if s.Draw("mortal", 2) == 1 {
		f.Share, f.Delay = 1+s.Draw("steps", 8), ms(s, "successor", 200)
	}
	return f
}

func move(s Source, p *Schedule) []Fault { return []Fault{loneMove(s, p)} }

// struckMove strikes whatever has to do with a replacement while it is under way: members, the one that leaves, and the
// newcomer, of whom the draw knows that it is one of the last servers or one that left before.
func struckMove(s Source, p *Schedule) []Fault {
	move := loneMove(s, p)
	var kinds []FaultKind
	for k := range faultKinds {
		if k != Move && k != Seal && k.general() && notYet[k] == "" {
			kinds = append(kinds, k)
		}
	}
	strike := loneFault(s, p, kinds[s.Draw("kind", len(kinds))])
	strike.Cell, strike.At = move.Cell, move.At+time.Duration(s.Draw("on its way", 120_000))*time.Microsecond
	if who := s.Draw("victim", 4); strike.Who != 0 || strike.Proposer {
		switch who {
		case 1: // those who are no founders of the first cell
			strike.Who |= (1<<p.Servers - 1) &^ (1<<jurySize - 1)
		case 2:
			strike.Who |= move.Who & -move.Who
		case 3:
			strike.Who |= 1 << ((s.Draw("newcomer", 2) + move.Cell + jurySize) % p.Servers)
		}
	}
	faults := []Fault{move, strike}
	if s.Draw("rival", 3) > 0 { // so that nobody leads, or somebody asks to, when it strikes
		duel := Fault{Kind: Duel, Cell: move.Cell, At: max(0, strike.At-time.Duration(s.Draw("campaign", 2000))*time.Microsecond),
			Who: drawServers(s, p.Servers, 3) | 1<<s.Draw("server", p.Servers)}
		if strike.Who != 0 {
			faults[1].Who |= duel.Who
		}
		faults = append(faults, duel)
	}
	return faults
}

// procession replaces one member after the other; with luck nobody of the founding jury is left.
func procession(s Source, p *Schedule) (faults []Fault) {
	first := loneMove(s, p)
	step := 40*time.Millisecond + ms(s, "step", 100)
	for i := range jurySize {
		f := first
		f.Proposer, f.At, f.Who = false, first.At/4+time.Duration(i)*step, Servers(1<<p.Servers-1)&^(1<<i-1)
		faults = append(faults, f)
	}
	return faults
}
