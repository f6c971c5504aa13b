package lifecycle

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"physalia/cell"
)

// petition is a replacement that an operator asked for and that may not begin yet. It lives as long as its request waits, and in
// memory: whoever asked for it is not told that it has begun before it has.
type petition struct {
	w     waiter        // of a request with one element
	p     Proposal      // ByOperator
	why   *cell.Error   // what forbids it, as of the last look
	since time.Duration // when it was asked for
}

// petitionsPerTurn bounds how many petitions one turn looks at. One that cannot begin does not hold up those behind it, which
// may be for other servers.
const petitionsPerTurn = 256

// petition lets a request wait for its turn.
func (m *Manager) petition(w waiter, p Proposal, why *cell.Error) {
	q := &petition{w: w, p: p, why: why, since: m.now}
	w.req.petition = q
	m.petitions = append(m.petitions, q)
	m.petitionsIn(why.RetryAfter)
}

// petitionsIn has the petitions looked at again after so much time, or earlier.
func (m *Manager) petitionsIn(d time.Duration) {
	at := m.now + max(d, time.Millisecond)
	if m.petitionsAt > m.now && m.petitionsAt <= at {
		return // something wakes the manager by then
	}
	m.petitionsAt = at
	m.after(at-m.now, func() {})
}

// canMove reports whether a replacement that waits may be looked at now.
func (m *Manager) canMove() bool {
	return len(m.petitions) > 0 && m.petitionsAt <= m.now || slices.ContainsFunc(m.drains, func(d *drain) bool { return d.at <= m.now })
}

// hear begins what petitions ask for and limits allow, in the order in which they came.
func (m *Manager) hear() {
	if len(m.petitions) == 0 || m.petitionsAt > m.now {
		return
	}
	// Whoever may not begin stays where he is in the list, so the order is that of arrival for all that wait for the same bucket.
	next := m.config.RetryMax
	kept := m.petitions[:0]
	for i, q := range m.petitions {
		switch {
		case q.w.req.done:
			continue
		case i >= petitionsPerTurn && len(kept) >= petitionsPerTurn:
			kept = append(kept, q)
			continue
		}
		q.why = m.replaceNow(q.w, &q.p)
		// A limit passes; every other refusal is the answer.
		switch {
		case q.why == nil:
		case q.why.Kind == cell.Overloaded:
			next = min(next, q.why.RetryAfter)
			kept = append(kept, q)
		default:
			q.why.Op, q.why.Cell = q.w.req.op, q.p.Cell
			m.resolve(q.w, q.why)
		}
	}
	clear(m.petitions[len(kept):])
	m.petitions = kept
	if len(kept) > 0 {
		m.petitionsIn(next)
	}
}

// replaceOne begins or joins the replacement that a request asks for, has it wait for its turn, or says why not.
func (m *Manager) replaceOne(w waiter, p Proposal) *cell.Error {
	err := m.replaceNow(w, &p)
	if err == nil || err.Kind != cell.Overloaded {
		return err
	}
	// A pause may last for days. Whoever asks shall hear of it now, not after his patience.
	if paused := m.refusePaused(p.Cause.action()); paused != nil {
		return paused
	}
	m.petition(w, p, err)
	return nil
}

// replaceNow begins or joins a replacement, and lets its request wait for the end.
func (m *Manager) replaceNow(w waiter, p *Proposal) *cell.Error {
	in, err := m.movable(p)
	if err != nil {
		return err
	}
	if in.Moving().isZero() && !in.hosts(p.Remove) && p.Add != "" && in.hosts(p.Add) {
		m.resolve(w, nil) // asked again after it was done
		return nil
	}
	if err := m.beginMove(in, p); err != nil {
		return err
	}
	// From here on the request waits for the replacement, and says what that lacks.
	w.req.petition = nil
	m.wait(in, w)
	return nil
}

// moveWaits says what the replacement under way waits for.
func (m *Manager) moveWaits(in *incarnation) string {
	text := fmt.Sprintf("%s is being replaced by %s (%s", in.Moving().Remove, in.Moving().Add, in.Moving().Cause)
	v := in.work.move
	if v == nil {
		return text + ")"
	}
	if v.why != "" {
		text += ": " + v.why
	}
	step := "looks at the cell"
	if v.seen != nil {
		next, _, _ := nextMove(v.seen, in.Moving(), in.Moving().Node != 0 && v.created == in.Moving().Node)
		step = moveTexts[next]
	}
	text += "), " + step
	if s := m.servers[in.Moving().Add]; s == nil || !s.up {
		text += "; " + string(in.Moving().Add) + " is down"
	}
	// Once the cell was asked for a number, a pause does not stop it any more.
	if !v.begun {
		text += strings.TrimSuffix("; "+m.pausedNow(in.Moving().Cause.action()), "; ")
	}
	return text
}

// moveTexts say what the next step of a replacement is.
var moveTexts = [...]string{moveDone: "is done", moveWait: "waits for the change before to settle", moveAdd: "asks the cell for a number",
	moveCreate: "has the new server create its node", moveSwap: "waits for the new node to be taught and to take the place",
	moveDrop: "makes room among the learners", moveLost: "finds neither of the two servers in the cell"}
