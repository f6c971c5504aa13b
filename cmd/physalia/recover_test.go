package main

import (
	"bytes"
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"physalia/cmd/physalia/colony"
	"physalia/cmd/physalia/operator"
)

// disaster is a colony of eleven real servers that loses four of them with their disks.
type disaster struct {
	t    *testing.T
	spec colony.Spec
	*colony.Colony
	env map[string]string
}

func newDisaster(t *testing.T) *disaster {
	t.Helper()
	spec := small(t)
	spec.Servers = 11
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
	d := &disaster{t, spec, c, map[string]string{"PHYSALIA_CONTROL_PLANE": c.ControlAddr, "PHYSALIA_TIMEOUT": "30s"}}
	op := operator.Operator{Addresses: []string{c.ControlAddr}}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	if err := op.AwaitServers(ctx, spec.Servers, c.Failed); err != nil {
		t.Fatal(logsOf(err, spec.Dir))
	}
	return d
}

// run runs a command line and insists on its exit code.
func (d *disaster) run(want exitCode, line ...string) ran {
	d.t.Helper()
	r := runLine(d.t, d.env, "", line)
	if r.code != int(want) {
		d.t.Fatalf("physalia %s: exit %d, want %d\n%s%s", strings.Join(line, " "), r.code, want, r.stdout, r.stderr)
	}
	return r
}

// until repeats a look at the world until it holds; the command's deadline ends a wait in vain.
func (d *disaster) until(what string, holds func() bool) {
	d.t.Helper()
	ticker := time.NewTicker(50 * time.Millisecond)
	defer ticker.Stop()
	for deadline := time.Now().Add(30 * time.Second); !holds(); <-ticker.C {
		if time.Now().After(deadline) {
			d.t.Fatalf("in vain: %s", what)
		}
	}
}

// members lists the servers of a cell, by identity.
func (d *disaster) members(id string) (list []string) {
	d.t.Helper()
	var c cellDocument
	if err := json.Unmarshal([]byte(d.run(exitOK, "cell", "show", id, "-o", "json").stdout), &c); err != nil {
		d.t.Fatal(err)
	}
	for _, m := range c.Members {
		list = append(list, m.Server)
	}
	return list
}

// process finds the child that runs under an identity: its directory holds it.
func (d *disaster) process(identity string) *colony.Server {
	d.t.Helper()
	for _, s := range d.Servers {
		if strings.HasPrefix(identity, s.Name+"-") {
			return s
		}
	}
	d.t.Fatalf("no server has the identity %q", identity)
	return nil
}

// settled waits until every member of a cell has applied everything, so that any three of them know it.
func (d *disaster) settled(id string) {
	d.t.Helper()
	d.until("every member applied everything", func() bool {
		var x struct {
			Nodes []explanationDocument `json:"nodes"`
		}
		if err := json.Unmarshal([]byte(d.run(exitOK, "cell", "explain", id, "-o", "json").stdout), &x); err != nil {
			d.t.Fatal(err)
		}
		most := uint64(0)
		for _, m := range x.Nodes {
			most = max(most, m.Applied)
		}
		return most > 0 && !slices.ContainsFunc(x.Nodes, func(m explanationDocument) bool { return m.Applied < most })
	})
}

// destroy kills servers and deletes their directories, but keeps that of the first elsewhere: its disk was not lost in truth.
func (d *disaster) destroy(identities []string, keepsake string) {
	d.t.Helper()
	for i, id := range identities {
		s := d.process(id)
		if err := s.Kill(); err != nil {
			d.t.Fatal(err)
		}
		dir := filepath.Join(d.spec.Dir, s.Name)
		if i == 0 {
			if err := os.Rename(dir, keepsake); err != nil {
				d.t.Fatal(err)
			}
		}
		if err := os.RemoveAll(dir); err != nil {
			d.t.Fatal(err)
		}
	}
	d.until("the control plane has noticed", func() bool {
		return runLine(d.t, d.env, "", []string{"cell", "recover", "plan", "--dead", strings.Join(identities, ","), "--all"}).code == 0
	})
}

// plan asks for a plan for all cells and stores it in a file.
func (d *disaster) plan(dead string) (recoveryDocument, string) {
	d.t.Helper()
	text := d.run(exitOK, "cell", "recover", "plan", "--dead", dead, "--all", "-o", "json").stdout
	var plan recoveryDocument
	if err := json.Unmarshal([]byte(text), &plan); err != nil {
		d.t.Fatalf("%v: %s", err, text)
	}
	file := filepath.Join(d.t.TempDir(), "plan.json")
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		d.t.Fatal(err)
	}
	return plan, file
}

// Four of seven members are killed and their directories deleted. The plan says what it would do and does nothing; applied, it
// brings the cell back with everything that the survivors had; the dead identities are refused when they return.
func TestRecoverARealColony(t *testing.T) {
	d := newDisaster(t)
	d.run(exitOK, "cell", "create", "vol-1", "vol-2")
	for _, key := range []string{"a", "b", "c"} {
		d.run(exitOK, "kv", "put", "vol-1", key, "value of "+key)
	}
	d.run(exitOK, "volume", "attach", "vol-2", "A", "B")
	d.settled("vol-1")
	d.settled("vol-2")
	dead := d.members("vol-1")[:4]
	names := strings.Join(dead, ",")
	keepsake := filepath.Join(t.TempDir(), "keepsake")
	d.destroy(dead, keepsake)
	d.run(exitRefused, "cell", "recover", "plan", "--dead", dead[0], "--cells", "vol-1", "-o", "json") // three more are silent
	plan, file := d.plan(names)
	if !slices.ContainsFunc(plan.Cells, func(c recoveryCellDocument) bool {
		return c.Cell == "vol-1" && c.NewIncarnation == 2 && len(c.Lost) == 4 && len(c.Survivors) == 3 && c.Problem == "" && c.RecoveredTo >= 3
	}) {
		t.Fatalf("the plan is %+v", plan)
	}
	d.run(exitUsage, "cell", "recover", "apply", "--plan", file)
	for range 2 { // repeating it is harmless
		if r := d.run(exitOK, "cell", "recover", "apply", "--plan", file, "--i-understand-data-may-be-lost"); !strings.Contains(r.stdout, "vol-1  recovered") {
			t.Errorf("apply says %s%s", r.stdout, r.stderr)
		}
	}
	for _, key := range []string{"a", "b", "c"} {
		if r := d.run(exitOK, "kv", "get", "vol-1", key, "--raw"); strings.TrimSpace(r.stdout) != "value of "+key {
			t.Errorf("key %s is %q", key, r.stdout)
		}
	}
	d.run(exitOK, "kv", "put", "vol-1", "d", "after the loss")
	if r := d.run(exitOK, "volume", "lookup", "vol-2"); !strings.Contains(r.stdout, "A") {
		t.Errorf("the other cell answers %s", r.stdout)
	}
	if now := d.members("vol-1"); slices.ContainsFunc(now, func(id string) bool { return slices.Contains(dead, id) }) {
		t.Errorf("members are %v, dead are %v", now, dead)
	}
	d.run(exitRefused, "cell", "recover", "plan", "--dead", names, "--cells", "vol-1")
	d.returns(dead[0], keepsake)
}

// returns starts a server that was declared dead from the disk that was not lost, and waits until it is told so.
func (d *disaster) returns(identity, keepsake string) {
	d.t.Helper()
	s := d.process(identity)
	if err := os.Rename(keepsake, filepath.Join(d.spec.Dir, s.Name)); err != nil {
		d.t.Fatal(err)
	}
	if err := s.Start(); err != nil {
		d.t.Fatal(err)
	}
	d.until("the server that returns is told that its identity is retired", func() bool {
		log, err := os.ReadFile(s.Log)
		return err == nil && bytes.Contains(log, []byte("retired for good"))
	})
}

// A plan is not edited, and comes from this version.
func TestRecoverRefusesPlans(t *testing.T) {
	dir := t.TempDir()
	for i, text := range []string{"", "{}", `{"v":2}`, `{"v":1,"cell":[]}`, "[]"} {
		file := filepath.Join(dir, string(rune('a'+i)))
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		r := runLine(t, nil, "", []string{"cell", "recover", "apply", "--i-understand-data-may-be-lost", "--plan", file})
		if r.code != int(exitUsage) || !strings.Contains(r.stderr, "plan") {
			t.Errorf("%q: exit %d, %s", text, r.code, r.stderr)
		}
	}
	for _, line := range []string{"plan --all", "plan --dead s1", "plan --dead s1 --all --cells a", "apply --i-understand-data-may-be-lost",
		"apply --i-understand-data-may-be-lost --plan /nowhere", "nothing"} {
		if r := runLine(t, nil, "", append([]string{"cell", "recover"}, strings.Fields(line)...)); r.code != int(exitUsage) {
			t.Errorf("%s: exit %d, %s", line, r.code, r.stderr)
		}
	}
}
