package main

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"physalia/cmd/physalia/colony"
	"physalia/cmd/physalia/operator"
)

// A server of a real colony is decommissioned while the control plane is killed and started again: it empties itself, its identity
// is retired, and every write that was acknowledged before is there.
func TestDecommissionARealServer(t *testing.T) {
	spec := small(t)
	spec.Servers = 9
	spec.ControlArgs = []string{"--scan-every", "1s"} // an identity is retired only after its server was asked what it hosts
	c, err := colony.Start(spec)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		if err := c.Close(ctx); err != nil {
			t.Error(err)
		}
	})
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	if err := (operator.Operator{Addresses: []string{c.ControlAddr}}).AwaitServers(ctx, 9, c.Failed); err != nil {
		t.Fatal(logsOf(err, spec.Dir))
	}
	env := map[string]string{"PHYSALIA_CONTROL_PLANE": c.ControlAddr, "PHYSALIA_TIMEOUT": "20s"}
	run := func(line string) string {
		t.Helper()
		r := runLine(t, env, "", strings.Fields(line))
		if r.code != 0 {
			t.Fatalf("physalia %s: exit %d: %s%s", line, r.code, r.stdout, r.stderr)
		}
		return r.stdout
	}
	decommission(ctx, t, c, spec, run)
}

// decommission is the story of TestDecommissionARealServer; run executes one command line that must succeed.
func decommission(ctx context.Context, t *testing.T, c *colony.Colony, spec colony.Spec, run func(string) string) {
	const cells = 12
	for i := range cells {
		run(fmt.Sprintf("cell create vol-%d", i))
		run(fmt.Sprintf("kv put vol-%d owner host-%d", i, i))
	}
	leaves := c.Servers[0].Name
	run("control pause move --reason first-look")
	run("server decommission " + leaves)
	if err := c.Control.Kill(); err != nil {
		t.Fatal(err)
	}
	if err := c.Control.Start(); err != nil {
		t.Fatal(err)
	}
	if err := (operator.Operator{Addresses: []string{c.ControlAddr}}).AwaitServers(ctx, 9, c.Failed); err != nil {
		t.Fatal(logsOf(err, spec.Dir))
	}
	show := func() (found serverView) {
		var d struct {
			Servers []serverView `json:"servers"`
		}
		if err := json.Unmarshal([]byte(run("server list -o json")), &d); err != nil {
			t.Fatal(err)
		}
		for _, s := range d.Servers {
			if s.Name == leaves {
				found = s
			}
		}
		return found
	}
	if s := show(); s.Duty != "decommissioning" || s.NodesLeft == 0 || !strings.Contains(s.Waiting, "first-look") {
		t.Fatalf("paused, and after a restart: %+v", s)
	}
	run("control resume")
	for tick := time.NewTicker(20 * time.Millisecond); show().Duty != "retired"; {
		select {
		case <-tick.C:
		case <-ctx.Done():
			t.Fatalf("it is not empty in time: %s", run("control status"))
		}
	}
	for i := range cells {
		if got := run(fmt.Sprintf("kv get vol-%d owner", i)); !strings.Contains(got, fmt.Sprintf("host-%d", i)) {
			t.Errorf("vol-%d: %s", i, got)
		}
		if got := run(fmt.Sprintf("cell show vol-%d -o json", i)); strings.Contains(got, show().Server) {
			t.Errorf("vol-%d is still on %s: %s", i, leaves, got)
		}
	}
}
