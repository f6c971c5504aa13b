package etcdstore

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"physalia/cell"
	"physalia/internal/etcdtest"
	"physalia/internal/roster"
	"physalia/lifecycle"
)

// instance is one member under test, and the terms that it is in.
type instance struct {
	*Member
	t      *testing.T
	cancel context.CancelFunc
	ended  chan struct{}
	terms  chan *Term // a term has begun
	over   chan int64 // a term is over
}

// run starts a member whose terms last until they are ended.
func run(t *testing.T, e *etcdtest.Server, name, addr string, ttl time.Duration) *instance {
	t.Helper()
	m, err := New(Config{Endpoints: []string{e.Addr}, Prefix: "/p/members", Name: name, Addr: addr, TTL: ttl})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	i := &instance{Member: m, t: t, cancel: cancel, ended: make(chan struct{}), terms: make(chan *Term, 100), over: make(chan int64, 100)}
	go func() {
		defer close(i.ended)
		m.Run(ctx, func(term *Term) error {
			i.terms <- term
			<-term.Done()
			i.over <- term.Number
			return nil
		})
	}()
	t.Cleanup(i.stop)
	return i
}

// stop ends the instance in good order.
func (i *instance) stop() {
	i.cancel()
	<-i.ended
}

// awaitRoster waits until an instance sees these names, the active one marked by a star.
func (i *instance) awaitRoster(want ...string) {
	i.t.Helper()
	deadline := time.After(time.Minute)
	for {
		var got []string
		for _, x := range i.Roster().Instances() {
			mark := ""
			if x.Active {
				mark = "*"
			}
			got = append(got, x.Name+mark)
		}
		if slices.Equal(got, want) {
			return
		}
		select {
		case <-i.Roster().Changed():
		case <-deadline:
			i.t.Fatalf("%s sees %v, want %v", i.cfg.Name, got, want)
		}
	}
}

// One is active; when it leaves, the next takes over; everybody sees the same.
func TestOneAfterTheOther(t *testing.T) {
	e := etcdtest.Start(t)
	a := run(t, e, "a", "a:1", time.Minute)
	first := <-a.terms
	b := run(t, e, "b", "b:1", time.Minute)
	b.awaitRoster("a*", "b")
	c := run(t, e, "c", "c:1", time.Minute)
	for _, i := range []*instance{a, b, c} {
		i.awaitRoster("a*", "b", "c")
		if err := i.Problem(); err != nil {
			t.Error(err)
		}
	}
	if got := c.Roster().Instances()[0]; got != (roster.Instance{Name: "a", Addr: "a:1", Active: true}) || c.Roster().Self() != "c" {
		t.Errorf("%+v, self %s", got, c.Roster().Self())
	}
	if len(b.terms)+len(c.terms) != 0 {
		t.Fatal("two are active")
	}
	if err := first.Store.Put([]lifecycle.Write{{Key: []byte("k"), Value: []byte("v")}}); err != nil {
		t.Fatal(err)
	}
	a.stop() // the lease of a minute is given up, or the others would wait for it
	second := <-b.terms
	if second.Number <= first.Number {
		t.Errorf("term %d follows %d", second.Number, first.Number)
	}
	c.awaitRoster("b*", "c")
	if got := content(t, second.Store); len(got) != 1 {
		t.Errorf("the second term finds %v", got)
	}
	if err := first.Store.Put([]lifecycle.Write{{Key: []byte("k"), Value: []byte("w")}}); err == nil {
		t.Error("the first instance writes after its term")
	}
}

// A term that fails by itself is left to another instance.
func TestServingFails(t *testing.T) {
	e := etcdtest.Start(t)
	m, err := New(Config{Endpoints: []string{e.Addr}, Prefix: "/p/members", Name: "a", Addr: "a:1", TTL: time.Minute})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	failing := make(chan struct{}, 100)
	release := make(chan struct{})
	var wait sync.WaitGroup
	wait.Go(func() {
		m.Run(ctx, func(*Term) error {
			failing <- struct{}{}
			<-release
			return errors.New("cannot restore")
		})
	})
	defer wait.Wait()
	defer cancel()
	<-failing
	b := run(t, e, "b", "b:1", time.Minute)
	b.awaitRoster("a*", "b")
	close(release)
	<-b.terms
	b.awaitRoster("a", "b*") // the first one stands again, behind it
	if m.Problem() != nil {
		t.Errorf("etcd is not to blame: %v", m.Problem())
	}
}

// A live instance keeps its name; a restart at the same address has it back at once.
func TestNames(t *testing.T) {
	e := etcdtest.Start(t)
	a := run(t, e, "a", "a:1", time.Minute)
	<-a.terms
	thief := run(t, e, "a", "elsewhere:1", time.Minute)
	deadline := time.NewTicker(10 * time.Millisecond)
	defer deadline.Stop()
	for range deadline.C {
		if err := thief.Problem(); err != nil && strings.Contains(err.Error(), `another live instance is called "a"`) {
			break
		}
	}
	a.awaitRoster("a*")
	thief.stop()
	again := run(t, e, "a", "a:1", time.Minute) // its predecessor did not die in good order: it is still there
	again.awaitRoster("a*")
	a.stop()
	<-again.terms
}

// While etcd restarts, what the active instance stores waits, and the term goes on.
func TestEtcdRestarts(t *testing.T) {
	e := etcdtest.Start(t)
	a := run(t, e, "a", "a:1", time.Minute)
	term := <-a.terms
	put := func(v string) error { return term.Store.Put([]lifecycle.Write{{Key: []byte("k"), Value: []byte(v)}}) }
	if err := put("1"); err != nil {
		t.Fatal(err)
	}
	e.Kill()
	stored := make(chan error, 1)
	go func() { stored <- put("2") }()
	e.Restart()
	if err := <-stored; err != nil {
		t.Fatal(err)
	}
	if got := content(t, term.Store); len(got) != 1 || got[0] != "6b=32" || len(a.over) != 0 {
		t.Errorf("%v, terms over: %d", got, len(a.over))
	}
}

// Etcd is gone for longer than the lease: the term ends, the instance says what is missing, and begins a new term when etcd is
// back. A frozen etcd, whose connections stay open, is no different.
func TestEtcdDown(t *testing.T) {
	e := etcdtest.Start(t)
	a := run(t, e, "a", "a:1", ttlMin)
	for _, outage := range []struct{ begin, end func() }{{e.Kill, e.Restart}, {e.Pause, e.Resume}} {
		term := <-a.terms
		outage.begin()
		blocked := make(chan error, 1)
		go func() { blocked <- term.Store.Put([]lifecycle.Write{{Key: []byte("k"), Value: []byte("v")}}) }()
		if over := <-a.over; over != term.Number {
			t.Errorf("term %d is over, not %d", over, term.Number)
		}
		if err := <-blocked; !errors.Is(err, cell.Unavailable) {
			t.Errorf("a write while etcd is down: %v", err)
		}
		tick := time.NewTicker(10 * time.Millisecond)
		for range tick.C {
			if err := a.Problem(); err != nil && errors.Is(err, cell.Unavailable) && strings.Contains(err.Error(), e.Addr) {
				break
			}
		}
		tick.Stop()
		outage.end()
	}
	last := <-a.terms
	if err := last.Store.Put([]lifecycle.Write{{Key: []byte("k"), Value: []byte("w")}}); err != nil {
		t.Error(err)
	}
}

// An instance that is started before etcd waits for it, and one that is stopped while etcd is away does not hang.
func TestEtcdNotThere(t *testing.T) {
	e := etcdtest.Start(t)
	e.Kill()
	a := run(t, e, "a", "a:1", ttlMin)
	b := run(t, e, "b", "b:1", ttlMin)
	if err := a.Problem(); err == nil {
		t.Error("a store that was never there has no problem")
	}
	b.stop()
	e.Restart()
	<-a.terms
	a.awaitRoster("a*")
	e.Kill()
	a.stop()
}

func TestConfigCheck(t *testing.T) {
	good := Config{Endpoints: []string{"e:1"}, Prefix: "/p", Name: "a", Addr: "a:1"}
	if err := good.Check(); err != nil {
		t.Error(err)
	}
	for i, change := range []func(*Config){
		func(c *Config) { c.Endpoints = nil }, func(c *Config) { c.Prefix = "p" }, func(c *Config) { c.Prefix = "/p/" }, func(c *Config) { c.Name = "" },
		func(c *Config) { c.Name = "a/b" }, func(c *Config) { c.Addr = "" }, func(c *Config) { c.TTL = time.Second }, func(c *Config) { c.TTL = 2500 * time.Millisecond },
	} {
		c := good
		change(&c)
		if _, err := New(c); !errors.Is(err, cell.Invalid) {
			t.Errorf("change %d: %v", i, err)
		}
	}
	files := TLSFiles{CA: fmt.Sprintf("%s/none.pem", t.TempDir())}
	if _, err := files.Load(); !errors.Is(err, cell.Invalid) {
		t.Errorf("a file that is missing: %v", err)
	}
}
