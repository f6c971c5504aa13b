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

// outlast takes the lock and keeps it for twice as long as the cell would wait for a holder that stopped. On a machine that is
// so busy that no keep-alive gets through, a short lease ends honestly, by its holder's clock; then a longer one is tried.
func outlast(t *testing.T, holder, other *client.Cell) *client.Lease {
	t.Helper()
	for ttl := 300 * time.Millisecond; ttl < patience/(2*cell.LeaseRateBound); ttl *= 2 {
		l, err := holder.Grant(t.Context(), ttl, "first")
		if err == nil {
			if err = keepLong(t, l, holder, other); err == nil {
				return l
			}
		}
		if lapsed := new(client.LeaseError); !errors.As(err, &lapsed) || lapsed.End != client.LeaseLapsed {
			t.Fatalf("a lease that is kept alive ended: %v", err)
		}
		t.Logf("too busy for leases of %v: %v", ttl, err)
		eventually(t, "the cell expires the lease that lapsed", func() bool {
			list, _, err := other.Leases(t.Context())
			return err == nil && len(list) == 0
		})
	}
	t.Fatal("no lease of any length is kept alive")
	return nil
}

// keepLong takes the lock under a lease and waits for long; the error is how the lease ended. As long as its holder may believe
// in the lease, the cell has it, and the lock with it.
func keepLong(t *testing.T, l *client.Lease, holder, other *client.Cell) error {
	t.Helper()
	if !lock(t, holder, l) && l.Held() {
		t.Fatal("a free lock was not taken")
	}
	began := time.Now()
	eventually(t, "the lease is held beyond the time that the cell would wait for it", func() bool {
		list, _, err := other.Leases(t.Context())
		if !l.Held() {
			return true
		}
		if err != nil || len(list) != 1 || list[0].ID != l.ID() || list[0].Keys != 1 {
			t.Fatalf("leases %v, %v, while %d is held", list, err, l.ID())
		}
		return time.Since(began) > 2*cell.LeaseRateBound*l.TTL()
	})
	if l.Held() {
		return nil
	}
	<-l.Done()
	return l.Err()
}

// TestLockPassesOnWhenItsHolderStops: over real sockets, one holder keeps a lock for longer than its lease's time; it stops
// keeping alive; the cell expires the lease and the lock with it; the next holder gets it, with a greater token.
func TestLockPassesOnWhenItsHolderStops(t *testing.T) {
	c := newTestColony(t, 7)
	c.create("vol-1")
	first, second := c.holder(), c.holder()
	a := outlast(t, first, second)
	b := mustGrant(t, second, time.Minute, "second")
	if lock(t, second, b) && a.Held() {
		t.Fatal("the lock was taken from a lease that is held")
	}
	a.Close() // as if its process had died: nothing is revoked
	eventually(t, "the second holder has the lock", func() bool {
		entry, err := second.Get(t.Context(), "lock")
		return lock(t, second, b) || err == nil && entry.Lease == b.ID()
	})
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
	kept, left := mustGrant(t, h, 2*patience, "kept"), mustGrant(t, h, time.Second, "left")
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
	next := mustGrant(t, h, time.Minute, "next")
	if !kept.Token().Less(next.Token()) || !left.Token().Less(next.Token()) {
		t.Fatalf("token %v after %v and %v", next.Token(), kept.Token(), left.Token())
	}
}
