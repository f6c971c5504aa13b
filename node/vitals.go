package node

import (
	"sync/atomic"
	"time"
)

// vitals is what the loop lets others know of itself without their waiting for it: probes and registrations
// must get an answer also from a server whose loop hangs. The loop writes, anybody reads. Times are monotonic durations
// since began: a step of the wall clock must not make a server look stuck.
type vitals struct {
	began  time.Time
	turn   atomic.Int64 // when the last turn ended
	nodes  atomic.Int64 // hosted, at the last tick
	silent atomic.Int64 // peers that share cells and are not heard of, at the last tick
	ready  atomic.Bool  // the restart scan is done
}

func (v *vitals) now() time.Duration { return time.Since(v.began) }

// sinceTurn is how long ago the loop last finished a turn, or the server was started.
func (v *vitals) sinceTurn() time.Duration { return v.now() - time.Duration(v.turn.Load()) }

// silentPeers is how many servers that share cells with this one it does not hear of.
func (v *vitals) silentPeers() int { return int(v.silent.Load()) }
