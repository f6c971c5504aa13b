package hunt

import (
	"context"
	"testing"

	"physalia/sim"
)

// However many play, the result is that of the seeds.
func TestWorkersDoNotMatter(t *testing.T) {
	silent := func(string, ...any) {}
	one := Run(context.Background(), Config{Scenario: sim.Scenarios()[0], From: 7, Seeds: 20, Workers: 1, Say: silent})
	many := Run(context.Background(), Config{Scenario: sim.Scenarios()[0], From: 7, Seeds: 20, Workers: 5, Say: silent})
	if one.Fingerprint != many.Fingerprint || one.Sum.String() != many.Sum.String() || one.Played != 20 || many.Played != 20 {
		t.Errorf("one worker: %x, %v\nfive workers: %x, %v", one.Fingerprint, &one.Sum, many.Fingerprint, &many.Sum)
	}
}

// A hunt that is called off ends with what it has.
func TestCancelledHuntEnds(t *testing.T) {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if r := Run(ctx, Config{Scenario: sim.Scenarios()[0], Seeds: 1 << 40, Workers: 2, Say: func(string, ...any) {}}); r.Played > 10 {
		t.Errorf("%d worlds were played after the end", r.Played)
	}
}
