package demo

import (
	"context"
	"fmt"
	"time"
)

// replaceMax bounds the time in which one member must be replaced.
const replaceMax = 30 * time.Second

// replaceMembers replaces members of the first cell, one after the other, while its clients go on. Placement chooses who comes.
// A server that has given its member away may get another one later: eight servers are enough to replace all seven.
func (d *Demo) replaceMembers(ctx context.Context) error {
	id := d.cells[0]
	info, err := d.op.Cell(ctx, "demo.replace", id)
	if err != nil {
		return err
	}
	n := min(d.cfg.Replace, len(info.Members))
	if n > 0 && d.cfg.Colony.Servers <= len(info.Members) {
		d.cfg.Say("no server is left over in a pool: no member is replaced")
		return nil
	}
	// The members are those of before: what comes is not replaced again. A failure ends the demo, since nothing was hurt yet
	// that could excuse it; an error of a client meanwhile costs the verdict.
	began := time.Now()
	for i, m := range info.Members[:n] {
		one, cancel := context.WithTimeout(ctx, replaceMax)
		err := d.op.Replace(one, "demo.replace", id, m.Server, "")
		cancel()
		if err != nil {
			return fmt.Errorf("member %d of %s: %w", i+1, id, err)
		}
		d.report.MembersReplaced++
	}
	d.report.ReplaceMS = millis(time.Since(began))
	d.cfg.Say("replaced %d members of %s, one after the other, in %s", n, id, took(began))
	return nil
}
