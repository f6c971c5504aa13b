//go:build privileged && linux

package faults_test

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"testing"

	"physalia/cell"
	"physalia/client"
)

// A server dies that hosts nodes of a thousand cells: every one of them takes a write again, and keeps it.
func TestKill(t *testing.T) {
	w := begin(t, setup{cells: 50, idle: 950, clients: 1, rate: 400, memTable: 1 << 20, within: promised})
	name, _ := w.busiest()
	victim := w.server(name)
	lib, err := client.New(context.Background(), w.load.Client)
	w.must(err)
	t.Cleanup(lib.Close)
	all := slices.Concat(w.load.Cells, w.idlers)
	w.each(lib, all, func(ctx context.Context, c *client.Cell) error { return put(ctx, c, 1) }) // finds all routes
	w.hurts(victim.Kill)
	w.each(lib, all, func(ctx context.Context, c *client.Cell) error { return put(ctx, c, 2) })
	took := w.now() - w.hurt
	if took > slack*promised {
		t.Errorf("all %d cells were written %v after the kill; promised are %v", len(all), took, promised)
	}
	w.mustWrite()
	w.heals(victim.Start)
	w.awaitServers()
	w.each(lib, all, func(ctx context.Context, c *client.Cell) error {
		entry, err := c.Get(ctx, probeKey)
		if n, _ := entry.Value.AsInt64(); err == nil && n != 2 {
			err = fmt.Errorf("%s: the acknowledged write is lost, read %d", c.ID(), n)
		}
		return err
	})
	w.slowest = took
	w.verdict()
}

// probeKey is where a scenario itself writes.
const probeKey = "probe"

func put(ctx context.Context, c *client.Cell, n int64) error {
	_, err := c.Put(ctx, probeKey, cell.Int(n))
	return err
}

// each does something in every cell, in many of them at a time; it must succeed.
func (w *world) each(lib *client.Client, cells []cell.ID, do func(context.Context, *client.Cell) error) {
	w.Helper()
	todo := make(chan cell.ID, len(cells))
	for _, id := range cells {
		todo <- id
	}
	close(todo)
	var wait sync.WaitGroup
	for range 128 {
		wait.Go(func() {
			for id := range todo {
				if err := do(context.Background(), lib.Cell(id)); err != nil {
					w.Error(err)
				}
			}
		})
	}
	wait.Wait()
}

// R2, H3: a server that proposes for many cells is stopped in the middle of reads and writes, others take over, and when it goes
// on, with reads in its inbox and a clock that jumped, it serves nothing of the past.
func TestPause(t *testing.T) {
	w := begin(t, small())
	victim, cells := w.busiest()
	stop := w.watch(victim, cells)
	w.hurts(w.server(victim).Pause)
	w.mustWrite()
	w.mustMove(cells, victim)
	w.heals(w.server(victim).Resume) // reads lie in its sockets
	stop()
	w.verdict()
}

// A pause shorter than support, again and again: nobody needs to take over, and whoever does must not harm.
func TestStutter(t *testing.T) {
	w := begin(t, small())
	name, cells := w.busiest()
	victim := w.server(name)
	stop := w.watch(name, cells)
	w.hurt = w.now()
	for range 4 {
		w.must(victim.Pause())
		w.pass(7 * support / 10)
		w.must(victim.Resume())
		w.pass(support / 5)
	}
	w.heals(func() error { return nil })
	stop()
	w.verdict()
}
