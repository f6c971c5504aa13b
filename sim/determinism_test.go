package sim

import (
	"io"
	"reflect"
	"testing"
)

// One schedule, one history: the same again, and the same with a log.
func TestSameScheduleSameTrace(t *testing.T) {
	seen := map[uint64]uint64{}
	for seed := uint64(1); seed <= 40; seed++ {
		p := Draw(SeedSource(seed))
		first, second, logged := Run(p), Run(p), RunLogged(p, io.Discard)
		if first.Trace != second.Trace || first.Trace != logged.Trace || first.String() != second.String() {
			t.Errorf("seed %d went three ways:\n%v\n%v\n%v", seed, first, second, logged)
		}
		if other, twice := seen[first.Trace]; twice {
			t.Errorf("seeds %d and %d have one trace", seed, other)
		}
		seen[first.Trace] = seed
	}
}

func TestScheduleIsItsText(t *testing.T) {
	for seed := uint64(1); seed <= 100; seed++ {
		p := Draw(SeedSource(seed))
		q, err := Parse(p.String())
		if err != nil {
			t.Fatalf("seed %d: %v", seed, err)
		}
		if !reflect.DeepEqual(p, q) {
			t.Errorf("seed %d: %v became %v", seed, p, q)
		}
	}
	for _, text := range []string{"", "{}", `{"Servers":7}`, `{"Faults":[{"Kind":"meteor"}]}`} {
		if _, err := Parse(text); err == nil {
			t.Errorf("%q is a schedule", text)
		}
	}
}
