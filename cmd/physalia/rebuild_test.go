package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"physalia/cell"
	"physalia/client"
	"physalia/cmd/physalia/colony"
	"physalia/cmd/physalia/operator"
)

// steady is a client that writes and reads cells, one after the other, until it is stopped; it expects no error at all.
type steady struct {
	stop context.CancelFunc
	wait sync.WaitGroup
	mu   sync.Mutex
	done int
	errs []error
}

func (d *disaster) steady(cells ...cell.ID) *steady {
	d.t.Helper()
	lib, err := client.New(d.t.Context(), client.Config{Colony: colony.Name, Control: []string{d.ControlAddr}, CallTimeout: 20 * time.Second})
	if err != nil {
		d.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(d.t.Context())
	s := &steady{stop: cancel}
	for _, id := range cells {
		s.wait.Go(func() {
			for n := int64(1); ctx.Err() == nil; n++ {
				err := writeAndRead(lib.Cell(id), n)
				s.mu.Lock()
				s.done++
				if err != nil {
					s.errs = append(s.errs, fmt.Errorf("%s: %w", id, err))
				}
				s.mu.Unlock()
			}
		})
	}
	d.t.Cleanup(func() { cancel(); s.wait.Wait(); lib.Close() })
	return s
}

// writeAndRead writes a number and reads it back. It has its own deadline, so that the end of a test is no error.
func writeAndRead(c *client.Cell, n int64) error {
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	if _, err := c.Put(ctx, "n", cell.Int(n)); err != nil {
		return err
	}
	e, err := c.Get(ctx, "n")
	if err == nil && !e.Value.Equal(cell.Int(n)) {
		err = fmt.Errorf("read %v after writing %d", e.Value, n)
	}
	return err
}

// worked waits until the client has done so much more.
func (d *disaster) worked(s *steady, more int) {
	d.t.Helper()
	count := func() int { s.mu.Lock(); defer s.mu.Unlock(); return s.done }
	from := count()
	d.until("the client goes on", func() bool { return count() >= from+more })
}

// loseStore kills the control process, deletes its store, lets something happen, and starts it again.
func (d *disaster) loseStore(then func(dir string)) {
	d.t.Helper()
	if err := d.Control.Kill(); err != nil {
		d.t.Fatal(err)
	}
	dir := filepath.Join(d.spec.Dir, "control")
	if err := os.RemoveAll(filepath.Join(dir, "lifecycle")); err != nil {
		d.t.Fatal(err)
	}
	then(dir)
	if err := d.Control.Start(); err != nil {
		d.t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(d.t.Context(), time.Minute)
	defer cancel()
	if err := (operator.Operator{Addresses: []string{d.ControlAddr}}).AwaitServers(ctx, d.spec.Servers, d.Failed); err != nil {
		d.t.Fatal(logsOf(err, d.spec.Dir))
	}
}

func (d *disaster) rebuilt() (doc rebuildDocument) {
	d.t.Helper()
	if err := json.Unmarshal([]byte(d.run(exitOK, "control", "rebuild", "-o", "json").stdout), &doc); err != nil {
		d.t.Fatal(err)
	}
	return doc
}

// cells lists what the control plane knows, by name: incarnation, state and servers.
func (d *disaster) cells() map[string]string {
	d.t.Helper()
	var page struct {
		Cells []cellDocument `json:"cells"`
	}
	if err := json.Unmarshal([]byte(d.run(exitOK, "cell", "list", "-o", "json").stdout), &page); err != nil {
		d.t.Fatal(err)
	}
	all := map[string]string{}
	for _, c := range page.Cells {
		var on []string
		for _, m := range c.Members {
			on = append(on, m.Server)
		}
		all[c.Cell] = fmt.Sprintf("%d %s %s", c.Incarnation, c.State, strings.Join(on, " "))
	}
	return all
}

// A colony of real processes loses its control plane's store twice, while a client writes and reads: once the store is deleted, once
// it is replaced by a backup from before creations, a replacement and a deletion. Each time the rebuild finds what the servers host,
// nothing happens before it is resumed, no name is given a second life under its old incarnation, and the client sees no error.
func TestStoreIsLost(t *testing.T) {
	d := newDisaster(t)
	names := []string{"vol-1", "vol-2", "vol-3", "vol-4"}
	d.run(exitOK, append([]string{"cell", "create"}, names...)...)
	place := "file://" + filepath.Join(t.TempDir(), "backups")
	d.run(exitOK, "control", "backup", "--to", place)
	s := d.steady("vol-1", "vol-3", "vol-4")
	d.worked(s, 10)
	d.run(exitOK, "cell", "replace", "vol-1", "--remove", d.members("vol-1")[0])
	d.run(exitOK, "cell", "delete", "vol-2")
	d.run(exitOK, "cell", "create", "vol-5")
	d.until("everything is as it should be", func() bool { return strings.HasPrefix(d.cells()["vol-2"], "1 deleted") })
	want := d.cells()

	check := func(live uint64) {
		t.Helper()
		doc := d.rebuilt()
		if !doc.Rebuilding || !doc.Complete || doc.Live != live || len(doc.Silent) > 0 || len(doc.Findings) > 0 {
			t.Fatalf("rebuilt: %+v", doc)
		}
		for name, was := range want {
			if got := d.cells()[name]; got != was {
				t.Errorf("%s was %q, is %q", name, was, got)
			}
		}
		if r := d.run(exitUnavailable, "cell", "create", "vol-9"); !strings.Contains(r.stderr, "being rebuilt") {
			t.Errorf("creating in a rebuild: %s", r.stderr)
		}
		d.worked(s, 10)
		d.run(exitOK, "control", "resume")
	}
	d.loseStore(func(string) {})
	check(4)
	d.run(exitOK, "cell", "create", "vol-2", "vol-6")
	if got := d.cells()["vol-2"]; !strings.HasPrefix(got, "2 live") {
		t.Errorf("vol-2 was deleted as incarnation 1 and is now %q", got)
	}
	want = d.cells()
	d.loseStore(func(dir string) {
		d.run(exitOK, "control", "restore", "--from", place, "--data-dir", dir)
		if r := runLine(t, d.env, "", []string{"control", "restore", "--from", place, "--data-dir", dir}); r.code == int(exitOK) {
			t.Error("a store that is not empty was restored into")
		}
	})
	check(6)
	d.run(exitOK, "cell", "create", "vol-7")
	d.worked(s, 10)
	s.stop()
	s.wait.Wait()
	if len(s.errs) > 0 {
		t.Errorf("%d errors in %d rounds, the first is %v", len(s.errs), s.done, s.errs[0])
	}
	if all := d.cells(); len(all) != 7 || slices.ContainsFunc(names, func(n string) bool { return !strings.Contains(all[n], " live ") }) {
		t.Errorf("in the end: %v", all)
	}
	t.Logf("%d rounds of the client", s.done)
}
