package report

import (
	"fmt"
	"slices"
	"strconv"

	"physalia/bench/contest"
)

// plots draws what was measured: over the number of clients, one line for each subject, and over the number of groups, one line for each
// system. A plot without a figure is left out.
func (r *Report) plots() map[string]string {
	all := map[string]string{}
	// One without a figure is empty.
	add := func(name string, c *chart) {
		if svg := c.svg(); svg != "" {
			all[name+".svg"] = svg
		}
	}
	rate := func(p *contest.Point) float64 { return p.PerS }
	// Over the number of clients: rate and latencies of each kind of work.
	kinds, _ := r.columns()
	for _, k := range kinds {
		add(string(k)+"-throughput", r.overClients(k, "throughput: "+titles[k], "operations per second", rate))
		add(string(k)+"-p50", r.overClients(k, "median latency: "+titles[k], "milliseconds", func(p *contest.Point) float64 { return p.P50MS }))
		add(string(k)+"-p99", r.overClients(k, "99th percentile of latency: "+titles[k], "milliseconds", func(p *contest.Point) float64 { return p.P99MS }))
	}
	// Over the number of groups: all else, and writes with one number of clients.
	n := r.busiest()
	write := func(figure func(*contest.Point) float64) func(*contest.Result) (float64, bool) {
		return at(contest.Write, n, figure)
	}
	of := func(figure func(*contest.Result) float64) func(*contest.Result) (float64, bool) {
		return func(r *contest.Result) (float64, bool) { x := figure(r); return x, x > 0 }
	}
	add("groups-writes", r.overGroups(fmt.Sprintf("writes with %d clients", n), "writes per second", write(rate)))
	add("groups-cpu", r.overGroups(fmt.Sprintf("processor time of all servers for a write, %d clients", n), "microseconds", write(func(p *contest.Point) float64 { return p.ServersUS })))
	add("groups-syncs", r.overGroups(fmt.Sprintf("syncs of a server while writing, %d clients", n), "syncs per second", write(func(p *contest.Point) float64 { return p.SyncsPerS })))
	add("groups-kill", r.overGroups("kill -9 of a server until every volume takes writes", "milliseconds", of(func(r *contest.Result) float64 { return r.FailoverAllMS })))
	add("groups-idle", r.overGroups("idle: processors used by all servers", "cores", of(func(r *contest.Result) float64 { return r.IdleCores })))
	add("groups-memory", r.overGroups("resident memory of a server after the load", "MiB", of(func(r *contest.Result) float64 { return r.RSSMiB })))
	add("groups-start", r.overGroups("start with a write on every volume", "seconds", of(func(r *contest.Result) float64 { return r.StartS })))
	return all
}

// busiest is the number of clients that plots over groups show: the last but one, where systems are busy and not yet overrun.
func (r *Report) busiest() int {
	_, clients := r.columns()
	if len(clients) == 0 {
		return 0
	}
	return clients[max(0, len(clients)-2)]
}

// overClients draws a figure of one kind of work over the numbers of clients.
func (r *Report) overClients(kind contest.Kind, title, unit string, figure func(*contest.Point) float64) *chart {
	_, clients := r.columns()
	c := &chart{title: title, xLabel: "clients, each waiting for its answer", yLabel: unit}
	for _, n := range clients {
		c.xs = append(c.xs, strconv.Itoa(n))
	}
	for _, s := range r.subjects() {
		l := line{name: s.name, ys: make([]float64, len(clients))}
		// A subject that never had this work, as one without that kind of reads, has no line.
		l.color, l.dash = styled(s.rounds[0].System, c.lines)
		found := false
		for i, n := range clients {
			var ok bool
			l.ys[i], ok = s.median(at(kind, n, figure))
			found = found || ok
		}
		if found {
			c.lines = append(c.lines, l)
		}
	}
	return c
}

// overGroups draws a figure over the numbers of groups. Etcd, one group for all volumes, is at one.
func (r *Report) overGroups(title, unit string, figure func(*contest.Result) (float64, bool)) *chart {
	var groups []int
	for _, result := range r.Results {
		if !slices.Contains(groups, result.Groups) {
			groups = append(groups, result.Groups)
		}
	}
	slices.Sort(groups)
	c := &chart{title: title, xLabel: "consensus groups", yLabel: unit}
	for _, n := range groups {
		c.xs = append(c.xs, strconv.Itoa(n))
	}
	for _, s := range r.subjects() {
		system := s.rounds[0].System
		// Subjects of one system share a line.
		i := slices.IndexFunc(c.lines, func(l line) bool { return l.name == system })
		if i < 0 {
			l := line{name: system, ys: make([]float64, len(groups))}
			l.color, l.dash = styled(system, nil)
			i, c.lines = len(c.lines), append(c.lines, l)
		}
		if x, ok := s.median(figure); ok {
			c.lines[i].ys[slices.Index(groups, s.rounds[0].Groups)] = x
		}
	}
	return c
}
