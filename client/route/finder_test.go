package route

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"physalia/cell"
	"physalia/internal/wire"
)

func finder(copies int, seed uint64) *Finder {
	var addrs []string
	for i := range copies {
		addrs = append(addrs, fmt.Sprintf("d%d", i))
	}
	return NewFinder(addrs, &Rules{BackoffMin: 5 * time.Millisecond}, Dice(seed))
}

func knows(id cell.ID) *wire.Routes {
	return &wire.Routes{Routes: []wire.Route{{Cell: id, Incarnation: 1, Configuration: 1, Members: []wire.Founder{{ClientAddr: "m"}}}}}
}

func accept(*wire.Route) bool { return true }
func reject(*wire.Route) bool { return false }

// TestFinderSpreadsFirstQuestions: every copy is the first for some clients and at some times, and one that did not answer is
// nobody's first choice until it does.
func TestFinderSpreadsFirstQuestions(t *testing.T) {
	first := map[string]int{}
	f := finder(4, 1)
	for range 400 {
		f.Want("c")
		first[f.Next(0).Addr]++
		f.Answered(0, knows("c"), accept)
	}
	for addr, n := range first {
		if n < 50 || len(first) != 4 {
			t.Errorf("%s was the first %d of 400 times, of %d copies", addr, n, len(first))
		}
	}
	f.Want("c")
	bad := f.Next(0).Addr
	f.Answered(0, nil, accept)
	for range 100 {
		if addr := f.Next(0).Addr; addr == bad {
			t.Fatalf("%s, which did not answer, is asked first", bad)
		}
		f.Answered(0, knows("c"), accept)
		f.Want("c")
	}
}

// TestFinderReadsSnapshot: only when no copy answers, then at once while the copies are left alone, and what it lacks is no
// denial.
func TestFinderReadsSnapshot(t *testing.T) {
	f := finder(2, 7)
	f.UseSnapshot()
	f.Want("c")
	for range 2 {
		if st := f.Next(0); !st.Ask || st.Snapshot {
			t.Fatalf("%+v before both copies were asked", st)
		}
		f.Refused(3 * time.Second)
		if ended := f.Answered(0, nil, accept); ended != nil {
			t.Fatalf("%+v", ended)
		}
	}
	if st := f.Next(0); !st.Ask || !st.Snapshot || !slices.Equal(st.Cells, []cell.ID{"c"}) {
		t.Fatalf("%+v", st)
	}
	if ended := f.Answered(0, knows("c"), accept); len(ended) != 1 || !ended[0].Improved {
		t.Fatalf("%+v", ended)
	}
	f.Want("c") // the copies asked to be left alone
	if st := f.Next(2900 * time.Millisecond); !st.Snapshot {
		t.Fatalf("%+v", st)
	}
	if ended := f.Answered(0, &wire.Routes{Routes: []wire.Route{{Cell: "c"}}, Filling: true}, accept); len(ended) != 1 || ended[0].Improved || ended[0].Denied {
		t.Fatalf("%+v", ended)
	}
	f.Want("c")
	if st := f.Next(time.Minute); st.Snapshot {
		t.Fatalf("%+v after the pause", st)
	}
}

// TestFillingIsNoDenial: a copy that has just started cannot say that a cell does not exist, but one that it knows to be deleted it
// does deny.
func TestFillingIsNoDenial(t *testing.T) {
	for name, c := range map[string]struct {
		routes wire.Routes
		denied bool
	}{
		"unknown":            {wire.Routes{Routes: []wire.Route{{Cell: "c"}}}, true},
		"unknown, filling":   {wire.Routes{Routes: []wire.Route{{Cell: "c"}}, Filling: true}, false},
		"deleted, filling":   {wire.Routes{Routes: []wire.Route{{Cell: "c", Incarnation: 1, Deleted: true}}, Filling: true}, true},
		"known, and no news": {*knows("c"), false},
	} {
		f := finder(1, 1)
		f.Want("c")
		f.Next(0)
		if ended := f.Answered(0, &c.routes, reject); len(ended) != 1 || ended[0].Denied != c.denied {
			t.Errorf("%s: %+v", name, ended)
		}
	}
}

// TestDoubt: a made-up number does not keep the truth out, the same lie is not believed twice, and a route that a member
// confirmed is not doubted for silence.
func TestDoubt(t *testing.T) {
	lie := wire.Route{Cell: "c", Incarnation: 9, Configuration: 99, Members: []wire.Founder{{ClientAddr: "x"}, {ClientAddr: "y"}}}
	truth := wire.Route{Cell: "c", Incarnation: 1, Configuration: 4, Members: []wire.Founder{{ClientAddr: "m"}}}
	p := NewPlace("c")
	if !p.Accept(&lie) || p.Accept(&truth) {
		t.Fatal("routes rise")
	}
	p.Doubt()
	p.Doubt() // nothing is left to be doubted
	if p.Accept(&lie) || !p.Accept(&truth) || p.Accept(&lie) {
		t.Errorf("after the doubt: %s", p.Describe())
	}
	if !p.Follow(&cell.Pointer{Incarnation: 1, Configuration: 5, Servers: []cell.Location{{ClientAddr: "n"}}}) {
		t.Error("pointers lead on")
	}
}
