package control

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/prometheus/client_golang/prometheus/testutil"

	"physalia/cell"
	"physalia/cmd/physalia/operator"
	"physalia/internal/wire"
)

// TestMain looks for goroutines that outlive their processes. memberlist does not wait for a probe under way when it is shut down,
// so it gets some time to finish.
func TestMain(m *testing.M) {
	code := m.Run()
	deadline := time.Now().Add(20 * time.Second)
	err := goleak.Find()
	for err != nil && time.Now().Before(deadline) {
		err = goleak.Find()
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		code = max(code, 1)
	}
	os.Exit(code)
}

func config(t *testing.T) Config {
	t.Helper()
	return Config{DataDir: t.TempDir(), Colony: "test", Name: "control", Listen: "127.0.0.1:0", ListenOps: "127.0.0.1:0", Seed: 1,
		Logger: slog.New(slog.DiscardHandler)}
}

func start(t *testing.T, c Config) *Control {
	t.Helper()
	p, err := Start(c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := p.Close(); err != nil {
			t.Error(err)
		}
	})
	return p
}

// A control plane without servers answers: it has no room for cells, knows none, and is well.
func TestEmptyColony(t *testing.T) {
	p := start(t, config(t))
	op := operator.Operator{Colony: "test", Addresses: []string{"127.0.0.1:1", p.Addr()}}
	outcomes, err := op.Create(t.Context(), "test", wire.CreateCells{Cells: []cell.ID{"vol-1"}})
	if err != nil || len(outcomes) != 1 || cell.KindOf(outcomes[0].Err) != cell.NoRoom {
		t.Errorf("create: %v, %v", outcomes, err)
	}
	if servers, err := op.Servers(t.Context(), "test"); err != nil || len(servers) != 0 {
		t.Errorf("servers: %v, %v", servers, err)
	}
	if _, err := op.Cell(t.Context(), "test", "vol-1"); !errors.Is(err, cell.NotFound) {
		t.Errorf("show: %v", err)
	}
	if _, err := op.Members(t.Context(), "test", "vol-1"); !errors.Is(err, cell.NotFound) {
		t.Errorf("lookup: %v", err)
	}
	for path, says := range map[string]string{"/livez": "ok", "/readyz": "ok", "/metrics": `physalia_control_cells{state="live"} 0`} {
		if body := get(t, "http://"+p.OpsAddr()+path); !strings.Contains(body, says) {
			t.Errorf("%s lacks %q:\n%s", path, says, body)
		}
	}
	if problems, err := testutil.GatherAndLint(p.registry()); err != nil || len(problems) > 0 {
		t.Errorf("metrics: %v, %v", problems, err)
	}
}

func get(t *testing.T, url string) string {
	t.Helper()
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	resp, err := client.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return string(body)
}

// What cannot be served with is refused, and leaves nothing behind that would prevent the next start.
func TestRefusals(t *testing.T) {
	first := start(t, config(t))
	busy := config(t)
	busy.Listen = first.Addr()
	if _, err := Start(busy); !errors.Is(err, cell.Refused) || !strings.Contains(err.Error(), "in use") {
		t.Errorf("a port in use: %v", err)
	}
	busy = config(t)
	busy.ListenOps = first.OpsAddr()
	if _, err := Start(busy); !errors.Is(err, cell.Refused) {
		t.Errorf("an ops port in use: %v", err)
	}
	busy.ListenOps = ""
	start(t, busy)
	shared := config(t)
	shared.DataDir = first.cfg.DataDir
	if _, err := Start(shared); err == nil {
		t.Error("a store that another process uses was opened")
	}
	for _, bad := range []func(*Config){func(c *Config) { c.Colony = "" }, func(c *Config) { c.Name = "a b" }, func(c *Config) { c.DataDir = "" }} {
		c := config(t)
		bad(&c)
		if _, err := Start(c); !errors.Is(err, cell.Invalid) {
			t.Errorf("%+v: %v", c, err)
		}
	}
	other := operator.Operator{Colony: "another", Addresses: []string{first.Addr()}}
	if _, err := other.Servers(t.Context(), "test"); err == nil || !strings.Contains(err.Error(), "another") {
		t.Errorf("a client of another colony: %v", err)
	}
}
