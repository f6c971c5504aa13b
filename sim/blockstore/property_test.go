package blockstore

import (
	"testing"
)

// TestWorlds plays random worlds; a failing one is replayed with its log by -run TestReplay -seed.
func TestWorlds(t *testing.T) {
	seeds := *worlds
	var all tally
	for seed := range seeds {
		w := newWorld(seed)
		if err := w.play(); err != nil {
			t.Fatalf("seed %d: at %v: %v\nreplay: go test ./sim/blockstore -run TestReplay -seed %d -v", seed, w.now, err, seed)
		}
		all.add(w.seen)
	}
	t.Logf("%d worlds: %+v", seeds, all)
	for what, n := range map[string]int{"promotions": all.promotions, "replacements": all.replacements, "crashes": all.crashes,
		"pauses": all.pauses, "unknown outcomes": all.unknown, "late transactions": all.late} {
		if uint64(n) < seeds {
			t.Errorf("only %d %s in %d worlds: they are not bad enough", n, what, seeds)
		}
	}
}

func (t *tally) add(u tally) {
	t.steps, t.acks, t.promotions, t.replacements = t.steps+u.steps, t.acks+u.acks, t.promotions+u.promotions, t.replacements+u.replacements
	t.crashes, t.pauses, t.cuts, t.unknown, t.late = t.crashes+u.crashes, t.pauses+u.pauses, t.cuts+u.cuts, t.unknown+u.unknown, t.late+u.late
}

// One seed gives one history.
func TestDeterminism(t *testing.T) {
	for seed := range uint64(20) {
		a, b := newWorld(seed), newWorld(seed)
		if err := a.play(); err != nil {
			t.Fatal(err)
		}
		if err := b.play(); err != nil || a.hash != b.hash {
			t.Errorf("seed %d: %x, then %x: %v", seed, a.hash, b.hash, err)
		}
	}
}
