package health

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"physalia/cell"
	"physalia/internal/wire"
)

// fleet is a Pinger over imagined servers, in the fake time of a synctest bubble.
type fleet struct {
	mu       sync.Mutex
	sessions []cell.ServerID
	hung     map[cell.ServerID]bool
	deaf     cell.ServerID // hangs, and does not even stop when it is told to
	delay    time.Duration // of every answer
	pings    map[cell.ServerID][]time.Time
	flying   int
	most     int // most pings on the way at once
}

func newFleet(n int) *fleet {
	f := &fleet{hung: map[cell.ServerID]bool{}, pings: map[cell.ServerID][]time.Time{}, delay: time.Millisecond}
	for i := range n {
		f.sessions = append(f.sessions, cell.ServerID(fmt.Sprintf("s%03d", i)))
	}
	return f
}

func (f *fleet) Sessions() []cell.ServerID {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Clone(f.sessions)
}

func (f *fleet) drop(id cell.ServerID) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.sessions = slices.DeleteFunc(f.sessions, func(s cell.ServerID) bool { return s == id })
}

func (f *fleet) Ping(ctx context.Context, id cell.ServerID) (wire.Pong, error) {
	f.mu.Lock()
	f.pings[id] = append(f.pings[id], time.Now())
	f.flying++
	f.most = max(f.most, f.flying)
	hung, delay := f.hung[id], f.delay
	f.mu.Unlock()
	defer func() {
		f.mu.Lock()
		f.flying--
		f.mu.Unlock()
	}()
	if id == f.deaf {
		<-time.After(time.Minute)
		return wire.Pong{}, errors.New("no answer in a minute")
	}
	if hung {
		<-ctx.Done()
		return wire.Pong{}, ctx.Err()
	}
	select {
	case <-ctx.Done():
		return wire.Pong{}, ctx.Err()
	case <-time.After(delay):
		return wire.Pong{Boot: 1, Nodes: 42}, nil
	}
}

// observe runs an observer over a fleet for the duration of body, and returns the verdicts.
func observe(t *testing.T, f *fleet, inFlight int, body func(o *Observer, verdicts func() []Verdict)) {
	synctest.Test(t, func(t *testing.T) {
		var mu sync.Mutex
		var verdicts []Verdict
		o, err := NewObserver(ObserverConfig{Rule: DefaultConfig(), Pinger: f, InFlight: inFlight, Events: func(v Verdict) {
			mu.Lock()
			defer mu.Unlock()
			verdicts = append(verdicts, v)
		}})
		if err != nil {
			t.Fatal(err)
		}
		for _, id := range f.Sessions() {
			if err := o.ServerSeen(registration(id, 1)); err != nil {
				t.Fatal(err)
			}
		}
		ctx, cancel := context.WithCancel(t.Context())
		stopped := make(chan struct{})
		go func() {
			defer close(stopped)
			o.Run(ctx)
		}()
		body(o, func() []Verdict {
			mu.Lock()
			defer mu.Unlock()
			return slices.Clone(verdicts)
		})
		cancel()
		<-stopped
	})
}

// pass lets the bubble's fake time go on, and then everything that is due finish.
func pass(d time.Duration) {
	<-time.After(d)
	synctest.Wait()
}

// TestPace: every server is pinged once per interval, the pings are spread over it, and few are on the way at once.
func TestPace(t *testing.T) {
	const servers, seconds = 200, 10
	f := newFleet(servers)
	observe(t, f, 4, func(o *Observer, verdicts func() []Verdict) {
		pass(seconds*time.Second + time.Millisecond)
		tenths := map[int]int{}
		f.mu.Lock()
		defer f.mu.Unlock()
		for id, at := range f.pings {
			if len(at) < seconds-1 || len(at) > seconds+1 {
				t.Errorf("%s was pinged %d times in %d s", id, len(at), seconds)
			}
			tenths[at[0].Nanosecond()/1e8]++
		}
		if len(f.pings) != servers {
			t.Errorf("%d servers were pinged, want %d", len(f.pings), servers)
		}
		for tenth := range 10 {
			if n := tenths[tenth]; n < servers/40 || n > servers/4 {
				t.Errorf("%d of %d pings fall into tenth %d of the interval", n, servers, tenth)
			}
		}
		if f.most > 4 {
			t.Errorf("%d pings were on the way at once, allowed are 4", f.most)
		}
		if n := len(verdicts()); n != servers {
			t.Errorf("%d verdicts, want one per registration", n)
		}
		if got := o.List(wire.ListServers{Limit: 1}).Servers[0].Registration.Nodes; got != 42 {
			t.Errorf("listed with %d nodes, the pong says 42", got)
		}
	})
}

// TestHungServersDoNotHurtOthers: most servers hang, so that pings queue for longer than the silence allowed; the
// others stay up, and the hung ones go down.
func TestHungServersDoNotHurtOthers(t *testing.T) {
	f := newFleet(50)
	for _, id := range f.sessions[:40] {
		f.hung[id] = true
	}
	observe(t, f, 2, func(o *Observer, verdicts func() []Verdict) {
		pass(2 * time.Minute) // a round takes 20 s: 40 timeouts of 1 s, two at once
		for i, id := range f.Sessions() {
			if got, want := o.Up(id), i >= 40; got != want {
				t.Errorf("%s: up is %v, want %v", id, got, want)
			}
		}
		if n := len(verdicts()); n != 50+40 {
			t.Errorf("%d verdicts, want 50 up and 40 down", n)
		}
	})
}

// TestDeafServer: a ping that never ends is silence from the moment it was sent.
func TestDeafServer(t *testing.T) {
	f := newFleet(3)
	f.deaf = "s001"
	observe(t, f, 2, func(o *Observer, verdicts func() []Verdict) {
		pass(6500 * time.Millisecond) // sent within 1 s, silent for 5 s, noticed within 0.25 s
		if !o.Up("s000") || o.Up("s001") || !o.Up("s002") {
			t.Errorf("up are s000 %v, s001 %v, s002 %v; want all but s001", o.Up("s000"), o.Up("s001"), o.Up("s002"))
		}
	})
}

// TestLostConnection: a lost connection is a verdict within DisconnectedMax and one tick, and margins follow.
func TestLostConnection(t *testing.T) {
	f := newFleet(7)
	observe(t, f, 4, func(o *Observer, verdicts func() []Verdict) {
		jury := f.Sessions()
		pass(10 * time.Second)
		f.drop("s003")
		pass(2 * time.Second)
		if live, margin := o.Margin(jury); live != 7 || margin != 3 {
			t.Errorf("too early: %d live, margin %d", live, margin)
		}
		pass(600 * time.Millisecond)
		if live, margin := o.Margin(jury); live != 6 || margin != 2 {
			t.Errorf("%d live, margin %d", live, margin)
		}
		last := verdicts()[len(verdicts())-1]
		if last.Server != "s003" || last.Up {
			t.Errorf("last verdict is %s", last)
		}
		if !o.Forget("s003") || o.Up("s003") {
			t.Error("s003 was not forgotten")
		}
	})
}

// TestStopSaysNothing: pings that end because the observer stops are not failures of their servers.
func TestStopSaysNothing(t *testing.T) {
	f := newFleet(5)
	f.delay = 900 * time.Millisecond // always some on the way
	var o *Observer
	observe(t, f, 5, func(running *Observer, _ func() []Verdict) {
		o = running
		pass(3500 * time.Millisecond)
	})
	for id, s := range o.tracker.servers {
		if s.failures != 0 {
			t.Errorf("%s: %d failures (%s)", id, s.failures, s.failure)
		}
	}
}

func TestObserverConfig(t *testing.T) {
	f := newFleet(0)
	good := ObserverConfig{Rule: DefaultConfig(), Pinger: f}
	if _, err := NewObserver(good); err != nil {
		t.Fatal(err)
	}
	for name, change := range map[string]func(*ObserverConfig){
		"no pinger":         func(c *ObserverConfig) { c.Pinger = nil },
		"negative interval": func(c *ObserverConfig) { c.Interval = -1 },
		"long timeout":      func(c *ObserverConfig) { c.Timeout = 2 * time.Second },
		"negative flight":   func(c *ObserverConfig) { c.InFlight = -1 },
		"no rule":           func(c *ObserverConfig) { c.Rule = Config{} },
	} {
		c := good
		change(&c)
		var e *cell.Error
		if _, err := NewObserver(c); !errors.As(err, &e) || e.Kind != cell.Invalid {
			t.Errorf("%s: got %v", name, err)
		}
	}
}
