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
)

// repairColony is twelve real server processes in six racks of two, whose control plane has little patience, with cells.
type repairColony struct {
	t   *testing.T
	dir string
	*colony.Colony
	op  operator.Operator
	ctx context.Context
	ids []cell.ServerID // of the servers, by position
}

func startRepairColony(t *testing.T, cells int) *repairColony {
	spec := small(t)
	spec.Servers, spec.Racks, spec.Powers = 12, 6, 4
	for name, value := range map[string]string{"PATIENCE": "3s", "SETTLE": "1s", "RETURN": "1s"} {
		t.Setenv("PHYSALIA_REPAIR_"+name, value)
	}
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
	t.Cleanup(cancel)
	c := &repairColony{t: t, dir: spec.Dir, Colony: running, op: operator.Operator{Addresses: []string{running.ControlAddr}}, ctx: ctx}
	if err := c.op.AwaitServers(ctx, 12, running.Failed); err != nil {
		t.Fatal(logsOf(err, spec.Dir))
	}
	servers, err := c.op.Servers(ctx, "test")
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range running.Servers {
		at := slices.IndexFunc(servers, func(v wire.ServerState) bool { return v.Registration.Name == s.Name })
		c.ids = append(c.ids, servers[at].Registration.Server)
	}
	var names []cell.ID
	for i := range cells {
		names = append(names, cell.ID(fmt.Sprintf("vol-%02d", i)))
	}
	outcomes, err := c.op.Create(ctx, "test", wire.CreateCells{Cells: names})
	if err != nil {
		t.Fatal(err)
	}
	for _, o := range outcomes {
		if o.Err != nil {
			t.Fatal(o.Err)
		}
	}
	return c
}

// hosting counts the cells that have a member on one of some servers, and those with fewer than seven live members.
func (c *repairColony) hosting(ids ...cell.ServerID) (hosting, wounded int) {
	cells, err := c.op.Cells(c.ctx, "test", "")
	if err != nil {
		c.t.Fatal(logsOf(err, c.dir))
	}
	for _, v := range cells {
		if slices.ContainsFunc(v.Members, func(m wire.Founder) bool { return slices.Contains(ids, m.Server) }) {
			hosting++
		}
		if v.Live < 7 {
			wounded++
		}
	}
	return hosting, wounded
}

// await waits until a condition holds.
func (c *repairColony) await(what string, f func() bool) {
	c.t.Helper()
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for !f() {
		select {
		case <-c.ctx.Done():
			c.t.Fatal(logsOf(fmt.Errorf("%s: %w", what, c.ctx.Err()), c.dir))
		case <-tick.C:
		}
	}
}

// health is what `physalia health -o json` says.
func (c *repairColony) health() healthDocument {
	c.t.Helper()
	var got struct{ Control []healthDocument }
	r := runLine(c.t, map[string]string{"PHYSALIA_CONTROL_PLANE": c.ControlAddr}, "", []string{"health", "-o", "json"})
	if err := json.Unmarshal([]byte(r.stdout), &got); err != nil || len(got.Control) != 1 {
		c.t.Fatalf("%v: %s%s", err, r.stdout, r.stderr)
	}
	return got.Control[0]
}

// A server is killed: after the patience its cells are whole again on other servers.
func TestSlowRepair(t *testing.T) {
	c := startRepairColony(t, 20)
	before, _ := c.hosting(c.ids[0])
	if before == 0 {
		t.Fatal("no cell on the server that shall die")
	}
	if err := c.Servers[0].Kill(); err != nil {
		t.Fatal(err)
	}
	killed := time.Now()
	c.await("cells of a dead server are repaired", func() bool {
		hosting, wounded := c.hosting(c.ids[0])
		return hosting+wounded == 0
	})
	h := c.health()
	t.Logf("%d cells repaired %v after the kill, patience 3s; counts %v", before, time.Since(killed).Round(100*time.Millisecond), h.Counts)
	if len(h.Holds) != 0 || h.Counts["done"] < uint64(before) || len(h.Servers) != 1 || h.Servers[0].State != "dead" {
		t.Errorf("%+v", h)
	}
}

// A whole rack is killed: a hold begins, shows, and ends by hand; only then are its cells repaired.
func TestRackHold(t *testing.T) {
	c := startRepairColony(t, 20)
	rack := []cell.ServerID{c.ids[1], c.ids[7]}
	for _, i := range []int{1, 7} {
		if err := c.Servers[i].Kill(); err != nil {
			t.Fatal(err)
		}
	}
	before, _ := c.hosting(rack...)
	var held holdDocument
	c.await("a hold on the rack, and its cells under it", func() bool {
		h := c.health()
		for _, held = range h.Holds {
			if held.Domain == "rack:b1/r2" {
				return slices.ContainsFunc(h.Pools, func(p poolDocument) bool { return p.Held == uint64(before) })
			}
		}
		return false
	})
	if after, _ := c.hosting(rack...); after != before || held.Away != 2 || held.Size != 2 {
		t.Errorf("%d of %d cells still have a member there under the hold %+v", after, before, held)
	}
	env := map[string]string{"PHYSALIA_CONTROL_PLANE": c.ControlAddr}
	if r := runLine(t, env, "", []string{"health"}); r.code != 0 || !strings.Contains(r.stdout, held.End) || !strings.Contains(r.stdout, "2 of 2") {
		t.Errorf("exit %d: %s%s", r.code, r.stdout, r.stderr)
	}
	if r := runLine(t, env, "", strings.Fields(strings.TrimPrefix(held.End, "physalia "))); r.code != 0 {
		t.Errorf("exit %d: %s%s", r.code, r.stdout, r.stderr)
	}
	c.await("cells are repaired after the hold", func() bool {
		hosting, wounded := c.hosting(rack...)
		return hosting+wounded == 0
	})
	if h := c.health(); len(h.Holds) != 0 || len(h.Cells) != 0 {
		t.Errorf("%+v", h)
	}
}
