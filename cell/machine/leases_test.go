package machine

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"physalia/cell"
	"physalia/internal/wire"
)

// drawLease draws the name of a lease: often one that random logs granted early, sometimes one that never was.
func drawLease(t *rapid.T) cell.LeaseID {
	return cell.LeaseID(rapid.Uint64Range(1, 9).Draw(t, "lease"))
}

// drawLeaseCommand draws a command about leases that passes the gate.
func drawLeaseCommand(t *rapid.T, m *Machine, r cell.Request) wire.Command {
	c := wire.Command{Kind: wire.CommandKind(rapid.IntRange(1, 4).Draw(t, "lease command")), Request: r}
	if c.Kind == wire.CommandGrant {
		c.Lease.TTL = rapid.SampledFrom([]time.Duration{cell.LeaseTTLMin, time.Second, cell.LeaseTTLMax}).Draw(t, "ttl")
		c.Lease.Label = rapid.SampledFrom([]string{"", "host-1", strings.Repeat("l", cell.LeaseLabelBytesMax)}).Draw(t, "label")
		return c
	}
	c.Lease.ID = drawLease(t)
	if held := m.Held(); len(held) > 0 && rapid.IntRange(0, 3).Draw(t, "held") > 0 {
		c.Lease.ID = rapid.SampledFrom(held).Draw(t, "which").ID
	}
	if c.Kind == wire.CommandExpire {
		c.Request = cell.Request{Client: cell.LogClient, Sequence: uint64(c.Lease.ID)}
		l, _ := m.Lease(c.Lease.ID)
		c.Lease.Renewals = rapid.SampledFrom([]uint64{0, 1, l.Renewals, l.Renewals + 1}).Draw(t, "seen")
	}
	return c
}

// log applies a command about leases.
func (h *host) log(c wire.Command) Outcome {
	h.Helper()
	out, err := h.Apply(c.Append(nil))
	if err != nil {
		h.Fatalf("apply %+v: %v", c, err)
	}
	if out.Kind != c.Kind || out.Request != c.Request {
		h.Fatalf("applied %+v, outcome %+v", c, out)
	}
	if restored, err := Restore(h.Snapshot(nil)); err != nil || restored.Hash() != h.Hash() {
		h.Fatalf("M5: after %+v: %v", c, err)
	}
	return *out
}

func (h *host) next() cell.Request {
	h.sequence++
	return request(98, h.sequence, h.Revision())
}

func (h *host) grant() cell.LeaseID {
	h.Helper()
	out := h.log(wire.Command{Kind: wire.CommandGrant, Request: h.next(), Lease: cell.LeaseOp{TTL: time.Second, Label: "host"}})
	if out.Err != nil || out.Lease != cell.LeaseID(h.Revision()) {
		h.Fatalf("grant: %+v", out)
	}
	return out.Lease
}

func (h *host) keepAlive(id cell.LeaseID) Outcome {
	h.Helper()
	before := h.Revision()
	out := h.log(wire.Command{Kind: wire.CommandKeepAlive, Request: h.next(), Lease: cell.LeaseOp{ID: id}})
	if h.Revision() != before {
		h.Fatal("M3: a keep-alive has no revision")
	}
	return out
}

func (h *host) revoke(id cell.LeaseID) Outcome {
	h.Helper()
	return h.log(wire.Command{Kind: wire.CommandRevoke, Request: h.next(), Lease: cell.LeaseOp{ID: id}})
}

func (h *host) expire(id cell.LeaseID, seen uint64) Outcome {
	h.Helper()
	return h.log(wire.Command{Kind: wire.CommandExpire, Request: cell.Request{Client: cell.LogClient, Sequence: uint64(id)},
		Lease: cell.LeaseOp{ID: id, Renewals: seen}})
}

func attach(key string, id cell.LeaseID) cell.Txn {
	return cell.Txn{Then: []cell.Op{{Kind: cell.OpPut, Key: key, Value: cell.Int(1), Lease: id}}}
}

// TestLeaseTakesItsKeysAlong: with a lease go the keys that are still attached to it, at one revision, and no others.
func TestLeaseTakesItsKeysAlong(t *testing.T) {
	for name, end := range map[string]func(h *host, id cell.LeaseID) Outcome{
		"revoke": (*host).revoke, "expire": func(h *host, id cell.LeaseID) Outcome { return h.expire(id, 0) },
	} {
		h := newHost(t)
		a, b := h.grant(), h.grant()
		for key, id := range map[string]cell.LeaseID{"of a": a, "also of a": a, "of b": b, "detached": a, "moved": a, "counter": a} {
			h.must(attach(key, id))
		}
		h.must(put("detached", cell.Int(2)))
		h.must(attach("moved", b))
		h.must(increment("counter", 1))
		before := h.Revision()
		if out := end(h, a); out.Err != nil || h.Revision() != before+1 || out.Result.Revision != before+1 {
			t.Fatalf("%s: %+v at revision %d", name, out, h.Revision())
		}
		for key, want := range map[string]bool{"of a": false, "also of a": false, "counter": false, "of b": true, "detached": true, "moved": true} {
			if _, found := h.look(key); found != want {
				t.Errorf("%s: key %q exists: %t", name, key, found)
			}
		}
		if got := fmt.Sprint(h.Leases()); got != fmt.Sprintf("[{{%d 1s host 0} 2}]", b) {
			t.Errorf("%s: leases %s", name, got)
		}
	}
}

// TestExpireAfterARenewalInTheSamePipelineDoesNothing is hazard H18, second form: the proposer counted to the end and
// logged an expiry while a renewal was ahead of it in the log.
func TestExpireAfterARenewalInTheSamePipelineDoesNothing(t *testing.T) {
	h := newHost(t)
	id := h.grant()
	h.must(attach("lock", id))
	if out := h.keepAlive(id); out.Err != nil || out.Renewals != 1 {
		t.Fatalf("keep-alive: %+v", out)
	}
	before, revision := h.Hash(), h.Revision()
	if out := h.expire(id, 0); cell.KindOf(out.Err) != cell.Stale || out.Renewals != 1 {
		t.Fatalf("expiry that has seen no renewal: %+v", out)
	}
	if h.Hash() != before || h.Revision() != revision {
		t.Fatal("an expiry without effect changed the state")
	}
	if _, found := h.look("lock"); !found {
		t.Fatal("the lock of a renewed lease is gone")
	}
	if out := h.expire(id, 1); out.Err != nil {
		t.Fatalf("expiry that has seen the renewal: %+v", out)
	}
}

// TestRenewRacingRevoke is R12: whichever of the two the log holds first wins, and a renewal behind a revoke fails.
func TestRenewRacingRevoke(t *testing.T) {
	h := newHost(t)
	id := h.grant()
	if out := h.keepAlive(id); out.Err != nil {
		t.Fatal(out.Err)
	}
	if out := h.revoke(id); out.Err != nil {
		t.Fatal(out.Err)
	}
	for what, out := range map[string]Outcome{"keep-alive": h.keepAlive(id), "revoke": h.revoke(id), "expiry": h.expire(id, 1),
		"put": h.do(attach("lock", id))} {
		if cell.KindOf(out.Err) != cell.NoLease {
			t.Errorf("%s behind a revoke: %+v", what, out)
		}
	}
	if next := h.grant(); next <= id {
		t.Errorf("lease %d after lease %d: tokens must increase", next, id)
	}
}

// TestGrantIsExactlyOnce: a grant that is repeated is the same lease, even when that is gone by then, and its fate can be
// resolved like that of a transaction.
func TestGrantIsExactlyOnce(t *testing.T) {
	h := newHost(t)
	c := wire.Command{Kind: wire.CommandGrant, Request: h.next(), Lease: cell.LeaseOp{TTL: time.Second}}
	first := h.log(c)
	if again := h.log(c); again.Err != nil || again.Lease != first.Lease || len(h.Held()) != 1 {
		t.Fatalf("granted %+v, then %+v", first, again)
	}
	h.revoke(first.Lease)
	if again := h.log(c); again.Err != nil || again.Lease != first.Lease || len(h.Held()) != 0 {
		t.Fatalf("after the revoke: %+v", again)
	}
	if out := h.send(c.Request, cell.Txn{}); out.Err != nil || cell.LeaseID(out.Result.Revision) != first.Lease {
		t.Fatalf("resolved: %+v", out)
	}
	c.Request = h.next()
	h.send(c.Request, cell.Txn{})
	if out := h.log(c); cell.KindOf(out.Err) != cell.Void || len(h.Held()) != 0 {
		t.Fatalf("a grant that was resolved before it arrived: %+v", out)
	}
}

// TestLeaseBounds: leases are counted, in number and in bytes.
func TestLeaseBounds(t *testing.T) {
	h := newHost(t)
	for range cell.LeasesMax {
		h.grant()
	}
	grant := wire.Command{Kind: wire.CommandGrant, Request: h.next(), Lease: cell.LeaseOp{TTL: time.Second, Label: "host"}}
	if out := h.log(grant); cell.KindOf(out.Err) != cell.TooLarge || out.Lease != 0 {
		t.Fatalf("one lease too many: %+v", out)
	}
	if want := cell.LeasesMax * (cell.LeaseOverheadBytes + len("host")); h.Bytes() != want {
		t.Fatalf("leases count %d bytes, want %d", h.Bytes(), want)
	}
	for _, l := range h.Leases() {
		h.revoke(l.ID)
	}
	for i := 0; h.Bytes()+16000 < cell.CellBytesMax; i++ {
		h.must(put(fmt.Sprint(i), cell.String(strings.Repeat("p", 15900))))
	}
	rest := cell.CellBytesMax - h.Bytes() - len("rest") - 8 - cell.KeyOverheadBytes - cell.LeaseOverheadBytes - len("host")
	h.must(put("rest", cell.String(strings.Repeat("p", rest+1))))
	grant.Request = h.next()
	if out := h.log(grant); cell.KindOf(out.Err) != cell.TooLarge || len(h.Held()) != 0 {
		t.Fatalf("a lease beyond the bytes of the cell: %+v", out)
	}
	h.must(put("rest", cell.String(strings.Repeat("p", rest))))
	h.grant()
}

// TestConditionsOnLeases: who holds a key, and whether a lease is held.
func TestConditionsOnLeases(t *testing.T) {
	h := newHost(t)
	a, b := h.grant(), h.grant()
	h.must(attach("k", a))
	h.must(put("free", cell.Int(1)))
	h.revoke(b)
	for _, c := range []struct {
		is   cell.Condition
		want bool
	}{
		{cell.Condition{Key: "k", Target: cell.OnLease, Compare: cell.Equal, Number: uint64(a)}, true},
		{cell.Condition{Key: "k", Target: cell.OnLease, Compare: cell.NotEqual, Number: uint64(a)}, false},
		{cell.Condition{Key: "free", Target: cell.OnLease, Compare: cell.Equal}, true},
		{cell.Condition{Key: "none", Target: cell.OnLease, Compare: cell.Equal}, true},
		{cell.Condition{Target: cell.OnHeld, Compare: cell.Equal, Number: uint64(a)}, true},
		{cell.Condition{Target: cell.OnHeld, Compare: cell.Equal, Number: uint64(b)}, false},
		{cell.Condition{Target: cell.OnHeld, Compare: cell.NotEqual, Number: uint64(b)}, true},
	} {
		r, err := h.Read(&cell.Txn{If: []cell.Condition{c.is}})
		if err != nil || r.Succeeded != c.want {
			t.Errorf("%+v: %t, %v", c.is, r.Succeeded, err)
		}
	}
}

// damage changes a remembered outcome where it stands, to one as long.
func damage(m *Machine, i int, change func(*wire.Remembered)) {
	item := m.window.decode(m.window.first + i)
	change(&item)
	copy(m.window.at(m.window.first+i), item.Append(nil))
}

// TestDamageInMemoryIsNotWritten (M6): what no command did shows in Recompute, and Snapshot does not write it.
func TestDamageInMemoryIsNotWritten(t *testing.T) {
	for name, harm := range map[string]func(m *Machine){
		"value":    func(m *Machine) { m.store.entries[1].Value = cell.Int(7) },
		"version":  func(m *Machine) { m.store.entries[1].Version++ },
		"attached": func(m *Machine) { m.store.entries[1].Lease = 0 },
		"swapped": func(m *Machine) {
			m.store.entries[0].Value, m.store.entries[1].Value = m.store.entries[1].Value, m.store.entries[0].Value
		},
		"lost key": func(m *Machine) { m.store.entries = m.store.entries[1:] },
		"renewals": func(m *Machine) { m.store.leases[0].Renewals ^= 1 << 40 },
		"label":    func(m *Machine) { m.store.leases[0].Label = "tsoh" },
		"sequence": func(m *Machine) { damage(m, 0, func(o *wire.Remembered) { o.Sequence++ }) },
		"outcome":  func(m *Machine) { damage(m, 1, func(o *wire.Remembered) { o.Result.Succeeded = false }) },
		"found":    func(m *Machine) { damage(m, 2, func(o *wire.Remembered) { o.Result.Results[0].Found = true }) },
		"revision": func(m *Machine) {
			damage(m, 2, func(o *wire.Remembered) { o.Result.Results[0].Entry.CreateRevision++ })
		},
		"unreadable":   func(m *Machine) { m.window.at(1)[0] ^= 0x80 },
		"lost outcome": func(m *Machine) { m.window.first++ },
	} {
		h := newHost(t)
		id := h.grant()
		h.must(put("a", cell.Int(2)))
		h.must(attach("b", id))
		if h.Hash() != h.Recompute() {
			t.Fatal("M6 does not hold before the damage")
		}
		harm(h.Machine)
		if h.Hash() == h.Recompute() {
			t.Errorf("%s: the damage does not show", name)
		}
		func() {
			defer func() {
				if recover() == nil {
					t.Errorf("%s: the damaged state was written", name)
				}
			}()
			h.Snapshot(nil)
		}()
	}
}
