package fleet

import (
	"sync/atomic"
	"time"

	"physalia/cell"
	"physalia/internal/duty"
	"physalia/internal/rpc"
	"physalia/internal/wire"
)

// stats count what the fleet did since it began.
type stats struct {
	registered, redirected, told atomic.Uint64
}

// Stats is what the fleet did since it began, and what it holds now.
type Stats struct {
	Registered uint64 // registrations that took at least one duty
	Redirected uint64 // registrations that were answered with pointers only
	Admitted   uint64 // registrations let in by the pace, whatever became of them
	Refused    uint64 // refused because of the pace
	Full       uint64 // refused because too many were registering
	Told       uint64 // connections told that duties have moved
	Connected  int    // sessions
	Telling    int    // connections that still have to be told
}

// counters makes one for each method that is served to anybody.
func counters(c Config) map[string]*atomic.Uint64 {
	all := map[string]*atomic.Uint64{}
	for _, handlers := range []map[string]Handler{c.Server, c.Client} {
		for method := range handlers {
			all[method] = new(atomic.Uint64)
		}
	}
	return all
}

// Asked tells how many requests were taken of each method that has a handler; registrations are counted apart, in Stats.
func (f *Fleet) Asked() map[string]uint64 {
	all := make(map[string]uint64, len(f.asked))
	for method, n := range f.asked {
		all[method] = n.Load()
	}
	return all
}

// Stats reports the counters.
func (f *Fleet) Stats() Stats {
	s := Stats{Registered: f.stats.registered.Load(), Redirected: f.stats.redirected.Load(), Told: f.stats.told.Load(),
		Admitted: f.entry.admitted.Load(), Refused: f.entry.refused.Load(), Full: f.entry.full.Load()}
	f.mu.RLock()
	defer f.mu.RUnlock()
	s.Telling = len(f.telling)
	for _, m := range f.members {
		if m.conn != nil {
			s.Connected++
		}
	}
	return s
}

// fromServer reports whether the other side of a connection is a server, whoever opened it.
func fromServer(c *rpc.Conn) bool { return c.Peer().Server != "" && c.Peer().Purpose != wire.ForClient }

// tell is one connection that has to hear that duties have moved.
type tell struct {
	id   cell.ServerID
	conn *rpc.Conn
	lost wire.Duties
}

// RosterChanged compares every session with the roster of this moment. Duties that this instance has no more are given up at
// once; their servers are told one after the other, at the pace of registrations, since all of them register elsewhere then.
// Duties that it has won come with the servers.
func (f *Fleet) RosterChanged() {
	table := duty.NewTable(f.cfg.Roster.Self(), f.cfg.Roster.Instances())
	f.mu.Lock()
	defer f.mu.Unlock()
	f.table = table
	for id, m := range f.members {
		if m.conn == nil {
			continue
		}
		if lost := m.has &^ table.Mine(m.reg.Brick); lost != 0 {
			f.telling = append(f.telling, tell{id, m.conn, lost})
			f.release(m, lost)
		}
	}
	if len(f.telling) > 0 {
		select {
		case f.tells <- struct{}{}:
		default: // it is awake
		}
	}
}

// tellLosses tells one connection after the other. Two instances may both believe to have a duty meanwhile, or neither. That
// costs work and time, never safety: what must not be done twice is fenced where it is stored.
func (f *Fleet) tellLosses() {
	defer f.wg.Done()
	pace := time.NewTicker(max(time.Duration(float64(time.Second)/f.cfg.RegistersPerSecond), time.Microsecond))
	defer pace.Stop()
	for {
		select {
		case <-f.stop:
			return
		case <-f.tells:
		}
		for f.tellOne() {
			select {
			case <-f.stop:
				return
			case <-pace.C:
			}
		}
	}
}

// tellOne tells the first in the queue; it reports false when there is none.
func (f *Fleet) tellOne() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	if len(f.telling) == 0 {
		f.telling = nil
		return false
	}
	t := f.telling[0] // members are never forgotten, so its member exists, with another connection perhaps
	f.telling = f.telling[1:]
	m := f.members[t.id]
	if m.conn == t.conn {
		t.lost &^= m.has // it has come back meanwhile
	}
	// A connection that has ended needs no words; its server seeks already.
	if t.lost == 0 || t.conn.Err() != nil {
		return true
	}
	f.stats.told.Add(1)
	moved := &wire.DutiesMoved{Duties: t.lost, Elsewhere: f.table.Elsewhere(t.lost, m.reg.Brick)}
	t.conn.Go(wire.MethodDutiesMoved, moved, func(_ []byte, err error) {
		if err != nil {
			t.conn.Close(cell.AsError(wire.MethodDutiesMoved, cell.Unavailable, err)) // its server finds out in this way
		}
	})
	return true
}
