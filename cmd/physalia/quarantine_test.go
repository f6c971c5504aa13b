package main

import (
	"fmt"
	"log/slog"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"physalia/cell"
	"physalia/internal/wire"
	"physalia/internal/wire/peer"
	"physalia/node/storage"
)

// scan is a sink for a store that nobody else uses.
type scan struct {
	pairs   chan []storage.Pair
	durable chan storage.BatchNumber
}

func (s *scan) Durable(n storage.BatchNumber)                            { s.durable <- n }
func (s *scan) ReadDone(_ storage.ReadID, pairs []storage.Pair, _ error) { s.pairs <- pairs }
func (s *scan) Failed(err error)                                         { panic(err) }

// damageRow flips a bit in the stored row of one cell, on the disk of a server that is down.
func damageRow(t *testing.T, dir string, id cell.ID) {
	t.Helper()
	sink := &scan{make(chan []storage.Pair, 1), make(chan storage.BatchNumber, 8)}
	disk, err := storage.OpenPebble(storage.PebbleConfig{Dir: filepath.Join(dir, "store"), Logger: slog.New(slog.DiscardHandler), MustExist: true}, sink)
	if err != nil {
		t.Fatal(err)
	}
	disk.Read(1, storage.Range{Start: []byte("h"), End: []byte("i")})
	hit := 0
	for _, p := range <-sink.pairs {
		row, err := peer.DecodeRow(p.Value)
		if err != nil {
			t.Fatal(err)
		}
		if row.Cell != id {
			continue
		}
		hit++
		p.Value[len(p.Value)/2] ^= 1
		b := storage.GetBatch()
		b.Number = disk.Recovered() + 1
		b.Set(p.Key, p.Value)
		disk.Commit(b)
		<-sink.durable
	}
	if err := disk.Close(); err != nil || hit != 1 {
		t.Fatalf("%d rows of %s, %v", hit, id, err)
	}
}

// One stored row of one node rots: the server starts, that node alone is out of service and says so everywhere, and the control plane
// replaces it like the node of a dead server. The server keeps all its other nodes.
func TestRottenRowIsRepaired(t *testing.T) {
	c := startRepairColony(t, 8)
	info, err := c.op.Cell(c.ctx, "test", "vol-03")
	if err != nil {
		t.Fatal(err)
	}
	victim := info.Members[4].Server
	v := c.Servers[slices.Index(c.ids, victim)]
	before, _ := c.hosting(victim)
	if err := v.Kill(); err != nil {
		t.Fatal(err)
	}
	damageRow(t, filepath.Join(c.dir, v.Name), "vol-03")
	if err := v.Start(); err != nil {
		t.Fatal(err)
	}
	c.await("the server is up, and its node is out of service", func() bool {
		r := runLine(t, map[string]string{"PHYSALIA_CONTROL_PLANE": c.ControlAddr}, "", []string{"cell", "explain", "vol-03"})
		return strings.Contains(r.stdout, "quarantined") && strings.Contains(r.stdout, "damaged: its row")
	})
	c.await("the node is replaced", func() bool {
		now, err := c.op.Cell(c.ctx, "test", "vol-03")
		return err == nil && now.Live == 7 && !slices.ContainsFunc(now.Members, func(m wire.Founder) bool { return m.Server == victim })
	})
	if after, _ := c.hosting(victim); after != before-1 {
		t.Errorf("%s hosts members of %d cells, and hosted %d", victim, after, before)
	}
	if r := runLine(t, map[string]string{"PHYSALIA_CONTROL_PLANE": c.ControlAddr}, "", []string{"kv", "put", "vol-03", "k", "v"}); r.code != 0 {
		t.Errorf("exit %d: %s", r.code, r.stderr)
	}
	if err := c.Failed(); err != nil {
		t.Error(fmt.Errorf("a server stopped: %w", err))
	}
}
