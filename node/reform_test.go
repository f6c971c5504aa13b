package node

import (
	"context"
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"physalia/cell"
	"physalia/internal/rpc"
	"physalia/internal/wire"
)

// changeAt asks one server for a change of a cell, as the control plane does.
func (c *testColony) changeAt(i int, m wire.ChangeCell) (*wire.Configured, error) {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	m.Timeout = 2000
	out := new(wire.Configured)
	return out, c.session(c.servers[i]).Call(ctx, wire.MethodChange, &m, out)
}

// reform asks for a change until somebody grants it, or says that it was planned for another configuration. When is told what
// the cell looks like.
func (c *testColony) reform(make func(conf *wire.Configured) (m wire.ChangeCell, done bool)) {
	c.t.Helper()
	at, attempt := 0, uint32(0)
	eventually(c.t, "the change is chosen", func() bool {
		attempt++
		conf, err := c.changeAt(at, wire.ChangeCell{Cell: "vol-1", Incarnation: 1, Kind: wire.Look, Attempt: attempt})
		if err == nil && !conf.Busy {
			m, done := make(conf)
			if done {
				return true
			}
			m.Cell, m.Incarnation, m.Number = "vol-1", 1, conf.Number
			_, err = c.changeAt(at, m)
		}
		if err == nil || cell.KindOf(err) == cell.Unavailable {
			return false
		}
		next := (at + 1) % len(c.servers)
		e := cell.AsError("test", cell.Internal, err)
		for i, s := range c.servers {
			if s.Identity().Server == e.Leader {
				next = i
			}
		}
		at = next
		return false
	})
}

// nodeOn is the node that a server has in a list, or zero.
func nodeOn(list []wire.Founder, s *Server) uint64 {
	for _, f := range list {
		if f.Server == s.Identity().Server {
			return f.Node
		}
	}
	return 0
}

// replace replaces the member on one server by one on another.
func (c *testColony) replace(old, fresh int) {
	c.t.Helper()
	created := false
	c.reform(func(conf *wire.Configured) (m wire.ChangeCell, done bool) {
		m = wire.ChangeCell{Request: uint64(fresh), Old: nodeOn(conf.Members, c.servers[old]), New: nodeOn(conf.Learners, c.servers[fresh])}
		if m.Old == 0 && nodeOn(conf.Members, c.servers[fresh]) != 0 {
			return m, true
		}
		if m.New == 0 {
			m.Kind, m.Server = wire.AddLearner, c.servers[fresh].Identity().Server
			return m, false
		}
		if !created {
			c.ask(c.servers[fresh], wire.MethodCreateLearner, &wire.CreateLearner{Cell: "vol-1", Incarnation: 1, Node: m.New, Request: uint64(fresh),
				Number: conf.Number, Alpha: conf.Alpha, Members: conf.Members}, nil)
			created = true
		}
		m.Kind = wire.Replace
		return m, false
	})
}

// writer adds one to a counter, one transaction after the other, wherever the cell takes it, until stopped. It gives up on none.
func (c *testColony) writer(id byte, stop <-chan struct{}, acked *atomic.Int64) error {
	conns := make([]*rpc.Conn, len(c.servers))
	for i := range conns {
		conns[i] = c.connect(i)
	}
	at, since := 0, cell.Revision(0)
	for sequence := uint64(1); ; sequence++ {
		select {
		case <-stop:
			return nil
		default:
		}
		r := cell.Request{Client: cell.ClientID{id}, Sequence: sequence, Since: since}
		t := cell.Txn{Then: []cell.Op{{Kind: cell.OpIncrement, Key: fmt.Sprintf("n/%d", id), Value: cell.Int(1)}}}
		deadline := time.Now().Add(patience)
		for attempt := uint32(0); ; attempt++ {
			reply, err := txn(conns[at], "vol-1", r, t, attempt)
			if err == nil {
				since = reply.Result.Revision
				acked.Add(1)
				break
			}
			if time.Now().After(deadline) {
				return fmt.Errorf("write %d of client %d: %w", sequence, id, err)
			}
			next := (at + 1) % len(conns)
			e := cell.AsError("test", cell.Internal, err)
			for i, s := range c.servers {
				if s.Identity().Server == e.Leader {
					next = i
				}
			}
			at = next
		}
	}
}

// All seven members of a loaded cell are replaced, one after the other, over real sockets and disks. No transaction fails, and
// every one that was acknowledged took effect exactly once.
func TestAllSevenReplacedUnderLoad(t *testing.T) {
	c := newTestColony(t, 14)
	all := c.servers
	c.servers = all[:7]
	c.create("vol-1")
	c.servers = all
	for _, s := range all { // the control plane tells where the members are, as it does with a founding
		for _, other := range all {
			s.addresses.learn(other.Identity().Server, address{Peer: other.PeerAddr(), Client: other.ClientAddr()})
		}
	}
	stop := make(chan struct{})
	var acked [3]atomic.Int64
	ended := make(chan error, len(acked))
	for i := range acked {
		go func() { ended <- c.writer(byte(i+1), stop, &acked[i]) }()
	}
	began := time.Now()
	for i := range 7 {
		before := acked[0].Load()
		c.replace(i, 7+i)
		eventually(t, "the cell is written", func() bool { return acked[0].Load() > before })
	}
	took := time.Since(began)
	close(stop)
	total := int64(0)
	for range acked {
		if err := <-ended; err != nil {
			t.Error(err)
		}
	}
	for i := range acked {
		total += acked[i].Load()
	}
	t.Logf("seven members replaced in %v under %d writes", took.Round(time.Millisecond), total)
	c.mustHold(7, acked[:])
	for i := range 7 {
		at := c.connect(i)
		eventually(t, fmt.Sprintf("server %d sends clients on to where the cell lives", i+1), func() bool {
			_, err := txn(at, "vol-1", cell.Request{Client: cell.ClientID{9}, Sequence: 1}, getTxn("n/1"), 0)
			return cell.KindOf(err) == cell.Moved
		})
	}
}

// mustHold reads the writers' counters through the members from one server on.
func (c *testColony) mustHold(from int, acked []atomic.Int64) {
	c.t.Helper()
	for i := range acked {
		key := fmt.Sprintf("n/%d", i+1)
		at := from
		eventually(c.t, "the counter is read", func() bool {
			reply, err := txn(c.connect(at), "vol-1", cell.Request{Client: cell.ClientID{8}, Sequence: uint64(i + 1)}, getTxn(key), 0)
			if err != nil {
				at = from + (at-from+1)%(len(c.servers)-from)
				return false
			}
			if got := reply.Result.Results[0].Entry.Value; !got.Equal(cell.Int(acked[i].Load())) {
				c.t.Errorf("%s is %v, acknowledged were %d", key, got, acked[i].Load())
			}
			return true
		})
	}
}
