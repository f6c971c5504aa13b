//go:build poison

package drill

import (
	"context"
	"fmt"
	"strings"
	"time"

	"physalia/cell"
	"physalia/cell/machine"
	"physalia/client"
	"physalia/cmd/physalia/colony"
	"physalia/cmd/physalia/crowd"
	"physalia/cmd/physalia/operator"
	"physalia/internal/wire"
)

var poisonDrill = Drill{
	Name:   "poison",
	Proves: "a command that every member of a cell panics over costs that cell and nothing else: no server, and no request to any other",
	cells:  1000, span: 10 * time.Second,
	spec: shape(8, 4, 3, "--limit-create", "10000:10000", "--limit-create-brick", "10000:10000", "--limit-create-server", "10000:10000"),
	run:  runPoison,
}

// poisonRate is requests per second to each cell.
const poisonRate = 1

// runPoison poisons one cell while clients use all others, restarts a member's server afterwards, and looks who says what.
func runPoison(ctx context.Context, s *site) error {
	ids := names("vol", max(s.cfg.Cells, 2))
	if err := s.create(ctx, ids); err != nil {
		return err
	}
	// Cells that a second crowd shall use must be new to it: the judge compares what is counted in a cell with what one crowd has counted.
	spared := 1 + min(50, len(ids)/4) // nobody uses these cells before the restart
	victim, fresh, others := ids[0], ids[1:spared], ids[spared:]
	how := s.crowd(others, poisonRate, s.clients())
	load, err := crowd.Start(ctx, how)
	if err != nil {
		return err
	}
	// Nobody but the poisoner ever speaks to the victim, so every error that the crowd meets is one of another cell.
	from := s.now()
	err = s.wait(ctx, s.cfg.Span)
	if err == nil {
		err = s.poison(ctx, victim, "panic")
	}
	poisoned := s.now()
	if err == nil {
		err = s.wait(ctx, s.cfg.Span)
	}
	// Whatever was under way at the end counts as after the poison, however long it takes to end.
	until := s.now()
	logs, judgeErr := s.judge(ctx, "other cells", load, how)
	if err != nil || judgeErr != nil {
		return fmt.Errorf("%w %w", err, judgeErr)
	}
	before, _ := errorsWithin(logs, from, poisoned)
	after, kinds := errorsWithin(logs, poisoned, until+time.Hour)
	s.count("cells", len(ids))
	s.count("errors of other cells before", before)
	s.count("errors of other cells after", after)
	s.wrong(before+after > 0, "%d requests to other cells failed before the poison, %d after it: %v", before, after, kinds)
	if err := s.quarantined(ctx, victim); err != nil {
		return err
	}
	return s.rises(ctx, fresh)
}

// poison writes a command to a cell that its members cannot survive.
func (s *site) poison(ctx context.Context, id cell.ID, how string) error {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	lib, err := client.New(ctx, client.Config{Colony: colony.Name, Control: s.op.Addresses, CallTimeout: 3 * time.Second})
	if err != nil {
		return err
	}
	defer lib.Close()
	// The answer may be of any kind but one: whoever was to give it has fallen, and nobody else can know.
	_, err = lib.Cell(id).Then(client.Put(machine.PoisonKey+how, cell.Int(1))).Commit(ctx)
	s.cfg.Say("%s was poisoned, and answers: %v", id, err)
	s.wrong(err == nil, "a command that nobody survives was acknowledged")
	return nil
}

// lostMin is how many of a cell's seven members fall before the others cannot choose anything any more, and so survive.
const lostMin = 4

// quarantined waits until so many members say that they are out of service that there is no majority, and compares who else says so.
func (s *site) quarantined(ctx context.Context, id cell.ID) error {
	sick := 0
	if err := s.until(ctx, startMax, "a majority is out of service", func(ctx context.Context) (bool, error) {
		n, err := s.sick(ctx, "panic")
		sick = int(n)
		return n >= lostMin, fmt.Errorf("%v nodes are: %w", n, err)
	}); err != nil {
		return err
	}
	s.count("nodes out of service", sick)
	members, err := s.op.Members(ctx, "drill.poison", id)
	if err != nil {
		return err
	}
	// A member that did not fall says that it is well, or does not know better: only those that did must say so.
	explained := 0
	for _, m := range members {
		x, err := s.explain(ctx, m.ClientAddr, id)
		if err != nil {
			return err
		}
		if x.State == "quarantined" && strings.HasPrefix(x.Note, "panic: ") {
			explained++
		}
	}
	s.wrong(explained != sick, "%d nodes are out of service, %d say so of themselves", sick, explained)
	return s.until(ctx, convergeMax, "the control plane tells of a lost cell", func(ctx context.Context) (bool, error) {
		report, err := s.op.Health(ctx, "drill.poison", 0)
		if err != nil || len(report.Cells) != 1 {
			return false, fmt.Errorf("%d cells in danger: %w", len(report.Cells), err)
		}
		c := report.Cells[0]
		states := 0
		for _, m := range c.Members {
			if m.State == "quarantined" {
				states++
			}
		}
		return c.Cell == id && c.Class == "lost" && states == sick, fmt.Errorf("it says %+v", c)
	})
}

// A server answers for its own node and nobody else's, so each member is asked at its own address, with no other to go on to.
//
// explain asks one server about a cell.
func (s *site) explain(ctx context.Context, addr string, id cell.ID) (x wire.Explanation, err error) {
	one := operator.Operator{Colony: s.op.Colony, Addresses: []string{addr}}
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	err = one.Ask(ctx, "drill.explain", wire.MethodExplain, &wire.ExplainRequest{Header: wire.Header{Cell: id, Timeout: 5000}}, &x)
	return x, err
}

// rises kills every server and starts it again: what was out of service stays so, and nobody falls over it a second time.
func (s *site) rises(ctx context.Context, fresh []cell.ID) error {
	// All at once, so that nobody is taught by a member that has not met the poison; what each finds is on its own disk.
	for _, v := range s.Servers {
		if err := v.Kill(); err != nil {
			return err
		}
	}
	for _, v := range s.Servers {
		if err := v.Start(); err != nil {
			return err
		}
	}
	if err := s.awaitServers(ctx); err != nil {
		return err
	}
	how := s.crowd(fresh, poisonRate, s.clients())
	load, err := crowd.Start(ctx, how)
	if err != nil {
		return err
	}
	if err := s.until(ctx, startMax, "every cell takes writes again", func(context.Context) (bool, error) {
		return len(load.Waiting(0)) == 0, nil
	}); err != nil {
		return err
	}
	if _, err := s.judge(ctx, "after a restart of all servers", load, how); err != nil {
		return err
	}
	n, err := s.sick(ctx, "panic")
	s.count("nodes out of service after a restart", int(n))
	s.wrong(n < lostMin, "%v nodes are out of service after the restart", n)
	return err
}
