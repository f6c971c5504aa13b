package demo

import (
	"context"
	"fmt"
	"slices"
	"time"

	"physalia/cell"
	"physalia/client"
	"physalia/cmd/physalia/blocks"
	"physalia/sim/blockstore"
)

// The block store: how many volumes it uses at most, on how many servers, and under which partition, so that it shares the
// cells with the rest of the load but no record.
const (
	blockVolumes   = 8
	blockServers   = 4
	blockUsers     = 2
	blockPartition = 1
)

// blockTiming is for a machine with far more processes than processors: a server that gets no processor for half a second
// is not dead.
var blockTiming = blockstore.Timing{Resend: 100 * time.Millisecond, Silence: 600 * time.Millisecond, Lookup: 3 * time.Second}

// The block store's own accidents happen to whoever is primary then, so that each is a failover.
//
// blockDeaths are when the primary of a volume is killed and when it comes back, as parts of the duration: before a server
// of the colony dies, while it is dead, and without a control plane.
var blockDeaths = [][2]float64{{0.08, 0.30}, {0.32, 0.58}, {0.62, 0.90}}

// blockStore is the block store of a demo, with a client library for each of its servers.
type blockStore struct {
	demo    *Demo
	volumes []cell.ID
	trial   *blocks.Trial
	libs    []*client.Client // one per block server: its own identity, routes and connections
}

// startBlocks starts it on some of the cells.
func (d *Demo) startBlocks(ctx context.Context) (*blockStore, error) {
	s := &blockStore{demo: d}
	for range blockServers {
		c, err := client.New(context.WithoutCancel(ctx), d.clientConfig())
		if err != nil {
			s.close()
			return nil, err
		}
		s.libs = append(s.libs, c)
	}
	s.volumes = d.cells[:min(blockVolumes, len(d.cells))]
	d.cfg.Say("a block store with %d servers keeps partition %d of %d volumes", blockServers, blockPartition, len(s.volumes))
	var err error
	s.trial, err = blocks.Start(ctx, blocks.Config{
		Volumes: s.volumes, Partition: blockPartition, Servers: blockServers, Users: blockUsers, Pause: 20 * time.Millisecond, Timing: blockTiming,
		Open: func(server int, id cell.ID) blocks.Volume { return s.libs[server].Volume(id) },
	})
	if err != nil {
		s.close()
		return nil, err
	}
	return s, nil
}

// The volumes take turns; one victim is usually primary of several.
//
// among adds the accidents of the block store's servers to others, in the order of time.
func (s *blockStore) among(others []accident) []accident {
	all := slices.Clone(others)
	for i, at := range blockDeaths {
		all = append(all, accident{at[0], func() error {
			victim := s.trial.Primary(i % len(s.volumes))
			s.demo.cfg.Say("killing block server %s", victim)
			s.trial.Kill(victim)
			return nil
		}}, accident{at[1], func() error {
			s.demo.cfg.Say("restarting it")
			s.trial.Restart()
			return nil
		}})
	}
	slices.SortStableFunc(all, func(a, b accident) int { return int(1000 * (a.at - b.at)) })
	return all
}

// stop ends the load on the blocks, reads them back and judges; in a trial that has failed already, it only ends.
func (s *blockStore) stop(failed error) (r blocks.Report) {
	if failed == nil {
		s.trial.Restart()
		r = s.trial.Stop()
	}
	s.trial.End()
	s.close()
	return r
}

// close ends the libraries, after everybody who uses them.
func (s *blockStore) close() {
	for _, c := range s.libs {
		c.Close()
	}
}

// concludeBlocks adds what the block store found to the report and the verdict.
func (d *Demo) concludeBlocks(b blocks.Report) {
	r := &d.report
	r.BlockWrites, r.BlockWritesLost, r.SplitBrainAcks = b.Acked, b.Lost, b.SplitBrain
	r.Failovers, r.FailoverMSMax = b.Failovers, millis(b.Longest)
	for _, err := range b.Bent {
		r.Reasons = append(r.Reasons, err.Error())
	}
	for _, c := range []struct {
		wrong bool
		text  string
	}{
		{b.Acked == 0, "the block store wrote nothing"},
		{b.Lost > 0, fmt.Sprintf("%d acknowledged block writes are lost", b.Lost)},
		{b.SplitBrain > 0, fmt.Sprintf("%d acknowledgements by two primaries under one fence", b.SplitBrain)},
		{b.Failovers == 0, "no block server's death led to a failover"},
		{len(b.Unread) > 0, fmt.Sprintf("blocks could not be read back: %v", b.Unread)},
	} {
		if c.wrong {
			r.Reasons = append(r.Reasons, c.text)
		}
	}
	if len(r.Reasons) > 0 {
		r.Verdict = "fail"
	}
}
