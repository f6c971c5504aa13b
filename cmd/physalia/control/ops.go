package control

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"physalia/cell"
	"physalia/internal/pki"
	"physalia/internal/pki/export"
	"physalia/internal/rpc"
	"physalia/lifecycle"
)

// opsTime bounds one request, its TLS handshake included: whoever may reach the port is not trusted to be gentle.
const opsTime = 10 * time.Second

// opsConnections bounds the connections of the port.
const opsConnections = 256

// ops is the listener for people and probes.
type ops struct {
	server *http.Server
	addr   string
	ended  chan struct{}
}

// listenOps serves /metrics, /livez and /readyz. Both probes say whether the lifecycle manager still works: a control plane
// that waits for servers is well.
func (p *Control) listenOps() error {
	if p.cfg.ListenOps == "" {
		return nil
	}
	ln, err := net.Listen("tcp", p.cfg.ListenOps)
	if err != nil {
		return &cell.Error{Op: "control.listen", Kind: cell.Refused, Detail: err.Error(), Hint: "choose another --listen-ops"}
	}
	if ln, err = p.guard.Listener(ln, pki.OpsPort); err != nil {
		return err
	}
	ln = rpc.GatedListener(ln, rpc.NewGate(rpc.Limits{Connections: opsConnections}), p.refused(pki.OpsPort))
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", promhttp.HandlerFor(p.registry(), promhttp.HandlerOpts{}))
	for _, path := range []string{"/livez", "/readyz"} {
		mux.HandleFunc("GET "+path, func(w http.ResponseWriter, _ *http.Request) {
			if err := p.Err(); err != nil {
				http.Error(w, "the lifecycle manager has stopped: "+err.Error(), http.StatusServiceUnavailable)
				return
			}
			fmt.Fprintln(w, p.seat.health())
		})
	}
	p.ops = &ops{server: &http.Server{Handler: mux, ReadTimeout: opsTime, WriteTimeout: opsTime, IdleTimeout: time.Minute, MaxHeaderBytes: 16 << 10}, addr: ln.Addr().String(), ended: make(chan struct{})}
	go func() {
		defer close(p.ops.ended)
		if err := p.ops.server.Serve(ln); !errors.Is(err, http.ErrServerClosed) {
			p.cfg.Logger.Error("ops listener ended", "error", err)
		}
	}()
	return nil
}

// close ends the listener; requests under way get a moment.
func (o *ops) close() error {
	if o == nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	err := o.server.Shutdown(ctx)
	if err != nil {
		err = o.server.Close()
	}
	<-o.ended
	return err
}

// registry collects the metrics. Nothing is labelled by cell or server: there are too many.
func (p *Control) registry() *prometheus.Registry {
	r := prometheus.NewRegistry()
	r.MustRegister(export.New(p.guard, nil))
	r.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	gauge := func(name, help string, labels prometheus.Labels, value func() float64) {
		r.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{Namespace: "physalia", Subsystem: "control", Name: name, Help: help, ConstLabels: labels}, value))
	}
	gauge("servers_connected", "Servers that are connected to this control process.", nil, func() float64 { return float64(len(p.fleet.Sessions())) })
	gauge("active", "1 while the lifecycle manager works in this process, 0 while it stands by.", nil, func() float64 { return indicator(p.seat.active()) })
	gauge("store_usable", "1 while the store of the lifecycle manager can be used, as far as this process knows.", nil, func() float64 { return indicator(p.seat.problem() == nil) })
	p.fleetMetrics(r)
	if p.cfg.KnockKey.Set() {
		p.knockMetrics(r)
	}
	p.repairMetrics(r)
	p.accessMetrics(r)
	for state := range (lifecycle.Stats{}).Cells {
		gauge("cells", "Incarnations of cells by state.", prometheus.Labels{"state": lifecycle.State(state).String()},
			func() float64 { return float64(p.seat.stats().Cells[state]) })
	}
	gauge("routes", "Cells that discovery knows, those included that it knows to be deleted.", nil, func() float64 { return float64(p.discovery.Stats().Cells) })
	p.discoveryMetrics(r)
	gauge("backlog", "Cells asked for and not planned yet.", nil, func() float64 { return float64(p.seat.stats().Backlog) })
	gauge("requests_waiting", "Requests that wait for an answer.", nil, func() float64 { return float64(p.seat.stats().Requests) })
	gauge("calls_in_flight", "Batches that servers have been asked to do and not answered.", nil, func() float64 { return float64(p.seat.stats().Batches) })
	gauge("adopted", "Incarnations of cells adopted from what servers host, since the start.", nil, func() float64 { return float64(p.seat.stats().Adopted) })
	gauge("findings", "What servers host and does not fit, as of the last complete round; see physalia control rebuild --look.", nil,
		func() float64 { return float64(p.seat.stats().Findings) })
	p.registerLimits(gauge)
	return r
}

// All of these are read from one copy of the manager's counters, which it makes after each turn: a scrape costs it nothing, and what
// a scrape shows is of one moment.
//
// registerLimits adds what holds the lifecycle manager back.
func (p *Control) registerLimits(gauge func(name, help string, labels prometheus.Labels, value func() float64)) {
	stats := p.seat.stats // as of the manager's last turn
	gauge("rebuilding", "1 while the store is being rebuilt, and everything waits for an operator.", nil, func() float64 { return indicator(stats().Rebuilding) })
	// An alert on a pause that was forgotten needs the action, not who gave the order: that is what the status is for.
	for a := lifecycle.CreateCells; a <= lifecycle.RepairCells; a++ {
		gauge("paused", "1 while an operator has paused the action.", prometheus.Labels{"action": a.String()}, func() float64 { return indicator(stats().Paused[a]) })
	}
	// The buckets of bricks and servers would be one series each; the colony's tells when work is held back at all.
	for i, work := range []string{"create", "move", "repair"} {
		gauge("limit_tokens", "Tokens left in the bucket of the whole colony, by work.", prometheus.Labels{"work": work},
			func() float64 { return float64(stats().Tokens[i]) })
	}
	// By cause, so that a drain can be told from a storm of repairs.
	for c := lifecycle.ByOperator; c <= lifecycle.ByBalance; c++ {
		gauge("replacements", "Members being replaced now, by cause.", prometheus.Labels{"cause": c.String()},
			func() float64 { return float64(stats().Replacements[c]) })
	}
	// What waits and what has not converged should fall; if it does not, the status says which cell it is.
	gauge("replacements_waiting", "Replacements that operators asked for and limits hold back.", nil, func() float64 { return float64(stats().Petitions) })
	gauge("servers_draining", "Servers that are being emptied.", nil, func() float64 { return float64(stats().Draining) })
	gauge("unconverged", "Incarnations of cells that are not as they should be yet.", nil, func() float64 { return float64(stats().Unsettled) })
}

// indicator is a truth as a metric.
func indicator(is bool) float64 {
	if is {
		return 1
	}
	return 0
}
