package bench

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"runtime/pprof"
	"sync"
	"time"
)

// Throughput says that something is slow, a profile says what. The shares in it are worth more than the figures beside it: the
// profiler interrupts every process a hundred times a second, on a machine whose processors are what is short.
//
// profiled runs a phase, and takes processor profiles of this process and of all servers meanwhile, if that is asked for: files
// PHASE-client.pprof and PHASE-SERVER.pprof. They cost a few percent of what is measured.
func (b *Bench) profiled(ctx context.Context, phase string, run func() (time.Duration, error)) (took time.Duration, err error) {
	if b.cfg.Profiles == "" {
		return run()
	}
	own, err := os.Create(b.profileFile(phase, "client"))
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, own.Close()) }()
	if err := pprof.StartCPUProfile(own); err != nil {
		return 0, err
	}
	defer pprof.StopCPUProfile()
	var wait sync.WaitGroup
	failed := make([]error, len(b.colony.Servers))
	for i, s := range b.colony.Servers {
		wait.Go(func() { failed[i] = b.fetchProfile(ctx, s.Ops, b.profileFile(phase, s.Name)) })
	}
	took, err = run()
	wait.Wait()
	return took, errors.Join(append(failed, err)...)
}

// profileFile is where the profile of a process goes. The client is this process, whatever clients it plays.
func (b *Bench) profileFile(phase, who string) string {
	return filepath.Join(b.cfg.Profiles, phase+"-"+who+".pprof")
}

// fetchProfile asks a server for a profile of most of a phase: it is to end before the load does, and has a while to arrive, since
// the processors are busy.
func (b *Bench) fetchProfile(ctx context.Context, ops, file string) (err error) {
	seconds := max(1, int(b.cfg.Duration.Seconds())-1)
	url := fmt.Sprintf("http://%s/debug/pprof/profile?seconds=%d", ops, seconds)
	ctx, cancel := context.WithTimeout(ctx, time.Duration(seconds+30)*time.Second)
	defer cancel()
	q, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return err
	}
	answer, err := http.DefaultClient.Do(q)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, answer.Body.Close()) }()
	if answer.StatusCode != http.StatusOK {
		return fmt.Errorf("GET %s: %s", url, answer.Status)
	}
	out, err := os.Create(file)
	if err != nil {
		return err
	}
	_, err = io.Copy(out, answer.Body)
	return errors.Join(err, out.Close())
}
