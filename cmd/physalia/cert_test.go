package main

import (
	"context"
	"encoding/json"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"physalia/cmd/physalia/colony"
	"physalia/cmd/physalia/operator"
	"physalia/internal/pki"
)

// A set of certificates is made by hand as the help says, looked at, and never overwritten; keys are for their owner alone, and no
// command prints one.
func TestCertCommands(t *testing.T) {
	dir := t.TempDir()
	t.Chdir(dir)
	ok := func(says string, line ...string) string {
		t.Helper()
		r := runLine(t, nil, "", line)
		if r.code != 0 || !strings.Contains(r.stdout, says) {
			t.Errorf("physalia %s: exit %d, want %q in:\n%s%s", strings.Join(line, " "), r.code, says, r.stdout, r.stderr)
		}
		if strings.Contains(r.stdout+r.stderr, "PRIVATE") {
			t.Errorf("physalia %s prints a key", strings.Join(line, " "))
		}
		return r.stdout
	}
	wrong(t, exitUsage, "--colony is missing", "cert", "init")
	wrong(t, exitUsage, "physalia cert init", "cert", "issue", "s1", "--role", "server")
	ok("physalia eu1 authority", "cert", "init", "--colony", "eu1")
	wrong(t, exitStale, "is not overwritten", "cert", "init", "--colony", "eu1")
	ok("physalia://eu1/control/control", "cert", "issue", "control", "--role", "control")
	ok("physalia://eu1/server/b1/red/s2", "cert", "issue", "s1", "s2", "--role", "server", "--brick", "b1", "--color", "red")
	ok("physalia://eu1/operator/alice", "cert", "issue", "alice", "--role", "operator")
	wrong(t, exitStale, "is not overwritten", "cert", "issue", "s1", "--role", "server", "--brick", "b1", "--color", "red")
	wrong(t, exitUsage, "brick", "cert", "issue", "s3", "--role", "server", "--color", "red")
	wrong(t, exitUsage, "no brick", "cert", "issue", "bob", "--role", "client", "--brick", "b1")
	wrong(t, exitUsage, "role is", "cert", "issue", "bob", "--role", "king")
	wrong(t, exitUsage, "authority of", "cert", "issue", "bob", "--role", "client", "--colony", "eu2")
	wrong(t, exitUsage, "life", "cert", "issue", "bob", "--role", "client", "--life", "1s")
	if _, err := os.Stat("certs/bob"); err == nil {
		t.Error("what was refused has left something behind")
	}
	for _, name := range []string{"ca/ca.key", "certs/s1/tls.key", "certs/s1/gossip.keys", "certs/alice/tls.key"} {
		if info, err := os.Stat(name); err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("%s: %v, %v", name, info.Mode(), err)
		}
	}
	one, err := os.ReadFile("certs/s1/gossip.keys")
	if err != nil {
		t.Fatal(err)
	}
	if two, err := os.ReadFile("certs/s2/gossip.keys"); err != nil || string(one) != string(two) {
		t.Errorf("two servers of a pool have different keys: %v", err)
	}
	ok("good", "cert", "status", "certs/s1", "certs/alice")
	ok("physalia://eu1/operator/alice", "cert", "status", "--certs", "certs/alice")
	ok("not due", "cert", "renew", "certs/s1")
	ok("renewed", "cert", "renew", "certs/s1", "--force")
	certRotation(t, ok)
	if err := os.Chmod("certs/s1/tls.key", 0o644); err != nil {
		t.Fatal(err)
	}
	ok("make it 0600", "cert", "status", "certs/s1")
	if err := os.Remove("certs/s1/tls.key"); err != nil {
		t.Fatal(err)
	}
	var document struct{ Certificates []reportView }
	r := runLine(t, nil, "", []string{"cert", "status", "certs/s1", "-o", "json"})
	if err := json.Unmarshal([]byte(r.stdout), &document); err != nil || r.code != int(exitFailed) || document.Certificates[0].State != "unusable" ||
		document.Certificates[0].Identity != "physalia://eu1/server/b1/red/s1" {
		t.Errorf("exit %d: %v: %s", r.code, err, r.stdout)
	}
}

// certRotation goes through the steps, each of which has its turn.
func certRotation(t *testing.T, ok func(says string, line ...string) string) {
	t.Helper()
	wrong(t, exitRefused, "cert rotate begin", "cert", "rotate", "switch")
	wrong(t, exitRefused, "cert rotate begin", "cert", "rotate", "finish")
	for _, step := range []struct {
		name, renewed string
		authorities   int
	}{{"begin", "not due", 2}, {"switch", "renewed", 2}, {"finish", "not due", 1}} {
		if step.name == "switch" {
			wrong(t, exitRefused, "under way", "cert", "rotate", "begin")
			wrong(t, exitRefused, "cert rotate switch", "cert", "rotate", "finish")
		}
		ok("signs", "cert", "rotate", step.name)
		ok(step.renewed, "cert", "renew", "certs/s1", "certs/s2", "certs/alice", "certs/control")
		if r := pki.Inspect("certs/s1", time.Now()); r.Authorities != step.authorities || r.GossipKeys != step.authorities || r.Problem != "" {
			t.Errorf("after %s: %+v", step.name, r)
		}
	}
}

// A secure colony of real processes: who has a certificate is served, who has none is not, and no log holds a key.
func TestSecureColony(t *testing.T) {
	spec := small(t)
	spec.Secure = true
	c, err := colony.Start(spec)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := c.Close(context.Background()); err != nil {
			t.Error(err)
		}
	})
	op := operator.Operator{Colony: colony.Name, Addresses: []string{c.ControlAddr}, Certs: spec.User()}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	if err := op.AwaitServers(ctx, 7, c.Failed); err != nil {
		t.Fatal(logsOf(err, spec.Dir))
	}
	env := map[string]string{"PHYSALIA_CONTROL_PLANE": c.ControlAddr, "PHYSALIA_TIMEOUT": "20s", "PHYSALIA_CERTS": op.Certs.Dir}
	for _, step := range []struct{ line, says string }{
		{"cell create vol-1 db-1", "vol-1"}, {"kv put vol-1 k v", ""}, {"kv get vol-1 k", "v"}, {"server list", "s7"}, {"health", ""},
	} {
		if r := runLine(t, env, "", strings.Fields(step.line)); r.code != 0 || !strings.Contains(r.stdout, step.says) {
			t.Errorf("physalia %s: exit %d, want %q in:\n%s%s", step.line, r.code, step.says, r.stdout, r.stderr)
		}
	}
	userOf(t, spec, env)
	delete(env, "PHYSALIA_CERTS")
	env["PHYSALIA_TIMEOUT"] = "1s"
	for _, line := range []string{"cell list", "kv get vol-1 k"} {
		if r := runLine(t, env, "", strings.Fields(line)); r.code == 0 {
			t.Errorf("physalia %s without a certificate: %s", line, r.stdout)
		}
	}
	logs, err := filepath.Glob(filepath.Join(spec.Dir, "*.log"))
	if err != nil || len(logs) != 8 {
		t.Fatal(err, logs)
	}
	key, err := os.ReadFile(filepath.Join(spec.CertsDir("s1"), "gossip.keys"))
	if err != nil {
		t.Fatal(err)
	}
	secret := strings.Fields(string(key))
	for _, name := range logs {
		text, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		if strings.Contains(string(text), "PRIVATE KEY") || strings.Contains(string(text), secret[len(secret)-1]) {
			t.Errorf("%s holds a key", name)
		}
	}
}

// userOf is somebody with a client's certificate and a token for some keys of vol-1, at the command line before real processes.
func userOf(t *testing.T, spec colony.Spec, env map[string]string) {
	t.Helper()
	dir := t.TempDir()
	ca, token := filepath.Join(spec.Dir, "certs", "ca"), filepath.Join(dir, "token")
	for _, line := range [][]string{
		{"cert", "issue", "app", "--role", "client", "--ca", ca, "--out", dir},
		{"token", "issue", "app", "--ca", ca, "--grant", "read,write vol-1 k", "--holder", "app", "--out", token},
	} {
		if r := runLine(t, nil, "", line); r.code != 0 {
			t.Fatal(r.stderr)
		}
	}
	mine := maps.Clone(env)
	mine["PHYSALIA_CERTS"], mine["PHYSALIA_TOKEN"] = filepath.Join(dir, "app"), token
	for _, step := range []struct {
		line string
		code exitCode
		says string
	}{
		{"kv get vol-1 k", exitOK, "v"}, {"kv put vol-1 k2 w", exitOK, ""}, {"kv put vol-1 other w", exitDenied, `may not write key "other"`},
		{"kv get db-1 k", exitDenied, "is about this cell"}, {"cell create vol-2", exitDenied, "manage"}, {"kv lease grant vol-1 --ttl 30s", exitDenied, "may not lease"},
	} {
		if r := runLine(t, mine, "", strings.Fields(step.line)); r.code != int(step.code) || !strings.Contains(r.stdout+r.stderr, step.says) {
			t.Errorf("physalia %s: exit %d, want %d and %q in:\n%s%s", step.line, r.code, step.code, step.says, r.stdout, r.stderr)
		}
	}
	if r := runLine(t, env, "", strings.Fields("control audit")); r.code != 0 || !strings.Contains(r.stdout, "client/app with token app/") || !strings.Contains(r.stdout, "lifecycle.create") {
		t.Errorf("the record: exit %d\n%s%s", r.code, r.stdout, r.stderr)
	}
}
