package health

import (
	"slices"
	"time"

	"physalia/cell"
	"physalia/internal/wire"
)

// What peers say of a server that the control plane does not hear. A server that lost only its connection to the control
// plane serves its cells as well as before; to replace its nodes would be work for nothing. So whoever is missed is asked
// about: a few servers of its brick and color say when they last heard it. While most of them hear it, it is unreachable,
// and not down; for UnreachableMax at most, since nobody can manage it meanwhile.
//
// A peer's word never makes a server go down, and never brings one back: so verdicts do not flap faster for it. A server that
// is dead is heard by nobody after its connection broke, so it goes down as soon as without.

// witnesses is how many servers are asked about the missed ones of their pool.
const witnesses = 5

// Question is what to ask one server.
type Question struct {
	Ask   cell.ServerID
	About []cell.ServerID
}

// Questions says whom to ask about whom now: for every pool with missed servers, some that are heard, others each time. round
// counts the calls.
func (t *Tracker) Questions(now time.Duration, round uint64) (out []Question) {
	t.advance(now)
	missed := map[poolKey][]cell.ServerID{}
	for _, id := range t.order {
		s := t.servers[id]
		if key := s.pool(); t.missed(s) && t.config.UnreachableMax > 0 && len(missed[key]) < wire.BatchMax {
			missed[key] = append(missed[key], id)
		}
	}
	if len(missed) == 0 {
		return nil
	}
	heard := map[poolKey][]cell.ServerID{}
	for _, id := range t.order {
		if s := t.servers[id]; s.up && s.connected && !t.missed(s) && missed[s.pool()] != nil {
			heard[s.pool()] = append(heard[s.pool()], id)
		}
	}
	for key, list := range heard {
		for i := range min(witnesses, len(list)) {
			// Evenly spaced, and one further in each round: no server is asked about everybody for long.
			out = append(out, Question{Ask: list[(int(round%uint64(len(list)))+i*max(1, len(list)/witnesses))%len(list)], About: missed[key]})
		}
	}
	slices.SortFunc(out, func(a, b Question) int { return compare(a.Ask, b.Ask) })
	return slices.CompactFunc(out, func(a, b Question) bool { return a.Ask == b.Ask })
}

func compare(a, b cell.ServerID) int {
	switch {
	case a < b:
		return -1
	case a > b:
		return 1
	}
	return 0
}

func (s *server) pool() poolKey { return poolKey{s.registration.Brick, s.registration.Color} }

// missed reports whether a server that may still be up has not been heard for longer than is usual.
func (t *Tracker) missed(s *server) bool {
	if s.judged && !s.up {
		return false
	}
	return !s.connected && t.now-s.lost >= t.config.DisconnectedMax/4 || s.waiting && t.now-s.waitingSince >= t.config.SilentMax/2
}

// PeersHear takes what the servers that were asked say of one: it was asked at, and answers has one element for each server
// that answered. Those count that share cells with it, and so heartbeats; if none does, the rumour has to do.
func (t *Tracker) PeersHear(now, asked time.Duration, id cell.ServerID, answers []wire.PeerHeard) {
	t.advance(now)
	s := t.servers[id]
	if s == nil {
		return
	}
	var ages []uint64
	rumour := 0
	for _, a := range answers {
		if a.Lane {
			ages = append(ages, min(a.Age, 1<<40))
		}
		if a.Gossip {
			rumour++
		}
	}
	switch {
	case len(ages) > 0:
		slices.Sort(ages)
		age := time.Duration(ages[len(ages)/2]) * time.Millisecond // most of them heard it at least so lately
		s.heardOf = max(s.heardOf, asked-age)
	case 2*rumour > len(answers):
		s.heardOf = max(s.heardOf, asked)
	}
}

// since is when a silence that began at start counts from: from when most peers last heard the server, if that is later, and
// the silence is no longer than UnreachableMax.
func (t *Tracker) since(s *server, start time.Duration) time.Duration {
	if s.heardOf > start && t.now-start < t.config.UnreachableMax {
		return s.heardOf
	}
	return start
}

// Unreachable lists the servers that are up only because their peers hear them, in order of identity, with the time for
// which the control plane has not.
func (t *Tracker) Unreachable(now time.Duration) (out []wire.ServerSince) {
	t.advance(now)
	for _, id := range t.order {
		s := t.servers[id]
		if !s.up {
			continue
		}
		var silent time.Duration
		if !s.connected && t.now-s.lost >= t.config.DisconnectedMax {
			silent = t.now - s.lost
		}
		if s.waiting && t.now-s.waitingSince >= t.config.SilentMax {
			silent = max(silent, t.now-s.waitingSince)
		}
		if silent > 0 {
			out = append(out, wire.ServerSince{Server: id, State: "unreachable", For: uint64(silent.Milliseconds())})
		}
	}
	return out
}
