package sim

// strike makes a fault happen, and plans its end. Faults overlap: what they do is counted or added, and taken back by the
// same amount.
func (w *World) strike(f *Fault) {
	if w.healed {
		return
	}
	everybody := Servers(1<<len(w.servers) - 1)
	who, others := f.Who&everybody, f.Others
	if f.Proposer {
		if s := w.proposer(w.cells[f.Cell]); s != nil {
			who |= 1 << s.at
		}
	}
	if others == 0 {
		others = everybody &^ who
	}
	w.trace.note(w.now, "%s for %v at %09b, cell %d, keep %d, share %d, delay %v", f.Kind, f.For, who, f.Cell, f.Keep, f.Share, f.Delay)
	w.report.Faults[f.Kind]++
	switch f.Kind {
	case Crash:
		w.each(who, func(s *server) { s.crash(f.Keep); w.after(f.For, func() { w.revive(s) }) })
	case Ambush:
		w.each(who, func(s *server) { s.ambush = &ambush{f.Share + 1, f} })
	case Cut:
		w.cut(who, others, f)
	case Deafen:
		w.cut(others, who, f)
	case Isolate:
		w.cut(who, others, f)
		w.cut(others, who, f)
	case Pause:
		w.each(who, func(s *server) { s.paused++ })
		w.until(f, func() { w.each(who, func(s *server) { s.paused--; s.wake() }) })
	case SlowDisk:
		w.each(who, func(s *server) { s.slow += f.Delay })
		w.until(f, func() { w.each(who, func(s *server) { s.slow -= f.Delay }) })
	case Lossy:
		w.net.loss += f.Share
		w.until(f, func() { w.net.loss -= f.Share })
	case Stormy:
		w.net.twice, w.net.spread = w.net.twice+f.Share, w.net.spread+f.Delay
		w.until(f, func() { w.net.twice, w.net.spread = w.net.twice-f.Share, w.net.spread-f.Delay })
	case LostReplies:
		w.lostReplies += f.Share
		w.until(f, func() { w.lostReplies -= f.Share })
	case Duel:
		w.each(who, func(s *server) { w.provoke(w.cells[f.Cell], s) })
	case Seal:
		w.seal(w.cells[f.Cell], 0)
	}
}

// each calls do for the servers of a set, in order.
func (w *World) each(set Servers, do func(*server)) {
	for i, s := range w.servers {
		if set.Has(i) {
			do(s)
		}
	}
}

// until ends a fault after its time, unless healing has ended all of them before.
func (w *World) until(f *Fault, end func()) {
	w.after(f.For, func() {
		if !w.healed {
			end()
		}
	})
}

// cut cuts the links from one set of servers to another.
func (w *World) cut(from, to Servers, f *Fault) {
	change := func(by int) {
		for a := range w.servers {
			for b := range w.servers {
				if a != b && from.Has(a) && to.Has(b) {
					w.net.cut[a][b] += by
				}
			}
		}
	}
	change(1)
	w.until(f, func() { change(-1) })
}

// revive starts a server again that crashed, unless it stays dead.
func (w *World) revive(s *server) {
	if s.core == nil && !(w.healed && w.plan.Dead.Has(s.at)) {
		s.start()
	}
}

// heal ends all faults at once, which is why none of them ends later by itself (see until); the dead of the schedule stay down, the others start again.
func (w *World) heal() {
	w.trace.note(w.now, "healed, but %09b stay dead", w.plan.Dead)
	w.healed = true
	w.net.loss, w.net.twice, w.net.spread, w.lostReplies = 0, 0, 0, 0
	w.net.cut = [serversMax][serversMax]int{}
	for _, s := range w.servers {
		s.paused, s.slow, s.ambush = 0, 0, nil
		if w.plan.Dead.Has(s.at) {
			s.crash(0)
		}
		w.revive(s)
		s.wake()
	}
}

// powerCut crashes everybody at once, without mercy for what was not synced, and starts whoever is not dead. Whatever was
// acknowledged must be read by those who are left, from their disks alone.
func (w *World) powerCut() {
	for _, s := range w.servers {
		s.crash(0)
	}
	for _, s := range w.servers {
		w.revive(s)
	}
}
