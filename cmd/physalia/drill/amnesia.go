package drill

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"time"

	"physalia/cell"
	"physalia/cmd/physalia/crowd"
	"physalia/internal/wire"
)

// Cells is how many are created, moved and deleted behind the backup; there are three times as many in all.
var amnesiaDrill = Drill{
	Name:   "amnesia",
	Proves: "the manager's store deleted, and one restored from before creations, moves and deletions: the rebuild finds what lives, removes nothing",
	cells:  100,
	spec:   shape(11, 4, 3, "--limit-move", "1000:1000", "--limit-move-brick", "1000:1000", "--limit-move-server", "500:500"),
	run:    runAmnesia,
}

// amnesiaLoad is how many cells of each kind have clients, and amnesiaRate what these do in each, per second.
const amnesiaLoad, amnesiaRate = 8, 4

// amnesia is one run.
type amnesia struct {
	*site
	moved, doomed, born []cell.ID
	place               string // of the backups
	want                map[cell.ID]string
}

// runAmnesia loses the store twice under load.
func runAmnesia(ctx context.Context, s *site) error {
	n := s.cfg.Cells
	a := &amnesia{site: s, moved: names("moved", n), doomed: names("doomed", n), born: names("born", n), place: "file://" + filepath.Join(s.spec.Dir, "backups")}
	if err := s.create(ctx, slices.Concat(a.moved, a.doomed)); err != nil {
		return err
	}
	load := s.crowd(a.moved[:min(amnesiaLoad, n)], amnesiaRate, s.clients())
	writers, err := crowd.Start(ctx, load)
	if err != nil {
		return err
	}
	story := a.story(ctx)
	end := s.now()
	logs, err := s.judge(ctx, "clients", writers, load)
	if err := errors.Join(story, err); err != nil {
		return err
	}
	failed, kinds := errorsWithin(logs, 0, end+time.Hour)
	s.count("errors of clients", failed)
	s.wrong(failed > 0, "clients saw %d errors: %v", failed, kinds)
	return nil
}

// Everything between the backup and the first loss is what the restored store does not know: cells that it never heard of,
// members that it believes elsewhere, and cells that it believes alive.
//
// story is what happens to the control plane.
func (a *amnesia) story(ctx context.Context) error {
	if _, err := a.op.Backup(ctx, "drill.backup", a.place); err != nil {
		return err
	}
	if err := a.change(ctx); err != nil {
		return err
	}
	if err := a.converged(ctx); err != nil {
		return err
	}
	var err error
	if a.want, err = a.list(ctx); err != nil {
		return err
	}
	if err := a.lose(ctx, "deleted", func(string) error { return nil }); err != nil {
		return err
	}
	return a.lose(ctx, "restored from before", func(dir string) error {
		out, err := exec.CommandContext(ctx, a.spec.Binary, "control", "restore", "--from", a.place, "--data-dir", dir).CombinedOutput()
		if err != nil {
			err = fmt.Errorf("restore: %w: %s", err, out)
		}
		return err
	})
}

// Moves go ten at a time; each waits until its cell does without the old member.
//
// change creates, moves and deletes.
func (a *amnesia) change(ctx context.Context) error {
	a.cfg.Say("%d creations, moves and deletions behind the backup", a.cfg.Cells)
	if err := a.create(ctx, a.born); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, convergeMax)
	defer cancel()
	for part := range slices.Chunk(a.moved, 10) {
		errs := make(chan error, len(part))
		for _, id := range part {
			go func() { errs <- a.moveOne(ctx, id) }()
		}
		for range part {
			if err := <-errs; err != nil {
				return err
			}
		}
	}
	for part := range slices.Chunk(a.doomed, wire.BatchMax) {
		var request wire.DeleteCells
		for _, id := range part {
			request.Drops = append(request.Drops, wire.Drop{Cell: id})
		}
		outcomes, err := a.op.Delete(ctx, "drill.delete", request)
		if err != nil {
			return err
		}
		for i := range outcomes {
			if failure := outcomes[i].Err; failure != nil {
				return fmt.Errorf("delete %s: %w", part[i], failure)
			}
		}
	}
	return nil
}

// moveOne replaces the first member of a cell.
func (a *amnesia) moveOne(ctx context.Context, id cell.ID) error {
	info, err := a.op.Cell(ctx, "drill.move", id)
	if err != nil {
		return err
	}
	return a.op.Replace(ctx, "drill.move", id, info.Members[0].Server, "")
}

// list is what the lifecycle manager says of every cell: incarnation, state and members.
func (a *amnesia) list(ctx context.Context) (map[cell.ID]string, error) {
	cells, err := a.op.Cells(ctx, "drill.list", "")
	all := map[cell.ID]string{}
	for _, c := range cells {
		text := fmt.Sprintf("incarnation %d, %s", c.Incarnation, c.State)
		if c.State == "live" {
			for _, m := range c.Members {
				text += fmt.Sprintf(", %d on %s", m.Node, m.Server)
			}
		}
		all[c.Cell] = text
	}
	return all, err
}

// The control process finds out by itself that its store is not to be trusted, and begins a rebuild; asking for one joins it.
// Resuming is refused until every connected server was heard, so a drill cannot resume too early.
//
// lose deletes the store, lets something happen in its place, and rebuilds.
func (a *amnesia) lose(ctx context.Context, how string, then func(dir string) error) error {
	a.cfg.Say("the store is %s", how)
	began := time.Now()
	dir := filepath.Join(a.spec.Dir, "control")
	if err := errors.Join(a.killControl(), os.RemoveAll(filepath.Join(dir, "lifecycle")), then(dir), a.restartControl(ctx)); err != nil {
		return err
	}
	state, err := a.op.Rebuild(ctx, "drill.rebuild", wire.RebuildBegin, false)
	if err != nil {
		return err
	}
	if err := a.until(ctx, convergeMax, "the rebuild is complete", func(ctx context.Context) (complete bool, err error) {
		if state, err = a.op.Rebuild(ctx, "drill.rebuild", wire.RebuildLook, false); err == nil {
			complete, err = state.Complete, fmt.Errorf("%d of %d servers heard", state.Scanned, state.Connected)
		}
		return complete, err
	}); err != nil {
		return err
	}
	for _, f := range state.Findings {
		a.wrong(true, "store %s: %s %s: %s", how, f.Kind, f.Cell, f.Detail)
	}
	a.wrong(len(state.Silent) > 0, "store %s: silent servers %v", how, state.Silent)
	if _, err := a.op.Rebuild(ctx, "drill.rebuild", wire.RebuildEnd, false); err != nil {
		return err
	}
	a.figure("store "+how+": rebuilt and resumed after", time.Since(began).Seconds(), "s")
	a.count("store "+how+": cells live", int(state.Live))
	return a.check(ctx, how)
}

// The text of a live cell has node numbers and servers, so a member that was exchanged or renumbered would show.
//
// check compares what is known after a rebuild with what was before, and with what the servers host.
func (a *amnesia) check(ctx context.Context, how string) error {
	if err := a.converged(ctx); err != nil {
		return err
	}
	got, err := a.list(ctx)
	if err != nil {
		return err
	}
	for id, was := range a.want {
		a.wrong(got[id] != was, "store %s: %s was %q, is %q", how, id, was, got[id])
	}
	for id := range got {
		a.wrong(a.want[id] == "", "store %s: %s has appeared: %q", how, id, got[id])
	}
	cells, err := a.op.Cells(ctx, "drill.list", "")
	if err != nil {
		return err
	}
	h, err := a.witness(ctx)
	if err != nil {
		return err
	}
	a.agree(cells, h, func(id cell.ID) bool { return slices.Contains(a.doomed, id) })
	return nil
}
