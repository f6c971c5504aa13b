package wire

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"

	"physalia/cell"
)

// A frame is a body behind its length (4 bytes, big-endian) and its CRC32C (4 bytes, big-endian). A body is never empty.

// FrameHeaderBytes is what a frame adds to its body.
const FrameHeaderBytes = 8

// The largest bodies, in bytes, per kind of connection.
const (
	ClientFrameMax  = cell.ResultBytesMax + replyOverheadMax // clients' requests and replies
	ControlFrameMax = 4 << 20                                // servers and operators with the control plane
	PeerFrameMax    = 8 << 20                                // servers with servers
)

// replyOverheadMax bounds what the encoding of a reply adds to the size at which a cell aborts a transaction
// (cell.ResultBytesMax). OpResult.Size counts almost all of it; what remains is the envelope, at most 9 bytes for each of
// cell.TxnOpsMax results, and at most 3 bytes per scanned entry with a huge integer.
const replyOverheadMax = 32 << 10

// frameChunkBytes bounds what a length alone, without the bytes behind it, can make a reader allocate.
const frameChunkBytes = 16 << 10

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// FrameFault says what was wrong with a frame. A FrameFault is itself an error, so errors.Is(err, FrameOversize) works.
type FrameFault uint8

// The faults of a frame. After any of them the stream has lost its rhythm and the connection must be closed.
const (
	FrameOversize  FrameFault = 1 // the length is above the connection's bound; nothing was allocated for it
	FrameEmpty     FrameFault = 2 // the length is zero, as in a stream of zero bytes
	FrameChecksum  FrameFault = 3 // the body is not what was sent
	FrameTruncated FrameFault = 4 // the stream ended inside a frame
)

// Error names the fault.
func (f FrameFault) Error() string {
	switch f {
	case FrameOversize:
		return "frame too large"
	case FrameEmpty:
		return "frame without a body"
	case FrameChecksum:
		return "frame with a wrong checksum"
	case FrameTruncated:
		return "frame ends early"
	}
	return fmt.Sprintf("frame fault %d", uint8(f))
}

// FrameError reports a broken frame. It is on purpose not a *cell.Error: it says nothing about any request, and for
// those in flight on the connection the result is unknown.
type FrameError struct {
	Fault  FrameFault
	Length int   // of the body, as the header claims
	Max    int   // FrameOversize: the bound
	Got    int   // FrameTruncated: bytes of the frame that arrived, header included
	Err    error // FrameTruncated: what the connection reported
}

// Error describes the fault with its numbers and says what to do.
func (e *FrameError) Error() string {
	switch e.Fault {
	case FrameOversize:
		return fmt.Sprintf("%v: it claims %d bytes, allowed are %d (close the connection; the peer is no member of this colony, or broken)",
			e.Fault, e.Length, e.Max)
	case FrameTruncated:
		return fmt.Sprintf("%v: %d bytes of header and body arrived: %v (connect again)", e.Fault, e.Got, e.Err)
	}
	return fmt.Sprintf("%v: length %d (close the connection and connect again; if it repeats, suspect the network or the peer)",
		e.Fault, e.Length)
}

// Is makes errors.Is(err, FrameOversize) and its like work.
func (e *FrameError) Is(target error) bool { return target == e.Fault }

// Unwrap returns what the connection reported, for timeouts and closed connections.
func (e *FrameError) Unwrap() error { return e.Err }

// BeginFrame leaves room for a frame's header behind b; append the body, then call EndFrame with start = len(b) as it
// was before. Several frames may follow each other in one buffer.
func BeginFrame(b []byte) []byte { return append(b, 0, 0, 0, 0, 0, 0, 0, 0) }

// EndFrame fills in the header at start for the body that follows it up to the end of b. It copies nothing and returns
// b. The caller sees to it that the body is within the receiver's bound (see FrameFits) and is not empty.
func EndFrame(b []byte, start int) []byte {
	body := b[start+FrameHeaderBytes:]
	binary.BigEndian.PutUint32(b[start:], uint32(len(body)))
	binary.BigEndian.PutUint32(b[start+4:], crc32.Checksum(body, castagnoli))
	return b
}

// FrameFits reports an error when the body begun at start is empty or above max: the receiver would close the
// connection because of it, and every other request on it would suffer. Ask before EndFrame.
func FrameFits(b []byte, start, max int) error {
	switch n := len(b) - start - FrameHeaderBytes; {
	case n <= 0:
		return &FrameError{Fault: FrameEmpty, Max: max}
	case n > max:
		return &FrameError{Fault: FrameOversize, Length: n, Max: max}
	}
	return nil
}

// ReadFrame reads one frame with a body of at most max bytes and returns the body, which lies in buf's memory if it
// fits and else in a larger buffer: pass the result in again to reuse it. A length above max is refused before anything
// is allocated, and the buffer grows only as fast as bytes arrive. The stream's end between two frames is io.EOF;
// an error of the connection before a frame's first byte is returned as it is; every other error is a *FrameError.
func ReadFrame(r io.Reader, buf []byte, max int) ([]byte, error) {
	if cap(buf) < FrameHeaderBytes {
		buf = make([]byte, 0, 512)
	}
	header := buf[:FrameHeaderBytes]
	if n, err := io.ReadFull(r, header); err != nil {
		if n == 0 {
			return nil, err
		}
		return nil, truncated(0, n, err)
	}
	length, sum := binary.BigEndian.Uint32(header), binary.BigEndian.Uint32(header[4:])
	switch {
	case length == 0:
		return nil, &FrameError{Fault: FrameEmpty, Max: max}
	case uint64(length) > uint64(max):
		return nil, &FrameError{Fault: FrameOversize, Length: int(length), Max: max}
	}
	body, err := readBody(r, buf, int(length))
	if err != nil {
		return nil, err
	}
	if crc32.Checksum(body, castagnoli) != sum {
		return nil, &FrameError{Fault: FrameChecksum, Length: int(length)}
	}
	return body, nil
}

// readBody fills buf with n bytes. Beyond buf's capacity it allocates at most a chunk, or as much again as has arrived.
func readBody(r io.Reader, buf []byte, n int) ([]byte, error) {
	buf = buf[:0]
	for len(buf) < n {
		if len(buf) == cap(buf) {
			grown := make([]byte, len(buf), min(n, max(2*len(buf), frameChunkBytes)))
			copy(grown, buf)
			buf = grown
		}
		part := buf[len(buf):min(n, cap(buf))]
		got, err := io.ReadFull(r, part)
		buf = buf[:len(buf)+got]
		if err != nil {
			return nil, truncated(n, FrameHeaderBytes+len(buf), err)
		}
	}
	return buf, nil
}

// truncated reports a stream that ended inside a frame; an end is always an unexpected one there.
func truncated(length, got int, err error) error {
	if errors.Is(err, io.EOF) {
		err = io.ErrUnexpectedEOF
	}
	return &FrameError{Fault: FrameTruncated, Length: length, Got: got, Err: err}
}
