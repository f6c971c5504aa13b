package health

import (
	"fmt"
	"slices"
	"time"

	"physalia/cell"
	"physalia/internal/topology"
	"physalia/internal/wire"
)

// Verdict is a change of opinion about one server.
type Verdict struct {
	Server cell.ServerID
	Up     bool
	At     time.Duration // when the tracker decided, on the caller's clock
	Why    string        // for people, with the numbers
}

// String shows a verdict in one line, for example "s1 down: disconnected for 2.1s".
func (v Verdict) String() string { return fmt.Sprintf("%s %s: %s", v.Server, upDown(v.Up), v.Why) }

// upDown names a verdict.
func upDown(up bool) string {
	if up {
		return "up"
	}
	return "down"
}

// Tracker decides which servers are up. Time is passed in, as a duration since any fixed moment, and must not run
// backwards. A Tracker has one owner and is not safe for concurrent use. Inputs about servers that it does not know are
// ignored. Every input costs O(log n), Tick and Sessions O(n) for n servers.
type Tracker struct {
	config  Config
	servers map[cell.ServerID]*server
	order   []cell.ServerID // sorted, for List
	now     time.Duration
}

// server is what is known of one server.
type server struct {
	registration wire.Registration
	judged       bool // there is a verdict
	up           bool
	since        time.Duration // of the verdict; before the first, when it became known

	connected bool
	lost      time.Duration // when it was disconnected; valid while it is

	waiting      bool          // for a proof of life
	waitingSince time.Duration // the oldest ping or disconnection that no proof has followed
	failures     int           // pings failed since it was last heard
	failure      string        // the last of them

	heardOf time.Duration // when most of its peers last heard it, as far as they were asked

	steady      bool          // heard, and nothing went wrong since
	steadySince time.Duration // when that began
}

// NewTracker returns a tracker that knows nobody; config must pass Check.
func NewTracker(config Config) (*Tracker, error) {
	if err := config.Check(); err != nil {
		return nil, err
	}
	return &Tracker{config: config, servers: make(map[cell.ServerID]*server)}, nil
}

// ServerSeen takes a registration that just arrived over a new connection. It is refused, and changes nothing, with a
// *cell.Error: Invalid when it is malformed; Refused when it moves a known identity to another place, or when
// ServersMax servers are known; Stale when its boot number is below one that was heard.
func (t *Tracker) ServerSeen(now time.Duration, r wire.Registration) ([]Verdict, error) {
	t.advance(now)
	s, err := t.register(r)
	if err != nil {
		return nil, err
	}
	s.connected = true // a registration is the first message of a connection
	return t.heard(r.Server, s, "registered"), nil
}

// Recall takes a registration from a store: the server is known, but has not been heard. It is refused like by
// ServerSeen. For a server that is known already it changes nothing but the registration.
func (t *Tracker) Recall(now time.Duration, r wire.Registration) error {
	t.advance(now)
	_, err := t.register(r)
	return err
}

// register takes the description of a new or known server.
func (t *Tracker) register(r wire.Registration) (*server, error) {
	is := describe(&r)
	if err := is.Check(); err != nil {
		return nil, err
	}
	s := t.servers[r.Server]
	if s == nil {
		if len(t.servers) >= t.config.ServersMax {
			return nil, &cell.Error{Op: "health.register", Kind: cell.Refused,
				Detail: fmt.Sprintf("%d servers are known, which is the limit", len(t.servers)),
				Hint:   "forget servers that are gone for good, or raise servers-max"}
		}
		// Not connected until something says so: a recalled server is missed from now on.
		s = &server{since: t.now, lost: t.now}
		t.servers[r.Server] = s
		at, _ := slices.BinarySearch(t.order, r.Server)
		t.order = slices.Insert(t.order, at, r.Server)
	} else {
		was := describe(&s.registration)
		if err := was.Contradiction(&is); err != nil {
			return nil, err
		}
		if r.Boot < s.registration.Boot {
			return nil, &cell.Error{Op: "health.register", Kind: cell.Stale,
				Detail: fmt.Sprintf("server %s registers with boot %d, but boot %d was heard", r.Server, r.Boot, s.registration.Boot),
				Hint:   "an old process, or a data directory restored from a copy; stop it and replace the server"}
		}
	}
	s.registration = r
	return s, nil
}

// describe gives a registration's place in the terms of topology, which judges it.
func describe(r *wire.Registration) topology.Server {
	return topology.Server{ID: r.Server, Name: r.Name, Brick: topology.Brick(r.Brick), Rack: topology.Rack(r.Rack),
		Power: topology.PowerDomain(r.Power), Color: topology.Color(r.Color), Capacity: r.Capacity, Load: r.Nodes}
}

// Forget drops a server that is gone for good, and reports whether it was known. No verdict is given.
func (t *Tracker) Forget(id cell.ServerID) bool {
	at, ok := slices.BinarySearch(t.order, id)
	if ok {
		t.order = slices.Delete(t.order, at, at+1)
		delete(t.servers, id)
	}
	return ok
}

// Connected says that there is a connection to a server. It alone proves nothing: see PongHeard.
func (t *Tracker) Connected(now time.Duration, id cell.ServerID) {
	t.advance(now)
	if s := t.servers[id]; s != nil {
		s.connected = true
	}
}

// Disconnected says that there is no connection any more. A new one does not undo that, only a proof of life does.
func (t *Tracker) Disconnected(now time.Duration, id cell.ServerID) {
	t.advance(now)
	if s := t.servers[id]; s != nil && s.connected {
		s.connected, s.lost, s.steady = false, t.now, false
		s.wait(t.now)
	}
}

// wait begins to wait for a proof of life, unless it does already.
func (s *server) wait(now time.Duration) {
	if !s.waiting {
		s.waiting, s.waitingSince = true, now
	}
}

// Sessions gives the servers that are connected now, all of them, in place of Connected and Disconnected one by one.
func (t *Tracker) Sessions(now time.Duration, ids []cell.ServerID) {
	there := make(map[cell.ServerID]bool, len(ids))
	for _, id := range ids {
		there[id] = true
		t.Connected(now, id)
	}
	for _, id := range t.order {
		if !there[id] {
			t.Disconnected(now, id)
		}
	}
}

// PingSent says that a ping is on its way.
func (t *Tracker) PingSent(now time.Duration, id cell.ServerID) {
	t.advance(now)
	if s := t.servers[id]; s != nil && s.connected {
		s.wait(t.now)
	}
}

// PongHeard says that a server answered with its boot number and node count. An answer without a connection, or of an
// earlier boot, proves nothing.
func (t *Tracker) PongHeard(now time.Duration, id cell.ServerID, boot, nodes uint64) []Verdict {
	t.advance(now)
	s := t.servers[id]
	if s == nil || !s.connected || boot < s.registration.Boot {
		return nil
	}
	s.registration.Boot, s.registration.Nodes = boot, nodes
	return t.heard(id, s, "answered")
}

// PingFailed says that a ping ended without an answer; why is shown to people.
func (t *Tracker) PingFailed(now time.Duration, id cell.ServerID, why string) {
	t.PingSent(now, id)
	if s := t.servers[id]; s != nil && s.connected {
		s.failures++
		s.failure, s.steady = why[:min(len(why), failureBytesMax)], false
	}
}

// failureBytesMax bounds what a verdict repeats of an error.
const failureBytesMax = 256

// heard takes a proof of life, and decides whether it brings the server up. Only here a server comes up: at that moment
// nothing is awaited and it is connected, so it stays up for at least the shorter of the times in gone.
func (t *Tracker) heard(id cell.ServerID, s *server, how string) []Verdict {
	s.waiting, s.failures, s.failure = false, 0, ""
	if !s.steady {
		s.steady, s.steadySince = true, t.now
	}
	steady := t.now - s.steadySince
	switch {
	case s.judged && s.up, s.judged && steady < t.config.ReturnMin:
		return nil
	case s.judged:
		how = fmt.Sprintf("%s, heard without interruption for %v", how, round(steady))
	}
	return []Verdict{t.judge(id, s, true, how)}
}

// Tick decides which servers are down by now; call it a few times per second. Only here a server goes down.
func (t *Tracker) Tick(now time.Duration) []Verdict {
	t.advance(now)
	var out []Verdict
	for _, id := range t.order {
		s := t.servers[id]
		if s.judged && !s.up {
			continue // down already
		}
		if why := t.gone(s); why != "" {
			out = append(out, t.judge(id, s, false, why))
		}
	}
	return out
}

// gone says why a server must be considered down, or nothing.
func (t *Tracker) gone(s *server) string {
	switch {
	case !s.connected && t.now-t.since(s, s.lost) >= t.config.DisconnectedMax:
		if !s.judged {
			return fmt.Sprintf("not heard for %v since it was recalled", round(t.now-s.lost))
		}
		return fmt.Sprintf("disconnected for %v", round(t.now-s.lost))
	case s.waiting && t.now-t.since(s, s.waitingSince) >= t.config.SilentMax:
		why := fmt.Sprintf("no sign of life for %v, %d pings failed", round(t.now-s.waitingSince), s.failures)
		if s.failure != "" {
			why += ", the last: " + s.failure
		}
		return why
	}
	return ""
}

// judge records a verdict. The time that a server must be heard before it returns begins after its fall.
func (t *Tracker) judge(id cell.ServerID, s *server, up bool, why string) Verdict {
	s.judged, s.up, s.since = true, up, t.now
	if !up {
		s.steady = false
	}
	return Verdict{Server: id, Up: up, At: t.now, Why: why}
}

// advance moves time; it never runs backwards.
func (t *Tracker) advance(now time.Duration) { t.now = max(t.now, now) }

// round shortens a time for people.
func round(d time.Duration) time.Duration { return d.Round(100 * time.Millisecond) }
