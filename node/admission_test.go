package node

import (
	"context"
	"errors"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"

	"physalia/cell"
	"physalia/internal/rpc"
	"physalia/internal/wire"
	"physalia/node/admission"
)

// TestIdentityHasOneAccount: whoever asks over several connections has one account, which is told why he is refused, when to come
// back, and which is empty again when his connections are closed with requests in flight.
func TestIdentityHasOneAccount(t *testing.T) {
	refused := map[admission.Reason]int{}
	var mu sync.Mutex
	g := newGates(admission.IdentityLimits{Requests: 2, Bytes: 1000}, func() time.Duration { return 0 }, func(r admission.Reason) {
		mu.Lock()
		defer mu.Unlock()
		refused[r]++
	})
	one, two, other := g.open("a"), g.open("a"), g.open("b")
	must := func(err *cell.Error, want bool) {
		t.Helper()
		if (err != nil) != want {
			t.Errorf("%v", err)
		}
	}
	must(one.Enter("m", 1), false)
	must(two.Enter("m", 1), false)
	must(other.Enter("m", 1), false)
	err := two.Enter("m", 1)
	if must(err, true); err.Kind != cell.Overloaded || err.RetryAfter <= 0 || err.Op != "m" {
		t.Errorf("%+v", err)
	}
	one.Leave(1)
	must(two.Enter("m", 1), false)
	two.Leave(1)
	two.Leave(1)
	one.Close()
	if g.identities() != 2 {
		t.Error("an account with a connection was forgotten")
	}
	two.Close()
	other.Leave(1)
	other.Close()
	if g.identities() != 0 || refused[admission.IdentityRequests] != 1 {
		t.Errorf("%d accounts are left; refused %v", g.identities(), refused)
	}
}

// TestRateOfAnIdentity: a server with a rate answers what is within it and refuses the rest early, with a time to come back; the
// refusals are counted by reason, and other methods of the same connection are not hurt once the time has come.
func TestRateOfAnIdentity(t *testing.T) {
	s := startAlone(t, func(c *Config) { c.Identity.Rate = Rate{PerSecond: 1e-3, Burst: 3} })
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	conn, err := rpc.Dial(ctx, s.ClientAddr(), rpc.Config{Hello: wire.Hello{Purpose: wire.ForClient, Colony: "test"}})
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(nil)
	for i := range 5 {
		var info wire.ServerInfo
		err := conn.Call(ctx, wire.MethodServer, nil, &info)
		var e *cell.Error
		switch {
		case i < 3 && err != nil:
			t.Errorf("request %d: %v", i, err)
		case i >= 3 && (!errors.As(err, &e) || e.Kind != cell.Overloaded || e.RetryAfter < time.Minute):
			t.Errorf("request %d beyond the rate: %v", i, err)
		}
	}
	if n := testutil.ToFloat64(s.metrics.refused.WithLabelValues(string(admission.IdentityRate))); n != 2 {
		t.Errorf("%v refusals are counted", n)
	}
}
