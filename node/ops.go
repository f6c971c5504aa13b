package node

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/pprof"
	"time"

	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// stuckAfter is how long the loop may be silent before /livez says no. It ticks every 20 ms, so this is not a slow disk
// or a lost quorum: a restart may help.
const stuckAfter = 10 * time.Second

// notReadyAfter is how long the loop may be silent before /readyz says no.
const notReadyAfter = time.Second

// Bounds of the ops listener: whoever may reach it is not trusted to be gentle.
const (
	opsRequestTime = 10 * time.Second // one request, from its first byte to the last of its answer
	opsIdleTime    = time.Minute      // a connection between two requests: scrapes come every 15 s or so
	opsHeaderBytes = 16 << 10
	opsScrapes     = 4 // at once
	opsConnections = 256
	opsCloseTime   = 2 * time.Second // for requests under way when the server is closed
)

// opsServer serves opsHandler.
func (s *Server) opsServer() *http.Server {
	return &http.Server{Handler: s.opsHandler(), ReadTimeout: opsRequestTime, WriteTimeout: opsRequestTime, IdleTimeout: opsIdleTime,
		MaxHeaderBytes: opsHeaderBytes}
}

// closeOps lets requests under way finish, none of which waits for anything, and then closes what is left.
func closeOps(server *http.Server) error {
	ctx, cancel := context.WithTimeout(context.Background(), opsCloseTime)
	defer cancel()
	if err := server.Shutdown(ctx); errors.Is(err, context.DeadlineExceeded) {
		return server.Close()
	} else if err != nil {
		return err
	}
	return nil
}

// opsHandler serves /metrics, /livez and /readyz. Probes read what the loop left in vitals and never wait for it, so any
// number of them costs nothing.
//
// /livez fails only when the event loop is stuck or the server failed: a probe must never restart a server over a lost
// quorum, a full disk or a slow peer, since that makes an outage worse. /readyz tells whether requests are served: after
// the restart scan, while the loop turns.
func (s *Server) opsHandler() http.Handler {
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", promhttp.HandlerFor(s.metrics.registry, promhttp.HandlerOpts{MaxRequestsInFlight: opsScrapes}))
	mux.HandleFunc("GET /livez", func(w http.ResponseWriter, _ *http.Request) { probe(w, s.stuck(stuckAfter)) })
	mux.HandleFunc("GET /readyz", func(w http.ResponseWriter, _ *http.Request) {
		why := s.stuck(notReadyAfter)
		if why == "" && !s.vitals.ready.Load() {
			why = "the restart scan is not done"
		}
		probe(w, why)
	})
	if s.cfg.Profiles {
		profiles(mux)
	}
	return mux
}

// profiles adds Go's own profiles. One of the processor takes as long as it is asked for, so its answer has no deadline; the header
// that asks for it has.
func profiles(mux *http.ServeMux) {
	mux.HandleFunc("GET /debug/pprof/", pprof.Index)
	mux.HandleFunc("GET /debug/pprof/profile", func(w http.ResponseWriter, r *http.Request) {
		if err := http.NewResponseController(w).SetWriteDeadline(time.Time{}); err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
			return
		}
		pprof.Profile(w, r)
	})
}

// stuck says why the server does not work, or nothing.
func (s *Server) stuck(limit time.Duration) string {
	if err := s.Err(); err != nil {
		return "the server failed: " + err.Error()
	}
	if silent := s.vitals.sinceTurn(); silent > limit {
		return fmt.Sprintf("the event loop has been silent for %v", silent.Round(time.Millisecond))
	}
	return ""
}

// probe answers a probe: ok, or 503 with the reason.
func probe(w http.ResponseWriter, why string) {
	if why != "" {
		http.Error(w, why, http.StatusServiceUnavailable)
		return
	}
	fmt.Fprintln(w, "ok") // a prober that has gone misses nothing
}
