package wire

import (
	"bytes"
	"testing"

	"physalia/cell"
)

func BenchmarkAppend(b *testing.B) {
	each(b, func(b *testing.B, m Message, encoded []byte) {
		buf := make([]byte, 0, len(encoded))
		for b.Loop() {
			buf = m.Append(buf[:0])
		}
	})
}

func BenchmarkUnmarshal(b *testing.B) {
	each(b, func(b *testing.B, m Message, encoded []byte) {
		for b.Loop() {
			if err := Unmarshal(encoded, m); err != nil {
				b.Fatal(err)
			}
		}
	})
}

// each runs a benchmark for the messages of the hot path and for a state of a full cell.
func each(b *testing.B, run func(b *testing.B, m Message, encoded []byte)) {
	request, command, reply := hotMessages()
	state := CellState{Revision: 5000}
	for i := range 200 {
		e := sampleEntry
		e.Key = string(AppendUint([]byte("key-"), uint64(1000+i)))
		state.Entries = append(state.Entries, e)
	}
	for range cell.WindowMax {
		state.Remembered = append(state.Remembered, Remembered{Client: sampleClient, Result: reply.Result})
	}
	for _, c := range []struct {
		name string
		m    Message
	}{{"TxnRequest", &request}, {"Command", &command}, {"TxnReply", &reply}, {"CellState", &state}} {
		b.Run(c.name, func(b *testing.B) {
			encoded := c.m.Append(nil)
			b.ReportAllocs()
			b.SetBytes(int64(len(encoded)))
			run(b, c.m, encoded)
		})
	}
}

func BenchmarkDecodeCommand(b *testing.B) {
	_, command, _ := hotMessages()
	encoded := command.Append(nil)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := DecodeCommand(encoded); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkFrame builds and reads one frame with one request, as client and server do for every write.
func BenchmarkFrame(b *testing.B) {
	request, _, _ := hotMessages()
	var buf, in []byte
	stream := bytes.NewReader(nil)
	b.ReportAllocs()
	for b.Loop() {
		buf = request.Append(BeginRequest(BeginFrame(buf[:0]), 7, MethodTxn))
		stream.Reset(EndFrame(buf, 0))
		var err error
		if in, err = ReadFrame(stream, in, ClientFrameMax); err != nil {
			b.Fatal(err)
		}
		if _, err := ParseRPC(in); err != nil {
			b.Fatal(err)
		}
	}
}
