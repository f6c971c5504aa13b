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
	"physalia/cmd/physalia/demo"
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

// The demo on a small scale: kill a server, restart it, take the control plane away, and lose nothing.
func TestDemo(t *testing.T) {
	cfg := demo.Config{Colony: small(t), Cells: 6, Clients: 3, Rate: 120, Duration: 6 * time.Second, Say: t.Logf}
	d, err := demo.Start(t.Context(), cfg)
	if err != nil {
		t.Fatal(logsOf(err, cfg.Colony.Dir))
	}
	t.Cleanup(func() {
		if err := d.Close(); err != nil {
			t.Error(err)
		}
	})
	r, err := d.Run(t.Context())
	if err != nil {
		t.Fatal(logsOf(err, cfg.Colony.Dir))
	}
	if r.Verdict != "ok" || r.LostWrites != 0 || !r.Linearizable || r.AckedWrites == 0 || r.Servers != 7 || r.Cells != 6 {
		t.Errorf("%+v", r)
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
	{"volume lookup vol-2", exitNotFound, "vol-2"},
	{"volume attach vol-2 a b", exitOK, "1.1"},
	{"volume attach vol-2 a b", exitCondition, "generation 1"},
	{"volume promote vol-2 1 b -o json", exitOK, `"fence":"1.2"`},
	{"volume promote vol-2 1 b", exitCondition, "generation 2"},
	{"volume replace vol-2 2 c", exitOK, "1.3"},
	{"volume lookup vol-2 --stale", exitOK, "vol-2"},
	{"cell explain vol-1", exitOK, "7 of 7 members answer"},
	{"cell explain vol-1 -o json --server SERVER", exitOK, `"answered":7`},
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
		line := strings.NewReplacer("TXN", txn, "SERVER", c.Servers[0].Client).Replace(step.line)
		r := runLine(t, env, "", strings.Fields(line))
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
