package thin

import (
	"bufio"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"sync"
)

// waitingMax bounds what a Writer holds for a connection that does not take it.
const waitingMax = 64 << 20

// Writer collects frames and sends all that have come meanwhile in one system call. It is safe for concurrent use.
type Writer struct {
	conn   net.Conn
	mu     sync.Mutex
	more   sync.Cond // signalled when buf is no longer empty, or at the end
	buf    []byte    // frames that wait for the write under way
	closed error     // why nothing is sent any more
}

// NewWriter starts writing to a connection until that fails or Close.
func NewWriter(conn net.Conn) *Writer {
	w := &Writer{conn: conn}
	w.more.L = &w.mu
	go w.run()
	return w
}

// Send adds a frame; add appends its content. The error says that the connection is broken or too far behind: the frame was dropped.
func (w *Writer) Send(add func([]byte) []byte) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.closed != nil {
		return w.closed
	}
	if len(w.buf) > waitingMax {
		return fmt.Errorf("%d bytes wait for %v already", len(w.buf), w.conn.RemoteAddr())
	}
	at := len(w.buf)
	w.buf = add(append(w.buf, 0, 0, 0, 0))
	binary.LittleEndian.PutUint32(w.buf[at:], uint32(len(w.buf)-at-4))
	if at == 0 {
		w.more.Signal()
	}
	return nil
}

// run writes what has been collected, again and again.
func (w *Writer) run() {
	var out []byte
	for {
		w.mu.Lock()
		for len(w.buf) == 0 && w.closed == nil {
			w.more.Wait()
		}
		if w.closed != nil {
			w.mu.Unlock()
			return
		}
		out, w.buf = w.buf, out[:0] // two buffers take turns
		w.mu.Unlock()
		if _, err := w.conn.Write(out); err != nil {
			w.Close(err)
			return
		}
	}
}

// Close closes the connection; later frames are refused with the reason.
func (w *Writer) Close(why error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.closed == nil {
		w.closed = why
		w.conn.Close() // the reason is known, another error of the same connection says nothing
	}
	w.more.Broadcast()
}

// Receive reads frames until the connection ends, and returns why it did. The frame belongs to got, which may keep it.
func Receive(conn net.Conn, got func(frame []byte)) error {
	r := bufio.NewReaderSize(conn, 64<<10)
	var head [4]byte
	for {
		if _, err := io.ReadFull(r, head[:]); err != nil {
			return err
		}
		n := binary.LittleEndian.Uint32(head[:])
		if n > FrameMax {
			return fmt.Errorf("a frame of %d bytes from %v; at most %d are allowed", n, conn.RemoteAddr(), FrameMax)
		}
		frame := make([]byte, n) // its length was checked
		if _, err := io.ReadFull(r, frame); err != nil {
			return err
		}
		got(frame)
	}
}
