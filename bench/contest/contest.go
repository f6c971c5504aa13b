package contest

import (
	"context"
	"errors"
	"fmt"
)

// Servers is how many server processes every subject has.
const Servers = 7

// Maker makes a fresh subject for every round.
type Maker func() Subject

// Run measures every subject in every round, one at a time. The order moves on by one from round to round, so that nobody is always
// the one after an idle disk, and it returns what there is when ctx ends: each takes its directory and its processes with it.
func (p Plan) Run(ctx context.Context, makers []Maker, rounds int) (all []Result, err error) {
	if err := p.check(makers, rounds); err != nil {
		return nil, err
	}
	for round := range rounds {
		for i := range makers {
			r, err := p.measure(ctx, makers[(i+round)%len(makers)](), round+1)
			all = append(all, r)
			if err != nil {
				return all, err
			}
		}
	}
	return all, nil
}

// check says what is wrong with a plan.
func (p Plan) check(makers []Maker, rounds int) error {
	switch {
	case len(makers) == 0 || rounds < 1:
		return errors.New("no subject or no round; name at least one of each")
	case len(p.Clients) == 0 || len(p.Kinds) == 0 || p.Kinds[0] != Write:
		return errors.New("no clients, or no kind of work, or not writes first: reads need keys to read")
	case p.ValueBytes < 8:
		return fmt.Errorf("values of %d bytes; use at least 8, which hold the number of a write", p.ValueBytes)
	case p.Point <= 0 || p.Idle <= 0 || p.StartLimit <= 0 || p.Limit <= 0:
		return errors.New("a time is missing; use positive ones")
	}
	for _, n := range p.Clients {
		if n < 1 || n > 10_000 {
			return fmt.Errorf("%d clients; use 1 to 10000", n)
		}
	}
	return nil
}
