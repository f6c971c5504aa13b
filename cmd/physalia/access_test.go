package main

import (
	"bytes"
	"encoding/json"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"physalia/cmd/physalia/control"
	"physalia/internal/audit"
	"physalia/internal/pki"
)

// guarded is a control process with certificates, in this process, and the command line before it, in a directory of its own.
type guarded struct {
	t      *testing.T
	config control.Config
	log    *logText
	*control.Control
}

// logText is a log that a test reads afterwards.
type logText struct {
	mu sync.Mutex
	b  bytes.Buffer
}

// Write implements io.Writer.
func (l *logText) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *logText) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

func newGuarded(t *testing.T) *guarded {
	t.Helper()
	t.Chdir(t.TempDir())
	g := &guarded{t: t, log: &logText{}}
	g.ok("", "cert init --colony eu1")
	g.ok("", "cert issue control --role control")
	g.ok("", "cert issue alice --role operator")
	g.ok("", "cert issue app thief --role client")
	g.config = control.Config{DataDir: "data", Colony: "eu1", Name: "control", Listen: "127.0.0.1:0", Seed: 1, ListenJoin: "127.0.0.1:0", JoinCA: "ca",
		Certs: pki.Settings{Dir: "certs/control"}, Logger: slog.New(slog.NewTextHandler(g.log, &slog.HandlerOptions{Level: slog.LevelDebug}))}
	g.start()
	return g
}

func (g *guarded) start() {
	g.t.Helper()
	p, err := control.Start(g.config)
	if err != nil {
		g.t.Fatal(err)
	}
	g.Control = p
	g.t.Cleanup(g.stop)
}

func (g *guarded) stop() {
	g.t.Helper()
	if g.Control == nil {
		return
	}
	if err := g.Close(); err != nil {
		g.t.Error(err)
	}
	g.Control = nil
}

// run executes a command line; words are separated by spaces, but for those in double quotes.
func (g *guarded) run(stdin, line string) ran {
	g.t.Helper()
	var words []string
	for i, part := range strings.Split(line, `"`) {
		if i%2 == 1 {
			words = append(words, part)
			continue
		}
		words = append(words, strings.Fields(part)...)
	}
	env := map[string]string{"PHYSALIA_TIMEOUT": "20s"}
	if g.Control != nil {
		env["PHYSALIA_CONTROL_PLANE"] = g.Addr()
	}
	return runLine(g.t, env, stdin, words)
}

// ok runs what must succeed, and fails what does not; says must stand in the output.
func (g *guarded) ok(says, line string) string {
	g.t.Helper()
	r := g.run("", line)
	if r.code != 0 || !strings.Contains(r.stdout+r.stderr, says) {
		g.t.Fatalf("physalia %s: exit %d, want %q in:\n%s%s", line, r.code, says, r.stdout, r.stderr)
	}
	return r.stdout
}

// fails runs what must end with a code.
func (g *guarded) fails(code exitCode, says, line string) {
	g.t.Helper()
	if r := g.run("", line); r.code != int(code) || !strings.Contains(r.stderr, says) {
		g.t.Errorf("physalia %s: exit %d, want %d and %q in:\n%s%s", line, r.code, code, says, r.stdout, r.stderr)
	}
}

// TestTokenCommands: who may ask the control plane for what, at the command line, and what the files and the output hold.
func TestTokenCommands(t *testing.T) {
	g := newGuarded(t)
	g.ok("app/", `token issue app --grant "read,write vol-* p/" --grant "manage vol-*" --holder app --out app.token`)
	g.ok("read,write vol-* p/; manage vol-*", "token show app.token")
	g.ok("app/", "token show app.token --certs certs/control")
	for _, name := range []string{"app.token", "ca/tokens.keys"} {
		if info, err := os.Stat(name); err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("%s: %v, %v", name, info.Mode(), err)
		}
	}
	g.fails(exitUsage, "exist", `token issue app --grant "read *" --out app.token`)
	g.fails(exitUsage, "no verb", `token issue app --grant "reed *"`)
	g.fails(exitUsage, "0 grants", "token issue app")
	g.fails(exitUsage, "seconds", `token issue app --grant "read *" --life 2000h`)
	g.fails(exitUsage, "plain text", "cell list --token app.token")
	g.fails(exitUsage, "plain text", "kv get vol-1 k --token app.token")

	const app, alice = " --certs certs/app --token app.token", " --certs certs/alice"
	g.ok("", "cell list --prefix vol-"+app)
	g.fails(exitDenied, "is about all the cells", "cell list"+app)
	g.fails(exitDenied, "no token", "cell list --certs certs/app")
	g.fails(exitDenied, "no grant", "cell delete db-1"+app)
	g.fails(exitDenied, "admin", "control pause"+app)
	g.fails(exitDenied, "admin", "control audit"+app)
	g.fails(exitDenied, "view", "control status"+app)
	g.fails(exitDenied, "no operator", "cert join-token s1 --brick b1 --color red"+app)
	g.fails(exitDenied, "other holder", "cell list --prefix vol- --certs certs/thief --token app.token")
	g.ok("", "control pause move --reason ticket-4711"+alice)
	g.ok("", "control resume move"+alice)
	g.ok("", `token issue ops --grant "admin,view *" --out ops.token`)
	g.ok("", "control pause repair --certs certs/app --token ops.token")

	// A rotation of the keys takes tokens along.
	g.ok("", "cert rotate begin")
	g.ok("", "cert rotate switch")
	g.ok("app/", "token show app.token")
	g.ok("", "cert rotate finish")
	g.fails(exitDenied, "unknown key", "token show app.token")
	text, err := os.ReadFile("app.token")
	if err != nil {
		t.Fatal(err)
	}
	g.holdsNot(strings.TrimSpace(string(text)))
}

// holdsNot looks for a secret where none belongs.
func (g *guarded) holdsNot(secret string) {
	g.t.Helper()
	g.stop() // which writes what is queued
	lines, err := audit.Tail("data/audit", 1000, 1<<20)
	if err != nil || len(lines) == 0 {
		g.t.Fatal(err, len(lines))
	}
	for place, text := range map[string]string{"the log": g.log.String(), "the record": strings.Join(lines, "\n")} {
		if strings.Contains(text, secret) || strings.Contains(text, "PRIVATE") {
			g.t.Errorf("%s holds a secret", place)
		}
	}
}

// TestJoin: a join token gets one certificate, of the name that it was made for, and no second one, also after a restart.
func TestJoin(t *testing.T) {
	g := newGuarded(t)
	g.ok("", "cert join-token s1 --brick b1 --color red --out s1.join --certs certs/alice")
	g.ok("", "cert join-token s2 --brick b1 --color red --out s2.join --certs certs/alice")
	from := g.JoinAddr()
	g.ok("physalia://eu1/server/b1/red/s1", "cert join s1.join --out joined/s1 --from "+from)
	if r := pki.Inspect("joined/s1", time.Now()); r.Problem != "" || r.Warning != "" || r.GossipKeys != 1 || r.Identity.String() != "physalia://eu1/server/b1/red/s1" {
		t.Errorf("%+v", r)
	}
	g.fails(exitStale, "exists", "cert join s2.join --out joined/s1 --from "+from)
	g.fails(exitStale, "was used", "cert join s1.join --out joined/again --from "+from)
	g.fails(exitUsage, "no join token", "cert join ca/ca.crt --out joined/none --from "+from)

	// Another colony's token, of the same secret, is for another authority.
	foreign, err := pki.InitHome("foreign", "eu1", time.Now())
	if err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile("s2.join")
	if err != nil {
		t.Fatal(err)
	}
	token, err := pki.ParseJoinToken(string(text))
	if err != nil {
		t.Fatal(err)
	}
	wrong := token
	wrong.Authority = pki.Fingerprint(foreign.Signer.Certificate)
	write := func(name, text string) {
		t.Helper()
		if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("wrong.join", wrong.Text())
	g.fails(exitRefused, "another authority", "cert join wrong.join --out joined/wrong --from "+from)
	unknown := token
	unknown.Secret[0]++
	write("unknown.join", unknown.Text())
	g.fails(exitNotFound, "no such join token", "cert join unknown.join --out joined/unknown --from "+from)
	for _, name := range []string{"again", "wrong", "unknown", "none"} {
		if _, err := os.Stat(filepath.Join("joined", name, "tls.key")); !os.IsNotExist(err) {
			t.Errorf("joined/%s has a key: %v", name, err)
		}
	}

	g.stop()
	g.start()
	from = g.JoinAddr()
	g.fails(exitStale, "was used", "cert join s1.join --out joined/again --from "+from)
	g.ok("server/b1/red/s2", "cert join s2.join --out joined/s2 --from "+from)

	// The record has all of it, and no secret.
	var joins []string
	for _, line := range strings.Split(strings.TrimSpace(g.ok("", "control audit -o json --certs certs/alice")), "\n") {
		var e audit.Entry
		if err := json.Unmarshal([]byte(line), &e); err != nil {
			t.Fatal(err)
		}
		if strings.HasPrefix(e.Action, "join.") {
			joins = append(joins, strings.Join([]string{e.Action, e.Result, strings.Join(e.What, " ")}, " "))
		}
	}
	if len(joins) < 6 || joins[0] != "join.invite ok physalia://eu1/server/b1/red/s1" || joins[2] != "join.redeem ok physalia://eu1/server/b1/red/s1" {
		t.Errorf("the record has:\n%s", strings.Join(joins, "\n"))
	}
	g.holdsNot(strings.TrimSpace(string(text)))
}

// TestJoinWithoutAKey: a control process that was not given the authority's key says so.
func TestJoinWithoutAKey(t *testing.T) {
	g := newGuarded(t)
	g.stop()
	g.config.ListenJoin, g.config.JoinCA = "", ""
	g.start()
	g.fails(exitRefused, "--join-ca", "cert join-token s1 --brick b1 --color red --certs certs/alice")
}
