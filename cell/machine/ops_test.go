package machine

import (
	"bytes"
	"fmt"
	"math"
	"math/big"
	"reflect"
	"strings"
	"testing"

	"physalia/cell"
)

// bigOf returns 2^bits + add as a value.
func bigOf(bits uint, add int64) cell.Value {
	n := new(big.Int).Lsh(big.NewInt(1), bits)
	return cell.BigInt(n.Add(n, big.NewInt(add)))
}

// states are the contents that a key can have; the zero Value stands for an absent key.
var states = map[string]cell.Value{
	"absent": {}, "int": cell.Int(7), "negative": cell.Int(-7), "max": cell.Int(math.MaxInt64), "min": cell.Int(math.MinInt64),
	"big": bigOf(100, 0), "string": cell.String("s"), "empty": cell.String(""), "true": cell.Bool(true), "false": cell.Bool(false),
	"bytes": cell.Bytes([]byte{0, 255}), "no bytes": cell.Bytes(nil),
}

// inState returns a machine in which key "k" has the value, written twice so that its revisions and version differ, beside
// a key on either side.
func inState(t *testing.T, v cell.Value) *host {
	h := newHost(t)
	h.must(put("a", cell.Int(1)))
	h.must(put("z", cell.Int(2)))
	if !v.IsZero() {
		h.must(put("k", cell.Bool(true)))
		h.must(put("k", v))
	}
	return h
}

func TestEveryOperationOnEveryState(t *testing.T) {
	for state, v := range states {
		exists := !v.IsZero()
		t.Run("put on "+state, func(t *testing.T) {
			for _, w := range states {
				if w.IsZero() {
					continue
				}
				h := inState(t, v)
				was, _ := h.look("k")
				r := h.must(put("k", w))[0]
				want := cell.Entry{Key: "k", Value: w, CreateRevision: h.Revision(), ModRevision: h.Revision(), Version: 1}
				if exists {
					want.CreateRevision, want.Version = was.CreateRevision, was.Version+1
				}
				expectEntry(t, h, r, cell.OpResult{Found: exists, Entry: want})
			}
		})
		t.Run("delete on "+state, func(t *testing.T) {
			h := inState(t, v)
			was, _ := h.look("k")
			r := h.must(del("k"))[0]
			if !reflect.DeepEqual(r, cell.OpResult{Found: exists, Entry: was}) {
				t.Errorf("got %+v, removed %+v", r, was)
			}
			if _, found := h.look("k"); found || h.Keys() != 2 {
				t.Errorf("found %t after delete, %d keys", found, h.Keys())
			}
		})
		t.Run("get on "+state, func(t *testing.T) {
			h := inState(t, v)
			e, found := h.look("k")
			if found != exists || (exists && (!e.Value.Equal(v) || e.Version != 2 || e.CreateRevision != 3 || e.ModRevision != 4)) {
				t.Errorf("got %+v, found %t", e, found)
			}
			if r := h.must(get("k"))[0]; !reflect.DeepEqual(r, cell.OpResult{Found: found, Entry: e}) {
				t.Errorf("read %+v, through the log %+v", e, r)
			}
		})
	}
}

// expectEntry checks the result of a write and that the key now stands as it says.
func expectEntry(t *testing.T, h *host, got, want cell.OpResult) {
	t.Helper()
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got  %+v\nwant %+v", got, want)
	}
	if e, found := h.look(want.Entry.Key); !found || !reflect.DeepEqual(e, want.Entry) {
		t.Errorf("stands %+v\nwant   %+v", e, want.Entry)
	}
}

func TestIncrementOnEveryState(t *testing.T) {
	deltas := map[string]cell.Value{"0": cell.Int(0), "1": cell.Int(1), "-1": cell.Int(-1), "max": cell.Int(math.MaxInt64),
		"min": cell.Int(math.MinInt64), "2^100": bigOf(100, 0), "-2^100": negative(bigOf(100, 0))}
	for state, v := range states {
		for name, d := range deltas {
			t.Run(state+" plus "+name, func(t *testing.T) {
				h := inState(t, v)
				out := h.do(cell.Txn{Then: []cell.Op{{Kind: cell.OpIncrement, Key: "k", Value: d}}})
				old, isInt := v.AsBigInt()
				if v.IsZero() {
					old, isInt = new(big.Int), true
				}
				if !isInt {
					expectAbort(t, out, cell.WrongType)
					return
				}
				delta, _ := d.AsBigInt()
				if out.Err != nil {
					t.Fatal(out.Err)
				}
				if e, _ := h.look("k"); !e.Value.Equal(cell.BigInt(old.Add(old, delta))) {
					t.Errorf("got %v, want %v", e.Value, old)
				}
			})
		}
	}
}

func negative(v cell.Value) cell.Value {
	n, _ := v.AsBigInt()
	return cell.BigInt(n.Neg(n))
}

// expectAbort checks the shape of an aborted outcome.
func expectAbort(t *testing.T, out Outcome, k cell.Kind) {
	t.Helper()
	if cell.KindOf(out.Err) != k {
		t.Fatalf("got %v, want %v", out.Err, k)
	}
	if !reflect.DeepEqual(out.Result, cell.TxnResult{Revision: out.Result.Revision}) {
		t.Errorf("an aborted result tells more than its revision: %+v", out.Result)
	}
	if out.Err.Op == "" || out.Err.Detail == "" || out.Err.Hint == "" {
		t.Errorf("error does not say what and what next: %+v", out.Err)
	}
}

func TestAbortLeavesKeysUntouched(t *testing.T) {
	long := cell.String(strings.Repeat("x", 15<<10))
	for name, c := range map[string]struct {
		last cell.Op
		kind cell.Kind
	}{
		"wrong type":  {cell.Op{Kind: cell.OpIncrement, Key: "s", Value: cell.Int(1)}, cell.WrongType},
		"big integer": {cell.Op{Kind: cell.OpIncrement, Key: "huge", Value: cell.Int(1)}, cell.TooLarge},
	} {
		t.Run(name, func(t *testing.T) {
			h := newHost(t)
			h.must(put("s", cell.String("text")))
			h.must(put("huge", bigOf(cell.IntBitsMax, -1)))
			h.must(put("d", cell.Int(4)))
			keys, size, before := h.Keys(), h.Bytes(), dump(h)
			out := h.do(cell.Txn{Then: []cell.Op{
				{Kind: cell.OpPut, Key: "new", Value: long}, {Kind: cell.OpPut, Key: "s", Value: cell.Int(3)},
				{Kind: cell.OpPut, Key: "s", Value: cell.String("other")}, {Kind: cell.OpDelete, Key: "d"},
				{Kind: cell.OpPut, Key: "d", Value: cell.Int(5)}, {Kind: cell.OpDelete, Key: "new"},
				{Kind: cell.OpIncrement, Key: "n", Value: cell.Int(1)}, c.last,
			}})
			expectAbort(t, out, c.kind)
			if !strings.Contains(out.Err.Detail, "then 7") {
				t.Errorf("the error does not name the operation: %v", out.Err)
			}
			if h.Keys() != keys || h.Bytes() != size || !reflect.DeepEqual(dump(h), before) {
				t.Errorf("M2: an aborted transaction changed the keys")
			}
		})
	}
}

// dump returns all entries.
func dump(h *host) []cell.Entry { return append([]cell.Entry(nil), h.store.entries...) }

func TestBranchSeesItsOwnEffects(t *testing.T) {
	h := newHost(t)
	r := h.must(cell.Txn{Then: []cell.Op{
		{Kind: cell.OpIncrement, Key: "n", Value: cell.Int(5)},
		{Kind: cell.OpIncrement, Key: "n", Value: cell.Int(2)},
		{Kind: cell.OpGet, Key: "n"},
		{Kind: cell.OpDelete, Key: "n"},
		{Kind: cell.OpGet, Key: "n"},
		{Kind: cell.OpPut, Key: "n", Value: cell.Bool(true)},
		{Kind: cell.OpScan},
	}})
	seven := cell.Entry{Key: "n", Value: cell.Int(7), CreateRevision: 1, ModRevision: 1, Version: 2}
	again := cell.Entry{Key: "n", Value: cell.Bool(true), CreateRevision: 1, ModRevision: 1, Version: 1}
	want := []cell.OpResult{
		{Entry: cell.Entry{Key: "n", Value: cell.Int(5), CreateRevision: 1, ModRevision: 1, Version: 1}},
		{Found: true, Entry: seven}, {Found: true, Entry: seven}, {Found: true, Entry: seven}, {},
		{Entry: again}, {Entries: []cell.Entry{again}},
	}
	if !reflect.DeepEqual(r, want) {
		t.Errorf("got  %+v\nwant %+v", r, want)
	}
}

func TestConditionsChooseTheBranch(t *testing.T) {
	h := newHost(t)
	h.must(put("k", cell.Int(1)))
	exists := func(key string) cell.Condition {
		return cell.Condition{Key: key, Target: cell.OnExistence, Compare: cell.Equal}
	}
	txn := cell.Txn{If: []cell.Condition{exists("k"), exists("no"), exists("neither")},
		Then: []cell.Op{{Kind: cell.OpPut, Key: "then", Value: cell.Int(1)}},
		Else: []cell.Op{{Kind: cell.OpPut, Key: "else", Value: cell.Int(1)}, {Kind: cell.OpGet, Key: "k"}}}
	out := h.do(txn)
	if out.Result.Succeeded || out.Result.Failed != 1 || len(out.Result.Results) != 2 {
		t.Errorf("got %+v, want condition 1 to fail", out.Result)
	}
	txn.If = txn.If[:1]
	out = h.do(txn)
	if !out.Result.Succeeded || out.Result.Failed != -1 || len(out.Result.Results) != 1 {
		t.Errorf("got %+v, want success", out.Result)
	}
	out = h.do(cell.Txn{If: []cell.Condition{exists("no")}, Then: []cell.Op{{Kind: cell.OpDelete, Key: "k"}}})
	if out.Result.Succeeded || out.Result.Failed != 0 || out.Result.Results != nil {
		t.Errorf("got %+v, want a failure without results", out.Result)
	}
	if _, found := h.look("k"); !found {
		t.Error("the branch not taken took effect")
	}
}

// TestEveryConditionOnEveryState checks each target and comparison against a second, literal reading of cell.Target.
func TestEveryConditionOnEveryState(t *testing.T) {
	for state, v := range states {
		h := inState(t, v)
		e, found := h.look("k")
		check := func(c cell.Condition, want bool) {
			t.Helper()
			c.Key = "k"
			r, err := h.Read(&cell.Txn{If: []cell.Condition{c}})
			if err != nil {
				t.Fatalf("%s: %v", state, err)
			}
			if r.Succeeded != want {
				t.Errorf("key %s (%v): target %d compare %d with %v/%d holds: %t", state, e, c.Target, c.Compare, c.Value, c.Number, r.Succeeded)
			}
		}
		check(cell.Condition{Target: cell.OnExistence, Compare: cell.Equal}, found)
		check(cell.Condition{Target: cell.OnExistence, Compare: cell.NotEqual}, !found)
		for compare := cell.Equal; compare <= cell.GreaterEqual; compare++ {
			for _, n := range []uint64{0, 1, 2, 3, 4, 5, math.MaxUint64} {
				check(cell.Condition{Target: cell.OnCreateRevision, Compare: compare, Number: n}, literally(uint64(e.CreateRevision), n, compare))
				check(cell.Condition{Target: cell.OnModRevision, Compare: compare, Number: n}, literally(uint64(e.ModRevision), n, compare))
				check(cell.Condition{Target: cell.OnVersion, Compare: compare, Number: n}, literally(e.Version, n, compare))
			}
			for _, w := range states {
				if w.IsZero() {
					continue
				}
				order, same := v.Compare(w)
				check(cell.Condition{Target: cell.OnValue, Compare: compare, Value: w},
					same && literally(uint64(order+1), 1, compare) || !same && compare == cell.NotEqual)
			}
		}
	}
}

func literally(a, b uint64, c cell.Comparison) bool {
	return map[cell.Comparison]bool{cell.Equal: a == b, cell.NotEqual: a != b, cell.Less: a < b, cell.LessEqual: a <= b,
		cell.Greater: a > b, cell.GreaterEqual: a >= b}[c]
}

func TestScanPages(t *testing.T) {
	h := newHost(t)
	for _, k := range []string{"a", "b/", "b/1", "b/2", "b/3", "b0", "c", "b/\xff\xff", "b"} {
		h.must(put(k, cell.String(k)))
	}
	for _, c := range []struct {
		prefix, after string
		limit         uint32
		want          string
		more          bool
	}{
		{"", "", 0, "a b b/ b/1 b/2 b/3 b/\xff\xff b0 c", false},
		{"b/", "", 0, "b/ b/1 b/2 b/3 b/\xff\xff", false},
		{"b/", "", 2, "b/ b/1", true},
		{"b/", "b/1", 2, "b/2 b/3", true},
		{"b/", "b/3", 2, "b/\xff\xff", false},
		{"b/", "b/3", 1, "b/\xff\xff", false},
		{"b/", "b/\xff\xff", 2, "", false},
		{"b/", "a", 1, "b/", true},                     // a position before the prefix starts at the prefix
		{"b/", "z", 1, "", false},                      // and one behind it is the end
		{"b/", "b/17", 0, "b/2 b/3 b/\xff\xff", false}, // the position need not exist (any more)
		{"nothing", "", 0, "", false},
		{"", "c", 0, "", false},
	} {
		txn := scan(c.prefix, c.after, c.limit)
		r, err := h.Read(&txn)
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, e := range r.Results[0].Entries {
			if s, _ := e.Value.AsString(); s != e.Key || e.Version != 1 {
				t.Errorf("entry %+v", e)
			}
			got = append(got, e.Key)
		}
		if strings.Join(got, " ") != c.want || r.Results[0].More != c.more {
			t.Errorf("scan %q after %q limit %d: %q more %t, want %q %t", c.prefix, c.after, c.limit, got, r.Results[0].More, c.want, c.more)
		}
	}
}

func TestScanBytesAreBounded(t *testing.T) {
	h := newHost(t)
	value := cell.Bytes(bytes.Repeat([]byte{1}, 10<<10))
	const keys = 20
	for i := range keys {
		h.must(put(fmt.Sprintf("%02d", i), value))
	}
	perPage := cell.ScanBytesMax / (2 + value.Size())
	after, seen := "", 0
	for page := 0; ; page++ {
		txn := scan("", after, 0)
		r, err := h.Read(&txn)
		if err != nil {
			t.Fatal(err)
		}
		list := r.Results[0].Entries
		if want := min(perPage, keys-seen); len(list) != want {
			t.Fatalf("page %d has %d entries, want %d", page, len(list), want)
		}
		seen += len(list)
		if r.Results[0].More != (seen < keys) {
			t.Fatalf("more is %t after %d of %d", r.Results[0].More, seen, keys)
		}
		if seen == keys {
			break
		}
		after = list[len(list)-1].Key
	}
	// Scans of one transaction share the bound; what a later one cannot return any more, it announces.
	r, err := h.Read(&cell.Txn{Then: []cell.Op{{Kind: cell.OpScan}, {Kind: cell.OpScan, After: "05"}, {Kind: cell.OpScan, Key: "x"}}})
	if err != nil {
		t.Fatal(err)
	}
	if a, b, c := r.Results[0], r.Results[1], r.Results[2]; len(a.Entries) != perPage || !a.More || len(b.Entries) != 0 || !b.More || c.More {
		t.Errorf("second scan has %d entries, more %t; third more %t", len(b.Entries), b.More, c.More)
	}
}
