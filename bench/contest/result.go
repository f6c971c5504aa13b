package contest

import (
	"math"
	"slices"
	"time"
)

// Point is what one kind of work with one number of clients gave, in one round. The JSON names stay. A rate of zero with errors is
// what a system that does not answer gives.
type Point struct {
	Kind         Kind    `json:"kind"`
	Clients      int     `json:"clients"`
	Seconds      float64 `json:"seconds"`
	PerS         float64 `json:"per_s"` // acknowledged operations
	P50MS        float64 `json:"p50_ms"`
	P99MS        float64 `json:"p99_ms"`
	P999MS       float64 `json:"p999_ms"`
	ServersUS    float64 `json:"servers_cpu_us"` // processor time of all servers together, for each operation
	ClientsUS    float64 `json:"clients_cpu_us"` // of the process with the clients
	SyncsPerS    float64 `json:"syncs_per_s"`    // of each server, on average
	SyncsPerOp   float64 `json:"syncs_per_op"`   // of all servers together
	Errors       int     `json:"errors"`
	Operations   int     `json:"operations"`
	LoadAverage  string  `json:"load_average"` // of the machine, right before
	FirstFailure string  `json:"first_error,omitempty"`
}

// Result is what one subject gave in one round. The JSON names stay.
type Result struct {
	Facts
	Round     int     `json:"round"`
	Points    []Point `json:"points"`
	StartS    float64 `json:"start_s"`    // from the first process to the first acknowledged write on every volume
	IdleCores float64 `json:"idle_cores"` // processors that all servers together use when nobody asks anything
	RSSMiB    float64 `json:"rss_mib"`    // of each server after the load, on average
	// From kill -9 of the server that leads volume 0 to an acknowledged write on a volume: the median volume, and the last.
	FailoverP50MS float64 `json:"failover_p50_ms"`
	FailoverAllMS float64 `json:"failover_all_ms"`
	// Keys read back with that server dead.
	VerifiedKeys int    `json:"verified_keys"`
	LostKeys     int    `json:"lost_keys"`
	DidNotFinish string `json:"did_not_finish,omitempty"` // which phase, and why; what came before it stands
}

// Verified reports whether there was something to verify, and all of it was there.
func (r *Result) Verified() bool { return r.VerifiedKeys > 0 && r.LostKeys == 0 }

// percentile is the smallest of the sorted times that p percent of them do not exceed; zero of none.
func percentile(sorted []time.Duration, p float64) time.Duration {
	if len(sorted) == 0 {
		return 0
	}
	i := int(math.Ceil(p*float64(len(sorted))/100)) - 1
	return sorted[min(max(i, 0), len(sorted)-1)]
}

// latencies fills in the percentiles of a point.
func (p *Point) latencies(times []time.Duration) {
	slices.Sort(times)
	p.P50MS, p.P99MS, p.P999MS = millis(percentile(times, 50)), millis(percentile(times, 99)), millis(percentile(times, 99.9))
}

// millis is a duration in milliseconds, to a microsecond; tenths a number to a tenth.
func millis(d time.Duration) float64 { return float64(d.Round(time.Microsecond)) / 1e6 }
func tenths(x float64) float64       { return math.Round(x*10) / 10 }
