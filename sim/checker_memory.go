package sim

import (
	"slices"

	"physalia/internal/wire/peer"
	"physalia/node/core"
	"physalia/paxos"
)

// said is what one member told others, which binds it for ever.
type said struct {
	promised paxos.Ballot
	votes    []vote
	node     paxos.NodeNumber // whoever comes back to a server is somebody else
	replica  *paxos.Replica   // as it was last seen; another one was loaded from the disk
	applied  paxos.Slot       // of that replica
	covered  paxos.Slot       // of that replica
}

// vote is one Accepted that left its server.
type vote struct {
	slot   paxos.Slot
	ballot paxos.Ballot
}

// memory: a ballot that a member promised, confirmed, accepted in or asked votes for, and every entry that it said it
// accepted, is known to it ever after: over crashes, restarts and going cold (P1, P3, rule 1). What a loaded member applied, and
// what a stored state covers of it, never falls. A server whose disk was damaged may have forgotten all that, but then it must not vote (rule 8).
func memory(w *World) *checker {
	all := make([][cellsMax]said, len(w.servers))
	return &checker{name: "memory",
		sent: func(s *server, v *volume, m *core.PeerMessage) {
			if m.Message.Kind >= peer.KindMoved {
				return // between hosts: a pointer answers for whatever node was addressed
			}
			told := all[s.at][v.at].of(m.Message.From)
			if k := m.Message.Kind; s.damaged != "" && (k == paxos.MsgPromise || k == paxos.MsgAccepted || k == paxos.MsgConfirmed) {
				if r, _ := s.core.Inspect(v.id); r != nil {
					told.compare(w, s, v, r)
				}
			}
			if k := m.Message.Kind; s.damaged == rolledBack && (k == paxos.MsgPromise || k == paxos.MsgAccepted || k == paxos.MsgConfirmed || k == paxos.MsgAccept) {
				w.fail("memory", place{s: s, v: v}, "it votes although its disk was rolled back: %s", m.Message.Describe())
			}
			switch m.Message.Kind {
			case paxos.MsgAccepted:
				told.votes = append(told.votes, vote{m.Message.Slot, m.Message.Ballot})
				fallthrough
			case paxos.MsgPrepare, paxos.MsgPromise, paxos.MsgConfirmed, paxos.MsgAccept:
				if told.promised.Less(m.Message.Ballot) {
					told.promised = m.Message.Ballot
				}
			}
		},
		turned: func(s *server, v *volume) {
			if s.core == nil || s.damaged != "" {
				return
			}
			if r, _ := s.core.Inspect(v.id); r != nil {
				all[s.at][v.at].of(r.Self()).compare(w, s, v, r)
			}
		}}
}

// of begins anew for another node on the same server; numbers only rise (rule 4).
func (t *said) of(n paxos.NodeNumber) *said {
	if n != 0 && n < t.node {
		return &said{node: n} // what a node said that has left since, and that waited for the disk
	}
	if t.node < n {
		*t = said{node: n}
	}
	return t
}

// compare looks at a member's replica. A promise is compared every time, it costs nothing. Votes are compared when it was loaded, and forgotten once a snapshot covers them.
func (t *said) compare(w *World, s *server, v *volume, r *paxos.Replica) {
	switch {
	case r.Promised().Less(t.promised):
		w.fail("memory", place{s: s, v: v}, "it told others of ballot %v, and now promised %v", t.promised, r.Promised())
	case r == t.replica && (r.Applied() < t.applied || r.Covered() < t.covered):
		w.fail("memory", place{s: s, v: v}, "it applied %d (covered %d), and now %d (covered %d)", t.applied, t.covered, r.Applied(), r.Covered())
	}
	if r != t.replica {
		for _, x := range t.votes {
			if !r.Remembers(x.slot, x.ballot) {
				w.fail("memory", place{s, v, int(x.slot)}, "it accepted the slot at %v, told so, and does not know it after a restart: %s", x.ballot, r.Describe())
			}
		}
	}
	if r.Covered() != t.covered { // what only its memory covers is still in the ring that is stored
		t.votes = slices.DeleteFunc(t.votes, func(x vote) bool { return x.slot <= r.Covered() })
	}
	t.replica, t.applied, t.covered = r, r.Applied(), r.Covered()
}
