package member

import (
	"context"
	"fmt"
	"net"
	"sync"
	"time"

	"physalia/bench/thin"
)

// mesh connects the processes: each dials every other and sends over that connection only, so there are two between any two. A frame
// that cannot be sent is dropped; the libraries expect that.
type mesh struct {
	me    int            // index of this process
	peers []string       // addresses, by index
	out   []lane         // by index of the process it leads to
	lost  func(from int) // a process hung up; nil: nobody wants to know. Set before the mesh is used.
}

// lane is the way to one process.
type lane struct {
	mu      sync.Mutex
	w       *thin.Writer // nil: not connected
	dialing bool
	next    time.Time // the earliest next attempt
}

// redial is the pause between attempts to connect.
const redial = 100 * time.Millisecond

func newMesh(me int, peers []string) *mesh {
	return &mesh{me: me, peers: peers, out: make([]lane, len(peers))}
}

// await waits until every other process is connected.
func (m *mesh) await(ctx context.Context) error {
	for to := range m.peers {
		for to != m.me && m.send(to, func(b []byte) []byte { return b }) != nil {
			select {
			case <-ctx.Done():
				return fmt.Errorf("process %d is not there: %w", to, ctx.Err())
			case <-time.After(20 * time.Millisecond):
			}
		}
	}
	return nil
}

// send sends a frame, or starts to connect and reports that it did not.
func (m *mesh) send(to int, add func([]byte) []byte) error {
	l := &m.out[to]
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.w != nil {
		err := l.w.Send(add)
		if err == nil {
			return nil
		}
		l.w.Close(err)
		l.w = nil
	}
	if !l.dialing && time.Now().After(l.next) {
		l.dialing = true
		go m.dial(to)
	}
	return fmt.Errorf("process %d is not connected", to)
}

// dial connects to a process and says who calls.
func (m *mesh) dial(to int) {
	tcp, err := net.DialTimeout("tcp", m.peers[to], time.Second)
	l := &m.out[to]
	l.mu.Lock()
	defer l.mu.Unlock()
	// Whatever came of it, the next attempt has to wait a little.
	l.dialing, l.next = false, time.Now().Add(redial)
	if err != nil {
		return // the next frame tries again
	}
	l.w = thin.NewWriter(tcp)
	if err := l.w.Send(func(b []byte) []byte { return append(b, byte(m.me)) }); err != nil {
		l.w = nil
	}
}

// accept takes the frames of the others. The first frame of a connection says whose it is; empty ones only test it.
func (m *mesh) accept(l net.Listener, receive func(from int, frame []byte)) {
	for {
		tcp, err := l.Accept()
		if err != nil {
			return // closed: the process ends
		}
		go func() {
			defer tcp.Close()
			from := -1
			// Why a connection ended does not matter: who needs it dials again.
			_ = thin.Receive(tcp, func(frame []byte) {
				switch {
				case len(frame) == 0:
				case from < 0:
					from = int(frame[0])
				default:
					receive(from, frame)
				}
			})
			if from >= 0 && m.lost != nil {
				m.lost(from)
			}
		}()
	}
}
