// Package export shows the counters of a pki.Guard as Prometheus metrics. It is apart from package pki because a user's program
// links that one, and no metrics library.
package export

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"physalia/internal/pki"
)

// collector reads a guard at each scrape.
type collector struct {
	guard *pki.Guard

	handshakes, refused *prometheus.Desc // by port, side and reason; never by address or name: outsiders choose those
	expiry, renews      *prometheus.Desc // timestamps, so that an alert needs no clock of ours
	reloads, failing    *prometheus.Desc // failing is what to alert on: the old certificates go on, but not for ever
	dropped             *prometheus.Desc
	plain               *prometheus.Desc // an alert on it finds what was meant for a trial
}

// New makes the collector of one guard; all its metrics carry the labels.
func New(g *pki.Guard, labels prometheus.Labels) prometheus.Collector {
	desc := func(name, help string, variable ...string) *prometheus.Desc {
		return prometheus.NewDesc("physalia_"+name, help, variable, labels)
	}
	return &collector{guard: g,
		handshakes: desc("handshakes_total", "TLS handshakes that succeeded, by port and by who dialled.", "port", "side"),
		refused:    desc("refused_total", "Connections, and what came on them, that were refused, by port, by who dialled, and by reason.", "port", "side", "reason"),
		expiry:     desc("certificate_expiry_timestamp_seconds", "When this process's certificate (leaf) and the first authority that it trusts (authority) expire; absent without certificates.", "which"),
		renews:     desc("certificate_renew_timestamp_seconds", "When this process's certificate should be renewed: at half-life; absent without certificates."),
		reloads:    desc("certificate_reloads_total", "New files of certificates, by whether they were taken.", "result"),
		failing:    desc("certificate_reload_failing", "1 while the files of certificates are not those in use, because they cannot be used."),
		dropped:    desc("connections_unproven_total", "Connections closed because the other side's certificate had expired or its authority was dropped."),
		plain:      desc("plain_text_allowed", "1 when this process was told to speak plain text beyond loopback."),
	}
}

// Describe implements prometheus.Collector.
func (c *collector) Describe(to chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{c.handshakes, c.refused, c.expiry, c.renews, c.reloads, c.failing, c.dropped, c.plain} {
		to <- d
	}
}

// Collect implements prometheus.Collector. Reasons that a side of a port can never have are not shown while they are zero.
func (c *collector) Collect(to chan<- prometheus.Metric) {
	// All of it is read without a lock: counters are of about one moment, which is what scrapes expect.
	s := c.guard.Stats()
	count := func(d *prometheus.Desc, n uint64, labels ...string) {
		to <- prometheus.MustNewConstMetric(d, prometheus.CounterValue, float64(n), labels...)
	}
	gauge := func(d *prometheus.Desc, v float64, labels ...string) {
		to <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v, labels...)
	}
	// Reasons at zero are shown on the accepting side, so that the first refusal is an increase and not a new series.
	for _, h := range s.Handshakes {
		switch {
		case h.Reason == pki.Welcome:
			count(c.handshakes, h.Count, h.Port.String(), h.Side.String())
		case h.Side == pki.Accepting && h.Port != pki.AnyPort && h.Reason != pki.RefusedThere, h.Count > 0:
			count(c.refused, h.Count, h.Port.String(), h.Side.String(), h.Reason.String())
		}
	}
	// Without certificates there is nothing that expires, and a zero would look like 1970.
	for which, at := range map[string]time.Time{"leaf": s.LeafUntil, "authority": s.AuthorityUntil} {
		if !at.IsZero() {
			gauge(c.expiry, float64(at.Unix()), which)
		}
	}
	if !s.RenewsFrom.IsZero() {
		gauge(c.renews, float64(s.RenewsFrom.Unix()))
	}
	// A refused file is counted once, however often it is looked at.
	count(c.reloads, s.Reloads, "taken")
	count(c.reloads, s.Failures, "refused")
	count(c.dropped, s.Dropped)
	gauge(c.failing, indicator(s.Failing))
	gauge(c.plain, indicator(s.PlainTextBeyondLoopback))
}

// indicator is a truth as a metric.
func indicator(is bool) float64 {
	if is {
		return 1
	}
	return 0
}
