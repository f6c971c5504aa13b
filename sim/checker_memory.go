package sim

import (
	"slices"

	"physalia/node/core"
	"physalia/paxos"
)

// said is what one member told others, which binds it for ever.
type said struct {
	promised paxos.Ballot
	votes    []vote
	replica  *paxos.Replica // as it was last seen; another one was loaded from the disk
	applied  paxos.Slot     // of that replica
	floor    paxos.Slot     // of that replica
}

// vote is one Accepted that left its server.
type vote struct {
	slot   paxos.Slot
	ballot paxos.Ballot
}

// memory: a ballot that a member promised, confirmed, accepted in or asked votes for, and every entry that it said it
// accepted, is known to it ever after: over crashes, restarts and going cold (P1, P3, rule 1). Applied and floor of a
// loaded member never fall.
func memory(w *World) *checker {
	var all [serversMax][3]said
	return &checker{name: "memory",
		sent: func(s *server, v *volume, m *core.PeerMessage) {
			told := &all[s.at][v.at]
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
			if s.core == nil {
				return
			}
			if r, _ := s.core.Inspect(v.id); r != nil {
				all[s.at][v.at].compare(w, s, v, r)
			}
		}}
}

// compare looks at a member's replica. A promise is compared every time, it costs nothing. Votes are compared when it was loaded, and forgotten once a snapshot covers them.
func (t *said) compare(w *World, s *server, v *volume, r *paxos.Replica) {
	switch {
	case r.Promised().Less(t.promised):
		w.fail("memory", "%s told others of ballot %v in %s, and now promised %v", s.id, t.promised, v.id, r.Promised())
	case r == t.replica && (r.Applied() < t.applied || r.Floor() < t.floor):
		w.fail("memory", "%s applied %d (floor %d) of %s, and now %d (floor %d)", s.id, t.applied, t.floor, v.id, r.Applied(), r.Floor())
	}
	if r != t.replica {
		for _, x := range t.votes {
			if !r.Remembers(x.slot, x.ballot) {
				w.fail("memory", "%s accepted slot %d of %s at %v, told so, and does not know it after a restart: %s", s.id, x.slot, v.id, x.ballot, r.Describe())
			}
		}
	}
	if r.Floor() != t.floor {
		t.votes = slices.DeleteFunc(t.votes, func(x vote) bool { return x.slot <= r.Floor() })
	}
	t.replica, t.applied, t.floor = r, r.Applied(), r.Floor()
}
