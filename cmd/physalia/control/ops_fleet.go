package control

import (
	"github.com/prometheus/client_golang/prometheus"

	"physalia/internal/fleet"
)

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
	counter("duties_moved_total", "Servers told that another instance has a duty now.", nil, func(s fleet.Stats) uint64 { return s.Told })
}
