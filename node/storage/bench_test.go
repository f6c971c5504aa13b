package storage

import (
	"encoding/binary"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"syscall"
	"testing"
	"time"
)

// BenchmarkPebble writes records of 200 bytes to ring positions of 20,000 cells, so many per batch, with 256 records or
// one batch on their way, and reports per record: time, CPU of the whole process, bytes that reached the disk per byte
// handed over; and beside them the disk's own fdatasync, since nothing here is faster than that.
func BenchmarkPebble(b *testing.B) {
	for _, records := range []int{1, 8, 64} {
		for _, syncs := range []int{1, 4, 16} {
			b.Run(fmt.Sprintf("records=%d/syncs=%d", records, syncs), func(b *testing.B) {
				benchmarkPebble(b, records, syncs)
			})
		}
	}
}

const (
	benchCells  = 20_000
	benchRing   = 16
	benchWindow = 256
	benchRecord = 200
)

// benchSink is a channel of what became durable.
type benchSink struct {
	durable chan BatchNumber
	b       *testing.B
}

func (s *benchSink) Durable(n BatchNumber)          { s.durable <- n }
func (s *benchSink) ReadDone(ReadID, []Pair, error) {}
func (s *benchSink) Failed(err error)               { panic(err) }

func benchmarkPebble(b *testing.B, records, syncs int) {
	fdatasync := median(diskSyncs(b, 50))
	sink := &benchSink{durable: make(chan BatchNumber, 4096), b: b}
	p, err := OpenPebble(PebbleConfig{Dir: filepath.Join(b.TempDir(), "store"), Syncs: syncs, Logger: discard}, sink)
	if err != nil {
		b.Fatal(err)
	}
	value := make([]byte, benchRecord)
	batches := (b.N + records - 1) / records
	cpu := processCPU()
	b.ResetTimer()
	var durable BatchNumber
	for n := BatchNumber(1); n <= BatchNumber(batches); n++ {
		for n-durable > BatchNumber(max(1, benchWindow/records)) {
			durable = <-sink.durable
		}
		p.Commit(ringBatch(n, records, value))
	}
	for durable < BatchNumber(batches) {
		durable = <-sink.durable
	}
	b.StopTimer()
	spent := processCPU() - cpu
	stats := p.Stats()
	written := float64(stats.LogBytes + stats.FlushedBytes + stats.CompactedBytes)
	b.ReportMetric(written/float64(batches*records*(benchRecord+10)), "written/payload")
	b.ReportMetric(float64(spent.Nanoseconds())/float64(batches*records), "cpu-ns/record")
	b.ReportMetric(float64(stats.SyncTime.Microseconds())/float64(stats.Groups), "us/sync")
	b.ReportMetric(float64(fdatasync.Microseconds()), "us/fdatasync")
	b.ReportMetric(float64(batches*records)/float64(stats.Groups), "records/group")
	b.ReportMetric(float64(batches*records)/b.Elapsed().Seconds(), "records/s")
	if err := p.Close(); err != nil {
		b.Fatal(err)
	}
}

// ringBatch writes one record each to so many rings; the position advances with the number.
func ringBatch(n BatchNumber, records int, value []byte) *Batch {
	batch := GetBatch()
	batch.Number = n
	var key [10]byte
	for i := range records {
		at := uint64(n)*uint64(records) + uint64(i)
		binary.BigEndian.PutUint64(key[:], at*7919%benchCells+1)
		binary.BigEndian.PutUint16(key[8:], uint16(at/benchCells%benchRing))
		binary.BigEndian.PutUint64(value, at*0x9e3779b97f4a7c15) // not all alike
		batch.Set(key[:], value)
	}
	return batch
}

// diskSyncs measures a write of one record with fdatasync, n times, in the benchmark's directory.
func diskSyncs(b *testing.B, n int) []time.Duration {
	f, err := os.Create(filepath.Join(b.TempDir(), "probe"))
	if err != nil {
		b.Fatal(err)
	}
	defer f.Close()
	took := make([]time.Duration, n)
	for i := range took {
		start := time.Now()
		if _, err := f.Write(make([]byte, benchRecord)); err != nil {
			b.Fatal(err)
		}
		if err := syscall.Fdatasync(int(f.Fd())); err != nil {
			b.Fatal(err)
		}
		took[i] = time.Since(start)
	}
	return took
}

func median(d []time.Duration) time.Duration {
	slices.Sort(d)
	return d[len(d)/2]
}

// processCPU is the CPU time that this process has used.
func processCPU() time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		panic(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
