package storage

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// flipInTable flips one bit in the middle of the first table of a store.
func flipInTable(t *testing.T, fs vfs.FS, dir string) {
	t.Helper()
	names, err := fs.List(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range names {
		if !strings.HasSuffix(name, ".sst") {
			continue
		}
		path := fs.PathJoin(dir, name)
		f, err := fs.Open(path)
		if err != nil {
			t.Fatal(err)
		}
		content, err := io.ReadAll(f)
		if err := errors.Join(err, f.Close()); err != nil {
			t.Fatal(err)
		}
		content[len(content)/2] ^= 1
		out, err := fs.Create(path, vfs.WriteCategoryUnspecified)
		if err != nil {
			t.Fatal(err)
		}
		_, err = out.Write(content)
		if err := errors.Join(err, out.Sync(), out.Close()); err != nil {
			t.Fatal(err)
		}
		return
	}
	t.Fatalf("no table among %v", names)
}

// A damaged block fails the reads that need it, and nothing else: others are answered, and batches become durable.
func TestDamagedBlockFailsItsReadsAlone(t *testing.T) {
	fs := vfs.NewMem()
	open := func(durable BatchNumber) (*Pebble, *recorder) {
		r := newRecorder(durable)
		p, err := OpenPebble(PebbleConfig{FS: fs, Dir: "store", Logger: discard}, r)
		if err != nil {
			t.Fatal(err)
		}
		return p, r
	}
	key := func(i int) []byte { return fmt.Appendf(nil, "k%04d", i) }
	commit := func(p *Pebble, n BatchNumber, from, to int) {
		b := GetBatch()
		b.Number = n
		for i := from; i < to; i++ {
			b.Set(key(i), bytes.Repeat([]byte{byte(i)}, 1000))
		}
		p.Commit(b)
	}
	p, r := open(0)
	commit(p, 1, 0, 400) // many blocks
	if !r.waitDurable(1) {
		t.Fatal("the store failed")
	}
	if err := p.db.Flush(); err != nil {
		t.Fatal(err)
	}
	if err := p.Close(); err != nil {
		t.Fatal(err)
	}
	flipInTable(t, fs, "store")
	p, r = open(1)
	lost := 0
	for i := range 400 {
		p.Read(ReadID(i+1), Range{key(i), key(i + 1)})
		got := r.waitAnswer(ReadID(i + 1))
		switch {
		case errors.Is(got.err, ErrCorrupt) && got.pairs == nil:
			lost++
		case got.err != nil || len(got.pairs) != 1:
			t.Fatalf("key %d: %d pairs, %v", i, len(got.pairs), got.err)
		}
	}
	if lost == 0 || lost > 100 {
		t.Errorf("%d of 400 keys are lost with one block", lost)
	}
	commit(p, 2, 500, 501)
	if !r.waitDurable(2) {
		t.Fatal("the store failed")
	}
	if err := p.Close(); err != nil {
		t.Errorf("the store failed: %v", err)
	}
	r.check(t, 0)
}
