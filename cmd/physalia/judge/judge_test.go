package judge

import (
	"slices"
	"testing"
	"time"

	"physalia/cell"
)

const ms = time.Millisecond

// two clients of one cell: 1 writes 11, then 12 with an unknown outcome; 2 reads whatever a test says.
func books(reads ...uint64) []*Log {
	a, b := &Log{Cell: "c", Client: 1}, &Log{Cell: "c", Client: 2}
	a.Wrote(11, 0, 10*ms, Acked, 0)
	a.Wrote(12, 20*ms, 30*ms, Unknown, cell.UnknownResult)
	for i, v := range reads {
		at := time.Duration(40+10*i) * ms
		b.Read(v, at, at+5*ms, 0)
	}
	return []*Log{a, b}
}

func TestVerdict(t *testing.T) {
	for _, c := range []struct {
		name    string
		reads   []uint64
		counter uint64
		ok      bool
		lost    uint64
		doubled uint64
		bent    int
	}{
		{"the unknown write took no effect", []uint64{11, 11}, 1, true, 0, 0, 0},
		{"it took effect late", []uint64{11, 12}, 2, true, 0, 0, 0},
		{"it took effect twice", []uint64{12}, 3, false, 0, 1, 0},
		{"an acknowledged write is gone", []uint64{11}, 0, false, 1, 0, 0},
		{"a read sees the past", []uint64{12, 11}, 2, false, 0, 0, 1},
		{"a read sees nothing", []uint64{0}, 1, false, 0, 0, 1},
		{"a read sees what nobody wrote", []uint64{13}, 1, false, 0, 0, 1},
	} {
		v := Judge(books(c.reads...), map[cell.ID]Counters{"c": {1: c.counter}}, time.Minute)
		if v.OK() != c.ok || v.Lost != c.lost || v.Doubled != c.doubled || len(v.Bent) != c.bent || v.Acked != 1 || v.Unknown != 1 {
			t.Errorf("%s: %+v", c.name, v)
		}
	}
	if v := Judge(books(), nil, time.Minute); v.OK() || !slices.Equal(v.Unread, []cell.ID{"c"}) {
		t.Errorf("a cell that could not be read: %+v", v)
	}
}

func TestFences(t *testing.T) {
	l := &Log{Cell: "c"}
	for _, f := range []cell.Fence{{Incarnation: 1, Number: 8}, {Incarnation: 1, Number: 8}, {Incarnation: 2, Number: 1}} {
		l.Saw(f)
	}
	if l.WentBack != 0 {
		t.Errorf("rising fences went back %d times", l.WentBack)
	}
	l.Saw(cell.Fence{Incarnation: 1, Number: 9})
	if v := Judge([]*Log{l}, map[cell.ID]Counters{"c": nil}, time.Minute); v.OK() || v.WentBack != 1 {
		t.Errorf("a fence went back: %+v", v)
	}
}

func TestLongestGap(t *testing.T) {
	l := &Log{Cell: "c"}
	l.Wrote(1, 0, 2*ms, Acked, 0) // quick: no gap
	l.Wrote(2, 100*ms, 150*ms, NotApplied, cell.Unavailable)
	l.Wrote(3, 160*ms, 300*ms, Unknown, cell.UnknownResult)
	l.Wrote(4, 310*ms, 400*ms, Acked, 0) // a gap of 300
	l.Wrote(5, 900*ms, 950*ms, NotApplied, cell.Unavailable)
	logs := []*Log{l, {Cell: "d"}}
	for _, c := range []struct{ from, to, want time.Duration }{
		{0, 500 * ms, 300 * ms}, {200 * ms, 500 * ms, 200 * ms}, {0, 350 * ms, 250 * ms}, {0, 2000 * ms, 1100 * ms}, {0, 50 * ms, 0},
	} {
		if got := LongestGap(logs, c.from, c.to); got != c.want {
			t.Errorf("within [%v, %v): %v, want %v", c.from, c.to, got, c.want)
		}
	}
	if got := ErrorsWithin(logs, 100*ms, 900*ms); got[cell.Unavailable] != 1 || got[cell.UnknownResult] != 1 || len(got) != 2 {
		t.Errorf("errors: %v", got)
	}
	if got := Kinds(map[cell.Kind]int{cell.Overloaded: 1, cell.Unavailable: 3}); !slices.Equal(got, []cell.Kind{cell.Unavailable, cell.Overloaded}) {
		t.Errorf("kinds: %v", got)
	}
}

func TestPercentiles(t *testing.T) {
	var times []time.Duration
	for i := 100; i > 0; i-- {
		times = append(times, time.Duration(i))
	}
	if got := Percentiles(times, 0, 50, 99, 100); !slices.Equal(got, []time.Duration{1, 50, 99, 100}) {
		t.Errorf("got %v", got)
	}
	if got := Percentiles(nil, 50); got[0] != 0 {
		t.Errorf("of nothing: %v", got)
	}
	if got := len(WriteTimes(books())); got != 1 {
		t.Errorf("%d write times, want 1", got)
	}
}
