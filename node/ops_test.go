package node

import (
	"errors"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/prometheus/client_golang/prometheus/testutil/promlint"

	"physalia/cell"
	"physalia/node/admission"
	"physalia/node/core"
	"physalia/node/mesh"
)

// TestProbes: what a probe says depends on the loop and the restart scan alone.
func TestProbes(t *testing.T) {
	for name, test := range map[string]struct {
		silent      time.Duration // since the last turn
		ready       bool
		fails       error
		live, serve int
		says        string
	}{
		"well":             {0, true, nil, 200, 200, "ok"},
		"starting":         {0, false, nil, 200, 503, "restart scan"},
		"slow loop":        {2 * notReadyAfter, true, nil, 200, 503, "silent"},
		"stuck loop":       {2 * stuckAfter, true, nil, 503, 503, "silent"},
		"failed":           {0, true, errors.New("the disk is gone"), 503, 503, "the disk is gone"},
		"failed and stuck": {2 * stuckAfter, false, errors.New("the disk is gone"), 503, 503, "the disk is gone"},
	} {
		t.Run(name, func(t *testing.T) {
			s := &Server{failed: make(chan struct{}), inbox: newInbox(1), metrics: newMetrics("b1", "red")}
			cfg := goodConfig("dir")
			s.cfg = cfg
			s.vitals.began = time.Now().Add(-time.Hour)
			s.vitals.turn.Store(int64(time.Hour - test.silent))
			s.vitals.ready.Store(test.ready)
			if test.fails != nil {
				s.fail(test.fails)
				s.fail(errors.New("another reason"))
			}
			for path, want := range map[string]int{"/livez": test.live, "/readyz": test.serve} {
				w := httptest.NewRecorder()
				s.opsHandler().ServeHTTP(w, httptest.NewRequest("GET", path, nil))
				if w.Code != want || want == 503 && !strings.Contains(w.Body.String(), test.says) {
					t.Errorf("%s: %d %q, want %d %q", path, w.Code, w.Body, want, test.says)
				}
			}
		})
	}
}

// TestFailedServerTakesNoRequests: what nobody will answer must not wait.
func TestFailedServerTakesNoRequests(t *testing.T) {
	s := startAlone(t, func(c *Config) { c.ListenOps = "127.0.0.1:0" })
	reason := &cell.Error{Op: "test", Kind: cell.Internal, Detail: "the disk is gone"}
	s.fail(reason)
	<-s.Failed()
	if !errors.Is(s.Err(), cell.Internal) {
		t.Errorf("it failed with %v", s.Err())
	}
	resp, err := http.Get("http://" + s.OpsAddr() + "/livez")
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	http.DefaultClient.CloseIdleConnections()
	if resp.StatusCode != http.StatusServiceUnavailable {
		t.Errorf("/livez answers %d", resp.StatusCode)
	}
	if e := s.inbox.ask("m", nil); e == nil || e.Kind != cell.Unavailable {
		t.Errorf("a question to a failed server: %v", e)
	}
}

// TestMetricNames: the linter of Prometheus has nothing to say about what is ours.
func TestMetricNames(t *testing.T) {
	m := newMetrics("b1", "red")
	m.meshStats(new(mesh.Stats))
	m.gossipPool(func() int { return 3 })
	m.dropped.WithLabelValues("x").Inc()
	m.reply(&cell.Error{Kind: cell.Overloaded})
	m.reply(nil)
	m.gauges(5, 4, 3, 2)
	m.fsync(time.Millisecond)
	m.refusal(admission.CellFull)
	m.space(1, 2)
	m.ails(slog.New(slog.DiscardHandler), true, true, core.Full)
	m.queue(queued{requests: 1, requestBytes: 2}, 3)
	m.bounds(&Config{}, func() int { return 1 })
	families, err := m.registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	var ours []string
	for _, f := range families {
		if !strings.HasPrefix(f.GetName(), "physalia_") {
			continue
		}
		ours = append(ours, f.GetName())
		for _, series := range f.GetMetric() {
			labels := map[string]string{}
			for _, l := range series.GetLabel() {
				labels[l.GetName()] = l.GetValue()
			}
			if labels["brick"] != "b1" || labels["color"] != "red" {
				t.Errorf("%s has labels %v", f.GetName(), labels)
			}
		}
	}
	if len(ours) < 25 {
		t.Errorf("only %d metrics: %v", len(ours), ours)
	}
	problems, err := testutil.GatherAndLint(m.registry, ours...)
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range problems {
		t.Errorf("%v", promlint.Problem(p))
	}
	if got := testutil.ToFloat64(m.replies.WithLabelValues("ok")); got != 1 {
		t.Errorf("%v good answers counted, want 1", got)
	}
	if got := testutil.ToFloat64(m.replies.WithLabelValues("overloaded")); got != 1 {
		t.Errorf("%v refusals counted, want 1", got)
	}
}
