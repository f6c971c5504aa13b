package admission

import (
	"fmt"
	"testing"
	"time"

	"pgregory.net/rapid"

	"physalia/cell"
)

// world drives a queue and notes what became of every request.
type world struct {
	t       *rapid.T
	q       *Queue[int]
	limits  Limits
	now     time.Duration
	items   []Item[int]
	waiting map[cell.ID][]int // numbers of requests, in the order of their arrival
	served  []int             // of the newest turn
	refused map[int]Reason
}

func (w *world) add(id cell.ID, bytes int, patience time.Duration) Refusal {
	n := len(w.items)
	item := Item[int]{Cell: id, Bytes: bytes, Arrived: w.now, Expires: w.now + patience, Request: n}
	w.items = append(w.items, item)
	r := w.q.Add(w.now, item)
	if r.Reason == None {
		w.waiting[id] = append(w.waiting[id], n)
	}
	return r
}

// leave checks that a request leaves in the order of its cell.
func (w *world) leave(n int) {
	id := w.items[n].Cell
	if line := w.waiting[id]; len(line) == 0 || line[0] != n {
		w.t.Fatalf("request %d of %s left, waiting are %v", n, id, line)
	}
	w.waiting[id] = w.waiting[id][1:]
}

// turn takes a turn and checks what must hold of every one.
func (w *world) turn() {
	before := map[cell.ID]int{}
	for id, line := range w.waiting {
		if len(line) > 0 {
			before[id] = len(line)
		}
	}
	w.served = nil
	left := map[cell.ID]int{}
	w.q.Turn(w.now, func(n int) {
		if waited := w.now - w.items[n].Arrived; waited >= w.limits.DelayMax || w.now >= w.items[n].Expires {
			w.t.Fatalf("request %d was served after %v, its client waits until %v and it is %v", n, waited, w.items[n].Expires, w.now)
		}
		w.leave(n)
		left[w.items[n].Cell]++
		w.served = append(w.served, n)
	}, func(n int, r Refusal) {
		if r.Reason != Waited || r.RetryAfter <= 0 || r.Detail == "" {
			w.t.Fatalf("refused with %+v", r)
		}
		w.leave(n)
		left[w.items[n].Cell]++
		w.refused[n] = r.Reason
	})
	if len(w.served) > w.limits.TurnRequests {
		w.t.Fatalf("a turn served %d requests, allowed are %d", len(w.served), w.limits.TurnRequests)
	}
	// Fair: no cell that still waits gave up more than one request fewer than any other.
	for id, n := range before {
		if n == left[id] {
			continue
		}
		for other := range before {
			if left[other] > left[id]+1 {
				w.t.Fatalf("%s still waits and had %d requests in this turn, %s had %d", id, left[id], other, left[other])
			}
		}
	}
}

func (w *world) count() (requests, bytes int) {
	for _, line := range w.waiting {
		requests += len(line)
		for _, n := range line {
			bytes += w.items[n].Bytes
		}
	}
	return requests, bytes
}

// TestTurnsAreFairAndBounded draws loads and asserts what holds of all of them.
func TestTurnsAreFairAndBounded(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		l := Limits{TurnRequests: rapid.IntRange(1, 20).Draw(t, "turn"), CellRequests: rapid.IntRange(1, 30).Draw(t, "cell requests"),
			CellBytes: rapid.IntRange(1, 2000).Draw(t, "cell bytes"), DelayMax: time.Duration(rapid.IntRange(1, 100).Draw(t, "delay")) * time.Millisecond}
		w := &world{t: t, q: NewQueue[int](l), limits: l, waiting: map[cell.ID][]int{}, refused: map[int]Reason{}}
		for range rapid.IntRange(1, 40).Draw(t, "steps") {
			for range rapid.IntRange(0, 60).Draw(t, "arrivals") {
				id := cell.ID(fmt.Sprint("vol-", rapid.IntRange(0, 5).Draw(t, "cell")))
				line := w.waiting[id]
				r := w.add(id, rapid.IntRange(0, 300).Draw(t, "bytes"), time.Duration(rapid.IntRange(1, 200).Draw(t, "patience"))*time.Millisecond)
				if len(line) == 0 && r.Reason != None {
					t.Fatalf("the only request of a cell was refused: %+v", r)
				}
				if len(w.waiting[id]) > l.CellRequests {
					t.Fatalf("%d requests of %s wait, allowed are %d", len(w.waiting[id]), id, l.CellRequests)
				}
			}
			w.turn()
			requests, bytes := w.q.Waiting()
			if n, b := w.count(); n != requests || b != bytes {
				t.Fatalf("%d requests of %d bytes wait, the queue says %d and %d", n, b, requests, bytes)
			}
			w.now += time.Duration(rapid.IntRange(0, 60).Draw(t, "pause")) * time.Millisecond
		}
		for range 10_000 {
			if n, _ := w.q.Waiting(); n == 0 {
				return
			}
			w.turn()
		}
		t.Fatal("the queue does not become empty")
	})
}

// TestHotCellStarvesNobody: one cell with all that is allowed to wait, and a thousand others with one request each. The others
// are all served in the next turn, whatever came first.
func TestHotCellStarvesNobody(t *testing.T) {
	q := NewQueue[cell.ID](Default())
	add := func(id cell.ID) {
		t.Helper()
		if r := q.Add(0, Item[cell.ID]{Cell: id, Request: id}); r.Reason != None {
			t.Fatal(r)
		}
	}
	for range Default().CellRequests {
		add("hot")
	}
	for i := range 1000 {
		add(cell.ID(fmt.Sprint("vol-", i)))
	}
	served := map[cell.ID]int{}
	q.Turn(0, func(id cell.ID) { served[id]++ }, func(id cell.ID, r Refusal) { t.Errorf("%s: %+v", id, r) })
	if len(served) != 1001 || served["hot"] != Default().TurnRequests-1000 {
		t.Errorf("in one turn %d cells were served, the hot one %d times", len(served), served["hot"])
	}
}

// TestBurstIsOverWhenItIsOver: a server that can do 2,000 requests per second gets 1,000, then 10,000, then 1,000 again.
// Before the burst nothing waits; in it the server goes on with what it can do, and nobody is served late; after it, the
// queue is empty within DelayMax by itself, and nobody is refused any more.
func TestBurstIsOverWhenItIsOver(t *testing.T) {
	l := Default()
	l.TurnRequests = 20 // in a turn of 10 ms
	q := NewQueue[time.Duration](l)
	type tally struct {
		offered, served, refused int
		slowest                  time.Duration
	}
	var now time.Duration
	run := func(span time.Duration, perTurn int) (sum tally) {
		for end := now + span; now < end; now += 10 * time.Millisecond {
			for i := range perTurn {
				sum.offered++
				id := cell.ID(fmt.Sprint("vol-", i%7))
				if r := q.Add(now, Item[time.Duration]{Cell: id, Arrived: now, Request: now}); r.Reason != None {
					sum.refused++
				}
			}
			q.Turn(now, func(at time.Duration) {
				sum.served++
				sum.slowest = max(sum.slowest, now-at)
			}, func(time.Duration, Refusal) { sum.refused++ })
		}
		return sum
	}
	base := run(5*time.Second, 10)
	burst := run(5*time.Second, 100)
	falling := run(l.DelayMax, 10)
	after := run(5*time.Second, 10)
	for _, calm := range []tally{base, after} {
		if calm.refused != 0 || calm.slowest != 0 || calm.served != calm.offered {
			t.Errorf("a calm phase: %+v", calm)
		}
	}
	if burst.served != 10_000 || burst.slowest >= l.DelayMax {
		t.Errorf("the burst: %+v; the server can do 10,000 in 5 s", burst)
	}
	if burst.refused == 0 || falling.slowest >= l.DelayMax {
		t.Errorf("the burst: %+v, after it: %+v", burst, falling)
	}
}

func TestRates(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		r := Rate{PerSecond: float64(rapid.IntRange(1, 1000).Draw(t, "rate")), Burst: rapid.IntRange(1, 50).Draw(t, "burst")}
		var b buckets[string]
		var now time.Duration
		passed := 0
		for range rapid.IntRange(1, 200).Draw(t, "steps") {
			switch wait := b.take("x", r, now); {
			case wait < 0:
				t.Fatalf("wait of %v", wait)
			case wait == 0:
				passed++
			default: // who comes back then passes
				now += wait + time.Microsecond
				if again := b.take("x", r, now); again > 0 {
					t.Fatalf("told to wait for %v, and then for %v", wait, again)
				}
				passed++
			}
			if most := float64(r.Burst) + r.PerSecond*now.Seconds() + 1e-6; float64(passed) > most {
				t.Fatalf("%d passed in %v at %+v", passed, now, r)
			}
			now += time.Duration(rapid.IntRange(0, 20).Draw(t, "pause")) * time.Millisecond
		}
	})
}

// What a bucket lacks by a rounding error it does not lack, and nobody is told to come back at once without having got anything.
func TestRatesRound(t *testing.T) {
	r := Rate{PerSecond: 5, Burst: 22}
	var b bucket
	var now time.Duration
	passed := 0
	for _, pause := range []time.Duration{1, 1, 1, 3, 3, 3, 5, 6, 6, 7, 8, 11, 11, 11, 12, 12, 15, 15, 16, 16, 18, 19, 0, 0} { // 200 in all
		if b.take(r, now) == 0 {
			passed++
		}
		now += pause * time.Millisecond
	}
	if passed != 23 {
		t.Errorf("%d passed in %v at %+v, want 23", passed, now, r)
	}
}

// TestBucketsAreForgotten: names that nobody uses any more cost nothing for ever, and one that owes is remembered.
func TestBucketsAreForgotten(t *testing.T) {
	r := Rate{PerSecond: 0.001, Burst: 1}
	quick := Rate{PerSecond: 1000, Burst: 1}
	var b buckets[int]
	for i := range 100 * bucketsMin {
		b.take(i, quick, time.Duration(i)*time.Millisecond)
	}
	if len(b.of) > 2*bucketsMin {
		t.Errorf("%d buckets are kept", len(b.of))
	}
	var slow buckets[int]
	for i := range 2 * bucketsMin {
		slow.take(i, r, 0)
	}
	for i := range 2 * bucketsMin {
		if wait := slow.take(i, r, time.Second); wait == 0 {
			t.Fatalf("name %d may ask again", i)
		}
	}
}

func TestCellRate(t *testing.T) {
	l := Default()
	l.CellRate = Rate{PerSecond: 10, Burst: 5}
	q := NewQueue[int](l)
	if q.Passes(1) {
		t.Error("a request passes by a rate")
	}
	refused := 0
	for range 20 {
		if r := q.Add(0, Item[int]{Cell: "a"}); r.Reason != None {
			if refused++; r.Reason != CellRate || r.RetryAfter <= 0 {
				t.Errorf("%+v", r)
			}
		}
	}
	if r := q.Add(0, Item[int]{Cell: "b"}); r.Reason != None || refused != 15 {
		t.Errorf("%d of 20 were refused, and of another cell %+v", refused, r)
	}
}

func TestAccount(t *testing.T) {
	l := IdentityLimits{Requests: 3, Bytes: 100, Rate: Rate{PerSecond: 1, Burst: 4}}
	var a Account
	enter := func(bytes int, want Reason) {
		t.Helper()
		if r := a.Enter(0, bytes, &l); r.Reason != want || want != None && r.RetryAfter <= 0 {
			t.Errorf("%d bytes: %+v, want %q", bytes, r, want)
		}
	}
	enter(500, None) // alone it passes: what is larger than the bound must not be impossible
	enter(1, IdentityBytes)
	a.Leave(500)
	enter(1, None)
	enter(1, None)
	enter(1, None)
	enter(1, IdentityRequests)
	a.Leave(1)
	enter(1, IdentityRate)
	if n, bytes := a.InFlight(); n != 2 || bytes != 2 {
		t.Errorf("%d requests of %d bytes", n, bytes)
	}
	a.Leave(1)
	a.Leave(1)
	if a.Forgettable(0, &l) || !a.Forgettable(time.Minute, &l) {
		t.Error("an account is forgotten while its rate remembers something, or never")
	}
}

func TestLimits(t *testing.T) {
	if got := (Limits{DelayMax: time.Second}).Complete(); got.DelayMax != time.Second || got.CellBytes != Default().CellBytes || got.Validate() != nil {
		t.Errorf("%+v", got)
	}
	for _, bad := range []Limits{{TurnRequests: -1}, {DelayMax: 1}, {CellRate: Rate{PerSecond: -1, Burst: 1}}, {CellRate: Rate{PerSecond: 1}}} {
		if bad.Complete().Validate() == nil {
			t.Errorf("%+v is allowed", bad)
		}
	}
	for _, bad := range []IdentityLimits{{Requests: -1}, {Rate: Rate{Burst: 1}}} {
		if bad.Complete().Validate() == nil {
			t.Errorf("%+v is allowed", bad)
		}
	}
}
