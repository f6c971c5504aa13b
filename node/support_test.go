package node

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"

	"physalia/cell"
	"physalia/internal/rpc"
	"physalia/internal/wire"
	"physalia/node/admission"
	"physalia/node/core"
	"physalia/node/storage"
)

// TestH03ClockIsReadAfterTheInbox: whatever comes while the clock is read belongs to the next turn, so nothing is judged by a
// time before its arrival.
func TestH03ClockIsReadAfterTheInbox(t *testing.T) {
	b := newInbox(10)
	early, late := &core.Request{Header: wire.Header{Cell: "early"}}, &core.Request{Header: wire.Header{Cell: "late"}}
	l := &loop{inbox: b, turns: newTurns(admission.Default()), spare: newIntake(), clock: func() time.Duration {
		if err := b.request(late, "m", 1); err != nil {
			t.Error(err)
		}
		return 7
	}}
	if err := b.request(early, "m", 1); err != nil {
		t.Fatal(err)
	}
	in, now := l.take()
	if now != 7 || len(in.requests) != 1 || in.requests[0] != early {
		t.Errorf("at %v the turn holds %d requests, want the early one alone", now, len(in.requests))
	}
	l.spare = newIntake()
	if in, _ = l.take(); len(in.requests) == 0 || in.requests[0] != late {
		t.Error("the late request is not in the next turn")
	}
}

// linearizable tells how many reads the servers answered in one way: under a read "lease", or asking the "jury".
func (c *testColony) linearizable(how string) (n float64) {
	for _, s := range c.servers {
		n += testutil.ToFloat64(s.metrics.reads.WithLabelValues(how))
	}
	return n
}

// TestReadLeaseOverSockets: once the servers support each other, a proposer reads alone, and still asks when it is told to.
func TestReadLeaseOverSockets(t *testing.T) {
	c := newTestColony(t, 7)
	c.create("vol-1")
	c.follow("vol-1", request(1), putTxn("k", cell.Int(1)), 0)
	eventually(t, "a read is answered under the lease", func() bool {
		c.mustRead("vol-1", "k", 1, 0)
		return c.linearizable("lease") > 0
	})
	at, conns := 0, make([]*rpc.Conn, 7)
	for i := range conns {
		conns[i] = c.connect(i)
	}
	eventually(t, "a read is confirmed", func() bool {
		before := c.linearizable("jury")
		var reply wire.ReadReply
		m := &wire.ReadRequest{Header: wire.Header{Cell: "vol-1", Timeout: 5000}, Txn: getTxn("k"), Confirm: true}
		if err := conns[at].Call(t.Context(), wire.MethodRead, m, &reply); err != nil {
			at = c.next(at, cell.AsError("test", cell.Internal, err).Leader)
			return false
		}
		return c.linearizable("jury") > before
	})
}

// TestForwardOverSockets: a client that reaches no proposer is served by any member.
func TestForwardOverSockets(t *testing.T) {
	c := newTestColony(t, 7)
	c.create("vol-1")
	c.follow("vol-1", request(1), putTxn("k", cell.Int(1)), 0)
	n, key := uint64(1), ""
	eventually(t, "a write is passed on and answered", func() bool {
		n++
		key = fmt.Sprintf("k%d", n)
		at := int(4+n/2) % 7                                                                  // most do not lead
		_, err := txn(c.connect(at), "vol-1", request(n), putTxn(key, cell.Int(int64(n))), 2) // it asked twice before
		switch cell.KindOf(err) {
		case cell.NotProposer, cell.Unavailable, cell.UnknownResult: // it knows no useful proposer yet, or no more
			return false
		}
		if err != nil {
			t.Fatal(err)
		}
		return c.forwarded() > 0
	})
	c.mustRead("vol-1", key, int64(n), 0)
}

// forwarded counts the requests that servers passed on.
func (c *testColony) forwarded() (n float64) {
	for _, s := range c.servers {
		n += testutil.ToFloat64(s.metrics.forwarded)
	}
	return n
}

// copyTree copies a data directory as a backup would, without its lock.
func copyTree(t *testing.T, from, to string) {
	t.Helper()
	err := filepath.WalkDir(from, func(path string, d os.DirEntry, err error) error {
		if errors.Is(err, os.ErrNotExist) {
			return nil // an obsolete file went away, as it may at any time
		}
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(from, path)
		if err != nil {
			return err
		}
		if d.IsDir() {
			return os.MkdirAll(filepath.Join(to, rel), 0o755)
		}
		data, err := os.ReadFile(path)
		if errors.Is(err, os.ErrNotExist) {
			return nil
		}
		if err != nil {
			return err
		}
		return os.WriteFile(filepath.Join(to, rel), data, 0o644)
	})
	if err != nil {
		t.Fatal(err)
	}
}

// newestLog returns the write-ahead log that a store appends to.
func newestLog(t *testing.T, dir string) string {
	t.Helper()
	logs, err := filepath.Glob(filepath.Join(dir, "store", "*.log"))
	if err != nil || len(logs) == 0 {
		t.Fatalf("logs %v: %v", logs, err)
	}
	slices.Sort(logs)
	return logs[len(logs)-1]
}

// onLoop has a server's loop tell something of its core.
func onLoop[T any](t *testing.T, s *Server, f func(*core.Core) T) T {
	t.Helper()
	told := make(chan T, 1)
	if err := s.inbox.ask("test", func(k *core.Core) { told <- f(k) }); err != nil {
		t.Fatal(err)
	}
	return <-told
}

// awaitRemembered waits until the other servers have heard that all that a server has handed to its disk by now is durable:
// what nobody heard of, a disk may forget.
func (c *testColony) awaitRemembered(s *Server) {
	t := c.t.(*testing.T)
	handed := onLoop(t, s, (*core.Core).Handed)
	for _, other := range c.servers {
		if other == s {
			continue
		}
		eventually(t, "a peer remembers the disk", func() bool {
			return onLoop(t, other, func(k *core.Core) storage.BatchNumber { return k.Remembers(s.Identity().Server) }) >= handed
		})
	}
}

// TestH10ForgetfulDisks: a server whose real disk lost what it acknowledged refuses to serve, and says what to do.
func TestH10ForgetfulDisks(t *testing.T) {
	for name, harm := range map[string]func(t *testing.T, older, newest string) (use string){
		"whole directory restored": func(_ *testing.T, older, _ string) string { return older },
		"store restored": func(t *testing.T, older, newest string) string {
			if err := os.RemoveAll(filepath.Join(newest, "store")); err != nil {
				t.Fatal(err)
			}
			copyTree(t, filepath.Join(older, "store"), filepath.Join(newest, "store"))
			return newest
		},
		"a bit flipped in the last records of the log": func(t *testing.T, _, newest string) string {
			log := newestLog(t, newest)
			data, err := os.ReadFile(log)
			if err != nil {
				t.Fatal(err)
			}
			data[len(bytes.TrimRight(data, "\x00"))-40] ^= 4
			if err := os.WriteFile(log, data, 0o644); err != nil {
				t.Fatal(err)
			}
			return newest
		},
	} {
		t.Run(name, func(t *testing.T) {
			c := newTestColony(t, 7)
			c.create("vol-1")
			older, newest := t.TempDir(), t.TempDir()
			c.follow("vol-1", request(1), putTxn("k", cell.Int(1)), 0)
			copyTree(t, c.dirs[2], older)
			for i := range uint64(50) {
				c.follow("vol-1", request(i+2), putTxn("k", cell.Int(int64(i))), 0)
			}
			copyTree(t, c.dirs[2], newest) // as a crash would leave it
			victim := c.servers[2]
			c.awaitRemembered(victim)
			c.stop(2)
			cfg := victim.cfg
			cfg.DataDir = harm(t, older, newest)
			s, err := Start(cfg)
			if err == nil {
				t.Cleanup(func() { s.Close() })
				select {
				case <-s.Failed():
					err = s.Err()
				case <-time.After(patience):
					t.Fatal("it serves")
				}
			}
			for _, say := range []string{"empty", "replaced"} {
				if !strings.Contains(err.Error(), say) {
					t.Errorf("%v does not say %q", err, say)
				}
			}
			c.follow("vol-1", request(1000), putTxn("k", cell.Int(7)), 0)
		})
	}
}
