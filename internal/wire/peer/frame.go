package peer

import (
	"encoding/binary"

	"github.com/vmihailenco/msgpack/v5/msgpcode"

	"physalia/internal/wire"
)

// FrameHead opens the body of every frame of the Paxos and bulk lanes; Count messages follow (AppendMessage).
type FrameHead struct {
	Durable uint64 // newest batch of the sender's storage that is durable; peers remember it (rule 8)
	Count   int    // messages in the frame, at most FrameMessagesMax
}

// FrameHeadBytes is the length of an encoded FrameHead. It does not depend on the numbers, so a sender can leave room,
// add messages as they come, and fill in the head when the frame leaves.
const FrameHeadBytes = 1 + 9 + 5

// Append adds the head: [durable, count].
func (h FrameHead) Append(b []byte) []byte {
	b = wire.AppendArray(b, 2)
	b = binary.BigEndian.AppendUint64(append(b, msgpcode.Uint64), h.Durable)
	return binary.BigEndian.AppendUint32(append(b, msgpcode.Uint32), uint32(h.Count))
}

// Put overwrites a head that Append left at the start of b.
func (h FrameHead) Put(b []byte) { h.Append(b[:0:FrameHeadBytes]) }

// Decode consumes a head.
func (h *FrameHead) Decode(r *wire.Reader) {
	r.Struct(2, "frame head")
	h.Durable = r.Uint()
	h.Count = int(r.UintMax(FrameMessagesMax, "messages of a frame"))
}
