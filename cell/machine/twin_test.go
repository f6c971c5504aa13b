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
	leases  map[cell.LeaseID]cell.Lease
	history []past // index i holds revision i+1
}

type past struct {
	command wire.Command
	out     Outcome // complete
}

func newTwin() *twin {
	return &twin{keys: map[string]cell.Entry{}, leases: map[cell.LeaseID]cell.Lease{}}
}

func (w *twin) floor() int { return max(0, len(w.history)-cell.WindowMax) }

// apply is Machine.Apply.
func (w *twin) apply(c wire.Command) Outcome {
	r, t := c.Request, c.Txn
	if c.Kind == wire.CommandKeepAlive || c.Kind == wire.CommandExpire {
		return w.time(c)
	}
	for i := w.floor(); i < len(w.history); i++ {
		if p := w.history[i]; p.command.Request.Client == r.Client && p.command.Request.Sequence == r.Sequence {
			out := w.recorded(i)
			out.Request = r
			if reflect.DeepEqual(p.command.Txn, t) && out.Result.Results != nil {
				out.Result.Results = p.out.Result.Results
			}
			return naiveConcern(out, c)
		}
	}
	if int(r.Since) < w.floor() {
		return naiveConcern(Outcome{Request: r, Result: cell.TxnResult{Revision: cell.Revision(len(w.history))}, Err: &cell.Error{Kind: cell.Expired}}, c)
	}
	out := Outcome{Request: r}
	next := &twin{keys: maps.Clone(w.keys), leases: maps.Clone(w.leases)}
	revision := cell.Revision(len(w.history) + 1)
	out.Result = cell.TxnResult{Succeeded: true, Failed: -1, Revision: revision}
	switch c.Kind {
	case wire.CommandGrant:
		next.leases[cell.LeaseID(revision)] = cell.Lease{ID: cell.LeaseID(revision), TTL: c.Lease.TTL, Label: c.Lease.Label}
	case wire.CommandRevoke:
		if !next.end(c.Lease.ID) {
			out.Err = &cell.Error{Kind: cell.NoLease}
		}
	default:
		out.Result, out.Err = next.txn(t, revision)
		if len(t.If)+len(t.Then)+len(t.Else) == 0 {
			out.Err = &cell.Error{Kind: cell.Void}
		}
	}
	if out.Err == nil && c.Kind != wire.CommandRevoke && (next.bytes() > cell.CellBytesMax || len(next.leases) > cell.LeasesMax) {
		out.Err = &cell.Error{Kind: cell.TooLarge}
	}
	if out.Err != nil {
		out.Result = cell.TxnResult{Revision: revision}
	} else {
		w.keys, w.leases = next.keys, next.leases
	}
	out = naiveConcern(out, c)
	w.history = append(w.history, past{c, out})
	return out
}

// time applies what has no place in the history unless it ends a lease.
func (w *twin) time(c wire.Command) Outcome {
	out := Outcome{Request: c.Request, Kind: c.Kind, Lease: c.Lease.ID, Result: cell.TxnResult{Revision: cell.Revision(len(w.history))}}
	l, held := w.leases[c.Lease.ID]
	switch {
	case !held:
		out.Err = &cell.Error{Kind: cell.NoLease}
	case c.Kind == wire.CommandKeepAlive:
		l.Renewals++
		w.leases[l.ID], out.Renewals = l, l.Renewals
	case l.Renewals != c.Lease.Renewals:
		out.Renewals, out.Err = l.Renewals, &cell.Error{Kind: cell.Stale}
	default:
		w.end(l.ID)
		out.Result = cell.TxnResult{Succeeded: true, Failed: -1, Revision: cell.Revision(len(w.history) + 1)}
		w.history = append(w.history, past{c, out})
	}
	return out
}

// end ends a lease, if it is held.
func (w *twin) end(id cell.LeaseID) bool {
	_, held := w.leases[id]
	delete(w.leases, id)
	maps.DeleteFunc(w.keys, func(_ string, e cell.Entry) bool { return held && e.Lease == id })
	return held
}

func (w *twin) bytes() (total int) {
	for k, e := range w.keys {
		total += len(k) + e.Value.Size() + cell.KeyOverheadBytes
	}
	for _, l := range w.leases {
		total += len(l.Label) + cell.LeaseOverheadBytes
	}
	return total
}

// naiveConcern adds to an outcome what its command was about.
func naiveConcern(out Outcome, c wire.Command) Outcome {
	out.Kind, out.Lease = c.Kind, c.Lease.ID
	if c.Kind == wire.CommandGrant && out.Err == nil {
		out.Lease = cell.LeaseID(out.Result.Revision)
	}
	return out
}

// recorded is what the window holds of a transaction.
func (w *twin) recorded(i int) Outcome {
	out := w.history[i].out
	out.Kind, out.Lease = 0, 0
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
	for j, o := range p.command.Txn.Branch(p.out.Result.Succeeded)[:len(results)] {
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

func (w *twin) txn(t cell.Txn, revision cell.Revision) (cell.TxnResult, *cell.Error) {
	result := cell.TxnResult{Succeeded: true, Failed: -1, Revision: revision}
	ops := t.Then
	for i, c := range t.If {
		if !w.holds(c) {
			result.Succeeded, result.Failed, ops = false, i, t.Else
			break
		}
	}
	size, scanned := 0, 0
	for _, o := range ops {
		r, kind := w.op(o, revision, &scanned)
		if size += naiveSize(r); kind == 0 && size > cell.ResultBytesMax {
			kind = cell.TooLarge
		}
		if kind != 0 {
			return result, &cell.Error{Kind: kind}
		}
		result.Results = append(result.Results, r)
	}
	return result, nil
}

func (w *twin) holds(c cell.Condition) bool {
	e, found := w.keys[c.Key]
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
	case cell.OnLease:
		return literally(uint64(e.Lease), c.Number, c.Compare)
	case cell.OnHeld:
		_, held := w.leases[cell.LeaseID(c.Number)]
		return held == (c.Compare == cell.Equal)
	}
	return literally(e.Version, c.Number, c.Compare)
}

func (w *twin) op(o cell.Op, revision cell.Revision, scanned *int) (r cell.OpResult, abort cell.Kind) {
	keys := w.keys
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
	if o.Kind == cell.OpPut {
		if _, held := w.leases[o.Lease]; o.Lease != 0 && !held {
			return r, cell.NoLease
		}
		e.Lease = o.Lease
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
	c := cell.Condition{Key: drawKey(t), Target: cell.Target(rapid.IntRange(1, 7).Draw(t, "target")),
		Compare: cell.Comparison(rapid.IntRange(1, 6).Draw(t, "compare"))}
	switch c.Target {
	case cell.OnExistence:
		c.Compare = min(c.Compare, cell.NotEqual)
	case cell.OnValue:
		c.Value = drawValue(t)
	case cell.OnLease:
		c.Number = rapid.SampledFrom([]uint64{0, uint64(drawLease(t))}).Draw(t, "lease or none")
	case cell.OnHeld:
		c.Key, c.Compare, c.Number = "", min(c.Compare, cell.NotEqual), uint64(drawLease(t))
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
		if rapid.Bool().Draw(t, "attach") {
			o.Lease = drawLease(t)
		}
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
		m, w := New(), newTwin()
		for range rapid.IntRange(1, 60).Draw(t, "steps") {
			switch rapid.IntRange(0, 34).Draw(t, "step") {
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
					c := p.command
					if c.Kind != wire.CommandExpire && rapid.Bool().Draw(t, "resolve") {
						c = wire.Command{Request: c.Request}
					}
					stepCommand(t, m, w, c)
				}
			case 8, 9, 10, 11, 12:
				stepCommand(t, m, w, drawLeaseCommand(t, m, request(byte(rapid.IntRange(0, 3).Draw(t, "holder")), uint64(1000+len(w.history)), m.Revision())))
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

// stepBoth applies a transaction to both and compares the outcomes.
func stepBoth(t *rapid.T, m *Machine, w *twin, r cell.Request, txn cell.Txn) {
	stepCommand(t, m, w, wire.Command{Request: r, Txn: txn})
}

// stepCommand applies a command to both and compares the outcomes, and the hash kept with the hash recomputed (M6).
func stepCommand(t *rapid.T, m *Machine, w *twin, c wire.Command) {
	got, err := m.Apply(c.Append(nil))
	if err != nil {
		t.Fatalf("apply: %v", err)
	}
	if m.Hash() != m.Recompute() {
		t.Fatalf("M6: after %+v the hash is %x, the state hashes to %x", c, m.Hash(), m.Recompute())
	}
	want := w.apply(c)
	if cell.KindOf(got.Err) != cell.KindOf(want.Err) || (got.Err == nil) != (want.Err == nil) {
		t.Fatalf("revision %d: %+v: got %v, want %v", m.Revision(), c, got.Err, want.Err)
	}
	got.Err, want.Err = nil, nil
	if !reflect.DeepEqual(*got, want) {
		t.Fatalf("revision %d, %+v:\ngot  %+v\nwant %+v", m.Revision(), c, got, want)
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
	for _, e := range s.Entries {
		if !reflect.DeepEqual(e, w.keys[e.Key]) {
			t.Fatalf("key %q: got %+v, want %+v", e.Key, e, w.keys[e.Key])
		}
	}
	if m.Bytes() != w.bytes() {
		t.Fatalf("counted %d bytes, there are %d", m.Bytes(), w.bytes())
	}
	if len(s.Leases) != len(w.leases) {
		t.Fatalf("%d leases, want %d", len(s.Leases), len(w.leases))
	}
	for _, l := range m.Leases() {
		keys := 0
		for _, e := range w.keys {
			if e.Lease == l.ID {
				keys++
			}
		}
		if l.Lease != w.leases[l.ID] || l.Keys != uint64(keys) {
			t.Fatalf("lease %+v, want %+v with %d keys", l, w.leases[l.ID], keys)
		}
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
