package control

import (
	"github.com/prometheus/client_golang/prometheus"

	"physalia/internal/fleet"
	"physalia/internal/knock"
)

// knockMetrics collects what became of knocks, with the reason for those that were dropped. A reason that grows says what to do:
// docs/control.md has a line for each. None of them is an error of this process.
func (p *Control) knockMetrics(r *prometheus.Registry) {
	counter := func(name, help string, labels prometheus.Labels, value func(fleet.KnockStats) uint64) {
		r.MustRegister(prometheus.NewCounterFunc(prometheus.CounterOpts{Namespace: "physalia", Subsystem: "control", Name: name, Help: help, ConstLabels: labels},
			func() float64 { return float64(value(p.fleet.KnockStats())) }))
	}
	counter("knocks_taken_total", "Knocks of servers that were worth a call.", nil, func(s fleet.KnockStats) uint64 { return s.Taken })
	for _, why := range knock.Refusals {
		counter("knocks_dropped_total", "Knocks that were dropped, by reason.", prometheus.Labels{"reason": string(why)},
			func(s fleet.KnockStats) uint64 { return s.Dropped[why] })
	}
	const calls = "Servers called back, by whether they accepted."
	counter("calls_back_total", calls, prometheus.Labels{"result": "accepted"}, func(s fleet.KnockStats) uint64 { return s.Called })
	counter("calls_back_total", calls, prometheus.Labels{"result": "failed"}, func(s fleet.KnockStats) uint64 { return s.Failed })
	r.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{Namespace: "physalia", Subsystem: "control", Name: "calls_back_waiting",
		Help: "Servers that have knocked and wait for their call."}, func() float64 { return float64(p.fleet.KnockStats().Waiting) }))
}

// The counters are of this process: they begin at zero when it starts, as those who read them expect.
//
// fleetMetrics collects what the fleet counts: at what pace servers come, and how many are refused to keep it.
func (p *Control) fleetMetrics(r *prometheus.Registry) {
	counter := func(name, help string, labels prometheus.Labels, value func(fleet.Stats) uint64) {
		r.MustRegister(prometheus.NewCounterFunc(prometheus.CounterOpts{Namespace: "physalia", Subsystem: "control", Name: name, Help: help, ConstLabels: labels},
			func() float64 { return float64(value(p.fleet.Stats())) }))
	}
	// A storm shows as refusals while "taken" stays at its pace; "crowded" means that registering itself has become slow.
	const registrations = "Registrations of servers, by what became of them."
	for result, value := range map[string]func(fleet.Stats) uint64{
		"taken":      func(s fleet.Stats) uint64 { return s.Registered },
		"redirected": func(s fleet.Stats) uint64 { return s.Redirected },
		"refused":    func(s fleet.Stats) uint64 { return s.Refused },
		"crowded":    func(s fleet.Stats) uint64 { return s.Full },
	} {
		counter("registrations_total", registrations, prometheus.Labels{"result": result}, value)
	}
	// Methods are a few dozen, and tell who asks: clients look up, operators list, servers push.
	for method := range p.fleet.Asked() {
		r.MustRegister(prometheus.NewCounterFunc(prometheus.CounterOpts{Namespace: "physalia", Subsystem: "control", Name: "requests_total",
			Help: "Requests taken, by method.", ConstLabels: prometheus.Labels{"method": method}}, func() float64 { return float64(p.fleet.Asked()[method]) }))
	}
	// It grows when an instance comes, goes or is elected; at other times it stands still.
	counter("duties_moved_total", "Servers told that another instance has a duty now.", nil, func(s fleet.Stats) uint64 { return s.Told })
}
