package storage

import (
	"encoding/binary"
	"math/rand/v2"
	"path/filepath"
	"testing"
	"time"
)

// BenchmarkSteady is a server in service: batches of 20 records for nodes drawn at random, of which 85 of 100 go to the node's next ring
// position and 15 replace its state. One b.N is one batch; give a few thousand. So many batches share a sync that neither the disk nor the
// way to it counts, and writers wait for flushes and compactions, which a server in service leaves enough time: what is left is
// insertion, flushes and compactions, and their processor time per record is the figure. The store is filled first.
func BenchmarkSteady(b *testing.B) { benchmarkSteady(b, steadyNodes, memTableBytes) }

const (
	steadyNodes   = 1_000
	steadyRecords = 20
	steadyRing    = 64
	steadyWindow  = 64 // batches on their way
)

// steady draws the batches of BenchmarkSteady.
type steady struct {
	dice  *rand.Rand
	next  []uint16 // ring position of each node
	words []byte   // values are cut from here
}

func newSteady(nodes int) *steady {
	s := &steady{dice: rand.New(rand.NewPCG(1, 2)), next: make([]uint16, nodes), words: make([]byte, 1<<20)}
	for i := 0; i < len(s.words); i += 16 { // half of what users store is repetition
		binary.LittleEndian.PutUint64(s.words[i:], s.dice.Uint64())
		copy(s.words[i+8:], `{"name":`)
	}
	return s
}

func (s *steady) value(size int) []byte {
	at := s.dice.IntN(len(s.words) - size)
	return s.words[at : at+size]
}

func (s *steady) ring(b *Batch, node int) {
	var key [11]byte
	key[0] = 'l'
	binary.BigEndian.PutUint64(key[1:], uint64(node))
	binary.BigEndian.PutUint16(key[9:], s.next[node])
	s.next[node] = (s.next[node] + 1) % steadyRing
	b.Set(key[:], s.value(160+s.dice.IntN(40)))
}

func (s *steady) state(b *Batch, node int) {
	var key [9]byte
	key[0] = 's'
	binary.BigEndian.PutUint64(key[1:], uint64(node))
	b.Set(key[:], s.value(2<<10+s.dice.IntN(8<<10)))
}

func (s *steady) batch(n BatchNumber) *Batch {
	batch := GetBatch()
	batch.Number = n
	for range steadyRecords {
		if node := s.dice.IntN(len(s.next)); s.dice.IntN(100) < 15 {
			s.state(batch, node)
		} else {
			s.ring(batch, node)
		}
	}
	return batch
}

// fill writes everything of one node in one batch.
func (s *steady) fill(n BatchNumber, node int) *Batch {
	batch := GetBatch()
	batch.Number = n
	for range steadyRing {
		s.ring(batch, node)
	}
	s.state(batch, node)
	return batch
}

func benchmarkSteady(b *testing.B, nodes int, memTable uint64) {
	sink := &benchSink{durable: make(chan BatchNumber, 4096), b: b}
	p, err := OpenPebble(PebbleConfig{Dir: filepath.Join(b.TempDir(), "store"), MemTableBytes: memTable, Logger: discard}, sink)
	if err != nil {
		b.Fatal(err)
	}
	s := newSteady(nodes)
	var n, durable BatchNumber
	commit := func(batch *Batch) {
		for n-durable > steadyWindow {
			durable = <-sink.durable
		}
		p.Commit(batch)
		if n = batch.Number; n%steadyWindow == 0 {
			quiet(p)
		}
	}
	for node := range nodes {
		commit(s.fill(n+1, node))
	}
	before, cpu := p.Stats(), processCPU()
	b.ResetTimer()
	for range b.N {
		commit(s.batch(n + 1))
	}
	for durable < n {
		durable = <-sink.durable
	}
	b.StopTimer()
	spent, stats := processCPU()-cpu, p.Stats()
	records := float64(b.N * steadyRecords)
	b.ReportMetric(float64(spent.Nanoseconds())/records, "cpu-ns/record")
	b.ReportMetric(float64(stats.LogBytes-before.LogBytes)/records, "log-B/record")
	b.ReportMetric(float64(stats.FlushedBytes-before.FlushedBytes)/records, "flush-B/record")
	b.ReportMetric(float64(stats.CompactedBytes-before.CompactedBytes)/records, "compact-B/record")
	b.ReportMetric(float64(stats.DiskBytes)/float64(nodes), "disk-B/node")
	if err := p.Close(); err != nil {
		b.Fatal(err)
	}
}

// quiet waits until Pebble has nothing left to do, as it is between two flushes of a server in service.
func quiet(p *Pebble) {
	look := time.NewTicker(time.Millisecond) // to ask costs little, to ask without a pause would be what is measured
	defer look.Stop()
	for range look.C {
		if m := p.db.Metrics(); m.Flush.NumInProgress == 0 && m.Compact.NumInProgress == 0 {
			return
		}
	}
}
