package paxos

// A slot needs the votes of a majority, and what every other member does for it in time is done for nothing. A thrifty proposer asks a
// majority only, itself included, and spares the rest: they are taught what was chosen, several slots at once, which costs them a fraction.
// What is chosen rests on exactly a majority of disks until the spared store it, which is not when they are taught but with their next
// vote, when the cell falls quiet, or before their host drops them (remember, Store); that is what Paxos promises, no more.
//
// Whom to spare is the host's choice, since it knows who is well; nothing here depends on it but time. Nobody is spared
//
//   - while the configuration changes, for then the votes say more than that (P9), or while somebody learns;
//   - where a proposer finds its way: what it re-proposes, hands over or seals;
//   - after a Nudge that found a slot or a read without its majority, until the host chooses again;
//   - in one slot of everybodyEvery windows, so that all of them tell now and then how they stand (rule 19).
//
// (Thrifty operation: Moraru, Andersen, Kaminsky, EPaxos, SOSP 2013, section 6.1; here with the lessons that keep the others near.)

// Bounds of thrift.
const (
	lessonSlots    = 8 // the spared are taught when so many slots were chosen without them, or when notice is given
	everybodyEvery = 8 // windows; nobody is spared in one slot of so many
)

// Spare names the members that a proposer need not ask, as far as it can do without them; none asks everybody. It holds for the
// present configuration and ballot. Names of others are ignored, and so is a choice that leaves less than a majority or spares the
// proposer itself.
func (r *Replica) Spare(members []NodeNumber) {
	var spared voters
	for _, n := range members {
		if i := r.conf.Index(n); i >= 0 {
			spared |= 1 << i
		}
	}
	if r.me < 0 || spared.has(r.me) || len(r.conf.Members)-spared.count() < r.conf.Majority() {
		spared = 0
	}
	r.spared, r.sparedIn, r.sparedBy = spared, r.conf, r.ballot
}

// Spares reports whether a message to everybody is not meant for the member at an index of the configuration.
func (m *Message) Spares(index int) bool { return m.spared.has(index) }

// SparesAny reports whether a message to everybody is not meant for all.
func (m *Message) SparesAny() bool { return m.spared != 0 }

// sparing is who need not be asked about the next slot.
func (r *Replica) sparing() voters {
	if r.spared == 0 || r.role != Proposer || r.sparedIn != r.conf || r.sparedBy != r.ballot || r.pending != nil || r.conf.Unsettled || len(r.conf.Learners) > 0 ||
		r.change != nil || r.handing != 0 || r.sealing != sealNone || r.sealed || r.next <= r.tail {
		return 0
	}
	return r.spared
}

// sparingAt is who need not be asked about a slot.
func (r *Replica) sparingAt(s Slot) voters {
	if s%(everybodyEvery*Slot(len(r.ring))) == 1 {
		return 0
	}
	return r.sparing()
}

// lectureDue teaches the spared when enough was chosen without them: never more than the own ring still holds.
func (r *Replica) lectureDue() {
	if r.role == Proposer && r.applied >= r.lectured+min(lessonSlots, Slot(len(r.ring))-Slot(r.conf.Alpha)) {
		r.lecture(r.sparing())
	}
}

// lecture teaches the spared what was chosen since the last time. Nobody answers: whoever missed a lesson finds a gap before the next
// one, and asks. What the ring does not hold any more, or what is too much for one message, they ask for, too.
func (r *Replica) lecture(spared voters) {
	if spared == 0 || r.lectured >= r.applied {
		return
	}
	lesson := r.lesson(r.lectured + 1)
	r.lectured = r.applied
	if lesson.Kind == MsgTeachAll {
		lesson = Message{Kind: MsgChosen, Ballot: r.ballot, Through: r.applied}
	}
	lesson.spared = 1<<len(r.conf.Members) - 1 - spared
	r.send(lesson)
}
