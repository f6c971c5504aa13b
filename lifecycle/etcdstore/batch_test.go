package etcdstore

import (
	"bytes"
	"errors"
	"fmt"
	"reflect"
	"testing"

	"pgregory.net/rapid"

	"physalia/cell"
	_ "physalia/internal/rapidseed"
	"physalia/lifecycle"
)

func drawBatch(t *rapid.T) []lifecycle.Write {
	return rapid.SliceOfN(rapid.Custom(func(t *rapid.T) lifecycle.Write {
		w := lifecycle.Write{Key: []byte(rapid.StringN(1, 8, 16).Draw(t, "key"))}
		if rapid.IntRange(0, 4).Draw(t, "kind") > 0 {
			w.Value = rapid.SliceOfN(rapid.Byte(), 0, 300).Draw(t, "value")
		}
		return w
	}), 0, 60).Draw(t, "batch")
}

// Cutting a batch loses nothing, keeps the order, and keeps every part within its bounds, unless it is one write.
func TestSplit(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		batch := drawBatch(t)
		writes, size := rapid.IntRange(1, 20).Draw(t, "writes"), rapid.IntRange(1, 2000).Draw(t, "bytes")
		var joined []lifecycle.Write
		for _, part := range split(batch, writes, size, 10) {
			sum := 0
			for _, w := range part {
				sum += bytesOf(w, 10)
			}
			if len(part) == 0 || len(part) > writes || sum > size && len(part) > 1 {
				t.Fatalf("a part of %d writes and %d bytes, allowed are %d and %d", len(part), sum, writes, size)
			}
			joined = append(joined, part...)
		}
		if len(joined) != len(batch) || len(batch) > 0 && !reflect.DeepEqual(joined, batch) {
			t.Fatalf("joined %d writes are not the %d that were split", len(joined), len(batch))
		}
	})
}

// Of several writes of one key the last counts, as if all had been made in order.
func TestLastOfEach(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		batch := drawBatch(t)
		left := lastOfEach(batch)
		want, got := map[string]string{}, map[string]string{}
		for _, w := range batch {
			want[string(w.Key)] = fmt.Sprintf("%v %x", w.Value == nil, w.Value)
		}
		for _, w := range left {
			if _, twice := got[string(w.Key)]; twice {
				t.Fatalf("key %q is left twice", w.Key)
			}
			got[string(w.Key)] = fmt.Sprintf("%v %x", w.Value == nil, w.Value)
		}
		if !reflect.DeepEqual(got, want) {
			t.Fatalf("got %v, want %v", got, want)
		}
	})
}

// A journal is read as it was written, an empty value is no missing one, and every flipped bit or lost byte is noticed.
func TestJournalRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		batch := drawBatch(t)
		stored := appendJournal(nil, batch)
		got, err := decodeJournal(stored)
		if err != nil || len(got) != len(batch) {
			t.Fatalf("%d of %d writes: %v", len(got), len(batch), err)
		}
		for i, w := range batch {
			if !bytes.Equal(got[i].Key, w.Key) || !bytes.Equal(got[i].Value, w.Value) || (got[i].Value == nil) != (w.Value == nil) {
				t.Fatalf("write %d is %v, was %v", i, got[i], w)
			}
		}
		bad := bytes.Clone(stored)
		bad[rapid.IntRange(0, len(bad)-1).Draw(t, "at")] ^= 1 << rapid.IntRange(0, 7).Draw(t, "bit")
		if _, err := decodeJournal(bad); !errors.Is(err, errJournal) {
			t.Fatalf("a flipped bit: %v", err)
		}
		if _, err := decodeJournal(stored[:rapid.IntRange(0, len(stored)-1).Draw(t, "cut")]); !errors.Is(err, errJournal) {
			t.Fatalf("a cut journal: %v", err)
		}
	})
}

func TestParseURL(t *testing.T) {
	hosts, prefix, err := ParseURL("etcd://e1:2379,[::1]:2380/physalia/eu1/")
	if err != nil || !reflect.DeepEqual(hosts, []string{"e1:2379", "[::1]:2380"}) || prefix != "/physalia/eu1" {
		t.Errorf("%v %q: %v", hosts, prefix, err)
	}
	for _, bad := range []string{"", "http://e1:2379/x", "etcd://e1:2379", "etcd://e1:2379/", "etcd://e1/x", "etcd://:2379/x", "etcd://e1:1,/x",
		"etcd://e1:2379/a//b", "etcd://e1:2379/x?y=z", "etcd://ann:secret@e1:2379/x"} {
		_, _, err := ParseURL(bad)
		if !errors.Is(err, cell.Invalid) {
			t.Errorf("%q: %v", bad, err)
		} else if bytes.Contains([]byte(err.Error()), []byte("secret")) {
			t.Errorf("the error repeats a password: %v", err)
		}
	}
}
