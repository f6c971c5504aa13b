package blockstore

import (
	"flag"
	"testing"
)

// worlds is how many TestWorlds plays.
var worlds = flag.Uint64("worlds", 400, "how many random worlds to play")

var replaySeed = flag.Int64("seed", -1, "the world to replay with its log")

// TestReplay tells the story of one world.
func TestReplay(t *testing.T) {
	if *replaySeed < 0 {
		t.Skip("no -seed")
	}
	w := newWorld(uint64(*replaySeed))
	w.log = t.Logf
	if err := w.play(); err != nil {
		t.Error(err)
	}
}
