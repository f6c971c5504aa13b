package storm

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"physalia/cell"
	"physalia/internal/duty"
	"physalia/internal/rpc"
	"physalia/internal/wire"
)

const colony = "storm"

// servant is a server as far as the control plane can tell: it registers, answers pings, and comes back.
type servant struct {
	reg      wire.Registration
	seeker   *duty.Seeker         // owned by run
	links    map[string]*rpc.Conn // owned by run
	events   chan func(now time.Duration) []duty.Action
	attempts atomic.Int64
	count    *atomic.Int64 // of servants with somebody for every duty
	running  sync.WaitGroup
}

const servantTimeout = 10 * time.Second // of a dial and of a registration

func newServant(i, bricks int, count *atomic.Int64, c duty.SeekerConfig) *servant {
	name := fmt.Sprintf("s%d", i)
	return &servant{seeker: duty.NewSeeker(c), links: make(map[string]*rpc.Conn), events: make(chan func(time.Duration) []duty.Action, 4), count: count,
		reg: wire.Registration{Server: cell.ServerID(name), Name: name, Colony: colony, Brick: fmt.Sprintf("b%d", i%bricks), Rack: fmt.Sprintf("r%d", i%97),
			Power: fmt.Sprintf("p%d", i%13), Color: "red", PeerAddr: name + ":1", ClientAddr: name + ":2", GossipAddr: name + ":3", Boot: 1, Capacity: 1000}}
}

// run does what the seeker decides until ctx ends. It is the shell around the seeker that a real server has in package node,
// without routes, without patience for silent instances, and with a closure as event: what it leaves out costs nothing here.
func (s *servant) run(ctx context.Context) {
	began := time.Now()
	timer := time.NewTimer(0)
	defer timer.Stop()
	for whole := false; ; {
		var todo []duty.Action
		select {
		case <-ctx.Done():
			for _, c := range s.links {
				c.Close(nil)
			}
			return
		case <-timer.C:
			todo = s.seeker.Tick(time.Since(began))
		case e := <-s.events:
			todo = e(time.Since(began))
		}
		for _, do := range todo {
			s.do(ctx, do)
		}
		if at, ok := s.seeker.Next(); ok {
			timer.Reset(at - time.Since(began))
		}
		if now := s.seeker.Held() == wire.AllDuties; now != whole {
			if whole = now; whole {
				s.count.Add(1)
			} else {
				s.count.Add(-1)
			}
		}
	}
}

// tell hands an event to run.
func (s *servant) tell(ctx context.Context, e func(now time.Duration) []duty.Action) {
	select {
	case s.events <- e:
	case <-ctx.Done():
	}
}

// do does one thing. Asking takes a while and runs beside run; the seeker sees to it that there is one request per address.
func (s *servant) do(ctx context.Context, do duty.Action) {
	conn := s.links[do.Addr]
	if do.Do == duty.Close {
		delete(s.links, do.Addr)
		conn.Close(nil)
		return
	}
	s.attempts.Add(1)
	s.running.Go(func() { s.ask(ctx, conn, do.Addr, do.Wants) })
}

// ask registers, over a connection that it opens if there is none.
func (s *servant) ask(ctx context.Context, conn *rpc.Conn, addr string, wants wire.Duties) {
	call, cancel := context.WithTimeout(ctx, servantTimeout)
	defer cancel()
	var err error
	opened := conn == nil
	if opened {
		conn, err = s.dial(ctx, call, addr)
	}
	answer := new(wire.Registered)
	if err == nil {
		ask := s.reg
		ask.Wants = wants
		err = conn.Call(call, wire.MethodRegister, &ask, answer)
	}
	s.tell(ctx, func(now time.Duration) []duty.Action {
		if err == nil {
			s.links[addr] = conn
			return s.seeker.Answered(now, addr, answer)
		}
		again := cell.AsError(wire.MethodRegister, cell.Unavailable, err).RetryAfter
		if !opened && again > 0 {
			return s.seeker.Busy(now, addr, again)
		}
		if conn != nil {
			delete(s.links, addr)
			conn.Close(err)
		}
		return s.seeker.Failed(now, addr, again)
	})
	// The end of a connection is told only after its registration, so that run never hears of them in the wrong order.
	if opened && err == nil {
		s.running.Go(func() { s.watch(ctx, conn, addr) })
	}
}

// watch tells the end of a connection that is not given up already.
func (s *servant) watch(ctx context.Context, conn *rpc.Conn, addr string) {
	<-conn.Done()
	s.tell(ctx, func(now time.Duration) []duty.Action {
		if s.links[addr] != conn {
			return nil
		}
		delete(s.links, addr)
		return s.seeker.Ended(now, addr)
	})
}

// dial opens a connection that answers what the control plane asks.
func (s *servant) dial(ctx, call context.Context, addr string) (*rpc.Conn, error) {
	hello := wire.Hello{Purpose: wire.ForControl, Colony: colony, Brick: s.reg.Brick, Color: s.reg.Color, Server: s.reg.Server, Boot: s.reg.Boot}
	return rpc.Dial(call, addr, rpc.Config{Hello: hello, FrameMax: wire.ControlFrameMax, Handler: rpc.HandlerFunc(func(c *rpc.Conn, q rpc.Request) {
		switch q.Method {
		case wire.MethodPing:
			c.Reply(q.ID, &wire.Pong{Boot: s.reg.Boot}, nil)
		case wire.MethodDutiesMoved:
			m := new(wire.DutiesMoved)
			if err := wire.Unmarshal(q.Params, m); err != nil {
				c.Close(errors.Join(errors.New("duties moved"), err))
				return
			}
			c.Reply(q.ID, nil, nil)
			s.tell(ctx, func(now time.Duration) []duty.Action { return s.seeker.Moved(now, addr, m) })
		default:
			c.Reply(q.ID, nil, &cell.Error{Op: q.Method, Kind: cell.Refused, Detail: "a simulated server has no nodes"})
		}
	})})
}
