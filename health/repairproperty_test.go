package health

import (
	"fmt"
	"math/rand/v2"
	"runtime"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"physalia/cell"
	"physalia/internal/wire"
)

// TestRepairsKeepTheRules: whatever servers do and the manager answers, no window exceeds a budget, no cell has two proposals,
// none is made for a cell without a majority (propose checks both), a hold lets nothing through but raises by one, and once everybody
// is back nothing is left to do.
func TestRepairsKeepTheRules(t *testing.T) {
	proposed, raised, withdrawn := 0, 0, 0
	rapid.Check(t, func(t *rapid.T) {
		c := DefaultRepairConfig()
		c.Patience = time.Duration(rapid.IntRange(10, 120).Draw(t, "patience")) * time.Second
		c.Settle = time.Duration(rapid.IntRange(0, 10).Draw(t, "settle")) * time.Second
		c.ReturnMin = time.Duration(rapid.IntRange(0, 20).Draw(t, "return")) * time.Second
		c.HoldWindow = time.Duration(rapid.IntRange(1, 60).Draw(t, "window")) * time.Second
		c.HoldMax = c.HoldWindow + time.Duration(rapid.IntRange(1, 600).Draw(t, "hold"))*time.Second
		c.Brick = Budget{Repairs: float64(rapid.IntRange(1, 20).Draw(t, "repairs")), Bytes: float64(rapid.IntRange(16, 512).Draw(t, "kilobytes")) * 1024}
		c.Server = Budget{Repairs: float64(rapid.IntRange(1, 20).Draw(t, "server-repairs")), Bytes: float64(rapid.IntRange(16, 512).Draw(t, "server-kilobytes")) * 1024}
		c.InFlight = rapid.IntRange(4, 64).Draw(t, "in-flight")
		c.Page = rapid.IntRange(1, 64).Draw(t, "page")
		w := newRepairWorld(t, c, rapid.Uint64().Draw(t, "seed"), rapid.IntRange(4, 7).Draw(t, "racks"), rapid.IntRange(2, 4).Draw(t, "per-rack"), 3, 60)
		w.step, w.takes = 500*time.Millisecond, time.Duration(rapid.IntRange(1, 40).Draw(t, "takes"))*time.Second
		w.refuse = func(Repair) *cell.Error {
			switch w.rng.IntN(12) {
			case 0:
				return &cell.Error{Kind: cell.Overloaded, RetryAfter: 700 * time.Millisecond}
			case 1:
				return &cell.Error{Kind: cell.NoRoom}
			case 2:
				return &cell.Error{Kind: cell.UnknownResult}
			}
			return nil
		}
		for range rapid.IntRange(1, 40).Draw(t, "events") {
			w.event(t)
			w.run(time.Duration(rapid.IntRange(0, 60).Draw(t, "seconds")) * time.Second)
			checkCensus(t, w.r)
			if got := w.r.Stats().InFlight; got > c.InFlight {
				t.Fatalf("%d in flight, allowed are %d", got, c.InFlight)
			}
		}
		w.checkBudgets(t, c)
		w.refuse = nil
		for s, dead := range w.dead {
			if dead {
				w.comeBack(s)
			}
		}
		w.run(c.ReturnMin + 2*c.Pause.UnderWay + w.takes + time.Second)
		if st := w.r.Stats(); st.Queued != [classes]int{} || st.InFlight+st.Resting+st.Troubled+st.HoldsOn != 0 {
			t.Fatalf("everybody is back, and left are %+v", st)
		}
		proposed, raised, withdrawn = proposed+len(w.proposals), raised+int(w.r.Stats().Raised), withdrawn+w.withdrawn
	})
	if proposed == 0 || raised == 0 || withdrawn == 0 {
		t.Fatalf("%d proposals, %d raises, %d withdrawals: the property was not tried", proposed, raised, withdrawn)
	}
}

// event lets something happen to servers, or to somebody's patience with a hold.
func (w *repairWorld) event(t *rapid.T) {
	s := rapid.SampledFrom(w.servers).Draw(t, "server")
	switch rapid.SampledFrom([]string{"die", "die", "back", "rack dies", "rack back", "end hold", "past planning"}).Draw(t, "event") {
	case "die":
		if !w.dead[s] {
			w.die(s)
		}
	case "back":
		if w.dead[s] {
			w.comeBack(s)
		}
	case "rack dies":
		for _, id := range w.rack(w.place[s].Rack) {
			if !w.dead[id] {
				w.die(id)
			}
		}
	case "rack back":
		for _, id := range w.rack(w.place[s].Rack) {
			if w.dead[id] {
				w.comeBack(id)
			}
		}
	case "end hold":
		for _, at := range slices.Clone(w.r.holds) {
			if w.r.domains[at].hold == nil {
				continue // ended with another one
			}
			if err := w.r.EndHold(w.now, w.r.domains[at].name); err != nil {
				t.Fatal(err)
			}
		}
	case "past planning":
		for _, c := range w.cells {
			c.planned = false
		}
	}
}

// checkBudgets holds what was begun against every budget, in windows of one, ten and sixty seconds.
func (w *repairWorld) checkBudgets(t *rapid.T, c RepairConfig) {
	of := func(b Budget, seconds float64) int {
		// What a bucket holds at the start, and what flows in; one repair more where the last is larger than the bucket.
		repairs := b.burst() + seconds*b.Repairs
		bytes := (b.byteBurst()+seconds*b.Bytes)/float64(c.NodeBytes) + 1
		return int(min(repairs, bytes) + 1e-6)
	}
	for _, window := range []time.Duration{time.Second, 10 * time.Second, time.Minute} {
		if got, most := peak(w.proposals, window), of(c.Brick, window.Seconds()); got > most {
			t.Fatalf("%d repairs begun in %v, the budget %+v allows %d", got, window, c.Brick, most)
		}
		for _, s := range w.servers {
			var taught []made
			for _, p := range w.proposals {
				if slices.Contains(p.survivors, s) {
					taught = append(taught, p)
				}
			}
			if got, most := peak(taught, window), of(c.Server, window.Seconds()); got > most {
				t.Fatalf("%d repairs at server %s in %v, the budget %+v allows %d", got, s, window, c.Server, most)
			}
		}
	}
}

// big makes a Repairer with n cells on servers, of which the first hosts about hosted.
func big(t testing.TB, n, servers, hosted int) *Repairer {
	c := DefaultRepairConfig()
	r, err := NewRepairer(c)
	if err != nil {
		t.Fatal(err)
	}
	ids := make([]cell.ServerID, servers)
	for i := range ids {
		ids[i] = cell.ServerID(fmt.Sprintf("s%04d-aaaaaaaa", i))
		r.Server(0, &wire.Registration{Server: ids[i], Brick: fmt.Sprint("b", i%4), Rack: fmt.Sprint("r", i%40), Power: fmt.Sprint("p", i%12), Color: "red"})
		r.Verdict(Verdict{Server: ids[i], Up: true})
	}
	rng := rand.New(rand.NewPCG(1, 2))
	route := wire.Route{Incarnation: 1, Configuration: 1, Members: make([]wire.Founder, 7)}
	for i := range n {
		route.Cell = cell.ID(fmt.Sprintf("volume-%08d", i))
		first := 0
		if i >= hosted {
			first = 1 + rng.IntN(servers-1)
		}
		for k := range route.Members {
			at := first
			for k > 0 && (at == first || slices.ContainsFunc(route.Members[:k], func(f wire.Founder) bool { return f.Server == ids[at] })) {
				at = 1 + rng.IntN(servers-1)
			}
			route.Members[k] = wire.Founder{Node: uint64(k + 1), Server: ids[at]}
		}
		r.Route(0, &route)
	}
	return r
}

// BenchmarkDeathAmongAMillion: a server with 100,000 nodes dies at 1,000,000 cells on 2,000 servers. Reported are the memory of the index
// per cell, without the cells' names; the turn that takes the verdict; the later turns that look at its cells; and a turn when
// all of them wait for the budget.
func BenchmarkDeathAmongAMillion(b *testing.B) {
	const cells, hosted = 1_000_000, 100_000
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	r := big(b, cells, 2000, hosted)
	runtime.GC()
	runtime.ReadMemStats(&after)
	names := uint64(cells * 16) // "volume-00000000" takes 16 bytes of heap, and belongs to discovery
	perCell := float64(after.HeapAlloc-before.HeapAlloc-names) / cells
	now := time.Minute
	var verdict, worst, total, idle time.Duration
	turns := 0
	for b.Loop() {
		began := time.Now()
		r.Verdict(Verdict{Server: "s0000-aaaaaaaa", At: now})
		out := r.Turn(now)
		verdict = time.Since(began)
		for more := out.More; more; turns++ {
			began = time.Now()
			more = r.Turn(now).More
			took := time.Since(began)
			worst, total = max(worst, took), total+took
		}
		now += r.config.Patience
		for more := true; more; turns++ {
			began = time.Now()
			out := r.Turn(now)
			took := time.Since(began)
			worst, total = max(worst, took), total+took
			for _, p := range out.Propose {
				r.Outcome(now, p.Cell, p.Remove, nil)
			}
			more = out.More
		}
		if got := r.Stats().Queued[classAged] + r.Stats().InFlight; got != hosted {
			b.Fatalf("%d cells wait or are under way, want %d", got, hosted)
		}
		const rounds = 100
		began = time.Now()
		for range rounds {
			r.Turn(now)
		}
		idle = time.Since(began) / rounds
		r.Verdict(Verdict{Server: "s0000-aaaaaaaa", Up: true, At: now})
		now += r.config.ReturnMin
		for more := true; more; {
			out := r.Turn(now)
			for _, w := range out.Withdraw {
				r.Withdrawn(now, w.Cell, w.Remove, true)
			}
			more = out.More
		}
		now += time.Hour
	}
	b.ReportMetric(perCell, "B/cell")
	b.ReportMetric(float64(verdict.Microseconds()), "µs/verdict-turn")
	b.ReportMetric(float64(total.Microseconds())/float64(turns), "µs/later-turn")
	b.ReportMetric(float64(worst.Microseconds()), "µs/worst-turn")
	b.ReportMetric(float64(idle.Nanoseconds()), "ns/waiting-turn")
}
