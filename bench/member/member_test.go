package member

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"

	"github.com/cockroachdb/pebble/v2"
	"github.com/hashicorp/raft"
	pb "go.etcd.io/raft/v3/raftpb"

	"physalia/bench/child"
	"physalia/bench/thin"
)

// Three members of five groups in this process: writes are read back, and still are when the process that led is gone.
func TestEngines(t *testing.T) {
	for _, engine := range []string{"raft/v3", "hashicorp/raft"} {
		t.Run(engine, func(t *testing.T) { lead(t, engine) })
	}
}

func lead(t *testing.T, engine string) {
	const members, groups = 3, 5
	addresses, err := child.Addresses(3 * members)
	if err != nil {
		t.Fatal(err)
	}
	var ends []func()
	for i := range members {
		ctx, cancel := context.WithCancel(t.Context())
		cfg := Config{Engine: engine, Me: i, Groups: groups, Dir: t.TempDir(), Peers: addresses[:members], Clients: addresses[members : 2*members], Ops: addresses[2*members+i]}
		var wait sync.WaitGroup
		wait.Go(func() {
			if err := Run(ctx, cfg); err != nil && !errors.Is(err, context.Canceled) {
				t.Error(err)
			}
		})
		ends = append(ends, func() { cancel(); wait.Wait() })
	}
	defer func() {
		for _, end := range ends {
			end()
		}
	}()
	c := thin.New(addresses[members:2*members], groups)
	defer c.Close()
	for g := range groups {
		for k := range 20 {
			if err := c.Put(t.Context(), g, fmt.Sprint("k", k), []byte(fmt.Sprint(g, k))); err != nil {
				t.Fatal(err)
			}
		}
	}
	for g := range groups {
		for k := range 20 {
			if got, err := c.Get(t.Context(), g, fmt.Sprint("k", k)); err != nil || string(got) != fmt.Sprint(g, k) {
				t.Fatalf("group %d, key %d: %q, %v", g, k, got, err)
			}
		}
	}
	syncs, err := child.Counters(t.Context(), "http://"+addresses[2*members]+"/metrics", "bench_syncs_total")
	if err != nil || syncs["bench_syncs_total"] < 1 {
		t.Errorf("syncs: %v, %v", syncs, err)
	}
}

// A new term or vote has to be synced, a commit index that moved has not.
func TestMoved(t *testing.T) {
	var ballot [2]uint64
	for i, c := range []struct {
		message *pb.Message
		want    bool
	}{
		{&pb.Message{Term: new(uint64(2)), Vote: new(uint64(0)), Commit: new(uint64(1))}, true},
		{&pb.Message{Term: new(uint64(2)), Vote: new(uint64(0)), Commit: new(uint64(5))}, false},
		{&pb.Message{}, false},
		{&pb.Message{Term: new(uint64(2)), Vote: new(uint64(3)), Commit: new(uint64(5))}, true},
		{&pb.Message{Term: new(uint64(3)), Vote: new(uint64(0)), Commit: new(uint64(5))}, true},
	} {
		if got := moved(&ballot, c.message); got != c.want {
			t.Errorf("message %d: got %v", i, got)
		}
	}
}

func TestHashiLog(t *testing.T) {
	st, err := openStore(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := st.db.Close(); err != nil {
			t.Error(err)
		}
	}()
	before := st.syncs.Load()
	l, other := &hashiLog{db: st.db, group: 1}, &hashiLog{db: st.db, group: 2}
	var logs []*raft.Log
	for i := range uint64(5) {
		logs = append(logs, &raft.Log{Index: i + 1, Term: 3, Type: raft.LogCommand, Data: []byte{byte(i)}})
	}
	if err := errors.Join(l.StoreLogs(logs), other.StoreLog(logs[0]), l.DeleteRange(4, 5)); err != nil {
		t.Fatal(err)
	}
	if st.syncs.Load() == before {
		t.Error("entries were stored without a sync")
	}
	first, _ := l.FirstIndex()
	last, _ := l.LastIndex()
	var got raft.Log
	if err := l.GetLog(3, &got); err != nil || first != 1 || last != 3 || got.Term != 3 || string(got.Data) != "\x02" {
		t.Errorf("entries %d to %d, the third is %+v, %v", first, last, got, err)
	}
	if err := l.GetLog(4, &got); !errors.Is(err, raft.ErrLogNotFound) {
		t.Errorf("a deleted entry: %v", err)
	}
	if err := l.SetUint64([]byte("term"), 9); err != nil {
		t.Fatal(err)
	}
	if n, err := l.GetUint64([]byte("term")); err != nil || n != 9 {
		t.Errorf("got %d, %v", n, err)
	}
	if _, err := other.GetUint64([]byte("term")); err == nil || err.Error() != "not found" || errors.Is(err, pebble.ErrNotFound) {
		t.Errorf("a setting of another group: %v", err)
	}
}
