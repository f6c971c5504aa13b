package drill

import (
	"context"
	"errors"
	"fmt"
	"time"

	"physalia/cell"
	"physalia/cmd/physalia/crowd"
	"physalia/internal/topology"
	"physalia/internal/wire"
	"physalia/placement"
)

// Racks of four, of which a jury of seven may have three nodes in one. The limits are the defaults: they are the subject.
var jumpDrill = Drill{
	Name:   "jump",
	Proves: "a client that jumps to another rack: its cell's nodes follow within a minute at default limits, and no transaction fails meanwhile",
	cells:  5,
	spec:   shape(20, 5, 4),
	run:    runJump,
	shared: true,
}

const (
	jumpMax  = 60 * time.Second
	jumpRate = 10 // operations per second in each cell
	jumpNear = 3  // nodes of seven that may be in one rack, see placement
)

// All cells jump at the same moment: they share the budgets of moves, so the last one tells what the limits allow.
//
// runJump moves the users of every cell from one rack to another, all at once, under load.
func runJump(ctx context.Context, s *site) error {
	ids := names("vol", s.cfg.Cells)
	if err := s.create(ctx, ids); err != nil {
		return err
	}
	s.cfg.Say("the volumes' users are each in a rack of its own")
	if _, err := s.locateAll(ctx, ids, 0); err != nil {
		return err
	}
	load := s.crowd(ids, jumpRate, s.clients())
	writers, err := crowd.Start(ctx, load)
	if err != nil {
		return err
	}
	from := s.now()
	s.cfg.Say("all of them jump two racks on")
	longest, err := s.locateAll(ctx, ids, 2)
	to := s.now()
	logs, judgeErr := s.judge(ctx, "clients", writers, load)
	if err := errors.Join(err, judgeErr); err != nil {
		return err
	}
	failed, kinds := errorsWithin(logs, from, to)
	s.figure("the last cell is near its users after", longest.Seconds(), "s")
	s.count("errors of clients", failed)
	s.wrong(failed > 0, "%d transactions failed meanwhile: %v", failed, kinds)
	s.wrong(longest > jumpMax, "the last cell needed %v, allowed are %v", longest, jumpMax)
	return s.near(ctx, ids, 2)
}

// rackOf is the rack in which the users of the i-th volume are after so many jumps, and its servers by position.
func (s *site) rackOf(i, jumps int) (name string, at []int) {
	name = fmt.Sprintf("r%d", (i+jumps)%s.spec.Racks+1)
	for n, v := range s.Servers {
		if v.Rack == name {
			at = append(at, n)
		}
	}
	return name, at
}

// locateAll tells where all users are, and waits until every cell is near them; longest is how long the last one took.
func (s *site) locateAll(ctx context.Context, ids []cell.ID, jumps int) (longest time.Duration, err error) {
	servers, err := s.identities(ctx)
	if err != nil {
		return 0, err
	}
	began := time.Now()
	ctx, cancel := context.WithTimeout(ctx, convergeMax)
	defer cancel()
	type done struct {
		took time.Duration
		err  error
	}
	all := make(chan done, len(ids))
	for i, id := range ids {
		_, at := s.rackOf(i, jumps)
		go func() {
			err := s.op.Locate(ctx, "drill.locate", wire.LocateVolume{Cell: id, Client: servers[at[0]], Primary: servers[at[1]], Replica: servers[at[2]]})
			all <- done{time.Since(began), err}
		}()
	}
	for range ids {
		d := <-all
		longest, err = max(longest, d.took), errors.Join(err, d.err)
	}
	return longest, err
}

// The lifecycle manager says that it is done when no single replacement helps. That is its own opinion; here the outcome is counted.
//
// near judges every jury by what the servers registered: legal, and as many nodes in the users' rack as may be there.
func (s *site) near(ctx context.Context, ids []cell.ID, jumps int) error {
	states, err := s.op.Servers(ctx, "drill.servers")
	if err != nil {
		return err
	}
	var servers []topology.Server
	for _, v := range states {
		g := v.Registration
		servers = append(servers, topology.Server{ID: g.Server, Name: g.Name, Brick: topology.Brick(g.Brick), Rack: topology.Rack(g.Rack),
			Power: topology.PowerDomain(g.Power), Color: topology.Color(g.Color), Capacity: g.Capacity, Load: g.Nodes})
	}
	view, err := topology.NewView(servers)
	if err != nil {
		return err
	}
	fewest := jumpNear
	for i, id := range ids {
		info, err := s.op.Cell(ctx, "drill.near", id)
		if err != nil {
			return err
		}
		rack, _ := s.rackOf(i, jumps)
		var members []cell.ServerID
		inside := 0
		for _, m := range info.Members {
			members = append(members, m.Server)
			if v := view.Server(m.Server); v != nil && string(v.Rack) == rack {
				inside++
			}
		}
		fewest = min(fewest, inside)
		s.wrong(inside < jumpNear, "%s has %d nodes in rack %s, there may be %d", id, inside, rack, jumpNear)
		for _, v := range placement.Check(placement.Jury(members, view), len(members), view) {
			s.wrong(true, "%s: %v", id, v)
		}
	}
	s.count("nodes in the users' rack, the fewest of a cell", fewest)
	return nil
}
