// Package member is one of the seven processes that run consensus groups with a Raft library: every process has a member of every group.
// The libraries decide; what they leave to their users is made here as well as we can, and the same for both: one TCP connection for
// each direction between two processes that all groups share, with frames collected into one system call; one Pebble for the logs of
// all groups, so that one sync serves all groups that wait for it; and a state machine that is a map.
//
// What a real service needs beside is left out, in the libraries' favour: snapshots, compaction of the log, restarts, security.
package member

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/http"
	"time"

	"physalia/bench/thin"
)

// Config is what a member is told. Every field is required.
type Config struct {
	Engine  string   // "raft/v3" or "hashicorp/raft"
	Me      int      // index of this process
	Groups  int      // each with a member in every process
	Dir     string   // of Pebble
	Peers   []string // addresses between the processes, by index
	Clients []string // addresses for clients
	Ops     string   // address for counters
}

// Timing of elections, the same for both libraries and near the product's: a leader that was not heard for a second is replaced.
const (
	heartbeatEvery  = 200 * time.Millisecond
	electionTimeout = time.Second
	answerMax       = 4 * time.Second // after which a request that got no result is answered as failed
)

// engine runs the groups. Handle and receive must not block for long; they are called by the goroutines of connections.
type engine interface {
	handle(thin.Request)
	receive(from int, frame []byte) // a frame of another process; it may be kept
	run(context.Context) error      // until ctx ends
}

// Run serves until ctx ends.
func Run(ctx context.Context, cfg Config) (err error) {
	if cfg.Groups < 1 || cfg.Me < 0 || cfg.Me >= len(cfg.Peers) || len(cfg.Peers) != len(cfg.Clients) {
		return fmt.Errorf("member %d of %d with %d groups; use an index below the number of peers, as many client addresses as peers, and a group", cfg.Me, len(cfg.Peers), cfg.Groups)
	}
	st, err := openStore(cfg.Dir)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, st.db.Close()) }()
	m := newMesh(cfg.Me, cfg.Peers)
	var e engine
	switch cfg.Engine {
	case "raft/v3":
		e, err = newStepper(cfg, st, m)
	case "hashicorp/raft":
		e, err = newPuppets(cfg, st, m)
	default:
		err = fmt.Errorf("engine %q is none; use raft/v3 or hashicorp/raft", cfg.Engine)
	}
	if err != nil {
		return err
	}
	listening, err := listen(cfg, e, st, m)
	if err != nil {
		return err
	}
	defer listening()
	if err := m.await(ctx); err != nil {
		return err
	}
	return e.run(ctx)
}

// listen opens the three ports and returns what closes them.
func listen(cfg Config, e engine, st *store, m *mesh) (func(), error) {
	var open []net.Listener
	closing := func() {
		for _, l := range open {
			l.Close() // the process ends
		}
	}
	for _, addr := range []string{cfg.Peers[cfg.Me], cfg.Clients[cfg.Me], cfg.Ops} {
		l, err := net.Listen("tcp", addr)
		if err != nil {
			closing()
			return nil, err
		}
		open = append(open, l)
	}
	go m.accept(open[0], e.receive)
	go thin.Serve(open[1], e.handle) //nolint:errcheck // a client that is not served says so
	go http.Serve(open[2], http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		fmt.Fprintf(w, "bench_syncs_total %d\n", st.syncs.Load())
	})) //nolint:errcheck // a counter that is not served is noticed by who wants it
	return closing, nil
}

// command is a write as it stands in a log: number (8 bytes) and process (1) of who proposed it, length of the key (2), key, value.
func command(number uint64, me int, key string, value []byte) []byte {
	b := make([]byte, 0, 11+len(key)+len(value))
	b = append(binary.LittleEndian.AppendUint64(b, number), byte(me))
	b = binary.LittleEndian.AppendUint16(b, uint16(len(key)))
	return append(append(b, key...), value...)
}

// state is a group's state machine.
type state map[string][]byte

// apply does a command and returns who proposed it. A log holds only what command has made.
func (s state) apply(b []byte) (number uint64, proposer int) {
	n := int(binary.LittleEndian.Uint16(b[9:]))
	s[string(b[11:11+n])] = b[11+n:]
	return binary.LittleEndian.Uint64(b), int(b[8])
}

// read answers a read.
func (s state) read(r thin.Request) {
	if value, ok := s[r.Key]; ok {
		r.Reply(thin.OK, value)
		return
	}
	r.Reply(thin.Absent, nil)
}
