package lifecycle

import (
	"fmt"
	"slices"
	"time"

	"physalia/cell"
	"physalia/internal/wire"
	"physalia/placement"
)

// users is where the users of a volume are, as somebody told last. It is stored beside the cell's record, and no cell is
// without its nodes for it: following is a sequence of replacements, one at a time, each as safe as one that an operator asks for.
type users struct {
	cell                     cell.ID
	incarnation              cell.Incarnation // the next one begins without users
	client, primary, replica cell.ServerID    // empty: unknown
	near                     bool             // stored: nothing brings the cell nearer, as of when that was looked for

	queued  bool // in Manager.following, or parked
	tries   int  // pauses in a row
	why     string
	waiters []waiter
}

// throng is users whose cells wait for the limit of one brick, in order. A few of them are looked at whenever a token has come: not all,
// however many there are.
type throng struct {
	users []*users
	back  int  // of those that were let go last, so many have come back: they are first again
	armed bool // a timer lets the next ones go
}

// followsPerTurn bounds the searches for a better place of one turn; one takes up to some milliseconds in a large pool.
const followsPerTurn = 8

// Locate takes the word of where a volume's users are. It is answered when nothing brings the cell nearer to them, or after its
// Wait with what is missing; asked again, it goes on. With no Wait it is answered when the word is durable. The newest counts.
func (m *Manager) Locate(now time.Duration, id RequestID, req wire.LocateVolume) {
	m.now = now
	r := m.begin(id, "lifecycle.locate", 1, req.Wait)
	if r == nil {
		return
	}
	r.cells[0] = req.Cell
	w := waiter{r, 0, toNear}
	if err := m.locate(w, &req); err != nil {
		err.Op, err.Cell = "lifecycle.locate", req.Cell
		w.resolve(err)
	}
	m.finish(r)
}

// locate notes the users, or says why not.
func (m *Manager) locate(w waiter, req *wire.LocateVolume) *cell.Error {
	in := m.names[req.Cell]
	switch {
	case in == nil || in.is(Wiping, Deleted):
		return &cell.Error{Kind: cell.NotFound, Detail: "there is no such cell"}
	case in.State == Sealing:
		return &cell.Error{Kind: cell.Deleted, Detail: "it is being deleted"}
	}
	for _, id := range [...]cell.ServerID{req.Client, req.Primary, req.Replica} {
		if _, known := m.planner.servers[id]; id != "" && !known {
			return &cell.Error{Kind: cell.NotFound, Detail: fmt.Sprintf("server %s is not known", id), Hint: "physalia server list tells the servers"}
		}
	}
	u := m.users[req.Cell]
	if u == nil || u.incarnation != in.Incarnation {
		u = &users{cell: in.Cell, incarnation: in.Incarnation}
		m.users[req.Cell] = u
	}
	if u.client != req.Client || u.primary != req.Primary || u.replica != req.Replica {
		u.client, u.primary, u.replica, u.near = req.Client, req.Primary, req.Replica, false
		m.saveUsers(u)
	}
	if u.client == "" && u.primary == "" && u.replica == "" {
		m.forgetUsers(u, nil)
		w.resolve(nil)
		return nil
	}
	if req.Wait == 0 {
		w.resolve(nil)
	} else {
		u.waiters = append(u.waiters, w)
	}
	u.tries = 0
	m.follow(u)
	return nil
}

// follow has a cell looked at, unless it will be anyway.
func (m *Manager) follow(u *users) {
	if !u.queued {
		u.queued = true
		m.following = append(m.following, u)
	}
}

// followCell has a cell looked at again after one of its replacements has ended.
func (m *Manager) followCell(in *incarnation) {
	if u := m.users[in.Cell]; u != nil && u.incarnation == in.Incarnation {
		u.tries = 0
		m.follow(u)
	}
}

// canApproach reports whether a cell may be looked at now.
func (m *Manager) canApproach() bool { return len(m.following) > 0 && m.followAt <= m.now }

// approach takes the next step for cells that shall be nearer to their users, a few per turn. While no cell may be moved, they
// wait in their order, and nothing is asked of each.
func (m *Manager) approach() {
	if !m.canApproach() {
		return
	}
	if err := m.allowMoves("", ByNear); err != nil {
		m.followAt = m.now + max(err.RetryAfter, time.Millisecond)
		m.after(m.followAt-m.now, func() {})
		return
	}
	for range min(len(m.following), followsPerTurn) {
		u := m.following[0]
		m.following[0] = nil
		m.following = m.following[1:]
		u.queued = false
		m.approachOne(u)
	}
}

// approachOne proposes the one replacement that brings a cell nearest to its users, or finds that there is none.
func (m *Manager) approachOne(u *users) {
	in := m.names[u.cell]
	switch {
	case m.users[u.cell] != u:
		return // other users, or none
	case in == nil || in.Incarnation != u.incarnation || in.is(Sealing, Wiping, Deleted):
		m.forgetUsers(u, &cell.Error{Op: "lifecycle.locate", Kind: cell.Deleted, Cell: u.cell, Detail: "the cell was deleted meanwhile"})
		return
	case in.State == Creating:
		m.parkUsers(u, "its founding is under way", 0)
		return
	case !in.Moving().isZero(): // its end calls followCell
		u.why = fmt.Sprintf("%s is being replaced by %s", in.Moving().Remove, in.Moving().Add)
		return
	}
	if down := m.downMembers(in); down != 0 { // repair comes first
		m.parkUsers(u, "a member is down: "+m.listed(in, down), 0)
		return
	}
	if err := m.allowMoves(in.Brick.String(), ByNear); err != nil { // before a server is looked for
		m.throngUsers(u, in.Brick.String(), err)
		return
	}
	swap, ok, err := m.planner.improve(&in.Record, u.hints())
	switch {
	case err != nil:
		m.parkUsers(u, err.Error(), 0)
	case !ok:
		m.arrived(u)
	default:
		p := Proposal{Cell: u.cell, Incarnation: u.incarnation, Remove: swap.Remove, Add: swap.Add, Cause: ByNear, Why: swap.String()}
		if err := m.Propose(m.now, p); err != nil { // of a server, as a rule; a search costs too much to be repeated for each of its tokens
			m.parkUsers(u, err.Detail, max(err.RetryAfter, m.backoff(u.tries+1, nil)))
			return
		}
		u.why = fmt.Sprintf("%s is being replaced by %s", swap.Remove, swap.Add)
	}
}

// arrived notes that nothing brings a cell nearer.
func (m *Manager) arrived(u *users) {
	if !u.near {
		u.near = true
		m.saveUsers(u)
	}
	u.why = ""
	m.settleUsers(u, nil)
}

// parkUsers goes on later.
func (m *Manager) parkUsers(u *users, why string, pause time.Duration) {
	u.why = why
	u.tries++
	if pause == 0 {
		pause = m.backoff(u.tries, nil)
	}
	u.queued = true
	m.after(pause, func() { m.following = append(m.following, u) })
}

// throngUsers lets a cell wait for the limit of its brick.
func (m *Manager) throngUsers(u *users, brick string, err *cell.Error) {
	c := m.throngs[brick]
	if c == nil {
		c = &throng{}
		m.throngs[brick] = c
	}
	u.why, u.queued = err.Detail, true
	c.users = slices.Insert(c.users, c.back, u)
	c.back++
	m.armThrong(c, max(err.RetryAfter, time.Millisecond))
}

// armThrong lets the first of a throng go after a pause, and the next ones after further pauses.
func (m *Manager) armThrong(c *throng, pause time.Duration) {
	if c.armed {
		return
	}
	c.armed = true
	m.after(pause, func() {
		n := min(len(c.users), followsPerTurn)
		m.following = append(m.following, c.users[:n]...)
		c.users, c.back, c.armed = slices.Delete(c.users, 0, n), 0, false
		if len(c.users) > 0 {
			m.armThrong(c, pause)
		}
	})
}

// settleUsers answers those who wait for a cell to be near.
func (m *Manager) settleUsers(u *users, err *cell.Error) {
	for _, w := range u.waiters {
		m.resolve(w, err)
	}
	u.waiters = nil
}

// forgetUsers forgets where a volume's users are.
func (m *Manager) forgetUsers(u *users, why *cell.Error) {
	delete(m.users, u.cell)
	m.out.Persist = append(m.out.Persist, Write{Key: usersKey(u.cell)})
	m.settleUsers(u, why)
}

// saveUsers has the users stored with the next Effects.
func (m *Manager) saveUsers(u *users) {
	m.out.Persist = append(m.out.Persist, Write{usersKey(u.cell), appendUsers(nil, u)})
}

// hints is what placement makes of the users.
func (u *users) hints() (h placement.Hints) {
	h.Client.Server, h.Primary.Server, h.Replica.Server = u.client, u.primary, u.replica
	return h
}

// hintsOf is where the users of an incarnation are, for whoever replaces one of its members.
func (m *Manager) hintsOf(in *incarnation) placement.Hints {
	if u := m.users[in.Cell]; u != nil && u.incarnation == in.Incarnation {
		return u.hints()
	}
	return placement.Hints{}
}

const usersFields = 6

// usersKey is where the users of a cell are stored: before its record.
func usersKey(id cell.ID) []byte { return append([]byte{keyUsers}, id...) }

// appendUsers adds the stored form.
func appendUsers(b []byte, u *users) []byte {
	start := len(b)
	b = append(b, formatUsers, storedVersion)
	b = wire.AppendString(wire.AppendArray(b, usersFields), string(u.cell))
	b = wire.AppendUint(b, uint64(u.incarnation))
	for _, s := range [...]cell.ServerID{u.client, u.primary, u.replica} {
		b = wire.AppendString(b, string(s))
	}
	return appendSum(wire.AppendBool(b, u.near), start)
}

// restoreUsers takes what appendUsers wrote. Cells that are as near as they were found to be are not looked at again.
func (m *Manager) restoreUsers(key, value []byte) error {
	r, err := storedBody(formatUsers, value)
	if err != nil {
		return err
	}
	server := func(what string) cell.ServerID {
		return cell.ServerID(m.texts.text(r.Text(cell.ServerIDBytesMax, what)))
	}
	r.Struct(usersFields, "users")
	u := &users{cell: cell.ID(r.String(cell.IDBytesMax, "cell")), incarnation: cell.Incarnation(r.Uint()),
		client: server("client"), primary: server("primary"), replica: server("replica"), near: r.Bool()}
	if err := r.Done(); err != nil {
		return damaged(err.Error())
	}
	if string(usersKey(u.cell)) != string(key) {
		return damaged(fmt.Sprintf("key %q holds the users of %s", key, u.cell))
	}
	m.users[u.cell] = u
	if !u.near {
		m.follow(u)
	}
	return nil
}
