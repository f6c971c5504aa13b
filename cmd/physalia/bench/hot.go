package bench

import (
	"context"
	"slices"
	"time"

	"physalia/cell"
	"physalia/cmd/physalia/judge"
)

// HotReport is what one hot cell does to the others. The JSON names stay. Latencies are of writes by the same half of the clients; each
// figure is the median over the rounds.
type HotReport struct {
	EvenP50MS      float64 `json:"even_p50_ms"` // while the other half spreads over all cells, too
	EvenP99MS      float64 `json:"even_p99_ms"`
	HotP50MS       float64 `json:"hot_p50_ms"` // while the other half writes to one cell
	HotP99MS       float64 `json:"hot_p99_ms"`
	Ratio          float64 `json:"p99_ratio"`      // HotP99MS over EvenP99MS
	EvenPerS       float64 `json:"even_per_s"`     // writes of all clients together
	HotPerS        float64 `json:"hot_per_s"`      // likewise
	HotCellPerS    float64 `json:"hot_cell_per_s"` // of them, to the hot cell
	Rounds         int     `json:"rounds"`         // of both kinds, in turn
	Errors         int     `json:"errors"`         // of all phases
	FirstError     string  `json:"first_error,omitempty"`
	FdatasyncP50US float64 `json:"fdatasync_p50_us"`
	FdatasyncP99US float64 `json:"fdatasync_p99_us"`
	Servers        int     `json:"servers"`
	Cells          int     `json:"cells"`
	Clients        int     `json:"clients"`
	Libraries      int     `json:"libraries"`
}

// hotBench is one run: a Bench whose first half of clients has a cell in common.
type hotBench struct {
	*Bench
	rounds int
	hot    []owned // of each client of the first half
	even   []hotRound
	heated []hotRound
}

// hotRound is one phase: percentiles of the second half of the clients in milliseconds, writes per second of all and of the first half.
type hotRound struct{ p50, p99, all, hot float64 }

// Hot measures what the users of all other cells notice of one that is used as much as all of them together.
func Hot(ctx context.Context, cfg Config, rounds int) (r HotReport, err error) {
	if cfg.Say == nil {
		cfg.Say = func(string, ...any) {}
	}
	// All clients may be in the hot cell one day, so they have to fit it.
	crowd := cfg
	crowd.Cells = 1
	if cfg.Cells < 2 || cfg.Clients < 2 || rounds < 1 || cfg.keys() == 0 || crowd.keys() == 0 || cfg.Duration < 100*time.Millisecond {
		return r, &cell.Error{Op: "bench", Kind: cell.Invalid, Detail: "that is no load with a hot cell", Hint: "use two cells, two clients, one round and 100ms at least"}
	}
	h := &hotBench{Bench: &Bench{cfg: cfg}, rounds: rounds}
	h.report.Servers = cfg.Colony.Bricks * cfg.Colony.Colors * cfg.Colony.Servers
	defer func() {
		for _, c := range h.libs {
			c.Close()
		}
	}()
	err = h.play(ctx, cfg.Colony, &r.FdatasyncP50US, &r.FdatasyncP99US, h.found, h.connect, h.gather, h.warm, h.measure)
	r.Servers, r.Cells, r.Clients, r.Libraries, r.Rounds = h.report.Servers, cfg.Cells, cfg.Clients, cfg.Libraries, len(h.heated)
	r.Errors, r.FirstError = h.report.Errors, h.report.FirstError
	of := func(rounds []hotRound, figure func(hotRound) float64) float64 { return medianOf(rounds, figure) }
	r.EvenP50MS, r.EvenP99MS, r.EvenPerS = of(h.even, hotRound.median), of(h.even, hotRound.tail), of(h.even, hotRound.rate)
	r.HotP50MS, r.HotP99MS, r.HotPerS = of(h.heated, hotRound.median), of(h.heated, hotRound.tail), of(h.heated, hotRound.rate)
	r.HotCellPerS = of(h.heated, hotRound.heat)
	if r.EvenP99MS > 0 {
		r.Ratio = rounded(r.HotP99MS / r.EvenP99MS)
	}
	return r, err
}

// The figures of a round, by name, for medianOf.
func (r hotRound) median() float64 { return r.p50 }
func (r hotRound) tail() float64   { return r.p99 }
func (r hotRound) rate() float64   { return r.all }
func (r hotRound) heat() float64   { return r.hot }

// medianOf is the median of a figure, 0 without any.
func medianOf(rounds []hotRound, figure func(hotRound) float64) float64 {
	var all []float64
	for _, r := range rounds {
		all = append(all, figure(r))
	}
	if len(all) == 0 {
		return 0
	}
	slices.Sort(all)
	return all[len(all)/2]
}

// gather gives the first half of the clients the same cell, the first. It stays a cell of its owner, too: keys differ by client.
func (h *hotBench) gather(context.Context) error {
	crowd := h.cfg
	crowd.Cells = 1
	h.hot = make([]owned, h.cfg.Clients/2)
	for i := range h.hot {
		h.hot[i].handle = h.libs[i%len(h.libs)].Cell(cellName(0))
		h.workers[i].keys = min(h.workers[i].keys, crowd.keys())
	}
	return nil
}

// measure alternates between load that is spread and load half of which is on one cell, so that whatever else the machine does meets both.
func (h *hotBench) measure(ctx context.Context) error {
	for range h.rounds {
		even, err := h.round(ctx, "spread over all cells", func(ctx context.Context, i int, w *worker) { w.write(ctx, i) })
		if err != nil {
			return err
		}
		heated, err := h.round(ctx, "half of it on one cell", func(ctx context.Context, i int, w *worker) {
			if i < len(h.hot) {
				w.writeTo(ctx, i, &h.hot[i])
				return
			}
			w.write(ctx, i)
		})
		if err != nil {
			return err
		}
		h.even, h.heated = append(h.even, even), append(h.heated, heated)
	}
	return nil
}

// round runs one phase and looks at the second half of the clients, whose work is the same in both.
func (h *hotBench) round(ctx context.Context, what string, f func(context.Context, int, *worker)) (r hotRound, err error) {
	h.cfg.Say("writing for %v, %s", h.cfg.Duration, what)
	took, err := h.each(ctx, h.cfg.Duration, f)
	if err != nil {
		return r, err
	}
	// A slow client has written less, and so counts for less: the percentiles are of writes, as a user's dashboard would have them.
	var others []time.Duration
	all, hot := 0, 0
	for i, w := range h.workers {
		all += len(w.times)
		if i < len(h.hot) {
			hot += len(w.times)
			continue
		}
		others = append(others, w.times...)
	}
	// Errors of either half are errors: a cell that is hot must refuse in time, and its clients come back.
	h.collect()
	p := judge.Percentiles(others, 50, 99)
	return hotRound{millis(p[0]), millis(p[1]), rounded(float64(all) / took.Seconds()), rounded(float64(hot) / took.Seconds())}, nil
}
