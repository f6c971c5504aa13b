package machine

import (
	"errors"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"physalia/cell"
)

// The volume record is defined by transactions (cell/volume.go), so it is tested here, where they can run.

// volume runs a volume transaction and parses its result.
func (h *host) volume(t cell.Txn, err error) (cell.VolumeRecord, error) {
	h.Helper()
	if err != nil {
		return cell.VolumeRecord{}, err
	}
	if t.IsRead() {
		r, err := h.Read(&t)
		if err != nil {
			h.Fatal(err)
		}
		return cell.ParseRecord(r)
	}
	out := h.do(t)
	if out.Err != nil {
		h.Fatal(out.Err)
	}
	return cell.ParseRecord(out.Result)
}

func (h *host) lookup(partition uint32) (cell.VolumeRecord, error) {
	return h.volume(cell.LookupTxn(partition), nil)
}

// expectRecord checks what an operation returned, and that a lookup says the same.
func expectRecord(t *testing.T, h *host, got cell.VolumeRecord, err error, want cell.VolumeRecord) {
	t.Helper()
	if err != nil || got != want {
		t.Fatalf("got %v, %v; want %v", got, err, want)
	}
	if found, err := h.lookup(want.Partition); err != nil || found != want {
		t.Fatalf("lookup says %v, %v; want %v", found, err, want)
	}
}

// expectConflict checks that an operation changed nothing and told what stands there.
func expectConflict(t *testing.T, h *host, err error, found bool, actual cell.VolumeRecord) {
	t.Helper()
	var c *cell.VolumeConflict
	if !errors.Is(err, cell.Conflict) || cell.MaybeApplied(err) || !errors.As(err, &c) {
		t.Fatalf("got %v, want a conflict", err)
	}
	if c.Found != found || c.Actual != actual || c.Error() == "" {
		t.Fatalf("the conflict tells %+v, want %t %v", c, found, actual)
	}
	if now, err := h.lookup(actual.Partition); found && (err != nil || now != actual) {
		t.Fatalf("a conflict changed the record to %v, %v", now, err)
	}
}

func TestVolumeLife(t *testing.T) {
	h := newHost(t)
	for _, p := range []uint32{0, 1, 1<<32 - 1} {
		if _, err := h.lookup(p); !errors.Is(err, cell.NotFound) {
			t.Fatalf("lookup of nothing: %v", err)
		}
		_, err := h.volume(cell.PromoteTxn(p, 1, "b"))
		expectConflict(t, h, err, false, cell.VolumeRecord{})
		_, err = h.volume(cell.ReplaceTxn(p, 1, "b"))
		expectConflict(t, h, err, false, cell.VolumeRecord{})

		now := cell.VolumeRecord{Partition: p, Primary: "a", Replica: "b", Generation: 1}
		got, err := h.volume(cell.AttachTxn(p, "a", "b"))
		expectRecord(t, h, got, err, now)
		_, err = h.volume(cell.AttachTxn(p, "a", "b"))
		expectConflict(t, h, err, true, now)
		_, err = h.volume(cell.PromoteTxn(p, 1, "a")) // the primary is not the replica
		expectConflict(t, h, err, true, now)
		_, err = h.volume(cell.PromoteTxn(p, 2, "b")) // not this generation
		expectConflict(t, h, err, true, now)
		_, err = h.volume(cell.ReplaceTxn(p, 1, "a")) // a server is not its own replica
		expectConflict(t, h, err, true, now)

		now = cell.VolumeRecord{Partition: p, Primary: "b", Generation: 2}
		got, err = h.volume(cell.PromoteTxn(p, 1, "b"))
		expectRecord(t, h, got, err, now)
		_, err = h.volume(cell.PromoteTxn(p, 1, "b")) // the rival that came second
		expectConflict(t, h, err, true, now)
		_, err = h.volume(cell.PromoteTxn(p, 2, "a")) // the old primary is no replica
		expectConflict(t, h, err, true, now)

		now = cell.VolumeRecord{Partition: p, Primary: "b", Replica: "c", Generation: 3}
		got, err = h.volume(cell.ReplaceTxn(p, 2, "c"))
		expectRecord(t, h, got, err, now)
		now = cell.VolumeRecord{Partition: p, Primary: "b", Generation: 4}
		got, err = h.volume(cell.ReplaceTxn(p, 3, ""))
		expectRecord(t, h, got, err, now)
		_, err = h.volume(cell.AttachTxn(p, "x", ""))
		expectConflict(t, h, err, true, now)
	}
	if got, err := h.lookup(0); err != nil || got.Generation != 4 {
		t.Errorf("partitions touch each other: %v, %v", got, err)
	}
}

func TestVolumeRetryTellsTheRecord(t *testing.T) {
	h := newHost(t)
	attach, err := cell.AttachTxn(5, "a", "b")
	if err != nil {
		t.Fatal(err)
	}
	r := request(1, 1, 0)
	h.send(r, attach)
	h.others(30)
	want := cell.VolumeRecord{Partition: 5, Primary: "a", Replica: "b", Generation: 1}
	out, known := h.Recall(r)
	if got, err := cell.ParseRecord(out.Result); !known || err != nil || got != want {
		t.Errorf("recalled %v, %v", got, err)
	}
	out.Result.Results = nil // as after very many large results
	if _, err := cell.ParseRecord(out.Result); !errors.Is(err, cell.UnknownResult) {
		t.Errorf("got %v", err)
	}
	out.Result.Succeeded = false
	if _, err := cell.ParseRecord(out.Result); !errors.Is(err, cell.Conflict) || cell.MaybeApplied(err) {
		t.Errorf("got %v", err)
	}
}

// TestVolumeKeysWithOtherContent checks that keys which somebody else wrote below p/ are told, never taken for a record.
func TestVolumeKeysWithOtherContent(t *testing.T) {
	primary, replica, generation := cell.VolumeKeys(0)
	for name, write := range map[string]cell.Txn{
		"no primary": del(primary), "primary of another type": put(primary, cell.Int(1)), "empty primary": put(primary, cell.String("")),
		"replica of another type": put(replica, cell.Bool(true)), "no generation": del(generation),
		"generation of another type": put(generation, cell.String("1")), "generation zero": put(generation, cell.Int(0)),
		"negative generation": put(generation, cell.Int(-4)), "endless generation": put(generation, bigOf(80, 0)),
	} {
		h := newHost(t)
		if _, err := h.volume(cell.AttachTxn(0, "a", "b")); err != nil {
			t.Fatal(err)
		}
		h.must(write)
		before := dump(h)
		if _, err := h.lookup(0); !errors.Is(err, cell.WrongType) {
			t.Errorf("%s: lookup says %v", name, err)
		}
		if _, err := h.volume(cell.AttachTxn(0, "a", "b")); err == nil {
			t.Errorf("%s: attached over it", name)
		}
		if strings.Contains(name, "replica") {
			continue // replacing the replica is how that is mended
		}
		if _, err := h.volume(cell.ReplaceTxn(0, 1, "c")); err == nil || cell.MaybeApplied(err) {
			t.Errorf("%s: replace says %v", name, err)
		}
		if len(dump(h)) != len(before) {
			t.Errorf("%s: a refused operation wrote", name)
		}
	}
}

// TestOnePrimaryPerGeneration lets rivals with arbitrary knowledge attach, promote and replace: no generation ever has two
// different records, and generations only grow.
func TestOnePrimaryPerGeneration(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		h := newHost(t)
		seen := map[cell.Generation]cell.VolumeRecord{}
		var last cell.Generation
		name := rapid.SampledFrom([]string{"a", "b", "c"})
		for range rapid.IntRange(1, 40).Draw(rt, "steps") {
			expected := cell.Generation(rapid.Uint64Range(1, uint64(last)+1).Draw(rt, "expected"))
			var txn cell.Txn
			var err error
			switch rapid.IntRange(0, 4).Draw(rt, "operation") {
			case 0:
				txn, err = cell.AttachTxn(0, name.Draw(rt, "primary"), name.Draw(rt, "replica"))
			case 1, 2:
				txn, err = cell.PromoteTxn(0, expected, name.Draw(rt, "primary"))
			default:
				txn, err = cell.ReplaceTxn(0, expected, rapid.SampledFrom([]string{"a", "b", "c", ""}).Draw(rt, "replica"))
			}
			before, _ := h.lookup(0)
			got, err := h.volume(txn, err)
			if err != nil {
				if now, _ := h.lookup(0); now != before {
					rt.Fatalf("%v, but the record went from %v to %v", err, before, now)
				}
				continue
			}
			if _, again := seen[got.Generation]; again || got.Generation != last+1 || got.Primary == "" || got.Primary == got.Replica {
				rt.Fatalf("got %v after generation %d", got, last)
			}
			if got.Primary != before.Primary && last > 0 && got.Primary != before.Replica {
				rt.Fatalf("%v became %v: the new primary was not the replica", before, got)
			}
			seen[got.Generation], last = got, got.Generation
		}
	})
}
