package machine

import (
	"fmt"
	"maps"
	"math/big"
	"reflect"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"physalia/cell"
	"physalia/internal/wire"
)

// twin is the machine again, as naively as it can be said: a map that is copied for every transaction, and a history that
// forgets nothing. What the machine may forget is computed from the history anew each time.
type twin struct {
	keys    map[string]cell.Entry
	history []past // index i holds revision i+1
}

type past struct {
	request cell.Request
	txn     cell.Txn
	out     Outcome // complete
}

func (w *twin) floor() int { return max(0, len(w.history)-cell.WindowMax) }

// apply is Machine.Apply.
func (w *twin) apply(r cell.Request, t cell.Txn) Outcome {
	for i := w.floor(); i < len(w.history); i++ {
		if p := w.history[i]; p.request.Client == r.Client && p.request.Sequence == r.Sequence {
			out := w.recorded(i)
			out.Request = r
			if reflect.DeepEqual(p.txn, t) && out.Result.Results != nil {
				out.Result.Results = p.out.Result.Results
			}
			return out
		}
	}
	if int(r.Since) < w.floor() {
		return Outcome{Request: r, Result: cell.TxnResult{Revision: cell.Revision(len(w.history))}, Err: &cell.Error{Kind: cell.Expired}}
	}
	out := Outcome{Request: r}
	keys := maps.Clone(w.keys)
	revision := cell.Revision(len(w.history) + 1)
	out.Result, out.Err = naiveTxn(keys, t, revision)
	if len(t.If)+len(t.Then)+len(t.Else) == 0 {
		out.Err = &cell.Error{Kind: cell.Void}
	}
	if out.Err != nil {
		out.Result = cell.TxnResult{Revision: revision}
	} else {
		w.keys = keys
	}
	w.history = append(w.history, past{r, t, out})
	return out
}

// recorded is what the window holds of a transaction.
func (w *twin) recorded(i int) Outcome {
	out := w.history[i].out
	out.Result.Results = nil
	if w.size(i) <= cell.ResultKeptMax && w.kept(i) && w.size(i) > 0 {
		out.Result.Results = w.stripped(i)
	}
	return out
}

// kept tells whether the results of a transaction and of all newer ones, too large ones apart, fit the window together.
func (w *twin) kept(i int) bool {
	sum := 0
	for ; i < len(w.history); i++ {
		if n := w.size(i); n <= cell.ResultKeptMax {
			sum += n
		}
	}
	return sum <= cell.WindowBytesMax
}

// stripped returns the results of a transaction without what its puts wrote.
func (w *twin) stripped(i int) []cell.OpResult {
	p := w.history[i]
	results := slices.Clone(p.out.Result.Results)
	for j, o := range p.txn.Branch(p.out.Result.Succeeded)[:len(results)] {
		if o.Kind == cell.OpPut {
			results[j].Entry.Key, results[j].Entry.Value = "", cell.Value{}
		}
	}
	return results
}

func (w *twin) size(i int) (n int) {
	for _, r := range w.stripped(i) {
		n += naiveSize(r)
	}
	return n
}

func naiveSize(r cell.OpResult) int {
	n := 32 + len(r.Entry.Key)
	if !r.Entry.Value.IsZero() {
		n += r.Entry.Value.Size()
	}
	for _, e := range r.Entries {
		n += 32 + len(e.Key) + e.Value.Size()
	}
	return n
}

func naiveTxn(keys map[string]cell.Entry, t cell.Txn, revision cell.Revision) (cell.TxnResult, *cell.Error) {
	result := cell.TxnResult{Succeeded: true, Failed: -1, Revision: revision}
	ops := t.Then
	for i, c := range t.If {
		if !naiveHolds(keys, c) {
			result.Succeeded, result.Failed, ops = false, i, t.Else
			break
		}
	}
	size, scanned := 0, 0
	for _, o := range ops {
		r, kind := naiveOp(keys, o, revision, &scanned)
		if size += naiveSize(r); kind == 0 && size > cell.ResultBytesMax {
			kind = cell.TooLarge
		}
		if kind != 0 {
			return result, &cell.Error{Kind: kind}
		}
		result.Results = append(result.Results, r)
	}
	total := 0
	for k, e := range keys {
		total += len(k) + e.Value.Size() + cell.KeyOverheadBytes
	}
	if total > cell.CellBytesMax {
		return result, &cell.Error{Kind: cell.TooLarge}
	}
	return result, nil
}

func naiveHolds(keys map[string]cell.Entry, c cell.Condition) bool {
	e, found := keys[c.Key]
	switch c.Target {
	case cell.OnExistence:
		return found == (c.Compare == cell.Equal)
	case cell.OnValue:
		if !found || e.Value.Type() != c.Value.Type() {
			return c.Compare == cell.NotEqual
		}
		order, _ := e.Value.Compare(c.Value)
		return literally(uint64(order+1), 1, c.Compare)
	case cell.OnCreateRevision:
		return literally(uint64(e.CreateRevision), c.Number, c.Compare)
	case cell.OnModRevision:
		return literally(uint64(e.ModRevision), c.Number, c.Compare)
	}
	return literally(e.Version, c.Number, c.Compare)
}

func naiveOp(keys map[string]cell.Entry, o cell.Op, revision cell.Revision, scanned *int) (r cell.OpResult, abort cell.Kind) {
	e, found := keys[o.Key]
	value := o.Value
	switch o.Kind {
	case cell.OpGet:
		return cell.OpResult{Found: found, Entry: e}, 0
	case cell.OpDelete:
		delete(keys, o.Key)
		return cell.OpResult{Found: found, Entry: e}, 0
	case cell.OpScan:
		return naiveScan(keys, o, scanned), 0
	case cell.OpIncrement:
		sum := new(big.Int)
		if found {
			n, isInt := e.Value.AsBigInt()
			if !isInt {
				return r, cell.WrongType
			}
			sum = n
		}
		delta, _ := o.Value.AsBigInt()
		if sum.Add(sum, delta).BitLen() > cell.IntBitsMax {
			return r, cell.TooLarge
		}
		value = cell.BigInt(sum)
	}
	if !found {
		e = cell.Entry{Key: o.Key, CreateRevision: revision}
	}
	e.Value, e.ModRevision = value, revision
	e.Version++
	keys[o.Key] = e
	return cell.OpResult{Found: found, Entry: e}, 0
}

func naiveScan(keys map[string]cell.Entry, o cell.Op, scanned *int) (r cell.OpResult) {
	limit := int(o.Limit)
	if limit == 0 {
		limit = cell.ScanLimitMax
	}
	for _, k := range slices.Sorted(maps.Keys(keys)) {
		if !strings.HasPrefix(k, o.Key) || k <= o.After {
			continue
		}
		n := len(k) + keys[k].Value.Size()
		if len(r.Entries) == limit || *scanned+n > cell.ScanBytesMax {
			r.More = true
			break
		}
		*scanned += n
		r.Entries = append(r.Entries, keys[k])
	}
	return r
}

// The generators draw from few keys, small numbers and a few sizes, so that transactions meet each other's effects.

func drawKey(t *rapid.T) string {
	return rapid.SampledFrom([]string{"a", "b", "b/", "b/1", "b/2", "c", "n", "\x00", "z"}).Draw(t, "key")
}

func drawInt(t *rapid.T) cell.Value {
	return rapid.SampledFrom([]cell.Value{cell.Int(0), cell.Int(1), cell.Int(-3), cell.Int(1 << 62), bigOf(64, 0),
		bigOf(cell.IntBitsMax, -1), negative(bigOf(cell.IntBitsMax, -1))}).Draw(t, "int")
}

func drawValue(t *rapid.T) cell.Value {
	text := strings.Repeat("x", rapid.SampledFrom([]int{0, 1, 64, 300, 3000, 9000, 16000}).Draw(t, "size"))
	return rapid.SampledFrom([]cell.Value{drawInt(t), cell.String(text), cell.Bytes([]byte(text)), cell.Bool(true), cell.Bool(false)}).Draw(t, "value")
}

func drawCondition(t *rapid.T) cell.Condition {
	c := cell.Condition{Key: drawKey(t), Target: cell.Target(rapid.IntRange(1, 5).Draw(t, "target")),
		Compare: cell.Comparison(rapid.IntRange(1, 6).Draw(t, "compare"))}
	switch c.Target {
	case cell.OnExistence:
		c.Compare = min(c.Compare, cell.NotEqual)
	case cell.OnValue:
		c.Value = drawValue(t)
	default:
		c.Number = rapid.Uint64Range(0, 5).Draw(t, "number")
	}
	return c
}

func drawOp(t *rapid.T) cell.Op {
	o := cell.Op{Kind: cell.OpKind(rapid.IntRange(1, 5).Draw(t, "kind"))}
	switch o.Kind {
	case cell.OpScan:
		o.Key = rapid.SampledFrom([]string{"", "b", "b/"}).Draw(t, "prefix")
		o.After = rapid.SampledFrom([]string{"", "a", "b/", "b/1", "zz"}).Draw(t, "after")
		o.Limit = rapid.Uint32Range(0, 4).Draw(t, "limit")
		return o
	case cell.OpPut:
		o.Value = drawValue(t)
	case cell.OpIncrement:
		o.Value = drawInt(t)
	}
	o.Key = drawKey(t)
	return o
}

func drawOps(t *rapid.T, least int) (ops []cell.Op) {
	for range rapid.IntRange(least, 4).Draw(t, "ops") {
		ops = append(ops, drawOp(t))
	}
	return ops
}

// drawTxn makes a transaction that passes the gate, or the empty one.
func drawTxn(t *rapid.T) (txn cell.Txn) {
	if rapid.IntRange(0, 19).Draw(t, "resolve") == 0 {
		return cell.Txn{}
	}
	for range rapid.IntRange(0, 2).Draw(t, "conditions") {
		txn.If = append(txn.If, drawCondition(t))
	}
	txn.Then, txn.Else = drawOps(t, 1), drawOps(t, 0)
	if rapid.IntRange(0, 9).Draw(t, "again") == 0 { // long branches, and results beyond their bound
		o := rapid.SampledFrom([]cell.Op{txn.Then[0], {Kind: cell.OpGet, Key: "pad/1"}}).Draw(t, "again op")
		for range rapid.IntRange(1, 60).Draw(t, "times") {
			txn.Then = append(txn.Then, o)
		}
	}
	if txn.Check() != nil {
		return get(drawKey(t)) // too many bytes at once
	}
	return txn
}

// TestAgainstTwin applies random logs, with retries, resolves, late requests and restarts, to machine and twin.
func TestAgainstTwin(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		m, w := New(), &twin{keys: map[string]cell.Entry{}}
		for range rapid.IntRange(1, 60).Draw(t, "steps") {
			switch rapid.IntRange(0, 29).Draw(t, "step") {
			case 0: // restart
				restored, err := Restore(m.Snapshot(nil))
				if err != nil {
					t.Fatalf("M5: restore: %v", err)
				}
				m = restored
			case 1: // a crowd moves the window
				for i := range rapid.SampledFrom([]int{10, 200, 254, 255, 256, 300}).Draw(t, "crowd") {
					stepBoth(t, m, w, request(200, uint64(len(w.history)+i), m.Revision()), increment("crowd", 1))
				}
			case 2: // the cell fills up
				for i := range rapid.IntRange(8, 18).Draw(t, "fill") {
					value := cell.String(strings.Repeat("p", 15000+i))
					stepBoth(t, m, w, request(201, uint64(len(w.history)), m.Revision()), put(fmt.Sprintf("pad/%d", i), value))
				}
			case 3: // results outgrow the window's bytes
				stepBoth(t, m, w, request(202, uint64(len(w.history)), m.Revision()), put("medium", cell.String(strings.Repeat("m", 7000))))
				for range rapid.IntRange(3, 7).Draw(t, "readers") {
					stepBoth(t, m, w, request(202, uint64(len(w.history)), m.Revision()), get("medium"))
				}
			case 4, 5, 6, 7: // a retry of anything that was ever sent, or a resolve of it
				if len(w.history) > 0 {
					p := w.history[rapid.IntRange(max(0, len(w.history)-300), len(w.history)-1).Draw(t, "retry")]
					txn := p.txn
					if rapid.Bool().Draw(t, "resolve") {
						txn = cell.Txn{}
					}
					stepBoth(t, m, w, p.request, txn)
				}
			default:
				r := request(byte(rapid.IntRange(0, 3).Draw(t, "client")), uint64(1000+len(w.history)), m.Revision())
				if rapid.IntRange(0, 4).Draw(t, "late") == 0 {
					r.Since = cell.Revision(rapid.IntRange(0, len(w.history)).Draw(t, "since"))
				}
				stepBoth(t, m, w, r, drawTxn(t))
			}
		}
		compareStates(t, m, w)
	})
}

// stepBoth applies a command to both and compares the outcomes.
func stepBoth(t *rapid.T, m *Machine, w *twin, r cell.Request, txn cell.Txn) {
	c := wire.Command{Request: r, Txn: txn}
	got, err := m.Apply(c.Append(nil))
	if err != nil {
		t.Fatalf("apply: %v", err)
	}
	want := w.apply(r, txn)
	if cell.KindOf(got.Err) != cell.KindOf(want.Err) || (got.Err == nil) != (want.Err == nil) {
		t.Fatalf("revision %d: got %v, want %v", m.Revision(), got.Err, want.Err)
	}
	got.Err, want.Err = nil, nil
	if !reflect.DeepEqual(got, want) {
		t.Fatalf("revision %d, %v:\ngot  %+v\nwant %+v", m.Revision(), txn, got, want)
	}
}

// compareStates compares what the machine would write as its snapshot with what the twin knows.
func compareStates(t *rapid.T, m *Machine, w *twin) {
	s, err := wire.DecodeCellState(m.Snapshot(nil))
	if err != nil {
		t.Fatal(err)
	}
	if s.Revision != cell.Revision(len(w.history)) || s.Floor != cell.Revision(w.floor()) || len(s.Remembered) != len(w.history)-w.floor() {
		t.Fatalf("revision %d floor %d remembered %d, want %d %d", s.Revision, s.Floor, len(s.Remembered), len(w.history), w.floor())
	}
	if len(s.Entries) != len(w.keys) || m.Keys() != len(w.keys) {
		t.Fatalf("%d keys, want %d", len(s.Entries), len(w.keys))
	}
	total := 0
	for _, e := range s.Entries {
		total += len(e.Key) + e.Value.Size() + cell.KeyOverheadBytes
		if !reflect.DeepEqual(e, w.keys[e.Key]) {
			t.Fatalf("key %q: got %+v, want %+v", e.Key, e, w.keys[e.Key])
		}
	}
	if m.Bytes() != total {
		t.Fatalf("counted %d bytes, there are %d", m.Bytes(), total)
	}
	for i, item := range s.Remembered {
		want := w.recorded(w.floor() + i)
		if want.Err != nil {
			want.Err = &cell.Error{Kind: want.Err.Kind}
		}
		if got := (Outcome{Request: want.Request, Result: item.Result, Err: item.Err}); !reflect.DeepEqual(got, want) ||
			item.Client != want.Request.Client || item.Sequence != want.Request.Sequence {
			t.Fatalf("remembered %+v\nwant       %+v", got, want)
		}
	}
}
