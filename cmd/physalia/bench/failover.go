package bench

import (
	"context"
	"sync"
	"time"

	"physalia/cell"
	"physalia/cmd/physalia/judge"
)

// failoverKey is written by nobody else, so these writes do not mix with those that verify reads.
const failoverKey = "failover"

// failover kills a server that hosts a node of every cell, and writes every cell at once: each write is sent after the death, so
// the slowest tells for how long some cell took none. A seventh of the cells lose their proposer.
func (b *Bench) failover(ctx context.Context) error {
	victim := b.colony.Servers[0]
	b.cfg.Say("killing server %s and writing every cell through the others", victim.Name)
	if err := victim.Kill(); err != nil {
		return err
	}
	began := time.Now()
	times, failures := make([]time.Duration, b.cfg.Cells), make([]error, b.cfg.Cells)
	var wait sync.WaitGroup
	for i := range b.cfg.Cells {
		wait.Go(func() {
			_, failures[i] = b.libs[i%len(b.libs)].Cell(cellName(i)).Put(ctx, failoverKey, cell.Int(1))
			times[i] = time.Since(began)
		})
	}
	wait.Wait()
	for _, err := range failures {
		if err != nil {
			b.report.Errors++
			if b.report.FirstError == "" {
				b.report.FirstError = err.Error()
			}
		}
	}
	p := judge.Percentiles(times, 50, 99, 100)
	b.report.FailoverP50MS, b.report.FailoverP99MS, b.report.FailoverAllMS = millis(p[0]), millis(p[1]), millis(p[2])
	return ctx.Err()
}
