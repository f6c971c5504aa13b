package peer

import (
	"bytes"
	"testing"

	"physalia/internal/wire"
	"physalia/paxos"
)

// killers are inputs that have stopped real decoders: declared lengths far beyond the input, deep nesting, never-used
// codes, and heads that end early.
func killers() [][]byte {
	list := [][]byte{
		nil, {0xc1}, {0xdd, 0xff, 0xff, 0xff, 0xff}, {0xdf, 0xff, 0xff, 0xff, 0xff}, {0xc6, 0xff, 0xff, 0xff, 0xff},
		{0xdb, 0xff, 0xff, 0xff, 0xff}, {0xc9, 0xff, 0xff, 0xff, 0xff, 1}, {0x90}, {0xdc, 0xff}, {0xcf, 0xff},
		bytes.Repeat([]byte{0x91}, 1<<16), bytes.Repeat([]byte{0xdd, 0, 0, 0, 1}, 1<<12), bytes.Repeat([]byte{0x81}, 1<<12),
	}
	// An Accept whose entry declares every length that a decoder could believe.
	env, m := testEnvelope(), testMessage(paxos.MsgAccept)
	m.Entry = paxos.Entry{Kind: paxos.NoOp}
	b := AppendMessage(nil, &env, &m)
	b = b[:len(b)-2]
	for _, tail := range [][]byte{
		{0x90}, {0x91}, {0x91, 2}, {0x92, 1, 0xc4, 0}, {0xdd, 0, 0, 4, 1, 2}, {0xdd, 0xff, 0xff, 0xff, 0xff, 2},
		{0x92, 2, 0xc6, 0xff, 0xff, 0xff, 0xff}, {0x92, 2, 0xc6, 0, 4, 0, 1}, {0x92, 0xcd, 1, 2, 0xc4, 0},
	} {
		list = append(list, append(append([]byte(nil), b...), tail...))
	}
	return list
}

func TestKillersAreRefused(t *testing.T) {
	for _, b := range killers() {
		for _, s := range samples() {
			if _, err := s.again(b); err == nil {
				t.Errorf("%s decoded from % x", s.name, b[:min(len(b), 32)])
			}
		}
	}
}

// fuzz checks that whatever is accepted survives a second round unchanged. With a format, inputs are completed to
// something whose checksum holds, so that the fuzzer gets past it.
func fuzz(f *testing.F, format, version byte, again func([]byte) ([]byte, error)) {
	for _, s := range samples() {
		f.Add(s.bytes)
	}
	for _, b := range killers() {
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		if format != 0 {
			b = appendSum(append([]byte{format, version}, b...), 0)
		}
		once, err := again(b)
		if err != nil {
			return
		}
		twice, err := again(once)
		if err != nil || !bytes.Equal(once, twice) {
			t.Fatalf("accepted % x\nencoded % x\nthen    % x, %v", b, once, twice, err)
		}
	})
}

func FuzzMessage(f *testing.F)    { fuzz(f, 0, storedVersion, againMessage) }
func FuzzRingRecord(f *testing.F) { fuzz(f, formatRing, storedVersion, againRing) }
func FuzzJournal(f *testing.F)    { fuzz(f, formatJournal, storedVersion, againJournal) }
func FuzzRow(f *testing.F)        { fuzz(f, formatRow, storedVersion, againRow) }
func FuzzNodeName(f *testing.F)   { fuzz(f, formatName, storedVersion, againNodeName) }
func FuzzTombstone(f *testing.F)  { fuzz(f, formatTombstone, storedVersion, againTombstone) }
func FuzzSnapshot(f *testing.F)   { fuzz(f, formatSnapshot, storedVersion, againSnapshot) }

func FuzzStoredSnapshot(f *testing.F) { fuzz(f, formatSnapshot, packedVersion, againStoredSnapshot) }

// FuzzFrame decodes a whole frame body as a server would.
func FuzzFrame(f *testing.F) {
	for _, s := range samples() {
		f.Add(append(FrameHead{Durable: 1, Count: 1}.Append(nil), s.bytes...))
	}
	f.Add(FrameHead{Count: FrameMessagesMax}.Append(nil))
	f.Fuzz(func(t *testing.T, b []byte) {
		var head FrameHead
		var env Envelope
		var m paxos.Message
		r := wire.NewReader(b)
		head.Decode(&r)
		decoded := 0
		for ; decoded < head.Count && r.Err() == nil; decoded++ {
			DecodeMessage(&r, &env, &m)
		}
		if r.Done() == nil && decoded != head.Count {
			t.Fatalf("%d of %d messages without an error", decoded, head.Count)
		}
	})
}
