package node

import (
	"context"
	"errors"
	"testing"
	"time"

	"physalia/cell"
	"physalia/client"
)

// holder makes a client of the colony, patient enough for an election.
func (c *testColony) holder() *client.Cell {
	c.t.Helper()
	cfg := client.Config{Colony: "test", CallTimeout: patience}
	for _, s := range c.servers {
		cfg.Servers = append(cfg.Servers, s.ClientAddr())
	}
	user, err := client.New(context.Background(), cfg)
	if err != nil {
		c.t.Fatal(err)
	}
	c.t.Cleanup(user.Close)
	return user.Cell("vol-1")
}

// lock tries to take the lock under a lease of its own, and reports whether it did.
func lock(t *testing.T, h *client.Cell, l *client.Lease) bool {
	t.Helper()
	result, err := h.If(client.Absent("lock"), client.LeaseHeld(l.ID())).
		Then(client.PutLeased("lock", cell.String(l.Token().String()), l.ID())).Commit(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return result.Succeeded
}

// mustGrant is a lease that is held.
func mustGrant(t *testing.T, h *client.Cell, ttl time.Duration, label string) *client.Lease {
	t.Helper()
	l, err := h.Grant(t.Context(), ttl, label)
	if err != nil {
		t.Fatal(err)
	}
	return l
}

// TestLockPassesOnWhenItsHolderStops: over real sockets, one holder keeps a lock for longer than its lease's time; it stops
// keeping alive; the cell expires the lease and the lock with it; the next holder gets it, with a greater token.
func TestLockPassesOnWhenItsHolderStops(t *testing.T) {
	c := newTestColony(t, 7)
	c.create("vol-1")
	first, second := c.holder(), c.holder()
	const ttl = 300 * time.Millisecond
	a := mustGrant(t, first, ttl, "first")
	if !lock(t, first, a) {
		t.Fatal("a free lock was not taken")
	}
	began := time.Now()
	eventually(t, "the lease is held beyond the time that the cell would wait for it", func() bool {
		list, _, err := second.Leases(t.Context())
		return err == nil && len(list) == 1 && list[0].ID == a.ID() && list[0].Keys == 1 && time.Since(began) > 2*cell.LeaseRateBound*ttl
	})
	if !a.Held() || a.Err() != nil {
		t.Fatalf("a lease that is renewed is held: %t, %v", a.Held(), a.Err())
	}
	a.Close() // as if its process had died: nothing is revoked
	b := mustGrant(t, second, 10*time.Second, "second")
	if lock(t, second, b) {
		t.Fatal("the lock was taken from a lease that the cell still holds")
	}
	eventually(t, "the second holder takes the lock", func() bool { return lock(t, second, b) })
	if !a.Token().Less(b.Token()) {
		t.Fatalf("token %v after %v", b.Token(), a.Token())
	}
	if err := b.Revoke(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, err := first.Get(t.Context(), "lock"); !errors.Is(err, cell.NotFound) {
		t.Fatalf("after the revoke: %v", err)
	}
}

// TestLeaseOutlivesItsProposer: the proposer's server stops. A holder that goes on keeping alive goes on holding; when it
// stops, the successor expires the lease.
func TestLeaseOutlivesItsProposer(t *testing.T) {
	c := newTestColony(t, 7)
	c.create("vol-1")
	h := c.holder()
	kept, left := mustGrant(t, h, 15*time.Second, "kept"), mustGrant(t, h, 400*time.Millisecond, "left")
	if !lock(t, h, left) {
		t.Fatal("a free lock was not taken")
	}
	left.Close()
	c.stop(0)
	c.servers[0] = nil
	eventually(t, "the successor expires the lease that was left", func() bool {
		_, err := h.Get(t.Context(), "lock")
		return errors.Is(err, cell.NotFound)
	})
	list, _, err := h.Leases(t.Context())
	if err != nil || len(list) != 1 || list[0].ID != kept.ID() || !kept.Held() {
		t.Fatalf("leases %v, %v; held: %t", list, err, kept.Held())
	}
	next := mustGrant(t, h, time.Second, "next")
	if !kept.Token().Less(next.Token()) || !left.Token().Less(next.Token()) {
		t.Fatalf("token %v after %v and %v", next.Token(), kept.Token(), left.Token())
	}
}
