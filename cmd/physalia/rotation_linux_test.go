package main

import (
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"physalia/cell"
	"physalia/client"
	"physalia/cmd/physalia/colony"
)

// dialTLS connects with the certificate of a directory, and believes everybody.
func dialTLS(certs, addr string) (net.Conn, error) {
	pair, err := tls.LoadX509KeyPair(filepath.Join(certs, "tls.crt"), filepath.Join(certs, "tls.key"))
	if err != nil {
		return nil, err
	}
	d := tls.Dialer{NetDialer: &net.Dialer{Timeout: time.Minute}, Config: &tls.Config{MinVersion: tls.VersionTLS13, InsecureSkipVerify: true, Certificates: []tls.Certificate{pair}}}
	return d.Dial("tcp", addr)
}

// rotation is a colony of real processes whose authority is replaced by the command line, as docs/security.md says.
type rotation struct {
	t    *testing.T
	spec colony.Spec
	c    *colony.Colony
	dirs []string
}

// ops are the addresses of everybody's metrics.
func (r *rotation) ops() []string {
	all := []string{r.c.ControlOps}
	for _, s := range r.c.Servers {
		all = append(all, s.Ops)
	}
	return all
}

// run runs a command that must succeed.
func (r *rotation) run(line ...string) {
	r.t.Helper()
	if ran := runLine(r.t, nil, "", append(line, "--ca", filepath.Join(r.spec.Dir, "certs", "ca"))); ran.code != 0 {
		r.t.Fatalf("physalia %v: exit %d: %s%s", line, ran.code, ran.stdout, ran.stderr)
	}
}

// taken waits until every process has taken new files once more.
func (r *rotation) taken(n float64) {
	r.t.Helper()
	for _, addr := range r.ops() {
		soon(r.t, addr+" takes its new files", func() bool {
			return sumOf(metricsOf(r.t, addr), "physalia_certificate_reloads_total", `result="taken"`) >= n
		})
		if m := metricsOf(r.t, addr); sumOf(m, "physalia_certificate_reload_failing") != 0 {
			r.t.Errorf("%s fails to take its files", addr)
		}
	}
}

// writers increment counters until they are told to stop; nothing may fail.
func (r *rotation) writers(user *client.Client, ids []cell.ID) (wrote []atomic.Int64, stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	wrote = make([]atomic.Int64, len(ids))
	var wait sync.WaitGroup
	for i, id := range ids {
		wait.Go(func() {
			pace := time.NewTicker(5 * time.Millisecond)
			defer pace.Stop()
			for ctx.Err() == nil {
				<-pace.C
				if _, err := user.Cell(id).Increment(context.WithoutCancel(ctx), "n", 1); err != nil {
					r.t.Errorf("%s: %v", id, err)
					return
				}
				wrote[i].Add(1)
			}
		})
	}
	return wrote, func() { cancel(); wait.Wait() }
}

// TestCertRotateUnderLoad: `physalia cert rotate` replaces the authority of a running colony of real processes, and `cert renew`
// every certificate, while clients write: not one request fails, and whatever was acknowledged is there. A bad file is not taken,
// is an alarm, and is mended without a restart. In the end the old authority is worth nothing.
func TestCertRotateUnderLoad(t *testing.T) {
	spec := small(t)
	spec.Secure = true
	c, op := startSecure(t, spec)
	ids := []cell.ID{"vol-1", "vol-2", "vol-3"}
	if err := op.CreateAll(t.Context(), "test", ids); err != nil {
		t.Fatal(logsOf(err, spec.Dir))
	}
	r := &rotation{t: t, spec: spec, c: c, dirs: []string{spec.User().Dir, spec.CertsDir(c.Control.Name)}}
	for _, s := range c.Servers {
		r.dirs = append(r.dirs, spec.CertsDir(s.Name))
	}
	old := filepath.Join(t.TempDir(), "old")
	if err := os.CopyFS(old, os.DirFS(spec.User().Dir)); err != nil {
		t.Fatal(err)
	}
	user := clientOf(t, spec, c)
	wrote, stop := r.writers(user, ids)
	goesOn := func() {
		t.Helper()
		for i := range wrote {
			from := wrote[i].Load()
			soon(t, "writes go on", func() bool { return wrote[i].Load() >= from+20 || t.Failed() })
		}
	}
	before := sumOf(metricsOf(t, c.Servers[0].Ops), "physalia_certificate_expiry_timestamp_seconds", `which="leaf"`)
	if at := time.Unix(int64(before), 0); at.Before(time.Now().Add(24 * time.Hour)) {
		t.Errorf("the certificate expires at %v", at)
	}
	for n, step := range []string{"begin", "switch", "finish"} {
		goesOn()
		r.run("cert", "rotate", step)
		r.run(append([]string{"cert", "renew"}, r.dirs...)...)
		r.taken(float64(n + 1))
		if err := user.ReloadCertificates(); err != nil {
			t.Fatal(err)
		}
	}
	goesOn()
	r.badFile(goesOn)
	stop()
	for i, id := range ids {
		entry, err := user.Cell(id).Get(t.Context(), "n")
		if n, _ := entry.Value.AsInt64(); err != nil || n != wrote[i].Load() {
			t.Errorf("%s counted %d, acknowledged were %d: %v", id, n, wrote[i].Load(), err)
		}
	}
	if conn, err := dialTLS(old, c.Servers[0].Client); err == nil { // in TLS 1.3 the refusal comes with the first answer
		if _, err := conn.Read(make([]byte, 1)); err == nil {
			t.Error("the old authority is still believed")
		}
		conn.Close()
	}
	soon(t, "the old certificate is counted", func() bool {
		return sumOf(metricsOf(t, c.Servers[0].Ops), "physalia_refused_total", `reason="unknown authority"`, `port="client"`) > 0
	})
}

// badFile puts a broken certificate where a server reads its own, and mends it.
func (r *rotation) badFile(goesOn func()) {
	s := r.c.Servers[3]
	name := filepath.Join(r.spec.CertsDir(s.Name), "tls.crt")
	good, err := os.ReadFile(name)
	if err != nil {
		r.t.Fatal(err)
	}
	failing := func() float64 { return sumOf(metricsOf(r.t, s.Ops), "physalia_certificate_reload_failing") }
	if err := os.WriteFile(name, []byte("not a certificate\n"), 0o644); err != nil {
		r.t.Fatal(err)
	}
	soon(r.t, "the bad file is an alarm", func() bool { return failing() == 1 })
	goesOn()
	text, err := os.ReadFile(s.Log)
	if err != nil || !strings.Contains(string(text), "new certificates cannot be used, the old ones go on") {
		r.t.Errorf("the log of %s does not say it: %v", s.Name, err)
	}
	if m := metricsOf(r.t, s.Ops); sumOf(m, "physalia_certificate_reloads_total", `result="refused"`) < 1 || sumOf(m, "physalia_certificate_expiry_timestamp_seconds", `which="leaf"`) < float64(time.Now().Unix()) {
		r.t.Errorf("%s: %v", s.Name, fmt.Sprint(sumOf(m, "physalia_certificate_reloads_total")))
	}
	if err := os.WriteFile(name, good, 0o644); err != nil {
		r.t.Fatal(err)
	}
	soon(r.t, "the mended file ends the alarm", func() bool { return failing() == 0 })
}
