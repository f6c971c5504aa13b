package etcdstore

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"reflect"
	"testing"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/goleak"
	"go.uber.org/zap"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"physalia/cell"
	"physalia/internal/etcdtest"
	"physalia/lifecycle"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func connect(t *testing.T, e *etcdtest.Server) *clientv3.Client {
	t.Helper()
	c, err := clientv3.New(clientv3.Config{Endpoints: []string{e.Addr}, Logger: zap.NewNop()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := c.Close(); err != nil {
			t.Error(err)
		}
	})
	return c
}

var testLog = slog.New(slog.DiscardHandler)

// world is one prefix of an etcd, and the terms on it.
type world struct {
	t      *testing.T
	client *clientv3.Client
	prefix string
	keys   int
}

func newWorld(t *testing.T, client *clientv3.Client, prefix string) *world {
	return &world{t: t, client: client, prefix: prefix}
}

// elect makes an election key, after the one before is gone, and returns it with its revision.
func (w *world) elect() (key string, term int64) {
	w.t.Helper()
	if _, err := w.client.Delete(w.t.Context(), w.prefix+"/live/", clientv3.WithPrefix()); err != nil {
		w.t.Fatal(err)
	}
	w.keys++
	key = fmt.Sprintf("%s/live/election/%d", w.prefix, w.keys)
	resp, err := w.client.Put(w.t.Context(), key, "x")
	if err != nil {
		w.t.Fatal(err)
	}
	return key, resp.Header.Revision
}

// open begins a term, and with it ends the one before.
func (w *world) open(ctx context.Context, kv clientv3.KV) (*Store, error) {
	key, term := w.elect()
	return openStore(ctx, kv, w.prefix, key, term, testLog)
}

func (w *world) mustOpen() *Store {
	w.t.Helper()
	s, err := w.open(w.t.Context(), w.client)
	if err != nil {
		w.t.Fatal(err)
	}
	return s
}

// content reads a store whole.
func content(t *testing.T, s lifecycle.Store) (pairs []string) {
	t.Helper()
	if err := s.Scan(func(k, v []byte) error { pairs = append(pairs, fmt.Sprintf("%x=%x", k, v)); return nil }); err != nil {
		t.Fatal(err)
	}
	return pairs
}

// numbered is a batch of n writes of keys from a small space, some of them removals, with values of about so many bytes.
func numbered(rng *rand.Rand, n, size int) (batch []lifecycle.Write) {
	for range n {
		w := lifecycle.Write{Key: []byte(fmt.Sprintf("k\x00%04d", rng.IntN(2*n)))}
		if rng.IntN(5) > 0 {
			w.Value = bytes.Repeat([]byte{byte(rng.Uint32())}, rng.IntN(2*size))
		}
		batch = append(batch, w)
	}
	return batch
}

// A store in etcd holds what the plain one in memory does, whatever the size of the batches, in this term and in later ones.
func TestLikeTheStoreInMemory(t *testing.T) {
	w := newWorld(t, connect(t, etcdtest.Start(t)), "/p/twin")
	rng := rand.New(rand.NewPCG(7, 7))
	twin, s := lifecycle.NewMemStore(), w.mustOpen()
	for i, shape := range [][2]int{{1, 10}, {3, 10}, {writesMax, 20}, {writesMax + 1, 20}, {400, 50}, {5, 400 << 10}, {12, 300 << 10}, {4000, 10}, {2, 5}} {
		batch := numbered(rng, shape[0], shape[1])
		if err := s.Put(batch); err != nil {
			t.Fatal(err)
		}
		if err := twin.Put(batch); err != nil {
			t.Fatal(err)
		}
		if i%3 == 2 {
			s = w.mustOpen()
		}
		if got, want := content(t, s), content(t, twin); !reflect.DeepEqual(got, want) {
			t.Fatalf("after batch %d: %d pairs, want %d", i, len(got), len(want))
		}
	}
	left, err := w.client.Get(t.Context(), w.prefix+"/journal/", clientv3.WithPrefix(), clientv3.WithCountOnly())
	if err != nil || left.Count != 0 {
		t.Errorf("%d parts of journals are left: %v", left.Count, err)
	}
}

// accident is a KV that interferes with transactions. Its counters begin at 1 and count every transaction.
type accident struct {
	clientv3.KV
	count  int
	before func(n int) error               // an error: etcd never gets it
	after  func(n int, again func()) error // an error: the answer is lost; again sends the same transaction another time
}

type accidentTxn struct {
	a          *accident
	txn, again clientv3.Txn
}

func (a *accident) Txn(ctx context.Context) clientv3.Txn {
	return &accidentTxn{a: a, txn: a.KV.Txn(ctx), again: a.KV.Txn(context.WithoutCancel(ctx))}
}

func (x *accidentTxn) If(c ...clientv3.Cmp) clientv3.Txn {
	x.txn, x.again = x.txn.If(c...), x.again.If(c...)
	return x
}

func (x *accidentTxn) Then(o ...clientv3.Op) clientv3.Txn {
	x.txn, x.again = x.txn.Then(o...), x.again.Then(o...)
	return x
}

func (x *accidentTxn) Else(o ...clientv3.Op) clientv3.Txn {
	x.txn, x.again = x.txn.Else(o...), x.again.Else(o...)
	return x
}

func (x *accidentTxn) Commit() (*clientv3.TxnResponse, error) {
	x.a.count++
	n := x.a.count
	if x.a.before != nil {
		if err := x.a.before(n); err != nil {
			return nil, err
		}
	}
	resp, err := x.txn.Commit()
	if err == nil && x.a.after != nil {
		if lost := x.a.after(n, func() { _, _ = x.again.Commit() }); lost != nil {
			return nil, lost
		}
	}
	return resp, err
}

var errDead = errors.New("the process is gone")

// An instance dies before and after every single transaction of a batch that is much too large for one. The next term finds
// all of it or nothing, and all of it if the instance had been told so.
func TestDeathInsideABatch(t *testing.T) {
	client := connect(t, etcdtest.Start(t))
	rng := rand.New(rand.NewPCG(1, 2))
	first := numbered(rng, 40, 20)
	for name, batch := range map[string][]lifecycle.Write{"many": numbered(rng, 3*writesMax+7, 30), "large": numbered(rng, 8, 700<<10)} {
		old, whole := lifecycle.NewMemStore(), lifecycle.NewMemStore()
		for _, err := range []error{old.Put(first), whole.Put(first), whole.Put(batch)} {
			if err != nil {
				t.Fatal(err)
			}
		}
		seen := map[string]int{}
		for die, done := 1, false; !done; die++ {
			for _, early := range []bool{true, false} {
				w := newWorld(t, client, fmt.Sprintf("/p/death/%s/%d/%v", name, die, early))
				kv := &accident{KV: client}
				s, err := w.open(t.Context(), kv)
				if err != nil {
					t.Fatal(err)
				}
				if err := s.Put(first); err != nil {
					t.Fatal(err)
				}
				base := kv.count
				kill := func(n int) error {
					if n-base >= die {
						return errDead
					}
					return nil
				}
				if early {
					kv.before = kill
				} else {
					kv.after = func(n int, _ func()) error { return kill(n) }
				}
				told := s.Put(batch) == nil
				done = done || told
				if !told && s.Put(first) == nil {
					t.Fatal("a store was used after an error")
				}
				got := content(t, w.mustOpen())
				switch {
				case reflect.DeepEqual(got, content(t, whole)):
					seen["all"]++
				case !told && reflect.DeepEqual(got, content(t, old)):
					seen["nothing"]++
				default:
					t.Fatalf("%s, dead at transaction %d, early %v, told %v: neither all nor nothing", name, die, early, told)
				}
				if again := content(t, w.mustOpen()); !reflect.DeepEqual(got, again) {
					t.Fatal("the next term after finds something else")
				}
			}
		}
		if seen["all"] < 2 || seen["nothing"] < 1 {
			t.Errorf("%s: the deaths do not cover both outcomes: %v", name, seen)
		}
	}
}

// Etcd carries out a transaction and the answer is lost; and copies arrive late, when newer values are there. Every write
// counts once.
func TestLostAnswersAndLateCopies(t *testing.T) {
	client := connect(t, etcdtest.Start(t))
	w := newWorld(t, client, "/p/late")
	kv := &accident{KV: client}
	var late []func()
	kv.after = func(n int, again func()) error {
		late = append(late, again)
		if n%2 == 0 {
			return status.Error(codes.Unavailable, "the answer is lost")
		}
		return nil
	}
	s, err := w.open(t.Context(), kv)
	if err != nil {
		t.Fatal(err)
	}
	rng := rand.New(rand.NewPCG(3, 4))
	twin := lifecycle.NewMemStore()
	for i := range 12 {
		batch := numbered(rng, 1+rng.IntN(200), 10)
		if err := errors.Join(s.Put(batch), twin.Put(batch)); err != nil {
			t.Fatal(err)
		}
		for _, again := range late[:len(late)/2] {
			again()
		}
		if got := content(t, s); !reflect.DeepEqual(got, content(t, twin)) {
			t.Fatalf("batch %d: an old copy had an effect", i)
		}
	}
	next := w.mustOpen()
	for _, again := range late {
		again()
	}
	if !reflect.DeepEqual(content(t, next), content(t, twin)) {
		t.Error("a copy from an earlier term had an effect")
	}
}

// A backup scans while the manager puts: what it reads is of one moment, between two batches, however many pages it takes and also
// when a batch goes by the journal.
func TestScanBesidePuts(t *testing.T) {
	w := newWorld(t, connect(t, etcdtest.Start(t)), "/p/scan")
	s := w.mustOpen()
	batch := func(value string) (list []lifecycle.Write) {
		for i := range 2*scanPage + 10 {
			list = append(list, lifecycle.Write{Key: fmt.Appendf(nil, "k%06d", i), Value: []byte(value)})
		}
		return list
	}
	if err := s.Put(batch("0")); err != nil {
		t.Fatal(err)
	}
	put := make(chan error)
	go func() {
		var err error
		for i := 1; i < 8 && err == nil; i++ {
			err = s.Put(batch(fmt.Sprint(i)))
		}
		put <- err
	}()
	for ended, scans := false, 0; !ended || scans < 3; scans++ {
		seen := map[string]int{}
		if err := s.Scan(func(_, v []byte) error { seen[string(v)]++; return nil }); err != nil {
			t.Fatal(err)
		}
		if len(seen) != 1 {
			t.Fatalf("one scan has pairs of several moments: %v", seen)
		}
		select {
		case err := <-put:
			if ended = true; err != nil {
				t.Fatal(err)
			}
		default:
		}
	}
}

// An instance whose term is over writes nothing and reads nothing, and says why.
func TestFenced(t *testing.T) {
	w := newWorld(t, connect(t, etcdtest.Start(t)), "/p/fenced")
	deposed := w.mustOpen()
	put := func(s *Store, v string) error { return s.Put([]lifecycle.Write{{Key: []byte("k"), Value: []byte(v)}}) }
	if err := put(deposed, "1"); err != nil {
		t.Fatal(err)
	}
	reader := &Store{kv: deposed.kv, ctx: deposed.ctx, prefix: deposed.prefix, key: deposed.key, term: deposed.term, log: deposed.log}
	active := w.mustOpen()
	for range 2 {
		if err := put(deposed, "2"); !errors.Is(err, ErrFenced) || !errors.Is(err, cell.Stale) {
			t.Errorf("a deposed instance writes: %v", err)
		}
	}
	if err := reader.Scan(func(_, _ []byte) error { return nil }); !errors.Is(err, ErrFenced) {
		t.Errorf("a deposed instance reads: %v", err)
	}
	if got := content(t, active); len(got) != 1 || got[0] != "6b=31" {
		t.Errorf("the store holds %v", got)
	}
	if err := put(active, "3"); err != nil {
		t.Error(err)
	}
}

// Who writes under the prefix without an election is found out, and what no request can hold is refused before it is sent.
func TestRefusals(t *testing.T) {
	w := newWorld(t, connect(t, etcdtest.Start(t)), "/p/refusals")
	s := w.mustOpen()
	if err := s.Put([]lifecycle.Write{{Key: []byte("k"), Value: make([]byte, oneBytesMax)}}); !errors.Is(err, cell.TooLarge) {
		t.Errorf("a value that is too large: %v", err)
	}
	s = w.mustOpen()
	if _, err := w.client.Put(t.Context(), w.prefix+"/head", "stranger"); err != nil {
		t.Fatal(err)
	}
	if err := s.Put([]lifecycle.Write{{Key: []byte("k"), Value: []byte("v")}}); !errors.Is(err, cell.Internal) {
		t.Errorf("somebody else moves head: %v", err)
	}
	if _, err := w.client.Put(t.Context(), w.prefix+"/commit", "2"); err != nil {
		t.Fatal(err)
	}
	if _, err := w.open(t.Context(), w.client); !errors.Is(err, errJournal) {
		t.Errorf("a committed journal without its parts: %v", err)
	}
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(errLeaseLost)
	if _, err := w.open(ctx, w.client); !errors.Is(err, errLeaseLost) {
		t.Errorf("a term that has ended: %v", err)
	}
}
