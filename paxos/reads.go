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

// readRound is one question to the jury of the first slot that is not chosen, and the reads that it is asked for. Votes of two
// juries are never added up: when the jury changes, all rounds start over.
type readRound struct {
	number uint64
	votes  voters
	tokens []ReadToken
}

// pending reports whether a read waits for anything.
func (s *readState) pending() bool { return len(s.waiting) > 0 || len(s.rounds) > 0 }

// clear forgets all reads and returns their tokens, oldest first. The number goes on, so that no old answer fits a new round.
func (s *readState) clear() (tokens []ReadToken) {
	for _, round := range s.rounds {
		tokens = append(tokens, round.tokens...)
	}
	tokens = append(tokens, s.waiting...)
	s.waiting, s.rounds = nil, nil
	return tokens
}

// startOver asks again for all reads, since another jury decides now. The old one would do as well, but it may be gone.
func (s *readState) startOver() { s.waiting = s.clear() }

// Read asks for a linearizable read: once the token is in ReadsReady, the host may answer from its applied state.
func (r *Replica) Read(t ReadToken) Refusal {
	switch {
	case r.sealed:
		return Sealed
	case r.role == Follower || r.handing != 0:
		return NotProposer
	}
	r.reads.waiting = append(r.reads.waiting, t)
	return Accepted
}

// LocalReads reports whether a read may be answered from the applied state without asking anybody, provided that a majority of
// Jury is known to keep others from leading (a read lease, rule 12): this is the proposer, everything that it re-proposed is
// applied, and its ballot was promised by the jury of the first slot that is not chosen.
func (r *Replica) LocalReads() bool {
	return r.role == Proposer && r.handing == 0 && !r.sealed && r.applied >= r.tail && r.backed(r.conf)
}

// startReads opens a round for everything that waits, once all that was re-proposed is applied. The jury of the first slot
// that is not chosen is asked: for a later write to be known to anybody, that slot must be chosen, and that takes either this
// ballot or a majority of that jury that promised a higher one (P6).
func (r *Replica) startReads() {
	s := &r.reads
	if r.role != Proposer || len(s.waiting) == 0 || r.applied < r.tail || len(s.rounds) >= roundsMax || !r.backed(r.conf) {
		return
	}
	s.number++
	s.rounds = append(s.rounds, readRound{number: s.number, tokens: s.waiting})
	s.waiting = nil
	r.send(Message{Kind: MsgConfirm, Ballot: r.ballot, Number: s.number, spared: r.sparing()})
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
		if vote(&round.votes, r.conf, m.From) {
			done = i + 1
		}
	}
	for _, round := range s.rounds[:done] {
		r.out.ReadsReady = append(r.out.ReadsReady, round.tokens...)
	}
	s.rounds = s.rounds[done:]
}

// resend repeats the newest round to the members that have not answered it: an answer serves the older ones, too.
func (s *readState) resend(r *Replica) {
	if len(s.rounds) == 0 {
		return
	}
	newest := &s.rounds[len(s.rounds)-1]
	for i, member := range r.conf.Members {
		if !newest.votes.has(i) && member.Node != r.cfg.Self {
			r.send(Message{Kind: MsgConfirm, To: member.Node, Ballot: r.ballot, Number: newest.number})
		}
	}
}
