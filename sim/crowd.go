package sim

import (
	"fmt"

	"physalia/cell"
)

// crowd is one of a few who write quickly, and to whom nothing matters: the cell forgets old outcomes because of them.
type crowd struct {
	session *session
	left    int // writes to come
	done    bool
}

// crowdSessions share the writes of a cell's crowd.
const crowdSessions = 8

// newCrowd makes the i-th of a cell's crowd.
func (w *World) newCrowd(v *volume, i int) {
	c := &crowd{session: w.newSession(v, crowdFirst+i), left: w.plan.Crowd / crowdSessions}
	w.crowds = append(w.crowds, c)
	c.session.rest(wayMax, c.start)
}

// start writes once more. Nobody looks at what becomes of it.
func (c *crowd) start() {
	s := c.session
	if c.left == 0 || s.world.healed || s.volume.sealed {
		c.done = true
		return
	}
	c.left--
	s.acquaint(func(err *cell.Error) {
		if err != nil {
			s.rest(wayMax, c.start)
			return
		}
		// Four keys take no room, and every write is a revision; that is what counts.
		txn := cell.Txn{Then: []cell.Op{{Kind: cell.OpPut, Key: fmt.Sprintf("crowd-%d", s.dice.IntN(4)), Value: cell.Int(int64(c.left))}}}
		s.send(s.place.Request(s.id), s.place.Incarnation(), &txn, s.now()+s.world.plan.Attempt, func(*exchange, *cell.Error) {
			s.after(between(s.dice, wayMax), c.start)
		})
	})
}
