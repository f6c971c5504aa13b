package client

import (
	"context"
	"errors"
	"sync"
	"testing"
	"time"

	"physalia/cell"
	"physalia/internal/wire"
)

// handClock is a Clock that a test moves by hand.
type handClock struct {
	mu     sync.Mutex
	moved  *sync.Cond // a timer was set or stopped
	now    time.Time
	timers []*handTimer
}

type handTimer struct {
	clock *handClock
	made  time.Duration // what it was made with
	at    time.Time     // when it fires
	armed bool
	c     chan time.Time
}

func newHandClock() *handClock {
	k := &handClock{now: time.Unix(1_000_000, 0)}
	k.moved = sync.NewCond(&k.mu)
	return k
}

func (k *handClock) Now() time.Time {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.now
}

func (k *handClock) NewTimer(d time.Duration) Timer {
	t := &handTimer{clock: k, made: d, c: make(chan time.Time, 1)}
	k.mu.Lock()
	k.timers = append(k.timers, t)
	k.mu.Unlock()
	t.Reset(d)
	return t
}

func (t *handTimer) C() <-chan time.Time { return t.c }

func (t *handTimer) Reset(d time.Duration) {
	t.set(true, d)
}

func (t *handTimer) Stop() { t.set(false, 0) }

func (t *handTimer) set(armed bool, d time.Duration) {
	k := t.clock
	k.mu.Lock()
	defer k.mu.Unlock()
	select {
	case <-t.c:
	default:
	}
	t.armed, t.at = armed, k.now.Add(d)
	k.fire()
	k.moved.Broadcast()
}

// fire lets go of the timers that are due; k.mu is held.
func (k *handClock) fire() {
	for _, t := range k.timers {
		if t.armed && !t.at.After(k.now) {
			t.armed = false
			t.c <- k.now
		}
	}
}

// advance moves the time on.
func (k *handClock) advance(d time.Duration) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.now = k.now.Add(d)
	k.fire()
}

// next moves the time on to the next timer, once there is one.
func (k *handClock) next() {
	k.mu.Lock()
	defer k.mu.Unlock()
	for {
		var first *handTimer
		for _, t := range k.timers {
			if t.armed && (first == nil || t.at.Before(first.at)) {
				first = t
			}
		}
		if first != nil {
			k.now = first.at
			k.fire()
			return
		}
		k.moved.Wait()
	}
}

// rests waits until a lease of that duration waits for a moment so far from now.
func (k *handClock) rests(ttl, in time.Duration) {
	k.mu.Lock()
	defer k.mu.Unlock()
	for {
		for _, t := range k.timers {
			if t.made == ttl && t.armed && t.at.Equal(k.now.Add(in)) {
				return
			}
		}
		k.moved.Wait()
	}
}

const leaseTTL = 9 * time.Second

// leased is a colony with a client on a clock moved by hand, and a lease of leaseTTL.
func leased(t *testing.T) (*colony, *handClock, *Client, *Lease) {
	t.Helper()
	f, k := newColony(t), newHandClock()
	c := newClient(t, Config{Control: []string{f.control.addr}, Clock: k})
	l, err := c.Cell("vol-1").Grant(context.Background(), leaseTTL, "host-1")
	if err != nil {
		t.Fatal(err)
	}
	return f, k, c, l
}

// ended waits for the end of a lease and checks its cause.
func ended(t *testing.T, l *Lease, want LeaseEnd, kind cell.Kind) {
	t.Helper()
	<-l.Done()
	var e *LeaseError
	if err := l.Err(); !errors.As(err, &e) || e.End != want || e.ID != l.ID() || kind != 0 && !errors.Is(err, kind) {
		t.Fatalf("ended with %v, want %v", err, want)
	}
	if l.Held() {
		t.Fatal("over, and held")
	}
}

// count tells how many requests of a method the servers of a colony received.
func (f *colony) count(method string) (n int) {
	for _, s := range f.servers {
		s.mu.Lock()
		for i := range s.log {
			if s.log[i].method == method {
				n++
			}
		}
		s.mu.Unlock()
	}
	return n
}

// TestLeaseIsKeptAliveUntilItIsRevoked: one keep-alive every third of its time, as long as somebody holds it.
func TestLeaseIsKeptAliveUntilItIsRevoked(t *testing.T) {
	f, k, _, l := leased(t)
	if l.Token() != (cell.Fence{Incarnation: 1, Number: uint64(l.ID())}) || l.TTL() != leaseTTL || l.Err() != nil {
		t.Fatalf("token %v, %v", l.Token(), l.Err())
	}
	for n := range 10 {
		k.rests(leaseTTL, leaseTTL/3)
		if got := f.count(wire.MethodKeepAlive); got != n || !l.Held() {
			t.Fatalf("%d keep-alives, want %d; held: %t", got, n, l.Held())
		}
		k.advance(leaseTTL / 3)
	}
	if err := l.Revoke(t.Context()); err != nil {
		t.Fatal(err)
	}
	ended(t, l, LeaseClosed, 0)
	f.cell.mu.Lock()
	defer f.cell.mu.Unlock()
	if len(f.cell.leases) != 0 {
		t.Error("revoked here, and held in the cell")
	}
}

// TestLeaseLapsesByTheClockHere: nobody answers any more; belief ends when its time is over, not a tick later.
func TestLeaseLapsesByTheClockHere(t *testing.T) {
	for _, do := range []act{mute, cut, refuse, applyMute} {
		f, k, _, l := leased(t)
		k.rests(leaseTTL, leaseTTL/3)
		began := k.Now()
		for _, s := range f.servers {
			s.mu.Lock()
			s.random = func() rule { return rule{do, &cell.Error{Op: "fake", Kind: cell.Unavailable}} }
			s.mu.Unlock()
		}
		for over := false; !over; {
			if held, in := l.Held(), k.Now().Sub(began); held != (in < leaseTTL) {
				t.Fatalf("act %d: after %v it is held: %t", do, in, held)
			}
			select {
			case <-l.Done():
				over = true
			default:
				if k.Now().Sub(began) < leaseTTL {
					k.next()
				} else {
					<-l.Done()
				}
			}
		}
		ended(t, l, LeaseLapsed, cell.NoLease)
	}
}

// TestPausedHolderStopsBelieving: after a pause, the first question to the clock is answered no, before any goroutine ran.
func TestPausedHolderStopsBelieving(t *testing.T) {
	_, k, _, l := leased(t)
	k.rests(leaseTTL, leaseTTL/3)
	k.advance(leaseTTL)
	if l.Held() {
		t.Fatal("believed in after a pause of its whole time")
	}
	ended(t, l, LeaseLapsed, cell.NoLease)
}

// TestLeaseEndsForWhatTheCellSays: the next keep-alive learns that the lease, or the cell, is gone.
func TestLeaseEndsForWhatTheCellSays(t *testing.T) {
	for _, c := range []struct {
		name string
		do   func(f *fakeCell)
		want LeaseEnd
		kind cell.Kind
	}{
		{"revoked", func(f *fakeCell) { clear(f.leases) }, LeaseGone, cell.NoLease},
		{"deleted", func(f *fakeCell) { f.sealed = true }, LeaseNoCell, cell.Deleted},
		{"created again", func(f *fakeCell) { f.incarnation = 2 }, LeaseNoCell, cell.Stale},
	} {
		f, k, _, l := leased(t)
		k.rests(leaseTTL, leaseTTL/3)
		f.cell.mu.Lock()
		c.do(f.cell)
		f.cell.mu.Unlock()
		k.advance(leaseTTL / 3)
		ended(t, l, c.want, c.kind)
		if !k.Now().Before(time.Unix(1_000_000, 0).Add(leaseTTL)) {
			t.Errorf("%s: not noticed by a keep-alive", c.name)
		}
	}
}

// TestLeaseEndsOnce: whoever ends it first, everybody sees the same cause, for good.
func TestLeaseEndsOnce(t *testing.T) {
	for range 20 {
		f, k, c, l := leased(t)
		k.rests(leaseTTL, leaseTTL/3)
		f.cell.mu.Lock()
		clear(f.cell.leases)
		f.cell.mu.Unlock()
		var all sync.WaitGroup
		for _, end := range []func(){func() { k.advance(leaseTTL / 3) }, l.Close, func() { l.Revoke(context.Background()) }, c.Close} {
			all.Go(end)
		}
		<-l.Done()
		first := l.Err()
		all.Wait()
		l.Close()
		if again := l.Err(); first == nil || again != first {
			t.Fatalf("ended with %v, then %v", first, again)
		}
	}
}

// TestClosedClientEndsItsLeases: Client.Close waits for their goroutines, and their cause is the holder.
func TestClosedClientEndsItsLeases(t *testing.T) {
	_, k, c, l := leased(t)
	k.rests(leaseTTL, leaseTTL/3)
	c.Close()
	select {
	case <-l.Done():
	default:
		t.Fatal("the client is closed, its lease is not")
	}
	ended(t, l, LeaseClosed, 0)
	if _, err := c.Cell("vol-1").Grant(context.Background(), leaseTTL, ""); !errors.Is(err, cell.Unavailable) {
		t.Fatalf("a grant of a closed client: %v", err)
	}
}

// TestGrantIsExactlyOnce: answers are lost, the request is repeated, there is one lease.
func TestGrantIsExactlyOnce(t *testing.T) {
	f := newColony(t)
	c := f.client(t)
	h := f.warm(t, c)
	f.servers[0].next(rule{do: applyCut})
	l, err := h.Grant(t.Context(), leaseTTL, "host-1")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	f.cell.mu.Lock()
	defer f.cell.mu.Unlock()
	if len(f.cell.leases) != 1 || f.cell.leases[l.ID()].Label != "host-1" {
		t.Fatalf("leases %v, granted %d", f.cell.leases, l.ID())
	}
}

// TestGrantThatTakesTooLongIsNoLease: the holder counts from before it sent, so the answer may come after the end.
func TestGrantThatTakesTooLongIsNoLease(t *testing.T) {
	f, k := newColony(t), newHandClock()
	c := newClient(t, Config{Control: []string{f.control.addr}, Clock: k, CallTimeout: time.Hour, AttemptTimeout: time.Hour})
	h := f.warm(t, c)
	f.servers[0].mu.Lock()
	f.servers[0].random = func() rule { k.advance(leaseTTL); return rule{} }
	f.servers[0].mu.Unlock()
	l, err := h.Grant(context.Background(), leaseTTL, "")
	var e *LeaseError
	if !errors.As(err, &e) || e.End != LeaseLapsed || l != nil {
		t.Fatalf("granted %v, %v", l, err)
	}
}

// TestLeaseGate: what cannot be asked is refused before it is sent.
func TestLeaseGate(t *testing.T) {
	h := newColony(t).client(t).Cell("vol-1")
	for _, ttl := range []time.Duration{0, -1, cell.LeaseTTLMin - 1, cell.LeaseTTLMax + 1} {
		if _, err := h.Grant(t.Context(), ttl, ""); !errors.Is(err, cell.Invalid) {
			t.Errorf("grant for %v: %v", ttl, err)
		}
	}
	if _, err := h.Grant(t.Context(), time.Second, string(make([]byte, cell.LeaseLabelBytesMax+1))); !errors.Is(err, cell.TooLarge) {
		t.Errorf("grant with a long label: %v", err)
	}
	if err := h.RevokeLease(t.Context(), 0); !errors.Is(err, cell.Invalid) {
		t.Errorf("revoke of nothing: %v", err)
	}
	if _, err := h.KeepAlive(t.Context(), 0); !errors.Is(err, cell.Invalid) {
		t.Errorf("keep-alive of nothing: %v", err)
	}
	if err := h.RevokeLease(t.Context(), 77); !errors.Is(err, cell.NoLease) || cell.MaybeApplied(err) {
		t.Errorf("revoke of what is not held: %v", err)
	}
}
