package control

import (
	"errors"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"physalia/cell"
	"physalia/cmd/physalia/operator"
	"physalia/health"
	"physalia/internal/audit"
	"physalia/internal/grant"
	"physalia/internal/pki"
	"physalia/internal/rpc"
	"physalia/internal/wire"
)

// TestEveryMethodHasARule: a method that is added to the control plane without a rule of its own is one for operators alone, and fails
// here, so that somebody decides.
func TestEveryMethodHasARule(t *testing.T) {
	p := start(t, config(t))
	served := p.seat.clientHandlers()
	maps.Copy(served, p.healthHandlers())
	maps.Copy(served, p.proposalHandlers())
	maps.Copy(served, p.discovery.ClientHandlers())
	maps.Copy(served, p.accessHandlers())
	for _, method := range slices.Sorted(maps.Keys(served)) {
		if !grant.Known(method) {
			t.Errorf("%s has no rule in internal/grant", method)
		}
	}
	if len(served) < 20 {
		t.Errorf("only %d methods were looked at", len(served))
	}
}

// TestEveryMethodIsDenied: a client that has shown nothing is denied every method but two, whatever its parameters.
func TestEveryMethodIsDenied(t *testing.T) {
	p, issue := secured(t)
	g, err := pki.Open(pki.Settings{Dir: issue("test", pki.Identity{Role: pki.Client, Name: "nobody"})}, nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	conn, err := rpc.Dial(t.Context(), p.Addr(), rpc.Config{Hello: wire.Hello{Purpose: wire.ForClient, Colony: "test"}, FrameMax: wire.ControlFrameMax, DialContext: g.Dialer(pki.ControlPort, nil)})
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(nil)
	served := p.seat.clientHandlers()
	maps.Copy(served, p.healthHandlers())
	maps.Copy(served, p.proposalHandlers())
	maps.Copy(served, p.discovery.ClientHandlers())
	maps.Copy(served, p.accessHandlers())
	for _, method := range slices.Sorted(maps.Keys(served)) {
		if method == wire.MethodLookup || method == wire.MethodPresent {
			continue
		}
		for _, params := range []wire.Message{nil, &wire.CreateCells{}, &wire.ListServers{Limit: 1}} {
			if err := conn.Call(t.Context(), method, params, nil); !errors.Is(err, cell.Denied) {
				t.Errorf("%s: %v", method, err)
			}
		}
	}
	if n := p.gate.Denied(grant.NoToken); n < 60 {
		t.Errorf("%d denials are counted", n)
	}
	if err := conn.Call(t.Context(), wire.MethodLookup, &wire.LookupRequest{Cells: []cell.ID{"vol-1"}}, nil); err != nil {
		t.Errorf("a lookup: %v", err)
	}
}

// TestRecord: actions are recorded with who, what, why and the result, and so is what repair proposes by itself; what only looks is not;
// denials are, until they are too many.
func TestRecord(t *testing.T) {
	c := config(t)
	p, issue := secured(t, func(o *Config) { o.DataDir = c.DataDir })
	op := operator.Operator{Colony: "test", Addresses: []string{p.Addr()}, Certs: pki.Settings{Dir: issue("test", pki.Identity{Role: pki.Operator, Name: "alice"})}, Reason: "ticket 4711"}
	ctx := t.Context()
	if err := op.Pause(ctx, "test", wire.ActionOrder{Actions: []string{"move"}, By: "ann@desk", Reason: "power"}); err != nil {
		t.Fatal(err)
	}
	if err := op.EndHold(ctx, "test", "rack:b1/r2"); !errors.Is(err, cell.NotFound) {
		t.Fatal(err)
	}
	if _, err := op.Status(ctx, "test", 10); err != nil {
		t.Fatal(err)
	}
	nobody := op
	nobody.Certs.Dir, nobody.Reason = issue("test", pki.Identity{Role: pki.Client, Name: "nobody"}), ""
	began := time.Now()
	for range 2 * denialsBurst {
		if err := nobody.Resume(ctx, "test", wire.ActionOrder{}); !errors.Is(err, cell.Denied) {
			t.Fatal(err)
		}
	}
	proposed := make(chan *cell.Error, 1)
	manager{p}.Propose(health.Repair{Cell: "vol-9", Incarnation: 1, Remove: "s1-k3v9q2xa", Why: "dead for 31m"}, func(err *cell.Error) { proposed <- err })
	refusal := <-proposed
	if refusal == nil {
		t.Fatal("a cell that does not exist is repaired")
	}
	p.audit.Close() // which writes what is queued
	most := denialsBurst + int(time.Since(began).Seconds()*denialsPerSecond) + 1
	lines, err := audit.Tail(p.cfg.auditDir(), 1000, 1<<20)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	denied := 0
	for _, line := range lines {
		e, err := audit.Parse(line)
		if err != nil {
			t.Fatal(err)
		}
		if e.Result == "denied" {
			denied++
			if e.Who != "physalia://test/client/nobody" || e.Action != wire.MethodResume {
				t.Errorf("%+v", e)
			}
			continue
		}
		if e.Control != "control" || e.Time == "" {
			t.Errorf("%+v", e)
		}
		got = append(got, strings.Join([]string{e.Action, e.Who, e.Says, strings.Join(e.What, " "), e.Why, e.Result}, "|"))
	}
	const alice = "physalia://test/operator/alice"
	repair := strings.Join([]string{wire.MethodPropose, "physalia://test/control/control", "", "vol-9 s1-k3v9q2xa", "dead for 31m", refusal.Kind.String()}, "|")
	if len(got) != 4 || got[3] != repair || !strings.HasPrefix(got[0], "control.start|physalia://test/control/control||limits ") ||
		got[1] != "control.pause|"+alice+"|ann@desk|move|power|ok" || got[2] != "health.hold.end|"+alice+"||rack:b1/r2|ticket 4711|not found" {
		t.Errorf("the record has:\n%s", strings.Join(got, "\n"))
	}
	if denied < denialsBurst || denied > most {
		t.Errorf("%d denials are recorded", denied)
	}
}

// TestPace: what is let through, by a clock of its own.
func TestPace(t *testing.T) {
	var l pace
	at := time.Unix(1000, 0)
	for i := range denialsBurst {
		if ok, skipped := l.take(at); !ok || skipped != 0 {
			t.Fatalf("%d of the burst: %v, %d", i, ok, skipped)
		}
	}
	for range 5 {
		if ok, _ := l.take(at); ok {
			t.Fatal("more than the burst passes")
		}
	}
	if ok, skipped := l.take(at.Add(time.Second)); !ok || skipped != 5 {
		t.Errorf("a second later: %v, %d", ok, skipped)
	}
	if ok, _ := l.take(at.Add(time.Second)); ok {
		t.Error("two pass in a second")
	}
}
