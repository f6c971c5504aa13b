package contest

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// memory is a subject without processes: a map, with the misbehaviours that a contest has to notice.
type memory struct {
	mu         sync.Mutex
	keys       map[string][]byte
	puts       int
	dir        string
	killed     bool
	stopped    bool
	forget     bool // loses a key at the kill
	neverReady bool // takes no write
}

func (m *memory) Facts() Facts { return Facts{System: "memory", Groups: 3, Volumes: 3} }
func (m *memory) Start(_ context.Context, dir string) error {
	m.keys, m.dir = map[string][]byte{}, dir
	return nil
}
func (m *memory) Client(int) Client { return m }
func (m *memory) Put(_ context.Context, volume int, key string, value []byte) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.neverReady {
		return errors.New("not ready")
	}
	m.puts++
	m.keys[fmt.Sprint(volume, key)] = append([]byte(nil), value...)
	return nil
}
func (m *memory) Get(_ context.Context, volume int, key string, _ bool) ([]byte, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.keys[fmt.Sprint(volume, key)], nil
}
func (m *memory) Servers(context.Context) ([]Usage, error) {
	return []Usage{{CPU: time.Second, RSS: 3 << 20}, {RSS: 1 << 20}}, nil
}
func (m *memory) Syncs(context.Context) (float64, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return float64(m.puts), nil
}
func (m *memory) KillLeader(context.Context) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.killed = true
	for k := range m.keys {
		if m.forget && strings.Contains(k, "c0/") {
			delete(m.keys, k)
		}
	}
	return nil
}
func (m *memory) Failed() error { return nil }
func (m *memory) Stop() error   { m.stopped = true; return nil }

// run takes one subject through a short plan.
func run(t *testing.T, m *memory) Result {
	t.Helper()
	p := Plan{Dir: t.TempDir(), Clients: []int{1, 5}, Kinds: []Kind{Write, Read, ReadSure, Mixed}, ValueBytes: 16, Point: 5 * time.Millisecond,
		Idle: time.Millisecond, StartLimit: 200 * time.Millisecond, Limit: time.Minute, Say: func(string, ...any) {}}
	results, err := p.Run(t.Context(), []Maker{func() Subject { return m }}, 1)
	if err != nil || len(results) != 1 {
		t.Fatalf("%d results, %v", len(results), err)
	}
	if _, err := os.Stat(m.dir); !m.stopped || !errors.Is(err, os.ErrNotExist) {
		t.Errorf("stopped is %v, its directory: %v", m.stopped, err)
	}
	return results[0]
}

func TestContest(t *testing.T) {
	m := &memory{}
	r := run(t, m)
	if r.DidNotFinish != "" || !r.Verified() || !m.killed || r.RSSMiB != 2 {
		t.Fatalf("got %+v", r)
	}
	// It has no reads of the kind ReadSure.
	if len(r.Points) != 6 {
		t.Fatalf("%d points, want 6", len(r.Points))
	}
	for _, p := range r.Points {
		if p.Operations < p.Clients || p.Errors > 0 {
			t.Errorf("point %+v", p)
		}
		if p.Kind == Write && p.SyncsPerOp != 1 {
			t.Errorf("%v syncs for a write, want 1", p.SyncsPerOp)
		}
	}
}

func TestLossIsFound(t *testing.T) {
	r := run(t, &memory{forget: true})
	if r.Verified() || r.LostKeys == 0 || !strings.Contains(r.DidNotFinish, "missing") {
		t.Errorf("a lost key was not found: %+v", r)
	}
}

func TestWhoNeverStartsIsAResult(t *testing.T) {
	r := run(t, &memory{neverReady: true})
	if !strings.HasPrefix(r.DidNotFinish, "start: 3 of 3 volumes took no write") {
		t.Errorf("got %q", r.DidNotFinish)
	}
}

// A write with an unknown outcome may be there in the end, and may not; one that was acknowledged before it may not be replaced by another.
func TestUnsureWrites(t *testing.T) {
	for value, ok := range map[uint64]bool{7: true, 9: true, 8: false, 0: false} {
		m := &memory{keys: map[string][]byte{}}
		w := workers(1, 1, 8, func(int) Client { return m })[0]
		w.own[0].acked[1], w.own[0].unsure[1] = 7, 9
		b := make([]byte, 8)
		putNumber(b, value)
		if err := m.Put(t.Context(), 0, w.key(1), b); err != nil {
			t.Fatal(err)
		}
		if kept, lost := w.verify(t.Context()); kept == 1 != ok || kept+lost != 1 {
			t.Errorf("value %d: %d kept, %d lost", value, kept, lost)
		}
	}
}

func TestWorkersShareVolumes(t *testing.T) {
	seen := map[int]int{}
	for _, w := range workers(3, 7, 8, func(int) Client { return nil }) {
		for _, v := range w.own {
			seen[v.number]++
		}
	}
	if len(seen) != 7 || seen[0] != 1 {
		t.Errorf("3 clients and 7 volumes: %v", seen)
	}
	for _, w := range workers(7, 3, 8, func(int) Client { return nil }) {
		if len(w.own) != 1 {
			t.Errorf("7 clients and 3 volumes: client %d has %d", w.number, len(w.own))
		}
	}
}

func TestPercentile(t *testing.T) {
	var times []time.Duration
	for i := range 1000 {
		times = append(times, time.Duration(i+1))
	}
	for p, want := range map[float64]time.Duration{50: 500, 99: 990, 99.9: 999, 100: 1000, 0: 1} {
		if got := percentile(times, p); got != want {
			t.Errorf("%v percent: got %d, want %d", p, got, want)
		}
	}
	if percentile(nil, 50) != 0 {
		t.Error("a percentile of nothing")
	}
}

func TestPlanIsChecked(t *testing.T) {
	good := Plan{Clients: []int{1}, Kinds: []Kind{Write}, ValueBytes: 8, Point: 1, Idle: 1, StartLimit: 1, Limit: 1}
	makers := []Maker{func() Subject { return &memory{} }}
	if err := good.check(makers, 1); err != nil {
		t.Error(err)
	}
	for name, spoil := range map[string]func(*Plan){
		"no clients": func(p *Plan) { p.Clients = nil }, "zero clients": func(p *Plan) { p.Clients = []int{0} }, "reads first": func(p *Plan) { p.Kinds = []Kind{Read, Write} },
		"tiny values": func(p *Plan) { p.ValueBytes = 7 }, "no time": func(p *Plan) { p.Point = 0 },
	} {
		bad := good
		if spoil(&bad); bad.check(makers, 1) == nil {
			t.Errorf("%s: taken", name)
		}
	}
}
