package report

import (
	"fmt"
	"strings"
	"text/tabwriter"

	"physalia/bench/contest"
)

// unknown stands where nothing was measured.
const unknown = "-"

// Table is the report for people.
func (r *Report) Table() string {
	// What it was measured on comes first: no figure means anything without it.
	var b strings.Builder
	g := r.Ground
	fmt.Fprintf(&b, "%s\n%s, %d processors, %.0f GiB, Linux %s, %s\n", g.Date, g.CPU, g.Processors, g.MemoryGiB, g.Kernel, g.Go)
	fmt.Fprintf(&b, "disk: %s, fdatasync of 4 KiB p50 %.0f us, p99 %.0f us; load average before %s, after %s\n", g.FileSystem, g.FdatasyncP50US, g.FdatasyncP99US,
		g.LoadAverage, g.LoadAfter)
	fmt.Fprintf(&b, "seven server processes with %s each, the clients in an eighth like them, which share client libraries: %d; values of %d bytes; %.1f s for each point; medians over the rounds\n", r.Procs, r.Libraries, r.ValueBytes, r.PointS)
	// One small table for each kind of work and each number of clients; a row is a subject.
	kinds, clients := r.columns()
	for _, kind := range kinds {
		for _, n := range clients {
			r.points(&b, kind, n)
		}
	}
	r.rest(&b)
	if r.Incomplete != "" {
		fmt.Fprintf(&b, "\nINCOMPLETE: %s\n", r.Incomplete)
	}
	return b.String()
}

// titles of the kinds of work.
var titles = map[contest.Kind]string{contest.Write: "writes", contest.Read: "linearizable reads", contest.Mixed: "nine reads to one write",
	contest.ReadSure: "linearizable reads, each confirmed by a majority where that is not the default"}

// points shows one kind of work with one number of clients.
func (r *Report) points(b *strings.Builder, kind contest.Kind, clients int) {
	fmt.Fprintf(b, "\n%s, %d clients\n", titles[kind], clients)
	w := tabwriter.NewWriter(b, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(w, "system, groups\tper s\tp50 ms\tp99 ms\tp99.9 ms\tservers us/op\tclients us/op\tsyncs/s/server\terrors\trounds\t")
	for _, s := range r.subjects() {
		// The median over the rounds, or that there is none.
		cell := func(format string, figure func(*contest.Point) float64) string {
			if x, ok := s.median(at(kind, clients, figure)); ok {
				return fmt.Sprintf(format, x)
			}
			return unknown
		}
		// Errors are added up: one round with errors shall not be hidden by two without.
		rounds, errors := 0, 0
		for _, result := range s.rounds {
			for _, p := range result.Points {
				if p.Kind == kind && p.Clients == clients {
					rounds, errors = rounds+1, errors+p.Errors
				}
			}
		}
		// Where confirmed reads are the default, they stand in the table of reads.
		if rounds == 0 && kind == contest.ReadSure {
			continue
		}
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\t%d\t%d\t\n", s.name, cell("%.0f", func(p *contest.Point) float64 { return p.PerS }),
			cell("%.2f", func(p *contest.Point) float64 { return p.P50MS }), cell("%.2f", func(p *contest.Point) float64 { return p.P99MS }),
			cell("%.2f", func(p *contest.Point) float64 { return p.P999MS }), cell("%.0f", func(p *contest.Point) float64 { return p.ServersUS }),
			cell("%.0f", func(p *contest.Point) float64 { return p.ClientsUS }), cell("%.0f", func(p *contest.Point) float64 { return p.SyncsPerS }), errors, rounds)
	}
	flush(w)
}

// flush ends a table; a strings.Builder takes everything.
func flush(w *tabwriter.Writer) {
	if err := w.Flush(); err != nil {
		panic(err)
	}
}

// rest shows what there is once per subject: start, idle, memory, failover, and what was verified.
func (r *Report) rest(b *strings.Builder) {
	fmt.Fprintf(b, "\nstart with a write on every volume; idle; memory after the load; kill -9 of a leader; keys read back with that server dead\n")
	w := tabwriter.NewWriter(b, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(w, "system, groups\tstart s\tidle cores\tRSS MiB/server\tkill: p50 ms\tkill: all ms\tkeys\tmissing\t")
	for _, s := range r.subjects() {
		cell := func(format string, figure func(*contest.Result) float64) string {
			if x, ok := s.median(func(r *contest.Result) (float64, bool) { x := figure(r); return x, x > 0 }); ok {
				return fmt.Sprintf(format, x)
			}
			return unknown
		}
		// A missing key in any round is a missing key.
		keys, missing := 0, 0
		for _, result := range s.rounds {
			keys, missing = keys+result.VerifiedKeys, missing+result.LostKeys
		}
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%s\t%d\t%d\t\n", s.name, cell("%.1f", func(r *contest.Result) float64 { return r.StartS }),
			cell("%.3f", func(r *contest.Result) float64 { return r.IdleCores }), cell("%.0f", func(r *contest.Result) float64 { return r.RSSMiB }),
			cell("%.0f", func(r *contest.Result) float64 { return r.FailoverP50MS }), cell("%.0f", func(r *contest.Result) float64 { return r.FailoverAllMS }), keys, missing)
	}
	flush(w)
	r.remarks(b)
}

// remarks tell what did not finish, and how everybody reads.
func (r *Report) remarks(b *strings.Builder) {
	for _, s := range r.subjects() {
		for _, result := range s.rounds {
			// That a system did not finish is a result, and why it did not.
			if result.DidNotFinish != "" {
				fmt.Fprintf(b, "\n%s did not finish in round %d: %s\n", s.name, result.Round, result.DidNotFinish)
			}
			for _, p := range result.Points {
				if p.Errors > 0 {
					fmt.Fprintf(b, "%s, %s with %d clients: %d errors, the first: %s\n", s.name, p.Kind, p.Clients, p.Errors, p.FirstFailure)
				}
			}
		}
	}
	// Reads differ, and so do versions: once for each system.
	fmt.Fprintln(b)
	said := map[string]bool{}
	for _, s := range r.subjects() {
		// The first subject of a system speaks for all of them.
		if f := s.rounds[0].Facts; !said[f.System] {
			said[f.System] = true
			fmt.Fprintf(b, "%s %s: reads %s\n", f.System, f.Version, f.Reads)
		}
	}
}
