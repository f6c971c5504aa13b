package control

import (
	"math"
	"path/filepath"
	"slices"

	"github.com/prometheus/client_golang/prometheus"

	"physalia/discovery"
	"physalia/internal/objects"
	"physalia/internal/pki"
	"physalia/internal/wire"
)

// openDiscovery makes this process's copy of discovery and opens its object store.
func (p *Control) openDiscovery(servers discovery.Caller) error {
	// Without a store of its own a control process keeps snapshots beside its other data: they survive the process, though not
	// its disk. Several copies profit most when they share one store.
	where := p.cfg.Objects
	if where == "" {
		dir, err := filepath.Abs(filepath.Join(p.cfg.DataDir, "objects"))
		if err != nil {
			return err
		}
		where = dir
	}
	// Opening asks nobody, so a store that is away does not keep the control plane from starting: discovery says so in the
	// log, and asks the servers instead. What is wrong with the URL itself is found here.
	store, err := objects.Open(where)
	if err != nil {
		return err
	}
	p.discovery = discovery.NewService(discovery.ServiceConfig{Servers: servers, Log: p.cfg.Logger,
		Copies: p.copies, Dial: discovery.DialCopy(p.cfg.Colony, p.guard.Dialer(pki.ControlPort, nil)),
		Keeper: discovery.KeeperConfig{Store: store, Copy: p.cfg.Name, Every: p.cfg.Snapshot}})
	return nil
}

// copies are the addresses of the other copies of discovery: those that were named, and every other live instance.
func (p *Control) copies() []string {
	all := slices.Clone(p.cfg.Copies)
	for _, i := range p.roster.Instances() {
		if i.Name != p.roster.Self() && !slices.Contains(all, i.Addr) {
			all = append(all, i.Addr)
		}
	}
	return all
}

// discoveryMetrics shows how much this copy knows, how old its news is, and what it asks of others.
func (p *Control) discoveryMetrics(r *prometheus.Registry) {
	r.MustRegister(&discoveryCollector{of: p.discovery})
}

// discoveryCollector reads all figures at once, when somebody asks for metrics.
type discoveryCollector struct{ of *discovery.Service }

// discoveryDesc describes one metric of discovery.
func discoveryDesc(name, help string, labels ...string) *prometheus.Desc {
	return prometheus.NewDesc("physalia_discovery_"+name, help, labels, nil)
}

// What operators see of discovery. Bricks are few, so they may be labels; cells and servers are not.
var (
	descAge       = discoveryDesc("contact_age_seconds", "Age of the last contact with the server of the brick that has been silent longest; +Inf when one was never heard of.", "brick")
	descServers   = discoveryDesc("servers", "Servers that discovery knows, by brick.", "brick")
	descSnapshot  = discoveryDesc("snapshot_timestamp_seconds", "When the newest snapshot that this process wrote or read was begun; 0 without one.")
	descTook      = discoveryDesc("snapshot_duration_seconds", "How long the newest snapshot took to write.")
	descBytes     = discoveryDesc("snapshot_bytes", "Size of the newest snapshot written.")
	descSnapshots = discoveryDesc("snapshots_total", "Snapshots by what became of them.", "result")
	descAsked     = discoveryDesc("requests_total", "Requests to servers and other copies, by result.", "result")
	descDiffering = discoveryDesc("differing_buckets_total", "Buckets whose sums differed when they were compared: what pushes missed.")
	descBehind    = discoveryDesc("sources_behind", "Servers and copies that were not compared yet in this session, or whose differences are not pulled yet.")
	descRefused   = discoveryDesc("routes_refused_total", "Routes that were malformed or beyond a bound.")
)

// Describe implements prometheus.Collector.
func (c *discoveryCollector) Describe(to chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{descAge, descServers, descSnapshot, descTook, descBytes, descSnapshots, descAsked, descDiffering, descBehind, descRefused} {
		to <- d
	}
}

// Collect implements prometheus.Collector.
func (c *discoveryCollector) Collect(to chan<- prometheus.Metric) {
	gauge := func(d *prometheus.Desc, v float64, labels ...string) {
		to <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v, labels...)
	}
	count := func(d *prometheus.Desc, v uint64, labels ...string) {
		to <- prometheus.MustNewConstMetric(d, prometheus.CounterValue, float64(v), labels...)
	}
	// Each figure is as of its own moment; nothing here waits for the network.
	for _, b := range c.of.Ages() {
		gauge(descAge, ageSeconds(b.Oldest), b.Brick)
		gauge(descServers, float64(b.Servers), b.Brick)
	}
	// One of the two sums of requests is not counted apart: whoever was not answered was asked.
	kept, scans := c.of.Kept(), c.of.Scans()
	gauge(descSnapshot, float64(kept.Newest)/1000)
	gauge(descTook, kept.Took.Seconds())
	gauge(descBytes, float64(kept.Bytes))
	count(descSnapshots, kept.Written, "written")
	count(descSnapshots, kept.Failed, "failed")
	count(descSnapshots, kept.Damaged, "damaged")
	count(descAsked, scans.Asked-scans.Failed, "answered")
	count(descAsked, scans.Failed, "failed")
	count(descDiffering, scans.Differing)
	gauge(descBehind, float64(scans.Behind))
	count(descRefused, c.of.Stats().Refused)
}

// ageSeconds is an age for a graph.
func ageSeconds(age uint32) float64 {
	if age == wire.AgeNever {
		return math.Inf(1)
	}
	return float64(age)
}
