package node

import (
	"time"

	"physalia/node/storage"
)

// backlogBytesMax bounds what is handed to storage and not durable. Storage queues without bound, so that the loop never
// blocks on it; what keeps memory from filling while a disk hangs is that the loop then takes nothing in that writes.
const backlogBytesMax = 256 << 20

// backlog is the batches that were handed to storage and are not durable yet. The loop owns it. Times are the loop's.
type backlog struct {
	marks []backlogMark // in order of batches
	bytes int           // of all of them together
}

type backlogMark struct {
	batch storage.BatchNumber
	bytes int
	at    time.Duration // when it was handed over
}

// handed notes a batch of so many bytes that was handed over now.
func (b *backlog) handed(n storage.BatchNumber, bytes int, now time.Duration) {
	b.marks = append(b.marks, backlogMark{n, bytes, now})
	b.bytes += bytes
}

// reached forgets every batch up to n and tells how long each took.
func (b *backlog) reached(n storage.BatchNumber, now time.Duration, observe func(time.Duration)) {
	i := 0
	for ; i < len(b.marks) && b.marks[i].batch <= n; i++ {
		b.bytes -= b.marks[i].bytes
		observe(now - b.marks[i].at)
	}
	b.marks = b.marks[:copy(b.marks, b.marks[i:])]
}

// oldest is how long the oldest batch has waited, 0 when none waits.
func (b *backlog) oldest(now time.Duration) time.Duration {
	if len(b.marks) == 0 {
		return 0
	}
	return now - b.marks[0].at
}

// full reports whether nothing more may be taken in.
func (b *backlog) full() bool { return b.bytes >= backlogBytesMax }

// waits reports whether a batch is on its way to the disk.
func (b *backlog) waits() bool { return len(b.marks) > 0 }
