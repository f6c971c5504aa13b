package thin

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"sync"
	"sync/atomic"
	"time"
)

// Client asks a fleet of servers, with one connection to each. It is safe for concurrent use.
type Client struct {
	addresses []string       // of the servers, by index
	leaders   []atomic.Int32 // of each group: the index of the server that answered last
	mu        sync.Mutex
	conns     []*conn // by server; nil is none
}

// conn is one connection with the requests that wait for their answers.
type conn struct {
	w       *Writer
	mu      sync.Mutex
	last    uint64                 // number of the last request
	waiting map[uint64]chan []byte // each takes one answer, or is closed when there will be none
	broken  bool                   // no answer will come any more
}

// New makes a client of some servers that host the same groups.
func New(addresses []string, groups int) *Client {
	c := &Client{addresses: addresses, leaders: make([]atomic.Int32, groups), conns: make([]*conn, len(addresses))}
	for g := range c.leaders {
		c.leaders[g].Store(int32(g % len(addresses)))
	}
	return c
}

// attemptMax bounds the wait for one answer. A write that waited in vain may have happened, and is not sent again.
const attemptMax = 5 * time.Second

// retryAfter is the pause while a group has no leader.
const retryAfter = 10 * time.Millisecond

// errSilent says that no answer came in time.
var errSilent = errors.New("no answer in time; the operation may have happened")

// Leader is the index of the server that answered for a group last.
func (c *Client) Leader(group int) int { return int(c.leaders[group].Load()) }

// Put sets a key.
func (c *Client) Put(ctx context.Context, group int, key string, value []byte) error {
	_, err := c.ask(ctx, OpPut, group, key, value)
	return err
}

// Get reads a key, linearizably; an absent one is nil.
func (c *Client) Get(ctx context.Context, group int, key string) ([]byte, error) {
	return c.ask(ctx, OpGet, group, key, nil)
}

// ask sends a request to the leader, and goes on to others while it is not the leader or not there.
func (c *Client) ask(ctx context.Context, op byte, group int, key string, value []byte) ([]byte, error) {
	leader := &c.leaders[group]
	for try := 0; ; try++ {
		at := leader.Load()
		answer, err := c.attempt(ctx, int(at), op, group, key, value)
		switch {
		case errors.Is(err, errSilent):
			return nil, err
		case err == nil && answer[0] == OK:
			return answer[1:], nil
		case err == nil && answer[0] == Absent:
			return nil, nil
		case err == nil && answer[0] == NotLeader && len(answer) == 2 && answer[1] != NoLeader && answer[1] != byte(at) && int(answer[1]) < len(c.addresses):
			leader.CompareAndSwap(at, int32(answer[1]))
			// Two servers may point at each other for a while; then a pause is due.
			if try < 2*len(c.addresses) {
				continue
			}
		case err == nil && answer[0] == Failed:
			return nil, fmt.Errorf("server %d: %s", at, answer[1:])
		default: // no leader is known there, or nobody is there
			leader.CompareAndSwap(at, (at+1)%int32(len(c.addresses)))
		}
		select {
		case <-ctx.Done():
			return nil, errors.Join(ctx.Err(), err)
		case <-time.After(retryAfter):
		}
	}
}

// attempt asks one server once. An error other than errSilent says that the connection broke or was never there.
func (c *Client) attempt(ctx context.Context, server int, op byte, group int, key string, value []byte) ([]byte, error) {
	conn, err := c.conn(ctx, server)
	if err != nil {
		return nil, err
	}
	// It is expected before it is sent: the answer may be faster than we are.
	number, answer := conn.expect()
	err = conn.w.Send(func(b []byte) []byte {
		b = append(binary.LittleEndian.AppendUint64(b, number), op)
		b = binary.LittleEndian.AppendUint32(b, uint32(group))
		b = binary.LittleEndian.AppendUint16(b, uint16(len(key)))
		return append(append(b, key...), value...)
	})
	if err != nil {
		conn.forget(number)
		return nil, err
	}
	timer := time.NewTimer(attemptMax)
	defer timer.Stop()
	select {
	case frame, ok := <-answer:
		if !ok || len(frame) < 9 {
			return nil, fmt.Errorf("the connection to %s broke", c.addresses[server])
		}
		return frame[8:], nil
	case <-timer.C:
	case <-ctx.Done():
	}
	conn.forget(number)
	return nil, errSilent
}

// conn is the connection to a server, opened when there is none. Only one is opened at a time, which on loopback takes no time.
func (c *Client) conn(ctx context.Context, server int) (*conn, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if k := c.conns[server]; k != nil {
		k.mu.Lock()
		broken := k.broken
		k.mu.Unlock()
		if !broken {
			return k, nil
		}
	}
	dialer := net.Dialer{Timeout: 2 * time.Second}
	tcp, err := dialer.DialContext(ctx, "tcp", c.addresses[server])
	if err != nil {
		return nil, err
	}
	k := &conn{w: NewWriter(tcp), waiting: map[uint64]chan []byte{}}
	go k.receive(tcp)
	c.conns[server] = k
	return k, nil
}

// Close ends all connections; requests under way fail.
func (c *Client) Close() {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, k := range c.conns {
		if k != nil {
			k.w.Close(errors.New("the client is closed"))
		}
	}
}

// expect makes room for one answer.
func (k *conn) expect() (uint64, chan []byte) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.last++
	answer := make(chan []byte, 1)
	if k.broken {
		close(answer)
	} else {
		k.waiting[k.last] = answer
	}
	return k.last, answer
}

// forget gives up an answer.
func (k *conn) forget(number uint64) {
	k.mu.Lock()
	defer k.mu.Unlock()
	delete(k.waiting, number)
}

// receive hands answers to those who wait, until the connection ends.
func (k *conn) receive(tcp net.Conn) {
	err := Receive(tcp, func(frame []byte) {
		if len(frame) < 9 {
			return // the server is our own; a shorter frame would be answered by the wait's end
		}
		k.mu.Lock()
		defer k.mu.Unlock()
		number := binary.LittleEndian.Uint64(frame)
		if answer := k.waiting[number]; answer != nil {
			delete(k.waiting, number)
			answer <- frame
		}
	})
	k.w.Close(err)
	// All that still wait learn that there will be no answer.
	k.mu.Lock()
	defer k.mu.Unlock()
	k.broken = true
	for number, answer := range k.waiting {
		delete(k.waiting, number)
		close(answer)
	}
}
