package peer

import (
	"physalia/cell"
	"physalia/internal/wire"
)

// Forward is one message of the forward lane: a client's request that a member passes on to the proposer's server, or
// the answer to it on the way back. A request goes one hop and no further.
type Forward struct {
	ID     uint64 // names the request between two servers, in one boot of the one that passes it on
	Boot   uint64 // of that server: the answer goes to that life of it
	Method string // of the request; empty in an answer
	Body   []byte // params or result, as the client's connection would carry them
	Err    *cell.Error
}

// forwardMethodMax bounds the name of a method.
const forwardMethodMax = 32

// AppendForward adds one message of the forward lane: [id, boot, method, body, error].
func AppendForward(b []byte, f *Forward) []byte {
	b = wire.AppendUint(wire.AppendUint(wire.AppendArray(b, 5), f.ID), f.Boot)
	b = wire.AppendBytes(wire.AppendString(b, f.Method), f.Body)
	return wire.AppendError(b, f.Err)
}

// DecodeForward consumes one message of the forward lane; the body is a copy.
func DecodeForward(r *wire.Reader, f *Forward) {
	r.Struct(5, "forward")
	*f = Forward{ID: r.Uint(), Boot: r.Uint(), Method: r.String(forwardMethodMax, "method")}
	f.Body = append([]byte(nil), r.Bytes(wire.ClientFrameMax, "forwarded body")...)
	f.Err = wire.DecodeError(r)
}
