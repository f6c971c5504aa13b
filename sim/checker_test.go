package sim

import (
	"strings"
	"testing"
	"time"

	"physalia/cell"
	"physalia/internal/wire"
	"physalia/internal/wire/peer"
	"physalia/node/core"
	"physalia/paxos"
)

// Every checker must be able to fail: each gets a run that was fine, or a world that is running, and something is changed
// behind its back.

// played is a calm world at its end.
func played(t *testing.T) *World {
	t.Helper()
	w := newWorld(small())
	w.play()
	if w.failure != nil {
		t.Fatal(w.failure)
	}
	return w
}

// find returns the last answered operation of a kind.
func (w *World) find(kind opKind) *op {
	for i := len(w.ops) - 1; ; i-- {
		if w.ops[i].kind == kind && w.ops[i].fate == answered {
			return w.ops[i]
		}
	}
}

func TestCheckersOfTheWhole(t *testing.T) {
	for name, c := range map[string]struct {
		checker string
		tamper  func(w *World)
	}{
		"acknowledged, not in the log":   {"durability", func(w *World) { w.cells[0].log = w.cells[0].log[:len(w.cells[0].log)/2] }},
		"another revision":               {"durability", func(w *World) { w.find(opPut).result.Revision++ }},
		"another value":                  {"durability", func(w *World) { w.find(opIncrement).result.Results[0].Entry.Value = cell.Int(77) }},
		"refused, but applied":           {"blame", func(w *World) { w.find(opPut).fate = refused }},
		"void, but applied":              {"blame", func(w *World) { w.find(opIncrement).fate = void }},
		"counted twice":                  {"once", func(w *World) { w.cells[0].audited[0]++ }},
		"a foreign command":              {"once", func(w *World) { w.cells[0].log[0].Commands = [][]byte{{1}} }},
		"a read of another value":        {"order", func(w *World) { w.find(opGet).result.Results[0].Entry.Value = cell.Int(78) }},
		"a read from the past":           {"order", func(w *World) { past(w, w.find(opAudit)) }},
		"a stale read below its session": {"session", func(w *World) { w.find(opStale).least = 1 << 20 }},
		"an answer from a former life":   {"session", func(w *World) { w.find(opStale).incarnation = 0 }},
		"expired, but applied":           {"blame", func(w *World) { o := w.find(opPut); o.gone = append(o.gone, o.identity()) }},
		"a fence twice":                  {"fences", func(w *World) { w.granted(w.cells[0], "revision", cell.Fence{Incarnation: 1, Number: 2}, 0, 0) }},
		"a fence that goes back": {"fences", func(w *World) {
			w.granted(w.cells[0], "revision", cell.Fence{Incarnation: 0, Number: 9}, time.Hour, time.Hour)
		}},
		"two holders": {"lease", func(w *World) {
			w.held(w.cells[0], "l", w.clients[0].session, 0, 2*time.Second)
			w.held(w.cells[0], "l", w.clients[1].session, time.Second, 3*time.Second)
		}},
		"a read that nothing explains": {"linearizability", func(w *World) { w.find(opAudit).result.Results[1].Entry.Value = cell.Int(78) }},
		"two increments to one value":  {"linearizability", func(w *World) { w.find(opIncrement).result.Results[0].Entry.Value = cell.Int(1) }},
	} {
		w := played(t)
		c.tamper(w)
		only(w, c.checker)
		if w.judge(); w.failure == nil {
			t.Errorf("%s: %s sees nothing", name, c.checker)
		}
	}
}

// past makes a read look like one that was answered from revision 1.
func past(w *World, o *op) {
	o.result.Revision = 1
	for i := range keys {
		o.result.Results[i].Entry.Value = cell.Int(w.cells[0].history.past[1][i])
	}
}

// only leaves one checker.
func only(w *World, name string) {
	for _, c := range w.checkers {
		if c.name == name {
			w.checkers = []*checker{c}
			return
		}
	}
	panic("no checker is called " + name)
}

// running is a calm world in the middle of its work.
func running(t *testing.T) *World {
	t.Helper()
	w := newWorld(small())
	if w.runUntil(500*time.Millisecond, never); w.failure != nil {
		t.Fatal(w.failure)
	}
	return w
}

func expect(t *testing.T, w *World, checker, text string) {
	t.Helper()
	if w.failure == nil || w.failure.Checker != checker || !strings.Contains(w.failure.Text, text) {
		t.Errorf("failure is %v, want one of %s that says %q", w.failure, checker, text)
	}
}

func TestAgreementSees(t *testing.T) {
	for text, d := range map[string]paxos.Delivery{
		"somebody else applied": {Slot: 1, Entry: paxos.Entry{Kind: paxos.Seal}},
		"but nobody applied":    {Slot: 1000, Entry: paxos.Entry{Kind: paxos.NoOp}},
	} {
		w := running(t)
		w.watchApplied(w.servers[0], w.cells[0], &d)
		expect(t, w, "agreement", text)
	}
	w := running(t)
	v := w.cells[0]
	v.log[len(v.log)-1].Kind = paxos.Seal
	w.watchApplied(w.servers[0], v, &paxos.Delivery{Slot: paxos.Slot(len(v.log) + 1), Entry: paxos.Entry{Kind: paxos.NoOp}})
	expect(t, w, "agreement", "behind the seal")
}

func TestMemorySees(t *testing.T) {
	w := running(t)
	told := core.PeerMessage{Envelope: peer.Envelope{Cell: w.cells[0].id}, Message: paxos.Message{Kind: paxos.MsgPromise, Ballot: paxos.Ballot{Round: 99, Node: 1}}}
	w.watchSent(w.servers[1], w.servers[0], &told)
	w.watchTurn(w.servers[1])
	expect(t, w, "memory", "it told others of ballot 99.1")

	w = running(t)
	told.Message = paxos.Message{Kind: paxos.MsgAccepted, Slot: 500, Ballot: paxos.Ballot{Round: 1, Node: 1}}
	w.watchSent(w.servers[1], w.servers[0], &told)
	w.servers[1].crash(100)
	w.servers[1].start()
	w.runUntil(time.Second, never)
	expect(t, w, "memory", "does not know it after a restart")
}

// One member's state is changed behind its back.
func TestStateSees(t *testing.T) {
	w := running(t)
	_, m := w.servers[3].core.Inspect(w.cells[0].id)
	foreign := wire.Command{Request: cell.Request{Client: cell.ClientID{9}, Sequence: 1, Since: m.Revision()}, Txn: w.find(opIncrement).txn}
	if _, err := m.Apply(foreign.Append(nil)); err != nil {
		t.Fatal(err)
	}
	w.runUntil(time.Second, never)
	expect(t, w, "state", "its state after")
}

// A node that meets a contradiction goes out of service, and that is seen.
func TestHealthSees(t *testing.T) {
	w := running(t)
	v := w.cells[0]
	r, _ := w.servers[3].core.Inspect(v.id)
	lie := paxos.Message{Kind: paxos.MsgAccept, From: 1, To: 4, Ballot: r.Promised(), Slot: r.Applied(), Entry: paxos.Entry{Kind: paxos.NoOp}}
	w.servers[3].receive(packet{from: "s1", boot: w.servers[0].boot, messages: []core.PeerMessage{
		{From: "s1", Envelope: peer.Envelope{Cell: v.id, Incarnation: 1, Configuration: 1}, Message: lie}}})
	w.runUntil(time.Second, never)
	expect(t, w, "health", "out of service")
}

// Four of seven never come back: nobody gets an answer.
func TestAnsweredSees(t *testing.T) {
	w := running(t)
	for _, s := range w.servers[:4] {
		s.crash(100)
		s.stopped = true
	}
	w.play()
	expect(t, w, "answered", "in a healed world")
}

// One sound member hears nothing, although everything is said to be repaired.
func TestConvergenceSees(t *testing.T) {
	w := running(t)
	w.heal()
	for _, s := range w.servers {
		w.net.change(s.at, 6, allLanes, 1)
	}
	w.settling = true
	w.settle()
	expect(t, w, "convergence", "has not caught up")
}
