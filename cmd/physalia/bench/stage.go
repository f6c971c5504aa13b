package bench

import (
	"context"
	"errors"
	"runtime"
	"time"

	"physalia/cmd/physalia/colony"
	"physalia/cmd/physalia/operator"
)

// stage is the colony of real processes that a bench runs on, and who asks its control plane.
type stage struct {
	colony *colony.Colony
	op     operator.Operator
}

// play measures the disk, starts the colony, goes through the phases, and ends every process. Each phase ends with a look at the
// processes: one that died explains more than what followed from it. What was measured until a failure stays in the report.
func (s *stage) play(ctx context.Context, spec colony.Spec, syncP50, syncP99 *float64, phases ...func(context.Context) error) (err error) {
	if *syncP50, *syncP99, err = measureSync(spec.Dir); err != nil {
		return err
	}
	if s.colony, err = colony.Start(spec); err != nil {
		return err
	}
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(spec.Share())) // the clients are one process of several
	defer func() {
		ending, cancel := context.WithTimeout(context.Background(), 20*time.Second)
		defer cancel()
		err = errors.Join(err, s.colony.Close(ending))
	}()
	s.op = operator.Operator{Colony: colony.Name, Addresses: s.colony.ControlAddresses(), Certs: spec.User()}
	for _, phase := range phases {
		if err := phase(ctx); err != nil {
			return err
		}
		if err := s.colony.Failed(); err != nil {
			return err
		}
	}
	return nil
}

// cpu is the processor time of those of some servers that live, and how many these are.
func (s *stage) cpu(of []*colony.Server) (sum time.Duration, lives int) {
	for _, v := range of {
		if !v.Running() {
			continue
		}
		if spent, ok := v.CPU(); ok {
			sum += spent
			lives++
		}
	}
	return sum, lives
}

// pause waits, or until ctx ends.
func pause(ctx context.Context, d time.Duration) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(d):
		return nil
	}
}
