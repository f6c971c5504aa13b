package node

import (
	"fmt"
	"net/http"
	"net/http/pprof"
	"time"

	"github.com/prometheus/client_golang/prometheus/promhttp"

	"physalia/node/core"
)

// stuckAfter is how long the loop may be silent before /livez says no. It ticks every 20 ms, so this is not a slow disk
// or a lost quorum: a restart may help.
const stuckAfter = 10 * time.Second

// opsHandler serves /metrics, /livez and /readyz. /livez fails only when the event loop is stuck or the server failed: a
// probe must never restart a server over a lost quorum, a full disk or a slow peer. /readyz tells whether requests are
// served.
func (s *Server) opsHandler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /debug/pprof/", pprof.Index) // the ops listener is for operators; keep it on loopback
	mux.HandleFunc("GET /debug/pprof/profile", pprof.Profile)
	mux.Handle("GET /metrics", promhttp.HandlerFor(s.metrics.registry, promhttp.HandlerOpts{}))
	mux.HandleFunc("GET /livez", func(w http.ResponseWriter, r *http.Request) {
		silent := s.metrics.sinceTurn()
		if err := s.Err(); err != nil {
			http.Error(w, "the server failed: "+err.Error(), http.StatusServiceUnavailable)
		} else if silent > stuckAfter {
			http.Error(w, fmt.Sprintf("the event loop has been silent for %v", silent), http.StatusServiceUnavailable)
		} else {
			fmt.Fprintln(w, "ok")
		}
	})
	mux.HandleFunc("GET /readyz", func(w http.ResponseWriter, r *http.Request) {
		ready := make(chan bool, 1)
		s.inbox.call(func(c *core.Core) { ready <- c.Ready() })
		select {
		case ok := <-ready:
			if ok {
				fmt.Fprintln(w, "ok")
				return
			}
			http.Error(w, "the restart scan is not done", http.StatusServiceUnavailable)
		case <-s.failed:
			http.Error(w, "the server failed: "+s.Err().Error(), http.StatusServiceUnavailable)
		case <-r.Context().Done():
		case <-time.After(time.Second):
			http.Error(w, "the event loop does not answer", http.StatusServiceUnavailable)
		}
	})
	return mux
}
