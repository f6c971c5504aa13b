package machine

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
	"testing"

	"physalia/cell"
	"physalia/internal/wire"
)

func TestIntegerBound(t *testing.T) {
	top := bigOf(cell.IntBitsMax, -1) // the largest integer allowed
	for _, c := range []struct {
		start cell.Value
		by    int64
		ok    bool
	}{
		{top, 0, true}, {top, -1, true}, {top, 1, false},
		{negative(top), 1, true}, {negative(top), -1, false}, {bigOf(cell.IntBitsMax, -2), 1, true},
	} {
		h := newHost(t)
		h.must(put("n", c.start))
		out := h.do(increment("n", c.by))
		if c.ok != (out.Err == nil) || !c.ok && out.Err.Kind != cell.TooLarge {
			t.Errorf("%d bits plus %d: %v", cell.IntBitsMax, c.by, out.Err)
		}
	}
}

func TestCellBound(t *testing.T) {
	h := newHost(t)
	value := func(n int) cell.Value { return cell.Bytes(make([]byte, n)) }
	perKey := func(n int) int { return 2 + n + 8 + cell.KeyOverheadBytes }
	for i := 0; h.Bytes()+perKey(16000) <= cell.CellBytesMax; i++ {
		h.must(put(fmt.Sprintf("%02d", i), value(16000)))
	}
	left := cell.CellBytesMax - h.Bytes() - perKey(0)
	expectAbort(t, h.do(put("zz", value(left+1))), cell.TooLarge)
	h.must(put("zz", value(left)))
	if h.Bytes() != cell.CellBytesMax {
		t.Fatalf("%d bytes, want exactly %d", h.Bytes(), cell.CellBytesMax)
	}
	expectAbort(t, h.do(put("a", cell.Bool(true))), cell.TooLarge)
	expectAbort(t, h.do(put("zz", value(left+1))), cell.TooLarge)
	h.must(put("zz", value(left))) // rewriting in place needs no room
	if out := h.do(increment("zz", 1)); cell.KindOf(out.Err) != cell.WrongType {
		t.Errorf("got %v", out.Err)
	}
	// Only the whole transaction counts: it may be over the bound in between.
	h.must(cell.Txn{Then: []cell.Op{{Kind: cell.OpPut, Key: "a", Value: value(0)}, {Kind: cell.OpDelete, Key: "zz"}}})
	h.must(del("00"))
	h.must(put("zz", value(left)))
}

func TestResultBound(t *testing.T) {
	const each = cell.ResultBytesMax / 32
	h := newHost(t)
	h.must(put("k", cell.Bytes(make([]byte, each-cell.ResultOverhead-1-8))))
	h.must(put("l", cell.Bytes(make([]byte, each-cell.ResultOverhead-1-7))))
	for _, c := range []struct {
		key string
		n   int
		ok  bool
	}{{"k", 32, true}, {"k", 33, false}, {"l", 32, false}, {"l", 31, true}} {
		var txn cell.Txn
		for range c.n {
			txn.Then = append(txn.Then, cell.Op{Kind: cell.OpGet, Key: c.key})
		}
		if _, err := h.Read(&txn); (err == nil) != c.ok || !c.ok && err.Kind != cell.TooLarge {
			t.Errorf("%d reads of %s: %v", c.n, c.key, err)
		}
		if out := h.do(txn); (out.Err == nil) != c.ok || !c.ok && out.Err.Kind != cell.TooLarge {
			t.Errorf("%d reads of %s through the log: %v", c.n, c.key, out.Err)
		}
	}
}

// TestExactBounds checks the bounds of scans and of the window at the byte.
func TestExactBounds(t *testing.T) {
	h := newHost(t)
	const eighth = cell.ScanBytesMax / 8
	for i := range 8 {
		h.must(put(fmt.Sprintf("%02d", i), cell.Bytes(make([]byte, eighth-2-8))))
	}
	if r := h.must(scan("", "", 0))[0]; len(r.Entries) != 8 || r.More {
		t.Errorf("%d entries, more %t: exactly the bound fits", len(r.Entries), r.More)
	}
	h.must(put("00", cell.Bytes(make([]byte, eighth-2-7))))
	if r := h.must(scan("", "", 0))[0]; len(r.Entries) != 7 || !r.More {
		t.Errorf("%d entries, more %t: one byte beyond the bound", len(r.Entries), r.More)
	}

	h = newHost(t)
	const most = cell.ResultKeptMax - cell.ResultOverhead - 1 - 8
	h.must(put("k", cell.Bytes(make([]byte, most))))
	h.must(put("l", cell.Bytes(make([]byte, most+1))))
	h.others(cell.WindowMax)
	kept := func(sequence uint64) bool {
		out, known := h.Recall(request(1, sequence, h.Revision()))
		return known && len(out.Result.Results) > 0
	}
	h.send(request(1, 1, h.Revision()), get("k"))
	h.send(request(1, 2, h.Revision()), get("l"))
	if !kept(1) || kept(2) {
		t.Errorf("exactly the bound is kept: %t, a byte more: %t", kept(1), kept(2))
	}
	for i := range uint64(cell.WindowBytesMax/cell.ResultKeptMax - 1) {
		h.send(request(1, 3+i, h.Revision()), get("k"))
	}
	if !kept(1) {
		t.Error("exactly the bound of the window is kept")
	}
	h.send(request(1, 9, h.Revision()), get("nothing"))
	if kept(1) || !kept(3) || !kept(9) {
		t.Error("the oldest results give way beyond the bound of the window")
	}
}

// TestEverythingAtOnceFits checks that a transaction that touches every key of a full cell once is never refused for the
// size of its results.
func TestEverythingAtOnceFits(t *testing.T) {
	h := newHost(t)
	for i := range 16 {
		h.must(put(fmt.Sprintf("%02d", i), cell.Bytes(make([]byte, 16000))))
	}
	var txn cell.Txn
	for i := range 16 {
		txn.Then = append(txn.Then, cell.Op{Kind: cell.OpDelete, Key: fmt.Sprintf("%02d", i)})
	}
	txn.Then = append([]cell.Op{{Kind: cell.OpScan}}, txn.Then...)
	if r := h.must(txn); len(r) != 17 || h.Keys() != 0 || h.Bytes() != 0 {
		t.Errorf("%d results, %d keys and %d bytes left", len(r), h.Keys(), h.Bytes())
	}
}

func TestReadRefuses(t *testing.T) {
	h := newHost(t)
	h.must(put("k", cell.Int(1)))
	before := h.Snapshot(nil)
	unknown := cell.Txn{Then: []cell.Op{{Kind: 9, Key: "k"}}}
	for name, txn := range map[string]cell.Txn{
		"a put": put("k", cell.Int(2)), "a delete in the other branch": {Then: get("k").Then, Else: del("k").Then},
		"an unknown operation": unknown, "nothing": {}, "an empty key": get(""),
		"an unknown target": {If: []cell.Condition{{Key: "k", Target: 77, Compare: cell.Equal}}},
	} {
		if r, err := h.Read(&txn); cell.KindOf(err) != cell.Invalid || r.Results != nil {
			t.Errorf("%s: %+v, %v", name, r, err)
		}
	}
	txn := get("k")
	if r, err := h.Read(&txn); err != nil || r.Revision != 1 || !r.Succeeded || r.Failed != -1 {
		t.Errorf("got %+v, %v", r, err)
	}
	if !bytes.Equal(before, h.Snapshot(nil)) {
		t.Error("reading changed the state")
	}
}

// TestRefusedCommandsChangeNothing is rule 9: what is not fully understood is never skipped, and leaves no trace.
func TestRefusedCommandsChangeNothing(t *testing.T) {
	h := newHost(t)
	h.must(put("k", cell.Int(1)))
	encode := func(t cell.Txn) []byte {
		c := wire.Command{Request: request(1, 1, 1), Txn: t}
		return c.Append(nil)
	}
	good := encode(put("k", cell.Int(2)))
	edit := func(i int, b byte) []byte {
		c := bytes.Clone(good)
		c[i] = b
		return c
	}
	tooMany := cell.Txn{}
	for range cell.TxnOpsMax + 1 {
		tooMany.Then = append(tooMany.Then, cell.Op{Kind: cell.OpGet, Key: "k"})
	}
	commands := map[string][]byte{
		"nothing": nil, "an unknown format": edit(0, 'D'), "a newer version": edit(1, 2), "a cut command": good[:len(good)-1],
		"left over bytes":       append(bytes.Clone(good), 0),
		"an unknown operation":  encode(cell.Txn{Then: []cell.Op{{Kind: 6, Key: "k"}}}),
		"operation zero":        encode(cell.Txn{Then: []cell.Op{{Key: "k"}}}),
		"an unknown target":     encode(cell.Txn{If: []cell.Condition{{Key: "k", Target: cell.OnHeld + 1, Compare: cell.Equal}}}),
		"an unknown comparison": encode(cell.Txn{If: []cell.Condition{{Key: "k", Target: cell.OnVersion, Compare: 7}}}),
		"existence with order":  encode(cell.Txn{If: []cell.Condition{{Key: "k", Target: cell.OnExistence, Compare: cell.Less}}}),
		"a key out of bounds":   encode(get(strings.Repeat("k", cell.KeyBytesMax+1))),
		"a value out of bounds": encode(put("k", cell.Bytes(make([]byte, cell.ValueBytesMax)))),
		"too many operations":   encode(tooMany), "a put of nothing": encode(put("k", cell.Value{})),
	}
	for name, c := range map[string]wire.Command{
		"an unknown kind":         {Kind: wire.CommandExpire + 1, Lease: cell.LeaseOp{ID: 1}},
		"a grant without time":    {Kind: wire.CommandGrant},
		"a grant for too long":    {Kind: wire.CommandGrant, Lease: cell.LeaseOp{TTL: cell.LeaseTTLMax + 1}},
		"a grant of a name":       {Kind: wire.CommandGrant, Lease: cell.LeaseOp{ID: 7, TTL: cell.LeaseTTLMin}},
		"a long label":            {Kind: wire.CommandGrant, Lease: cell.LeaseOp{TTL: cell.LeaseTTLMin, Label: strings.Repeat("l", cell.LeaseLabelBytesMax+1)}},
		"a keep-alive of nothing": {Kind: wire.CommandKeepAlive},
		"a revoke that counts":    {Kind: wire.CommandRevoke, Lease: cell.LeaseOp{ID: 1, Renewals: 1}},
		"a client's expiry":       {Kind: wire.CommandExpire, Request: request(1, 1, 0), Lease: cell.LeaseOp{ID: 1}},
		"another lease's expiry":  {Kind: wire.CommandExpire, Request: cell.Request{Client: cell.LogClient, Sequence: 2}, Lease: cell.LeaseOp{ID: 1}},
		"the log's transaction":   {Request: cell.Request{Client: cell.LogClient}, Txn: put("k", cell.Int(2))},
		"a transaction's lease":   {Txn: put("k", cell.Int(2)), Lease: cell.LeaseOp{ID: 1}},
		"a keep-alive that puts":  {Kind: wire.CommandKeepAlive, Txn: put("k", cell.Int(2)), Lease: cell.LeaseOp{ID: 1}},
	} {
		commands[name] = c.Append(nil)
	}
	before := h.Snapshot(nil)
	for name, c := range commands {
		out, err := h.Apply(c)
		if cell.KindOf(err) != cell.Quarantined || out.Err != nil {
			t.Errorf("%s: %+v, %v", name, out, err)
		}
		var e *cell.Error
		if errors.As(err, &e) && e.Hint == "" {
			t.Errorf("%s: the error does not say what to do: %v", name, err)
		}
	}
	if !bytes.Equal(before, h.Snapshot(nil)) {
		t.Error("a refused command changed the state")
	}
	if out, err := h.Apply(good); err != nil || out.Err != nil {
		t.Errorf("the command that was varied is not good itself: %v", err)
	}
}

// TestWindowMemoryIsBounded: large results that give way leave no more memory behind than the window may have.
func TestWindowMemoryIsBounded(t *testing.T) {
	h := newHost(t)
	h.must(put("large", cell.String(strings.Repeat("x", 7<<10))))
	for range 10 * cell.WindowMax {
		h.must(cell.Txn{Then: []cell.Op{{Kind: cell.OpGet, Key: "large"}, {Kind: cell.OpIncrement, Key: "n", Value: cell.Int(1)}}})
		if w := &h.window; len(w.log) > 2*w.live+gapMax+cell.ResultKeptMax || w.live > cell.WindowBytesMax+100*cell.WindowMax {
			t.Fatalf("%d bytes of log for %d outcomes of %d bytes", len(w.log), w.len(), w.live)
		}
	}
}
