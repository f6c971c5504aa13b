package paxos

// roundsMax bounds the confirmation rounds in flight; reads that arrive meanwhile share the next one.
const roundsMax = 8

// readState is the quorum-confirmed reads of a proposer (P6). All reads of one turn share one round; a member's answer
// to a later round answers the earlier ones as well, since it was given later.
type readState struct {
	number  uint64      // of the newest round; fresh in this ballot
	waiting []ReadToken // not in a round yet: the next round begins after they arrived, earlier ones did not
	rounds  []readRound // oldest first
}

// readRound is one question to the jury, and the reads that it is asked for.
type readRound struct {
	number uint64
	votes  voters
	tokens []ReadToken
}

// pending reports whether a read waits for anything.
func (s *readState) pending() bool { return len(s.waiting) > 0 || len(s.rounds) > 0 }

// clear forgets all reads and returns their tokens. The number goes on, so that no old answer fits a new round.
func (s *readState) clear() []ReadToken {
	tokens := s.waiting
	for _, round := range s.rounds {
		tokens = append(tokens, round.tokens...)
	}
	s.waiting, s.rounds = nil, nil
	return tokens
}

// Read asks for a linearizable read: once the token is in ReadsReady, the host may answer from its applied state.
func (r *Replica) Read(t ReadToken) Refusal {
	switch {
	case r.sealed:
		return Sealed
	case r.role == Follower:
		return NotProposer
	}
	r.reads.waiting = append(r.reads.waiting, t)
	return Accepted
}

// startReads opens a round for everything that waits, once all that was re-proposed is applied.
func (r *Replica) startReads() {
	s := &r.reads
	if r.role != Proposer || len(s.waiting) == 0 || r.applied < r.tail || len(s.rounds) >= roundsMax {
		return
	}
	s.number++
	s.rounds = append(s.rounds, readRound{number: s.number, tokens: s.waiting})
	s.waiting = nil
	r.send(Message{Kind: MsgConfirm, Ballot: r.ballot, Number: s.number})
	r.sendDurable(Message{Kind: MsgConfirmed, To: r.cfg.Self, Ballot: r.ballot, Number: s.number})
}

// onConfirmed counts confirmations of a round and of the earlier ones.
func (r *Replica) onConfirmed(m *Message) {
	if r.role != Proposer || m.Ballot != r.ballot {
		return
	}
	s := &r.reads
	done := 0
	for i := range s.rounds {
		round := &s.rounds[i]
		if round.number > m.Number {
			break
		}
		if r.vote(&round.votes, m.From) {
			done = i + 1
		}
	}
	for _, round := range s.rounds[:done] {
		r.out.ReadsReady = append(r.out.ReadsReady, round.tokens...)
	}
	s.rounds = s.rounds[done:]
}

// resend repeats the newest round to a member that has not answered it: its answer serves the older ones, too.
func (s *readState) resend(r *Replica, i int, to NodeNumber) {
	if n := len(s.rounds); n > 0 && !s.rounds[n-1].votes.has(i) {
		r.send(Message{Kind: MsgConfirm, To: to, Ballot: r.ballot, Number: s.rounds[n-1].number})
	}
}
