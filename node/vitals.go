package node

import (
	"sync/atomic"
	"time"
)

// vitals is what the loop lets others know of itself without their waiting for it: probes, heartbeats and registrations
// must get an answer also from a server whose loop hangs. The loop writes, anybody reads. Times are monotonic durations
// since began: a step of the wall clock must not make a server look stuck.
type vitals struct {
	began time.Time
	turn  atomic.Int64 // when the last turn ended
	waits atomic.Int64 // when the oldest batch that is not durable yet was handed to storage; 0: all are
	nodes atomic.Int64 // hosted, at the last tick
	ready atomic.Bool  // the restart scan is done
}

func (v *vitals) now() time.Duration { return time.Since(v.began) }

// sinceTurn is how long ago the loop last finished a turn, or the server was started.
func (v *vitals) sinceTurn() time.Duration { return v.now() - time.Duration(v.turn.Load()) }

// diskWaits is how long the oldest batch has waited to be durable; zero when none waits.
func (v *vitals) diskWaits() time.Duration {
	if at := v.waits.Load(); at != 0 {
		return v.now() - time.Duration(at)
	}
	return 0
}

// stalledAfter is how long the loop or the disk may make no progress before the server ceases to say that it is alive. It
// is a liveness period: the peers must not wait longer for a server that cannot serve than for one that is dead.
const stalledAfter = time.Second

// alive reports whether heartbeats may leave: only while the server has not failed, its loop turns and its disk writes
// (rule 13, hazard H9). Called by the mesh before every heartbeat.
func (s *Server) alive() bool {
	return s.Err() == nil && s.vitals.sinceTurn() < stalledAfter && s.vitals.diskWaits() < stalledAfter
}
