package health

import (
	"context"
	"fmt"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"physalia/cell"
	"physalia/internal/wire"
)

// heard makes the answers of witnesses: ages in milliseconds; -1 is no lane, -2 no lane but alive by rumour.
func heard(ages ...int) (out []wire.PeerHeard) {
	for _, a := range ages {
		out = append(out, wire.PeerHeard{Lane: a >= 0, Age: uint64(max(a, 0)), Gossip: a != -1})
	}
	return out
}

// A server that is only cut off from the control plane is not down while most of those who should hear it do, for
// UnreachableMax at most; one that is dead goes down as soon as if nobody had been asked.
func TestPeersKeepAServerUp(t *testing.T) {
	for _, s := range []struct {
		what    string
		say     func(since time.Duration) []wire.PeerHeard // so long after the connection was lost
		until   time.Duration                              // when it goes down; zero: not within UnreachableMax
		nobody  bool                                       // nobody is asked
		connect bool                                       // it stays connected, and is silent
	}{
		{what: "nobody is asked", until: 2 * time.Second, nobody: true},
		{what: "all hear it", say: func(time.Duration) []wire.PeerHeard { return heard(100, 50, 200) }},
		{what: "most hear it", say: func(d time.Duration) []wire.PeerHeard { return heard(100, 50, int(d.Milliseconds())) }},
		{what: "few hear it", say: func(d time.Duration) []wire.PeerHeard {
			return heard(100, int(d.Milliseconds()), int(d.Milliseconds()))
		}, until: 2 * time.Second},
		{what: "it died with its connection", say: func(d time.Duration) []wire.PeerHeard {
			return heard(int(d.Milliseconds()), int(d.Milliseconds()), int(d.Milliseconds()))
		}, until: 2 * time.Second},
		{what: "it died a second later", say: func(d time.Duration) []wire.PeerHeard {
			age := int(max(0, d-time.Second).Milliseconds())
			return heard(age, age, age)
		}, until: 3 * time.Second},
		{what: "no lanes, a rumour", say: func(time.Duration) []wire.PeerHeard { return heard(-2, -2, -1) }},
		{what: "no lanes, little rumour", say: func(time.Duration) []wire.PeerHeard { return heard(-2, -1, -1) }, until: 2 * time.Second},
		{what: "nobody answers", say: func(time.Duration) []wire.PeerHeard { return nil }, until: 2 * time.Second},
		{what: "silent on its connection", say: func(time.Duration) []wire.PeerHeard { return heard(10, 10, 10) }, connect: true},
	} {
		t.Run(s.what, func(t *testing.T) {
			c := DefaultConfig()
			c.UnreachableMax = time.Minute
			k := tracker(t, c)
			for _, id := range []cell.ServerID{"s1", "w1", "w2", "w3"} {
				if _, err := k.ServerSeen(0, registration(id, 1)); err != nil {
					t.Fatal(err)
				}
			}
			if s.connect {
				k.PingSent(0, "s1")
			} else {
				k.Disconnected(0, "s1")
			}
			down := time.Duration(0)
			for now := 100 * time.Millisecond; now < 2*c.UnreachableMax && down == 0; now += 100 * time.Millisecond {
				for _, id := range []cell.ServerID{"w1", "w2", "w3"} {
					k.PongHeard(now, id, 1, 0)
				}
				asked := slices.ContainsFunc(k.Questions(now, 0), func(q Question) bool { return slices.Equal(q.About, []cell.ServerID{"s1"}) })
				if asked && !s.nobody {
					k.PeersHear(now, now, "s1", s.say(now))
				}
				for _, v := range k.Tick(now) {
					down = v.At
				}
				if hidden := len(k.Unreachable(now)) > 0; hidden != (down == 0 && now >= 2*time.Second && (s.until == 0 || now < s.until) && (!s.connect || now >= 5*time.Second)) {
					t.Fatalf("%v: unreachable is %v", now, hidden)
				}
			}
			want := s.until
			if want == 0 {
				want = c.UnreachableMax
			}
			if down < want-100*time.Millisecond || down > want+400*time.Millisecond {
				t.Fatalf("down at %v, want %v", down, want)
			}
		})
	}
}

// Questions go to servers of the same brick and color that are heard, a few at a time, others in each round; while nobody is missed
// there are none.
func TestQuestions(t *testing.T) {
	k := tracker(t, DefaultConfig())
	for i := range 40 {
		r := registration(cell.ServerID(fmt.Sprintf("s%02d", i)), 1)
		r.Color = []string{"red", "blue"}[i%2]
		if _, err := k.ServerSeen(0, r); err != nil {
			t.Fatal(err)
		}
	}
	if q := k.Questions(time.Second, 0); q != nil {
		t.Fatalf("nobody is missed: %v", q)
	}
	for _, id := range []cell.ServerID{"s02", "s04"} {
		k.Disconnected(time.Second, id)
	}
	seen := map[cell.ServerID]bool{}
	for round := range uint64(20) {
		questions := k.Questions(2*time.Second, round)
		if len(questions) != witnesses {
			t.Fatalf("%d questions", len(questions))
		}
		for _, q := range questions {
			if int(q.Ask[2]-'0')%2 != 0 || q.Ask == "s02" || q.Ask == "s04" || !slices.Equal(q.About, []cell.ServerID{"s02", "s04"}) {
				t.Fatalf("%v", q)
			}
			seen[q.Ask] = true
		}
	}
	if len(seen) != 18 {
		t.Fatalf("%d of 18 servers were asked in 20 rounds", len(seen))
	}
}

// fleetOfThree pings two servers that are well, and a third that is cut off.
type fleetOfThree struct{ cut atomic.Bool }

func (f *fleetOfThree) Sessions() []cell.ServerID {
	if f.cut.Load() {
		return []cell.ServerID{"s1", "s2"}
	}
	return []cell.ServerID{"s1", "s2", "s3"}
}

func (f *fleetOfThree) Ping(context.Context, cell.ServerID) (wire.Pong, error) {
	return wire.Pong{Boot: 1, Nodes: 5}, nil
}

// The observer asks about whom it misses, and passes on what servers say of their nodes.
func TestObserverInquires(t *testing.T) {
	fleet := &fleetOfThree{}
	loads := make(chan cell.ServerID, 1000)
	asked := make(chan *wire.ReportRequest, 1000)
	verdicts := make(chan Verdict, 100)
	rule := DefaultConfig()
	rule.DisconnectedMax, rule.SilentMax, rule.ReturnMin, rule.UnreachableMax = 40*time.Millisecond, 80*time.Millisecond, 10*time.Millisecond, 400*time.Millisecond
	o, err := NewObserver(ObserverConfig{Rule: rule, Pinger: fleet, Interval: 10 * time.Millisecond, LoadEvery: 50 * time.Millisecond,
		Events: func(v Verdict) { verdicts <- v },
		Load: func(id cell.ServerID, nodes, bytes uint64) {
			if nodes == 3 && bytes == 999 {
				select {
				case loads <- id:
				default:
				}
			}
		},
		Report: func(_ context.Context, _ cell.ServerID, req *wire.ReportRequest) (wire.ServerReport, error) {
			report := wire.ServerReport{Sampled: 3, Bytes: 999}
			for range req.Peers {
				report.Peers = append(report.Peers, wire.PeerHeard{Lane: true, Age: 1})
			}
			if len(req.Peers) > 0 {
				select {
				case asked <- req:
				default:
				}
			}
			return report, nil
		}})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() { defer close(done); o.Run(ctx) }()
	defer func() { cancel(); <-done }()
	for _, id := range []cell.ServerID{"s1", "s2", "s3"} {
		if err := o.ServerSeen(registration(id, 1)); err != nil {
			t.Fatal(err)
		}
		<-verdicts
	}
	<-loads
	fleet.cut.Store(true)
	if req := <-asked; !slices.Equal(req.Peers, []cell.ServerID{"s3"}) {
		t.Fatalf("%v", req)
	}
	// It goes down in the end, since nobody is unreachable for ever; until then it was listed.
	for v := range verdicts {
		if v.Server == "s3" && !v.Up {
			break
		}
	}
}
