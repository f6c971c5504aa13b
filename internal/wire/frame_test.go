package wire

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"os"
	"slices"
	"testing"
	"testing/iotest"

	"pgregory.net/rapid"

	"physalia/cell"
	_ "physalia/internal/rapidseed"
)

// frame makes one frame around a body.
func frame(body []byte) []byte { return EndFrame(append(BeginFrame(nil), body...), 0) }

func TestPropertyFramesFollowEachOther(t *testing.T) {
	readers := []func(io.Reader) io.Reader{
		func(r io.Reader) io.Reader { return r },
		func(r io.Reader) io.Reader { return bufio.NewReaderSize(r, 16) },
		iotest.OneByteReader, iotest.HalfReader, iotest.DataErrReader,
	}
	rapid.Check(t, func(t *rapid.T) {
		sizes := rapid.SliceOfN(rapid.SampledFrom([]int{1, 2, 7, 8, 9, 511, 512, 513, frameChunkBytes, frameChunkBytes + 1, 5 * frameChunkBytes}), 0, 5).Draw(t, "sizes")
		var stream []byte
		var bodies [][]byte
		for _, n := range sizes {
			body := bytes.Repeat([]byte{rapid.Byte().Draw(t, "fill")}, n)
			start := len(stream)
			stream = append(BeginFrame(stream), body...)
			if err := FrameFits(stream, start, 5*frameChunkBytes); err != nil {
				t.Fatal(err)
			}
			stream, bodies = EndFrame(stream, start), append(bodies, body)
		}
		r := rapid.SampledFrom(readers).Draw(t, "reader")(bytes.NewReader(stream))
		buf := make([]byte, 0, rapid.SampledFrom([]int{0, 1, 8, 100, 1 << 20}).Draw(t, "room"))
		for i, want := range bodies {
			got, err := ReadFrame(r, buf, 5*frameChunkBytes)
			if err != nil || !bytes.Equal(got, want) {
				t.Fatalf("frame %d: %d bytes, %v; want %d bytes", i, len(got), err, len(want))
			}
			buf = got
		}
		if _, err := ReadFrame(r, buf, 1); err != io.EOF {
			t.Fatalf("behind the last frame: %v", err)
		}
	})
}

// TestFrameDetectsEveryBit flips each bit of a frame, length and checksum included.
func TestFrameDetectsEveryBit(t *testing.T) {
	good := frame([]byte("seven nodes, majority four"))
	for bit := range 8 * len(good) {
		bad := bytes.Clone(good)
		bad[bit/8] ^= 1 << (bit % 8)
		var fault *FrameError
		if body, err := ReadFrame(bytes.NewReader(bad), nil, 1<<20); !errors.As(err, &fault) {
			t.Errorf("bit %d: got %q, %v", bit, body, err)
		}
	}
}

func TestFrameTruncated(t *testing.T) {
	good := frame(bytes.Repeat([]byte{7}, 3*frameChunkBytes))
	for _, n := range []int{1, 4, 7, 8, 9, frameChunkBytes, 2*frameChunkBytes + 8, len(good) - 1} {
		_, err := ReadFrame(bytes.NewReader(good[:n]), nil, PeerFrameMax)
		var fault *FrameError
		if !errors.As(err, &fault) || fault.Got != n || !errors.Is(err, FrameTruncated) || !errors.Is(err, io.ErrUnexpectedEOF) {
			t.Errorf("%d bytes: %v", n, err)
		}
	}
}

func TestFrameKeepsConnectionErrors(t *testing.T) {
	late := iotest.ErrReader(os.ErrDeadlineExceeded)
	if _, err := ReadFrame(late, nil, 100); err != os.ErrDeadlineExceeded {
		t.Errorf("between frames: %v", err)
	}
	good := frame([]byte("body"))
	for n := 1; n < len(good); n++ {
		_, err := ReadFrame(io.MultiReader(bytes.NewReader(good[:n]), late), nil, 100)
		if !errors.Is(err, os.ErrDeadlineExceeded) || !errors.Is(err, FrameTruncated) {
			t.Errorf("behind %d bytes: %v", n, err)
		}
	}
}

// TestFrameLengthCostsNothing: what a header claims is not allocated until it arrives.
func TestFrameLengthCostsNothing(t *testing.T) {
	for _, c := range []struct {
		name   string
		stream []byte
		fault  FrameFault
	}{
		{"4 GiB claimed", []byte{0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0, 1, 2, 3}, FrameOversize},
		{"one above the bound", []byte{0, 0x10, 0, 1, 0, 0, 0, 0, 1, 2, 3}, FrameOversize},
		{"1 MiB claimed, 3 bytes sent", []byte{0, 0x10, 0, 0, 0, 0, 0, 0, 1, 2, 3}, FrameTruncated},
		{"1 MiB claimed, 600 bytes sent", slices.Concat([]byte{0, 0x10, 0, 0, 0, 0, 0, 0}, make([]byte, 600)), FrameTruncated},
		{"zeros", make([]byte, 100), FrameEmpty},
		{"header only", []byte{0, 0x10, 0, 0, 0, 0, 0, 0}, FrameTruncated},
		{"nested arrays", slices.Concat([]byte{0, 0x10, 0, 0}, bytes.Repeat([]byte{0x91}, 1<<20+4)), FrameChecksum},
	} {
		r := bytes.NewReader(c.stream)
		var err error
		n := allocated(func() { _, err = ReadFrame(r, nil, 1<<20) })
		if !errors.Is(err, c.fault) || n > 4*uint64(len(c.stream))+2*frameChunkBytes {
			t.Errorf("%s: %d bytes allocated, %v", c.name, n, err)
		}
		if c.fault == FrameOversize && r.Len() != len(c.stream)-FrameHeaderBytes {
			t.Errorf("%s: read on behind the header", c.name)
		}
	}
}

// TestFrameErrorsLeaveRequestsOpen: a broken frame must never be taken for the news that a request was not applied.
func TestFrameErrorsLeaveRequestsOpen(t *testing.T) {
	for _, f := range []FrameFault{FrameOversize, FrameEmpty, FrameChecksum, FrameTruncated} {
		if err := error(&FrameError{Fault: f}); !cell.MaybeApplied(err) || err.Error() == "" {
			t.Errorf("%v says that nothing was applied", err)
		}
	}
}

func TestFrameFits(t *testing.T) {
	b := append(BeginFrame([]byte("other frames")), 1, 2, 3)
	if err := FrameFits(b, 12, 3); err != nil {
		t.Error(err)
	}
	if err := FrameFits(b, 12, 2); !errors.Is(err, FrameOversize) {
		t.Error(err)
	}
	if err := FrameFits(b[:12+FrameHeaderBytes], 12, 2); !errors.Is(err, FrameEmpty) {
		t.Error(err)
	}
}

// TestLargestReplyFitsFrame: a cell aborts a transaction whose results exceed cell.ResultBytesMax, so nothing that it
// answers may exceed a client's frame, whatever the shape of the results.
func TestLargestReplyFitsFrame(t *testing.T) {
	const far = 1<<64 - 1 // numbers that take the most bytes
	entry := func(key int, v cell.Value) cell.Entry {
		return cell.Entry{Key: string(bytes.Repeat([]byte{'k'}, key)), Value: v, CreateRevision: far, ModRevision: far, Version: far}
	}
	text := func(n int) cell.Value { return cell.Bytes(make([]byte, n)) }
	for _, e := range []cell.Entry{
		entry(1, text(0)), entry(1, bigValue("-0x8000000000000001")), entry(1, cell.Int(-1<<63)), entry(1, cell.Bool(true)),
		entry(32, text(256)), entry(256, text(3<<10)), entry(32, bigValue("0x1"+string(bytes.Repeat([]byte{'0'}, 600)))),
		entry(1, text(cell.ValueBytesMax-8)),
	} {
		reply := TxnReply{Incarnation: far, Result: cell.TxnResult{Failed: -1, Revision: far}}
		size := 0
		for len(reply.Result.Results) < cell.TxnOpsMax {
			o := cell.OpResult{Found: true, Entry: e, More: true}
			for len(o.Entries) < cell.ScanLimitMax && size+o.Size() < cell.ResultBytesMax*(len(reply.Result.Results)+1)/cell.TxnOpsMax {
				o.Entries = append(o.Entries, e)
			}
			if size += o.Size(); size > cell.ResultBytesMax {
				break
			}
			reply.Result.Results = append(reply.Result.Results, o)
		}
		b := AppendResult(BeginFrame(nil), 1<<32-1, reply.Append(nil))
		if err := FrameFits(b, 0, ClientFrameMax); err != nil || len(b) < cell.ResultBytesMax/2 {
			t.Errorf("%d results with values like %.20s of size %d take %d bytes: %v", len(reply.Result.Results), e.Value, size, len(b), err)
		}
	}
}

func TestReadFrameReusesItsBuffer(t *testing.T) {
	stream := frame(make([]byte, 1000))
	r, buf := bytes.NewReader(stream), make([]byte, 0, 1000)
	if n := testing.AllocsPerRun(100, func() {
		r.Reset(stream)
		if _, err := ReadFrame(r, buf, 1000); err != nil {
			t.Fatal(err)
		}
	}); n != 0 {
		t.Errorf("%v allocations per frame", n)
	}
}
