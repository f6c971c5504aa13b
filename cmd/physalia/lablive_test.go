package main

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"physalia/cell"
	"physalia/cmd/physalia/colony"
	"physalia/cmd/physalia/operator"
	"physalia/internal/wire"
	"physalia/sim/lab"
)

// What-if on a colony of real processes: it names the cells that would be lost, and when the servers are killed in truth, those
// do not answer and the others do. Then it knows what is lost already.
func TestLabWhatIfLive(t *testing.T) {
	spec := small(t)
	spec.Servers, spec.Racks, spec.Powers = 10, 5, 5
	spec.ControlArgs = []string{"--repairs-per-second-brick", "0.5", "--repair-bytes-per-second", "300000"}
	running, err := colony.Start(spec)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := running.Close(context.Background()); err != nil {
			t.Error(err)
		}
	})
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	op := operator.Operator{Addresses: []string{running.ControlAddr}}
	if err := op.AwaitServers(ctx, 10, running.Failed); err != nil {
		t.Fatal(logsOf(err, spec.Dir))
	}
	var names []cell.ID
	for i := range 8 {
		names = append(names, cell.ID(fmt.Sprintf("vol-%d", i)))
	}
	if err := op.CreateAll(ctx, "test", names); err != nil {
		t.Fatal(logsOf(err, spec.Dir))
	}
	env := map[string]string{"PHYSALIA_CONTROL_PLANE": running.ControlAddr}
	ask := func(line ...string) (a lab.Answer) {
		t.Helper()
		r := runLine(t, env, "", append([]string{"lab", "what-if", "--live", "-o", "json"}, line...))
		if err := json.Unmarshal([]byte(r.stdout), &a); err != nil || r.code != 0 {
			t.Fatalf("%v: exit %d, %s%s", err, r.code, r.stdout, r.stderr)
		}
		return a
	}
	if a := ask(); a.Cells != 8 || a.Margins[3] != 8 || a.Lost+a.AlreadyDown+a.Repairs != 0 {
		t.Errorf("nothing is killed: %+v", a)
	}
	// One power domain costs nobody a majority, and its repair is as slow as the control plane was told to be.
	one := ask("--kill", "power=p1")
	if one.Lost != 0 || one.Repairs == 0 || one.ServersDown != 2 || !one.Hold || one.Slowest != "brick b1" || one.Seconds != float64(one.Repairs)/0.5 {
		t.Errorf("a power domain: %+v", one)
	}
	if a := ask("--kill", "power=p1", "--repairs-per-second-brick", "1000"); a.Slowest == "brick b1" || a.Seconds >= one.Seconds {
		t.Errorf("with another budget: %+v", a)
	}
	r := runLine(t, env, "", []string{"lab", "what-if", "--live", "--kill", "rack=b1/r1"})
	if r.code != 0 || !strings.Contains(r.stdout, "without a majority  0 (0 %)") || !strings.Contains(r.stdout, "its --repair-patience") {
		t.Errorf("exit %d: %s%s", r.code, r.stdout, r.stderr)
	}
	lost, victims := predictLive(t, ctx, op, running, ask)
	for _, p := range victims {
		if err := p.Kill(); err != nil {
			t.Fatal(err)
		}
	}
	for _, id := range names {
		r := runLine(t, env, "", []string{"kv", "put", string(id), "k", "1", "--timeout", "8s"})
		if gone := slices.Contains(lost, string(id)); gone == (r.code == 0) {
			t.Errorf("%s: predicted to be lost: %v, and writing ended with %d: %s", id, gone, r.code, r.stderr)
		}
	}
	for a := ask(); a.AlreadyDown != len(victims) || a.AlreadyLost != len(lost) || a.Lost != len(lost) || len(a.LostCells) != 0; a = ask() {
		if ctx.Err() != nil {
			t.Fatalf("%d were killed, %v are lost: %+v", len(victims), lost, a)
		}
	}
}

// predictLive finds servers whose loss takes some cells and not all, and what the laboratory says of it.
func predictLive(t *testing.T, ctx context.Context, op operator.Operator, running *colony.Colony, ask func(...string) lab.Answer) (lost []string, victims []*colony.Server) {
	t.Helper()
	cells, err := op.Cells(ctx, "test", "")
	if err != nil {
		t.Fatal(err)
	}
	servers, err := op.Servers(ctx, "test")
	if err != nil {
		t.Fatal(err)
	}
	for i := range cells {
		var kills []string
		var dead []cell.ServerID
		victims = nil
		for _, m := range cells[i].Members[:4] {
			at := slices.IndexFunc(servers, func(s wire.ServerState) bool { return s.Registration.Server == m.Server })
			name := servers[at].Registration.Name
			kills, dead = append(kills, "server="+name), append(dead, m.Server)
			for _, p := range running.Servers {
				if p.Name == name {
					victims = append(victims, p)
				}
			}
		}
		a := ask("--kill", strings.Join(kills, ","))
		want := []string{}
		for _, c := range cells {
			n := 0
			for _, m := range c.Members {
				if slices.Contains(dead, m.Server) {
					n++
				}
			}
			if n >= 4 {
				want = append(want, string(c.Cell))
			}
		}
		if !slices.Equal(a.LostCells, want) || a.Lost != len(want) || a.ServersDown != 4 {
			t.Errorf("%v: %+v, lost should be %v", kills, a, want)
		}
		if len(want) < len(cells) {
			return want, victims
		}
	}
	t.Fatal("every four servers take every cell: the colony is too small")
	return nil, nil
}
