package main

import (
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"physalia/cmd/physalia/colony"
	"physalia/cmd/physalia/operator"
)

// asBinary makes the test binary behave as the physalia binary, so that tests run real processes.
const asBinary = "RUN_AS_PHYSALIA"

func TestMain(m *testing.M) {
	if os.Getenv(asBinary) != "" {
		main()
		return
	}
	os.Exit(m.Run())
}

// small is a colony of seven real server processes.
func small(t *testing.T) colony.Spec {
	t.Helper()
	t.Setenv(asBinary, "yes")
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	return colony.Spec{Binary: self, Dir: t.TempDir(), Bricks: 1, Colors: 1, Servers: 7, Racks: 4, Powers: 3, MemTableBytes: 1 << 20}
}

// The demo on a small scale: kill a server, restart it, take the control plane away, and lose nothing. The last line of
// standard output is one JSON object with the promised fields.
func TestDemo(t *testing.T) {
	t.Setenv(asBinary, "yes")
	r := runLine(t, nil, "", strings.Fields("demo --bricks 1 --colors 1 --servers 8 --cells 6 --rate 120 --duration 6s -o json"))
	got := lastDocument(t, r, "verdict", "servers", "cells", "acked_writes", "lost_writes", "linearizable", "unavailable_ms_max",
		"control_plane_down_errors", "write_p50_ms", "write_p99_ms", "block_writes", "block_writes_lost", "split_brain_acks",
		"failovers", "failover_ms_max", "members_replaced", "replace_ms", "replace_errors")
	if r.code != 0 || got["verdict"] != "ok" || got["lost_writes"] != 0.0 || got["linearizable"] != true || got["acked_writes"] == 0.0 ||
		got["servers"] != 8.0 || got["members_replaced"] != 1.0 || got["replace_errors"] != 0.0 || got["cells"] != 6.0 || got["control_plane_down_errors"] != 0.0 ||
		got["block_writes"] == 0.0 || got["block_writes_lost"] != 0.0 || got["split_brain_acks"] != 0.0 || got["failovers"] == 0.0 {
		t.Errorf("exit %d: %v\n%s", r.code, got, r.stderr)
	}
}

// The bench on a small scale; its numbers mean nothing here, but what it verified does.
func TestBench(t *testing.T) {
	t.Setenv(asBinary, "yes")
	r := runLine(t, nil, "", strings.Fields("bench --cells 10 --clients 4 --duration 500ms -o json"))
	got := lastDocument(t, r, "writes_per_s", "reads_per_s", "write_p50_ms", "write_p99_ms", "read_p50_ms", "servers_cpu_us_per_write",
		"client_cpu_us_per_write", "errors", "verified", "fdatasync_p50_us", "fdatasync_p99_us", "cells", "clients")
	if r.code != 0 || got["verified"] != true || got["errors"] != 0.0 || got["writes_per_s"] == 0.0 || got["cells"] != 10.0 || got["clients"] != 4.0 {
		t.Errorf("exit %d: %v\n%s", r.code, got, r.stderr)
	}
}

// lastDocument reads the last line of standard output as a JSON object with at least the given fields.
func lastDocument(t *testing.T, r ran, fields ...string) map[string]any {
	t.Helper()
	lines := strings.Split(strings.TrimSpace(r.stdout), "\n")
	var got map[string]any
	if err := json.Unmarshal([]byte(lines[len(lines)-1]), &got); err != nil {
		t.Fatalf("%v in %q\n%s", err, r.stdout, r.stderr)
	}
	for _, name := range fields {
		if _, ok := got[name]; !ok {
			t.Errorf("%s is missing in %v", name, got)
		}
	}
	return got
}

// A trial that makes no sense is refused before anything is started, and one that keeps its files wants an empty directory.
func TestTrialRefusals(t *testing.T) {
	full := t.TempDir()
	if err := os.WriteFile(filepath.Join(full, "x"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, line := range []string{"demo --cells 0 --duration 1s", "demo --duration 10ms", "demo --bricks 0", "demo --colors 9", "bench --clients 0",
		"bench --value-size 4", "demo --keep " + full, "bench --keep " + full, "bench 1000"} {
		if r := runLine(t, nil, "", strings.Fields(line)); r.code != int(exitUsage) || r.stdout != "" {
			t.Errorf("physalia %s: exit %d: %s%s", line, r.code, r.stdout, r.stderr)
		}
	}
}

// commandSteps are command lines in order, with their exit codes and what they say: on standard output, or on standard
// error for a failure. TXN is a file with a transaction, SERVER the address of a server.
var commandSteps = []struct {
	line string
	code exitCode
	says string
}{
	{"cell create vol-1 vol-2", exitOK, "vol-2  created"},
	{"cell create vol-1", exitOK, "vol-1  created"},
	{"cell list -o json", exitOK, `"margin":3`},
	{"cell list --prefix vol-2", exitOK, "vol-2"},
	{"cell show vol-1", exitOK, "7/7"},
	{"cell show vol-1", exitOK, "can lose 3 more"},
	{"health", exitOK, "colony"},
	{"health -o json", exitOK, `"holds":[]`},
	{"health --limit 0", exitUsage, "allowed are 1 to 1024"},
	{"control hold end rack:b1/r1", exitNotFound, "there is no hold"},
	{"control hold begin rack:b1/r1", exitUsage, "unknown command"},
	{"cell show vol-9", exitNotFound, "does not know this cell"},
	{"kv put vol-1 owner s1", exitOK, "revision"},
	{"kv put vol-1 owner s3 --if-absent", exitCondition, `the key is "s1", version 1`},
	{"kv put vol-1 owner s1 --if-version 1", exitOK, "revision"},
	{"kv get vol-1 owner", exitOK, `"s1"`},
	{"kv get vol-1 owner --raw", exitOK, "s1"},
	{"kv get vol-1 owner nobody -o json", exitNotFound, "not_found"},
	{"kv put vol-1 count 41 --type int", exitOK, "revision"},
	{"kv txn vol-1 TXN", exitOK, `"s2"`},
	{"kv txn vol-1 TXN", exitCondition, "did not hold"},
	{"kv scan vol-1", exitOK, "count"},
	{"kv scan vol-1 own --limit 1 -o json", exitOK, `"value":"s2"`},
	{"kv delete vol-1 owner", exitOK, "true"},
	{"kv delete vol-1 owner", exitOK, "false"},
	{"kv get vol-1 owner", exitNotFound, "no such key: owner"},
	{"kv lease list vol-2 -o json", exitOK, `"leases":[]`},
	{"kv lease grant vol-2 --ttl 10m --label host-1 -o json", exitOK, `{"lease":1,"token":"1.1","ttl_ms":600000}`},
	{"kv put vol-2 lock host-1 --lease 1", exitOK, "revision"},
	{"kv get vol-2 lock -o json", exitOK, `"lease":1`},
	{"kv lease keep vol-2 1", exitOK, "kept  1"},
	{"kv lease list vol-2", exitOK, `"host-1"  1`},
	{"kv lease revoke vol-2 1 -o json", exitOK, `"revoked":true`},
	{"kv get vol-2 lock", exitNotFound, "no such key: lock"},
	{"kv put vol-2 lock host-1 --lease 1", exitStale, "lease 1 is not held"},
	{"kv lease keep vol-2 1", exitStale, "lease 1 is not held"},
	{"kv lease grant vol-2 --ttl 1ms", exitUsage, "allowed are 100ms to 1h0m0s"},
	{"kv lease keep vol-2 one", exitUsage, "a lease is a number"},
	{"kv lease steal vol-2", exitUsage, "unknown command"},
	{"volume lookup vol-2", exitNotFound, "vol-2"},
	{"volume attach vol-2 a b", exitOK, "1.1"},
	{"volume attach vol-2 a b", exitCondition, "generation 1"},
	{"volume promote vol-2 1 b -o json", exitOK, `"fence":"1.2"`},
	{"volume promote vol-2 1 b", exitCondition, "generation 2"},
	{"volume replace vol-2 2 c", exitOK, "1.3"},
	{"volume lookup vol-2 --stale", exitOK, "vol-2"},
	{"cell explain vol-1", exitOK, "7 of 7 members answer"},
	{"cell explain vol-1 -o json --server SERVER", exitOK, `"answered":7`},
	{"control pause create delete --reason flood --by ann", exitOK, "flood"},
	{"control status -o json", exitOK, `"action":"create","by":"ann"`},
	{"cell create vol-3", exitRefused, "vol-3"},
	{"control resume create -o json", exitOK, `"pauses":[{"action":"delete"`},
	{"cell create vol-3", exitOK, "vol-3"},
	{"control resume", exitOK, ""},
	{"control pause everything", exitUsage, "the actions are create, delete, move and repair"},
	{"control status", exitOK, "repair    colony"},
	{"control status --limit -1", exitUsage, "--limit"},
	{"server list", exitOK, "serving"},
	{"server drain NAME --reason old", exitOK, "draining"},
	{"control status", exitOK, "old"},
	{"server undrain NAME -o json", exitOK, `"duty":"serving"`},
	{"server decommission nobody", exitNotFound, "never registered"},
	{"cell delete vol-1", exitOK, "vol-1  deleted"},
	{"kv get vol-1 count", exitNotFound, "vol-1"},
	{"kv get vol-9 count", exitNotFound, "vol-9"},
	{"cell list --control-plane 127.0.0.1:1", exitUnavailable, "no address of the control plane answers"},
}

// Every command that uses a colony, against a real one, with its exit codes.
func TestCommands(t *testing.T) {
	spec := small(t)
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
	op := operator.Operator{Addresses: []string{c.ControlAddr}}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	if err := op.AwaitServers(ctx, 7, c.Failed); err != nil {
		t.Fatal(logsOf(err, spec.Dir))
	}
	txn := filepath.Join(t.TempDir(), "txn")
	if err := os.WriteFile(txn, []byte("if owner value == \"s1\"\nthen put owner \"s2\"\nelse get owner\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	env := map[string]string{"PHYSALIA_CONTROL_PLANE": c.ControlAddr, "PHYSALIA_TIMEOUT": "20s"}
	for _, step := range commandSteps {
		line := strings.NewReplacer("TXN", txn, "SERVER", c.Servers[0].Client, "NAME", c.Servers[1].Name).Replace(step.line)
		r := runLine(t, env, "", strings.Fields(line))
		for strings.Contains(line, "--stale") && r.code != int(step.code) && ctx.Err() == nil {
			r = runLine(t, env, "", strings.Fields(line)) // a member may be a quarter of a second behind, and nobody here has seen more
		}
		told := r.stdout
		if step.code != exitOK {
			told = r.stderr
		}
		if r.code != int(step.code) || !strings.Contains(told, step.says) {
			t.Errorf("physalia %s: exit %d, want %d and %q in:\n%s%s", step.line, r.code, step.code, step.says, r.stdout, r.stderr)
		}
	}
	var page struct {
		Cells []cellDocument `json:"cells"`
	}
	r := runLine(t, env, "", []string{"cell", "list", "--prefix", "vol-2", "-o", "json"})
	if err := json.Unmarshal([]byte(r.stdout), &page); err != nil || len(page.Cells) != 1 || len(page.Cells[0].Members) != 7 {
		t.Errorf("%v: %s", err, r.stdout)
	}
}

// A daemon refuses what it cannot serve with, says what to do, and leaves things as they are.
func TestDaemonRefusals(t *testing.T) {
	spec := small(t)
	c, err := colony.Start(spec)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := c.Close(context.Background()); err != nil {
			t.Error(err)
		}
	})
	op := operator.Operator{Addresses: []string{c.ControlAddr}}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	if err := op.AwaitServers(ctx, 7, c.Failed); err != nil {
		t.Fatal(logsOf(err, spec.Dir))
	}
	if err := c.Servers[6].Kill(); err != nil {
		t.Fatal(err)
	}
	server := func(name, dir, client string) []string {
		return []string{"server", "--colony", "local", "--name", name, "--data-dir", dir, "--brick", "b1", "--rack", "r1", "--power", "p1",
			"--color", "red", "--listen-peer", "127.0.0.1:0", "--listen-client", client, "--listen-gossip", "127.0.0.1:0", "--listen-ops", ""}
	}
	foreign := filepath.Join(spec.Dir, c.Servers[6].Name)
	for _, step := range []struct {
		line []string
		says string
	}{
		{server("other", foreign, "127.0.0.1:0"), "other"},
		{server("new", t.TempDir(), c.Servers[0].Client), c.Servers[0].Client},
		{server("new", filepath.Join(spec.Dir, c.Servers[0].Name), "127.0.0.1:0"), ""},
		{server("", t.TempDir(), "127.0.0.1:0"), "name"},
		{[]string{"server", "now"}, "unexpected arguments"},
		{[]string{"server", "--log-format", "xml"}, "--log-format text or json"},
		{[]string{"control", "--colony", "x", "--data-dir", t.TempDir(), "--listen", c.ControlAddr}, "address already in use"},
		{[]string{"control", "--data-dir", t.TempDir()}, "--colony"},
		{[]string{"control", "--colony", "x"}, "--data-dir is missing"},
		{[]string{"control", "--colony", "x", "--data-dir", t.TempDir(), "--listen", "here"}, "write host:port"},
	} {
		if r := runLine(t, nil, "", step.line); r.code == 0 || !strings.Contains(r.stderr, step.says) {
			t.Errorf("physalia %s: exit %d, want %q in:\n%s", strings.Join(step.line, " "), r.code, step.says, r.stderr)
		}
	}
	r := runLine(t, map[string]string{"PHYSALIA_CONTROL_PLANE": c.ControlAddr}, "", []string{"cell", "create", "vol-1", "--timeout", "2s"})
	if r.code == 0 || !strings.Contains(r.stdout, "6 live servers; a cell needs 7") {
		t.Errorf("a brick with too few servers: exit %d, %s%s", r.code, r.stdout, r.stderr)
	}
}
