package peer

import (
	"bytes"
	"testing"

	"physalia/cell"
	"physalia/internal/wire"
	"physalia/paxos"
)

func BenchmarkAppend(b *testing.B) {
	for _, c := range benchMessages() {
		b.Run(c.name, func(b *testing.B) {
			env := testEnvelope()
			buf := AppendMessage(nil, &env, &c.m)
			b.ReportAllocs()
			b.SetBytes(int64(len(buf)))
			for b.Loop() {
				buf = AppendMessage(buf[:0], &env, &c.m)
			}
		})
	}
}

func BenchmarkDecode(b *testing.B) {
	cells := map[string]cell.ID{"vol-17": "vol-17"}
	d := Decoder{Intern: func(b []byte) cell.ID { return cells[string(b)] }}
	for _, c := range benchMessages() {
		b.Run(c.name, func(b *testing.B) {
			env := testEnvelope()
			buf := AppendMessage(nil, &env, &c.m)
			b.ReportAllocs()
			b.SetBytes(int64(len(buf)))
			for b.Loop() {
				r := wire.NewReader(buf)
				if d.DecodeMessage(&r, &env, &c.m); r.Done() != nil {
					b.Fatal(r.Done())
				}
			}
		})
	}
}

type benchMessage struct {
	name string
	m    paxos.Message
}

func benchMessages() []benchMessage {
	accept := testMessage(paxos.MsgAccept)
	accept.Entry.Commands = [][]byte{bytes.Repeat([]byte{7}, 164)}
	batch := accept
	batch.Entry.Commands = nil
	for range 16 {
		batch.Entry.Commands = append(batch.Entry.Commands, accept.Entry.Commands[0])
	}
	return []benchMessage{{"Accept", accept}, {"AcceptOf16", batch}, {"Accepted", testMessage(paxos.MsgAccepted)}}
}

func BenchmarkRingRecord(b *testing.B) {
	m := benchMessages()[0].m
	rec := RingRecord{Record: paxos.Record{Slot: m.Slot, Ballot: m.Ballot, Entry: m.Entry}, Promised: m.Ballot, Applied: 4709}
	buf := AppendRingRecord(nil, &rec)
	b.Run("Append", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			buf = AppendRingRecord(buf[:0], &rec)
		}
	})
	b.Run("Decode", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if _, err := DecodeRingRecord(buf); err != nil {
				b.Fatal(err)
			}
		}
	})
}

func BenchmarkDecodeRow(b *testing.B) {
	servers := map[string]paxos.ServerID{}
	for _, m := range testConfiguration().Members {
		servers[string(m.Server)] = m.Server
	}
	d := Decoder{InternServer: func(b []byte) paxos.ServerID { return servers[string(b)] }}
	row := Row{Cell: "vol-17", Incarnation: 2, Node: 9, Configuration: testConfiguration()}
	buf := AppendRow(nil, &row)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := d.DecodeRow(buf); err != nil {
			b.Fatal(err)
		}
	}
}
