package machine

import (
	"bytes"
	"encoding/hex"
	"flag"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"physalia/cell"
	_ "physalia/internal/rapidseed"
	"physalia/internal/wire"
)

var rewrite = flag.Bool("rewrite", false, "rewrite the golden files; the diff is the review")

// TestSameLogSameBytes applies one log on two nodes. One of them is restored from its snapshot at random places, as after
// a restart or a teaching; from there on both must still have the same bytes (M5).
func TestSameLogSameBytes(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		a, b := New(), New()
		var sent []wire.Command
		for i := range rapid.IntRange(1, 60).Draw(t, "commands") {
			c := wire.Command{Request: request(byte(i%3), uint64(i), a.Revision()), Txn: drawTxn(t)}
			if rapid.IntRange(0, 3).Draw(t, "lease command") == 0 {
				c = drawLeaseCommand(t, a, c.Request)
			}
			switch rapid.IntRange(0, 9).Draw(t, "step") {
			case 0:
				if c.Kind != wire.CommandExpire {
					c.Request.Since = 0
				}
			case 1:
				if len(sent) > 0 {
					c = rapid.SampledFrom(sent).Draw(t, "again")
				}
			case 2:
				for j := range 150 { // of another client, so that the window moves
					r := request(9, uint64(i*1000+j), a.Revision())
					applyBoth(t, a, b, &wire.Command{Request: r, Txn: put("k", cell.Int(int64(j)))})
				}
			}
			sent = append(sent, c)
			applyBoth(t, a, b, &c)
			if rapid.IntRange(0, 5).Draw(t, "restart") == 0 {
				restored, err := Restore(b.Snapshot(nil))
				if err != nil {
					t.Fatal(err)
				}
				b = restored
			}
			if !bytes.Equal(a.Snapshot(nil), b.Snapshot(nil)) || a.Hash() != b.Hash() {
				t.Fatalf("M5: the nodes differ after %d commands", len(sent))
			}
		}
		if a.Hash() != HashOf(a.Snapshot([]byte("prefix"))[len("prefix"):]) {
			t.Fatal("Hash is not HashOf(Snapshot), or Snapshot does not append")
		}
	})
}

// applyBoth applies a command on both nodes, which must also answer alike.
func applyBoth(t *rapid.T, a, b *Machine, c *wire.Command) {
	x, errA := a.Apply(c.Append(nil))
	y, errB := b.Apply(c.Append(nil))
	if errA != nil || errB != nil {
		t.Fatal(errA, errB)
	}
	if fmt.Sprintf("%+v", x) != fmt.Sprintf("%+v", y) {
		t.Fatalf("one node answers %+v, the other %+v", x, y)
	}
}

// TestHashTellsStatesApart checks that each part of the state shows in the hash.
func TestHashTellsStatesApart(t *testing.T) {
	seen := map[uint64]string{New().Hash(): "empty"}
	for name, log := range map[string][]cell.Txn{
		"revision": {get("k")}, "value": {put("k", cell.Int(1))}, "other value": {put("k", cell.Int(2))},
		"type": {put("k", cell.String("1"))}, "bytes": {put("k", cell.Bytes([]byte("1")))}, "key": {put("l", cell.Int(1))},
		"version": {put("k", cell.Int(0)), put("k", cell.Int(1))}, "deleted": {put("k", cell.Int(1)), del("k")},
		"sign": {put("k", bigOf(70, 0))}, "other sign": {put("k", negative(bigOf(70, 0)))}, "true": {put("k", cell.Bool(true))},
	} {
		h := newHost(t)
		for _, txn := range log {
			h.must(txn)
		}
		if other, dup := seen[h.Hash()]; dup {
			t.Errorf("%q and %q have the same hash", name, other)
		}
		seen[h.Hash()] = name
	}
}

// goldenLog applies one log with everything that a snapshot can hold.
func goldenLog(t *testing.T) *host {
	h := newHost(t)
	for i := range 20 { // so that something is forgotten
		h.must(put(fmt.Sprintf("old/%02d", i%3), cell.Int(int64(i))))
	}
	h.must(put("int", cell.Int(-5)))
	h.must(put("big", bigOf(80, 7)))
	h.must(put("negative", negative(bigOf(64, 1))))
	h.must(put("string", cell.String("süß")))
	h.must(put("bytes", cell.Bytes([]byte{0, 1, 255})))
	h.must(put("true", cell.Bool(true)))
	h.do(increment("string", 1))
	h.do(increment("int", 10))
	h.send(request(7, 1, h.Revision()), cell.Txn{})
	h.do(cell.Txn{If: []cell.Condition{{Key: "none", Target: cell.OnExistence, Compare: cell.Equal}}, Else: scan("old/", "", 2).Then})
	h.must(del("true"))
	h.must(attach("leased", h.grant()))
	h.keepAlive(h.Held()[0].ID)
	h.must(attach("gone", h.grant()))
	h.expire(h.Held()[1].ID, 0)
	h.do(attach("none", 1))
	h.revoke(1)
	for i := range cell.WindowMax - 22 {
		h.must(put("int", cell.Int(int64(i))))
	}
	return h
}

// TestGoldenSnapshot pins the bytes of a state. A change means that nodes of this version and the one before would
// disagree: it needs a new version of the format, never just new golden bytes.
func TestGoldenSnapshot(t *testing.T) {
	h := goldenLog(t)
	state := h.Snapshot(nil)
	text := fmt.Sprintf("hash %016x\n", h.Hash())
	for rest := state; len(rest) > 0; {
		n := min(len(rest), 40)
		text += hex.EncodeToString(rest[:n]) + "\n"
		rest = rest[n:]
	}
	path := filepath.Join("testdata", "snapshot-v1.hex")
	if *rewrite {
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if text != string(want) {
		t.Errorf("the snapshot has changed, see %s", path)
	}
	_, lines, _ := strings.Cut(string(want), "\n")
	golden, err := hex.DecodeString(strings.ReplaceAll(lines, "\n", ""))
	if err != nil {
		t.Fatal(err)
	}
	m, err := Restore(golden)
	if err != nil {
		t.Fatal(err)
	}
	if m.Revision() != h.Revision() || m.Keys() != h.Keys() || m.Bytes() != h.Bytes() || !bytes.Equal(m.Snapshot(nil), golden) {
		t.Errorf("restored: revision %d, %d keys, %d bytes", m.Revision(), m.Keys(), m.Bytes())
	}
}

// TestRestoreRefusesDamage checks every promise that Restore verifies, one broken promise at a time.
func TestRestoreRefusesDamage(t *testing.T) {
	state := goldenLog(t).Snapshot(nil)
	if _, err := Restore(state); err != nil {
		t.Fatal(err)
	}
	big := cell.OpResult{Entry: cell.Entry{Value: cell.Bytes(make([]byte, 9000))}}
	medium := cell.OpResult{Entry: cell.Entry{Value: cell.Bytes(make([]byte, 8000))}}
	damages := leaseDamages()
	maps.Copy(damages, map[string]func(s *wire.CellState){
		"revision":            func(s *wire.CellState) { s.Revision++ },
		"endless revision":    func(s *wire.CellState) { s.Revision = 1<<63 + 1 },
		"floor":               func(s *wire.CellState) { s.Floor-- },
		"gap":                 func(s *wire.CellState) { s.Remembered = append(s.Remembered[:5:5], s.Remembered[6:]...) },
		"gap at the floor":    func(s *wire.CellState) { s.Remembered = s.Remembered[1:] },
		"revision twice":      func(s *wire.CellState) { s.Remembered[3].Result.Revision++ },
		"request twice":       func(s *wire.CellState) { s.Remembered[3].Sequence = s.Remembered[2].Sequence },
		"success that failed": func(s *wire.CellState) { s.Remembered[0].Result.Failed = 0 },
		"failure of nothing":  func(s *wire.CellState) { s.Remembered[0].Result.Succeeded = false },
		"abort with text": func(s *wire.CellState) {
			s.Remembered[0] = aborted(s.Remembered[0], cell.Error{Kind: cell.Void, Detail: "x"})
		},
		"odd abort":          func(s *wire.CellState) { s.Remembered[0] = aborted(s.Remembered[0], cell.Error{Kind: cell.Expired}) },
		"abort with results": func(s *wire.CellState) { s.Remembered[0].Err = &cell.Error{Kind: cell.Void} },
		"large results":      func(s *wire.CellState) { s.Remembered[0].Result.Results = []cell.OpResult{big} },
		"too many results": func(s *wire.CellState) {
			for i := range 5 {
				s.Remembered[i].Result.Results = []cell.OpResult{medium}
			}
		},
		"key order":        func(s *wire.CellState) { s.Entries[0], s.Entries[1] = s.Entries[1], s.Entries[0] },
		"key twice":        func(s *wire.CellState) { s.Entries[1].Key = s.Entries[0].Key },
		"key bound":        func(s *wire.CellState) { s.Entries[0].Key = strings.Repeat("a", cell.KeyBytesMax+1) },
		"no value":         func(s *wire.CellState) { s.Entries[0].Value = cell.Value{} },
		"value bound":      func(s *wire.CellState) { s.Entries[0].Value = cell.Bytes(make([]byte, cell.ValueBytesMax)) },
		"version zero":     func(s *wire.CellState) { s.Entries[0].Version = 0 },
		"never created":    func(s *wire.CellState) { s.Entries[0].CreateRevision = 0 },
		"created too late": func(s *wire.CellState) { s.Entries[0].CreateRevision = s.Entries[0].ModRevision + 1 },
		"from the future":  func(s *wire.CellState) { s.Entries[0].ModRevision = s.Revision + 1 },
		"cell bound": func(s *wire.CellState) {
			for i := range 17 {
				e := s.Entries[len(s.Entries)-1]
				e.Key, e.Value = fmt.Sprintf("~%02d", i), cell.Bytes(make([]byte, 16000))
				s.Entries = append(s.Entries, e)
			}
		},
	})
	for name, damage := range damages {
		s, err := wire.DecodeCellState(state)
		if err != nil {
			t.Fatal(err)
		}
		damage(&s)
		damaged := s.Append(nil)
		if bytes.Equal(damaged, state) {
			t.Errorf("%s: nothing was damaged", name)
		}
		if m, err := Restore(damaged); cell.KindOf(err) != cell.Quarantined || m != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	for name, bad := range map[string][]byte{"nothing": nil, "cut": state[:len(state)-1], "longer": append(bytes.Clone(state), 0),
		"newer version": append([]byte{'S', 2}, state[2:]...), "other format": append([]byte{'C'}, state[1:]...)} {
		if _, err := Restore(bad); cell.KindOf(err) != cell.Quarantined {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// leaseDamages are broken promises about leases.
func leaseDamages() map[string]func(s *wire.CellState) {
	return map[string]func(s *wire.CellState){
		"lease of no time":   func(s *wire.CellState) { s.Leases[0].TTL = 0 },
		"lease to come":      func(s *wire.CellState) { s.Leases[0].ID = cell.LeaseID(s.Revision + 1) },
		"lease zero":         func(s *wire.CellState) { s.Leases[0].ID = 0 },
		"endless renewals":   func(s *wire.CellState) { s.Leases[0].Renewals = 1 << 63 },
		"key of no lease":    func(s *wire.CellState) { s.Leases = nil },
		"key before a lease": func(s *wire.CellState) { leased(s).ModRevision = leased(s).CreateRevision },
	}
}

// leased returns the key of the golden state that is attached to a lease, as if it was written when the lease was granted.
func leased(s *wire.CellState) *cell.Entry {
	for i := range s.Entries {
		if e := &s.Entries[i]; e.Lease != 0 {
			e.CreateRevision = cell.Revision(e.Lease)
			return e
		}
	}
	panic("no key is attached")
}

func aborted(item wire.Remembered, e cell.Error) wire.Remembered {
	item.Result, item.Err = cell.TxnResult{Revision: item.Result.Revision}, &e
	return item
}
