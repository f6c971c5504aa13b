package duty

import (
	"fmt"
	"testing"
	"time"

	"physalia/internal/roster"
	"physalia/internal/wire"
)

// storm is a colony of seekers and gates under simulated time: no sockets, one thread, and a trip of a millisecond for
// everything that is sent.
type storm struct {
	t       *testing.T
	now     time.Duration
	control map[string]*stormControl // by address
	servers []*stormServer
	events  []stormEvent // by time
}

type stormEvent struct {
	at time.Duration
	do func()
}

type stormControl struct {
	name, addr  string
	dead        bool
	live        []roster.Instance // its view
	gate        *Gate
	admitted    []time.Duration
	refused     int
	connections map[*stormServer]bool
}

type stormServer struct {
	brick    string
	seeker   *Seeker
	attempts int // that reached a living instance
	vain     int // that did not
	wake     time.Duration
}

const trip = time.Millisecond

func newStorm(t *testing.T, servers int, perSecond float64, list []roster.Instance) *storm {
	w := &storm{t: t, control: map[string]*stormControl{}}
	var addrs []string
	for i, in := range list {
		w.control[in.Addr] = &stormControl{name: in.Name, addr: in.Addr, live: list, connections: map[*stormServer]bool{},
			gate: NewGate(0, perSecond, int(perSecond/4), dice(uint64(i)))}
		addrs = append(addrs, in.Addr)
	}
	for i := range servers {
		s := &stormServer{brick: fmt.Sprintf("b%d", i%10), seeker: NewSeeker(SeekerConfig{Control: addrs, Dice: dice(uint64(1000 + i))})}
		w.servers = append(w.servers, s)
		w.after(0, func() { w.obey(s, s.seeker.Tick(w.now)) })
	}
	return w
}

func (w *storm) after(d time.Duration, do func()) {
	w.events = append(w.events, stormEvent{w.now + d, do})
	for i := len(w.events) - 1; i > 0 && w.events[i].at < w.events[i-1].at; i-- {
		w.events[i], w.events[i-1] = w.events[i-1], w.events[i]
	}
}

// run goes on until a time, or until nothing is left to happen.
func (w *storm) run(until time.Duration) {
	for len(w.events) > 0 && w.events[0].at <= until {
		e := w.events[0]
		w.events = w.events[1:]
		w.now = e.at
		e.do()
	}
	w.now = until
}

// obey does what a seeker decided, and wakes it when it is due.
func (w *storm) obey(s *stormServer, todo []Action) {
	for _, do := range todo {
		c := w.control[do.Addr]
		if do.Do == Close {
			delete(c.connections, s)
			continue
		}
		if c.dead {
			s.vain++
		} else {
			s.attempts++
		}
		w.after(trip, func() { w.arrive(s, c, do.Wants) })
	}
	if at, ok := s.seeker.Next(); ok && (s.wake <= w.now || at < s.wake) {
		s.wake = at
		w.after(at-w.now, func() { w.obey(s, s.seeker.Tick(w.now)) })
	}
}

// arrive is what package fleet does with a registration.
func (w *storm) arrive(s *stormServer, c *stormControl, wants wire.Duties) {
	if c.dead {
		w.after(trip, func() { w.obey(s, s.seeker.Failed(w.now, c.addr, 0)) })
		return
	}
	table := NewTable(c.name, c.live)
	answer := &wire.Registered{Control: c.name, Takes: wants & table.Mine(s.brick), Elsewhere: table.Elsewhere(wants, s.brick)}
	if c.connections[s] && answer.Takes == 0 { // pointers are free for those who are in
		w.after(trip, func() { w.obey(s, s.seeker.Answered(w.now, c.addr, answer)) })
		return
	}
	ok, again := c.gate.Admit(w.now)
	if !ok {
		c.refused++
		w.after(trip, func() {
			if c.connections[s] {
				w.obey(s, s.seeker.Busy(w.now, c.addr, again))
			} else {
				w.obey(s, s.seeker.Failed(w.now, c.addr, again))
			}
		})
		return
	}
	c.admitted = append(c.admitted, w.now)
	c.connections[s] = true
	w.after(trip, func() { w.obey(s, s.seeker.Answered(w.now, c.addr, answer)) })
}

// kill ends an instance and its connections; the others hear of it later.
func (w *storm) kill(addr string, heard time.Duration, view []roster.Instance) {
	c := w.control[addr]
	c.dead = true
	for _, s := range w.servers {
		if c.connections[s] {
			delete(c.connections, s)
			w.obey(s, s.seeker.Ended(w.now, addr))
		}
	}
	w.after(heard, func() { w.roster(view) })
}

// roster changes the view of the living; they tell their servers what they have lost.
func (w *storm) roster(view []roster.Instance) {
	for _, in := range view {
		c := w.control[in.Addr]
		c.live = view
		table := NewTable(c.name, view)
		for _, s := range w.servers {
			if lost := s.seeker.HeldAt(c.addr) &^ table.Mine(s.brick); c.connections[s] && lost != 0 {
				w.obey(s, s.seeker.Moved(w.now, c.addr, &wire.DutiesMoved{Duties: lost, Elsewhere: table.Elsewhere(lost, s.brick)}))
			}
		}
	}
}

// settled requires that everybody has the right instance for every duty, over no more connections than instances.
func (w *storm) settled(view []roster.Instance) {
	w.t.Helper()
	for i, s := range w.servers {
		table := NewTable("", view)
		for _, one := range all {
			h, ok := table.Holder(one, s.brick)
			if got := s.seeker.HeldAt(h.Addr); ok && got&one == 0 {
				w.t.Fatalf("server %d does not have %v at %s; it has %v", i, one, h.Name, s.seeker.Held())
			}
		}
		for addr, c := range w.control {
			if c.connections[s] != (s.seeker.HeldAt(addr) != 0) {
				w.t.Errorf("server %d: connection to %s is %v, what it holds there is %v", i, addr, c.connections[s], s.seeker.HeldAt(addr))
			}
		}
	}
}

// paced requires that no instance admitted more than its pace allows in any second.
func (w *storm) paced(perSecond int) {
	w.t.Helper()
	for _, c := range w.control {
		for i, first := 0, 0; i < len(c.admitted); i++ {
			for c.admitted[i]-c.admitted[first] > time.Second {
				first++
			}
			if n := i - first + 1; n > perSecond+perSecond/4+1 {
				w.t.Fatalf("%s admitted %d within a second, its pace is %d", c.name, n, perSecond)
			}
		}
	}
}

// attempts tells how many requests reached living instances since it was asked last, at most of one server and of all.
func (w *storm) attempts() (most, sum int) {
	for _, s := range w.servers {
		most, sum = max(most, s.attempts), sum+s.attempts
		s.attempts = 0
	}
	return most, sum
}

// inVain is attempts, for those that met nobody.
func (w *storm) inVain() (most, sum int) {
	for _, s := range w.servers {
		most, sum = max(most, s.vain), sum+s.vain
		s.vain = 0
	}
	return most, sum
}

// All servers come at once. The instance keeps its pace, everybody gets in about as fast as the pace allows, and nobody
// has to try often.
func TestStormOnOneInstance(t *testing.T) {
	const servers, pace = 2000, 200
	w := newStorm(t, servers, pace, instances(1, 0))
	w.run(servers / pace * time.Second * 3 / 2)
	w.settled(instances(1, 0))
	w.paced(pace)
	most, sum := w.attempts()
	t.Logf("attempts: %d at most, %.2f on average", most, float64(sum)/servers)
	if most > 4 || sum > 5*servers/2 {
		t.Errorf("%d attempts of one server, %d of all", most, sum)
	}
}

// An instance dies, later the active one too, then both come back: each time everybody finds the right ones, within a
// bounded number of attempts.
func TestStormWhenInstancesDieAndReturn(t *testing.T) {
	const servers, pace = 200, 50
	three := instances(3, 0)
	w := newStorm(t, servers, pace, three)
	check := func(what string, view []roster.Instance, perServer int) {
		t.Helper()
		w.run(w.now + time.Minute)
		w.settled(view)
		w.paced(pace)
		most, sum := w.attempts()
		vainMost, vain := w.inVain()
		t.Logf("%s: attempts: %d at most, %.2f on average; in vain %d at most, %.2f on average", what, most, float64(sum)/servers,
			vainMost, float64(vain)/servers)
		if sum > perServer*servers || most > 3*perServer {
			t.Errorf("%s: %d attempts of one server, %d of all", what, most, sum)
		}
	}
	check("all three begin", three, 6)
	two := without(three, "control-3")
	w.kill("control-3:7300", 5*time.Second, two)
	check("an owner dies", two, 2)
	alone := []roster.Instance{{Name: "control-2", Addr: "control-2:7300", Active: true}}
	w.kill("control-1:7300", 5*time.Second, alone)
	check("the active one dies", alone, 6)
	for _, c := range w.control {
		c.dead = false
	}
	three = instances(3, 1)
	w.roster(three)
	check("two come back", three, 2)
	w.run(w.now + time.Hour)
	if most, _ := w.attempts(); most != 0 {
		t.Errorf("%d attempts of one server in an hour without any change", most)
	}
}

// Without any control plane for two weeks, the attempts of a server stay at the bound of its back-off.
func TestNobodyAnswers(t *testing.T) {
	w := newStorm(t, 5, 50, instances(3, 0))
	for _, c := range w.control {
		c.dead = true
	}
	w.run(time.Hour)
	if most, _ := w.inVain(); most > 3*3600*2/3*2 || most == 0 {
		t.Errorf("%d attempts of one server in an hour", most)
	}
	for _, c := range w.control {
		c.dead = false
	}
	w.run(w.now + 10*time.Second)
	w.settled(instances(3, 0))
}

// Two instances that each believe the other to have a duty do not get a server to run to and fro.
func TestPointersInACircle(t *testing.T) {
	two := instances(2, 0)
	w := newStorm(t, 20, 1000, two)
	w.control["control-1:7300"].live = []roster.Instance{two[0], {Name: "control-2", Addr: "control-2:7300", Active: true}}
	w.control["control-1:7300"].live[0].Active = false
	w.run(time.Minute)
	if most, _ := w.attempts(); most > 120 {
		t.Errorf("%d attempts of one server in a minute", most)
	}
	w.roster(two)
	w.run(w.now + 10*time.Second)
	w.settled(two)
}

// R18: a quarter of the servers restart at once. The others notice nothing, the pace holds, and nobody comes in a lockstep:
// what the control plane hears is spread over the time that its pace needs.
func TestQuarterOfTheServersRestarts(t *testing.T) {
	const servers, pace = 400, 20
	three := instances(3, 0)
	w := newStorm(t, servers, pace, three)
	w.run(3 * time.Minute)
	w.settled(three)
	w.attempts()
	began := w.now
	for _, c := range w.control {
		c.admitted = nil
	}
	for i, s := range w.servers[:servers/4] {
		for _, c := range w.control {
			delete(c.connections, s)
		}
		s.seeker = NewSeeker(SeekerConfig{Control: []string{"control-1:7300", "control-2:7300", "control-3:7300"}, Dice: dice(uint64(9000 + i))})
		s.wake = w.now
		w.obey(s, s.seeker.Tick(w.now))
	}
	w.run(w.now + time.Minute)
	w.settled(three)
	w.paced(pace)
	for i, s := range w.servers[servers/4:] {
		if s.attempts != 0 {
			t.Fatalf("server %d did not restart and made %d attempts", servers/4+i, s.attempts)
		}
	}
	if most, sum := w.attempts(); most > 20 || sum > 8*servers/4 {
		t.Errorf("%d attempts of one server, %d of those that restarted", most, sum)
	}
	for _, c := range w.control {
		slot := map[time.Duration]int{} // of 100 ms
		for _, at := range c.admitted {
			slot[(at-began)/(100*time.Millisecond)]++
		}
		for i, n := range slot {
			if i > 0 && n > pace/2 {
				t.Errorf("%s: %d registrations within 100 ms, %v after the restart", c.name, n, i*100*time.Millisecond)
			}
		}
	}
}
