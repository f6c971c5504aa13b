package lifecycle

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"physalia/cell"
	"physalia/internal/wire"
)

// waitingFor says for people what an incarnation waits for; empty when all is as it should be.
func (m *Manager) waitingFor(in *incarnation) string {
	text, open := m.missing(in)
	if open != 0 {
		text += "; waits for " + m.listed(in, open)
	}
	if w := in.work; text != "" && w != nil && w.lastErr != nil {
		text += fmt.Sprintf("; last answer of %s: %v", w.lastBy, w.lastErr)
	}
	for old := in.older; old != nil; old = old.older {
		text += fmt.Sprintf("; nodes of incarnation %d are left on %s", old.Incarnation, m.listed(old, old.all()&^old.Dropped))
	}
	return strings.TrimPrefix(text, "; ")
}

// missing says what the state of an incarnation still lacks, and whose confirmation that is.
func (m *Manager) missing(in *incarnation) (text string, open memberSet) {
	n := len(in.Members)
	switch in.State {
	case Creating, Live:
		if open = in.all()&^in.Founded | in.Absent; open != 0 {
			text = fmt.Sprintf("%d of %d nodes founded, a majority is %d", in.Founded.size(), n, in.majority())
		}
		if !in.Moving().isZero() {
			text += "; " + m.moveWaits(in)
		}
	case Sealing:
		text = m.pausedNow(DeleteCells) + fmt.Sprintf("the seal is not chosen yet, which takes %d of %d members; %d are on servers that are up",
			in.majority(), n, m.live(in))
		open = in.all() &^ in.Founded
		if in.Record.founded() {
			open = m.downMembers(in)
		}
	case Wiping:
		open = in.all() &^ in.Dropped
		text = m.pausedNow(DeleteCells) + fmt.Sprintf("%d of %d nodes wiped", in.Dropped.size(), n)
	}
	return text, open
}

// downMembers returns the members on servers that are not connected, or that do not host their nodes any more.
func (m *Manager) downMembers(in *incarnation) (down memberSet) {
	for i, mem := range in.Members {
		if s := m.servers[mem.Server()]; s == nil || !s.up {
			down.add(i)
		}
	}
	return down | in.Absent
}

// live counts the members on servers that are connected.
func (m *Manager) live(in *incarnation) int { return len(in.Members) - m.downMembers(in).size() }

// listed shows members with what is odd about them.
func (m *Manager) listed(in *incarnation, set memberSet) string {
	down := m.downMembers(in)
	var b strings.Builder
	for i, mem := range in.Members {
		if !set.has(i) {
			continue
		}
		if b.Len() > 0 {
			b.WriteString(", ")
		}
		b.WriteString(string(mem.Server()))
		switch {
		case in.Void.has(i):
			b.WriteString(" (has a tombstone for it)")
		case in.work != nil && in.work.foreign.has(i):
			b.WriteString(" (hosts it with another jury, which this store does not know)")
		case m.retired[mem.Server()]:
			b.WriteString(" (retired)")
		case in.Absent.has(i) && m.server(mem.Server()).up:
			b.WriteString(" (does not host it)")
		case down.has(i):
			b.WriteString(" (down)")
		}
	}
	return b.String()
}

// List answers a request for a page of cells, in order of names. It shows what is decided, which is durable by the time
// of the reply.
func (m *Manager) List(now time.Duration, id RequestID, req wire.ListCells) {
	m.now = now
	if req.Limit < 1 || req.Limit > wire.ListLimitMax {
		m.out.Replies = append(m.out.Replies, Reply{Request: id, Err: &cell.Error{Op: "lifecycle.list", Kind: cell.Invalid,
			Detail: fmt.Sprintf("limit is %d, allowed are 1 to %d", req.Limit, wire.ListLimitMax)}})
		return
	}
	list, size := &wire.CellList{}, 0
	m.order.scan(max(req.After, cell.ID(req.Prefix)), req.After, func(name cell.ID) bool {
		if !strings.HasPrefix(string(name), req.Prefix) {
			return false
		}
		if len(list.Cells) == int(req.Limit) || size > listBytesMax {
			list.More = true
			return false
		}
		c := m.info(m.names[name])
		size += infoBytes(&c)
		list.Cells = append(list.Cells, c)
		return true
	})
	m.out.Replies = append(m.out.Replies, Reply{Request: id, List: list})
}

// listBytesMax ends a page early, so that it fits any client's frame however long names and addresses are.
const listBytesMax = wire.ClientFrameMax / 2

// infoBytes bounds the encoding of a CellInfo, in bytes.
func infoBytes(c *wire.CellInfo) int {
	n := 128 + len(c.Cell) + len(c.Brick) + len(c.Color) + min(len(c.Waiting), wire.DetailBytesMax)
	for i := range c.Members {
		n += 32 + len(c.Members[i].Server) + len(c.Members[i].PeerAddr) + len(c.Members[i].ClientAddr)
	}
	return n
}

// info describes the newest incarnation of a name.
func (m *Manager) info(in *incarnation) wire.CellInfo {
	c := wire.CellInfo{Cell: in.Cell, Incarnation: in.Incarnation, State: in.State.String(), Brick: in.Brick.String(), Color: in.Color.String(),
		Members: m.founders(in.Members), Plan: in.Plan, Waiting: m.waitingFor(in)}
	if in.State != Deleted {
		c.Live = uint32(m.live(in))
		c.Margin = int32(c.Live) - int32(in.majority())
	}
	return c
}

// Routes returns up to limit routes of cells behind a name, in order of names, for a discovery cache that starts from
// nothing; last is where to go on. Cells that were never live have none.
func (m *Manager) Routes(after cell.ID, limit int) (routes []wire.Route, last cell.ID, more bool) {
	last = after
	m.order.scan(after, after, func(name cell.ID) bool {
		if len(routes) == limit {
			more = true
			return false
		}
		last = name
		if in := m.names[name]; in.State != Creating {
			routes = append(routes, m.routeOf(in))
		}
		return true
	})
	return routes, last, more
}

// Stats counts what the manager holds.
type Stats struct {
	Cells     [Deleted + 1]int // incarnations by State
	Backlog   int              // cells asked for and not planned yet, those that wait for their name included
	Requests  int              // requests that wait for an answer
	Batches   int              // calls with foundings or drops in flight
	Seals     int              // seals in flight
	SealQueue int              // seals that wait for their turn

	Replacements [causeMax + 1]int   // under way, by Cause
	Petitions    int                 // replacements that were asked for and wait for their turn
	Paused       [actionMax + 1]bool // by Action
	Draining     int                 // servers that are being emptied
	Unsettled    int                 // incarnations that have not converged
	Rebuilding   bool
	Findings     uint64       // of the last complete round of the census
	Adopted      uint64       // incarnations adopted since the start
	Tokens       [classes]int // of the colony's buckets: creations, moves, repairs
}

// Stats counts what the manager holds now.
func (m *Manager) Stats() Stats {
	s := Stats{Cells: m.counts, Backlog: len(m.wishes), Requests: len(m.requests), Batches: m.telling, Seals: m.sealing,
		SealQueue: len(m.seals), Replacements: m.causes, Petitions: len(m.petitions), Draining: len(m.drains), Unsettled: len(m.open.of),
		Rebuilding: m.mode.rebuilding, Findings: m.observer.lastFound, Adopted: m.adopted}
	for a, o := range m.pauses {
		s.Paused[a] = o != nil
	}
	for c := range classes {
		_, s.Tokens[c] = m.guard.colonyBucket(c).room(m.now, m.guard.limits.of(c).Colony, 1)
	}
	return s
}

// nameIndex keeps names in order, in chunks, so that a name is added without moving a million others.
type nameIndex struct{ chunks [][]cell.ID }

// chunkMax bounds a chunk: adding a name moves at most so many, and the list of chunks once per half as many.
const chunkMax = 512

// find returns the chunk and position of the first name that is not less than the given one.
func (x *nameIndex) find(name cell.ID) (c, i int) {
	c, ok := slices.BinarySearchFunc(x.chunks, name, func(chunk []cell.ID, name cell.ID) int {
		return strings.Compare(string(chunk[0]), string(name))
	})
	if !ok && c > 0 {
		c-- // the name belongs into the chunk that starts before it
	}
	if c == len(x.chunks) {
		return c, 0
	}
	i, _ = slices.BinarySearch(x.chunks[c], name)
	return c, i
}

// add inserts a name that is not there yet.
func (x *nameIndex) add(name cell.ID) {
	if len(x.chunks) == 0 {
		x.chunks = [][]cell.ID{{name}}
		return
	}
	c, i := x.find(name)
	chunk := slices.Insert(x.chunks[c], i, name)
	x.chunks[c] = chunk
	if len(chunk) > chunkMax {
		half := slices.Clone(chunk[chunkMax/2:])
		x.chunks[c] = slices.Clone(chunk[:chunkMax/2])
		x.chunks = slices.Insert(x.chunks, c+1, half)
	}
}

// scan visits the names from the first one on, without the one to skip, until visit says no.
func (x *nameIndex) scan(from, skip cell.ID, visit func(cell.ID) bool) {
	c, i := x.find(from)
	for ; c < len(x.chunks); c, i = c+1, 0 {
		for _, name := range x.chunks[c][i:] {
			if name != skip && !visit(name) {
				return
			}
		}
	}
}
