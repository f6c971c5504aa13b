// Package contest puts the same closed-loop work on several systems, one after the other on one disk, and measures all of them by
// the same rules: throughput, latencies, processor time, syncs, memory, an idle spell, a start from nothing, a kill, and in the end
// whether every acknowledged key is still there with one server dead.
//
// A system that is measured is a Subject. What users would call a volume is a small database that is addressed by its number; how many
// consensus groups stand behind the volumes is the Subject's affair.
package contest

import (
	"context"
	"time"
)

// Kind is what a client does all the time.
type Kind string

// The kinds of work. Every read is linearizable.
const (
	Write    Kind = "write"     // put one value
	Read     Kind = "read"      // read one value, in the way the system reads by default
	ReadSure Kind = "read-sure" // read one value, confirmed by a majority: for systems whose default rests on a lease
	Mixed    Kind = "mixed"     // nine reads, one write
)

// Facts say what a Subject is. The JSON names stay.
type Facts struct {
	System  string `json:"system"`  // "physalia", "etcd", "raft/v3", "hashicorp/raft"
	Version string `json:"version"` // of the system or the library
	Groups  int    `json:"groups"`  // consensus groups
	Volumes int    `json:"volumes"` // small databases that clients address
	Reads   string `json:"reads"`   // how a read of kind Read is made linearizable
	Sure    bool   `json:"-"`       // ReadSure is another thing than Read here
}

// Usage is what one server process uses.
type Usage struct {
	CPU time.Duration // user and system, since its start
	RSS int64         // bytes
}

// Subject is a system of seven server processes. Its methods are called by one goroutine, except those of its Clients.
type Subject interface {
	Facts() Facts
	// Start starts everything below dir, which is empty, and returns once all volumes exist.
	Start(ctx context.Context, dir string) error
	// Client is where the i-th client sends its requests; several clients may share connections.
	Client(i int) Client
	// Servers is what each server process that is alive uses.
	Servers(ctx context.Context) ([]Usage, error)
	// Syncs is how often all servers that are alive have made a file durable, since they started.
	Syncs(ctx context.Context) (float64, error)
	// KillLeader ends with SIGKILL the server that leads the group of volume 0, and returns once it is gone.
	KillLeader(ctx context.Context) error
	// Failed describes a server that ended although nobody asked it to, or returns nil.
	Failed() error
	// Stop ends every process and connection. It is called once, also after a Start that failed.
	Stop() error
}

// Client is safe for concurrent use. A call ends when ctx does, at the latest.
type Client interface {
	// Put sets a key of a volume. Whatever the error is, the write may have happened.
	Put(ctx context.Context, volume int, key string, value []byte) error
	// Get reads a key, linearizably; sure asks for a majority's confirmation. An absent key is nil.
	Get(ctx context.Context, volume int, key string, sure bool) ([]byte, error)
}
