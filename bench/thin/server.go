package thin

import (
	"encoding/binary"
	"errors"
	"net"
)

// Request is what a server has to do. Reply is called once, from any goroutine.
type Request struct {
	Op    byte
	Group int
	Key   string
	Value []byte // its own
	Reply func(status byte, payload []byte)
}

// Serve answers the requests of all connections until the listener is closed. Handle must not block.
func Serve(l net.Listener, handle func(Request)) error {
	for {
		tcp, err := l.Accept()
		if err != nil {
			if errors.Is(err, net.ErrClosed) {
				return nil
			}
			return err
		}
		go serve(tcp, handle)
	}
}

// serve answers the requests of one connection.
func serve(tcp net.Conn, handle func(Request)) {
	w := NewWriter(tcp)
	err := Receive(tcp, func(frame []byte) {
		r, number, ok := parse(frame)
		if !ok {
			w.Close(errors.New("a malformed request"))
			return
		}
		r.Reply = func(status byte, payload []byte) {
			// Who is gone needs no answer, so the error that says so is not looked at.
			_ = w.Send(func(b []byte) []byte {
				return append(append(binary.LittleEndian.AppendUint64(b, number), status), payload...)
			})
		}
		handle(r)
	})
	w.Close(err)
}

// parse reads a request.
func parse(frame []byte) (r Request, number uint64, ok bool) {
	if len(frame) < 15 {
		return r, 0, false
	}
	number = binary.LittleEndian.Uint64(frame)
	r.Op, r.Group = frame[8], int(binary.LittleEndian.Uint32(frame[9:]))
	n := int(binary.LittleEndian.Uint16(frame[13:]))
	if len(frame) < 15+n {
		return r, 0, false
	}
	r.Key, r.Value = string(frame[15:15+n]), frame[15+n:]
	return r, number, r.Op == OpPut || r.Op == OpGet
}
