package drill

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"physalia/cell"
	"physalia/internal/wire"
)

// The budget is small enough to be felt by some dozen cells, and the other times are short against the patience.
var repairDrill = Drill{
	Name:   "repair",
	Proves: "slow repair waits for one dead server, hurries for two within its budget, and makes no storm of a dead rack",
	cells:  40, patience: 12 * time.Second,
	spec: shape(12, 4, 3, "--repair-settle", "1s", "--repair-return", "2s", "--repairs-per-second-brick", fmt.Sprint(repairRate),
		"--limit-move", "1000:1000", "--limit-move-brick", "1000:1000", "--limit-move-server", "500:500"),
	run: runRepair,
}

const (
	repairRate  = 5 // reconfigurations per second in the brick, which is all of the colony
	repairBrink = 4 // cells whose users are in the rack that dies, so that three of their nodes do
	repairRack  = 2 // position of that rack's first server
	repairBytes = 2 << 20
)

// patients is the state of all cells at one moment: which of some servers each has as members.
type patients struct {
	at   time.Time
	dead map[cell.ID][]cell.ServerID // members among the servers that were killed
	live map[cell.ID]int             // the others
}

// repair is one run.
type repair struct {
	*site
	servers []cell.ServerID
	brink   []cell.ID
	killed  []cell.ServerID // now
}

// runRepair tells the story: one dies, a second one dies, both return; a rack dies, and returns.
func runRepair(ctx context.Context, s *site) error {
	r := &repair{site: s, brink: names("brink", repairBrink)}
	var err error
	if r.servers, err = s.identities(ctx); err != nil {
		return err
	}
	if err := s.create(ctx, slices.Concat(names("vol", s.cfg.Cells), r.brink)); err != nil {
		return err
	}
	if err := r.gather(ctx); err != nil {
		return err
	}
	if err := s.converged(ctx); err != nil {
		return err
	}
	if err := r.two(ctx); err != nil {
		return err
	}
	return r.rack(ctx)
}

// Placement spreads a jury over the racks; a volume whose users are all in one rack is what brings three of seven there.
//
// gather brings three nodes of some cells into the rack that will die.
func (r *repair) gather(ctx context.Context) error {
	_, at := r.rackOf(repairRack, 0)
	ctx, cancel := context.WithTimeout(ctx, convergeMax)
	defer cancel()
	for _, id := range r.brink {
		if err := r.op.Locate(ctx, "drill.locate", wire.LocateVolume{Cell: id, Client: r.servers[at[0]], Primary: r.servers[at[1]], Replica: r.servers[at[2]]}); err != nil {
			return err
		}
	}
	return nil
}

// Health learns of a death within a second when a connection breaks, which it does when a process is killed.
//
// kill kills servers at once and waits until health knows.
func (r *repair) kill(ctx context.Context, at ...int) error {
	for _, i := range at {
		r.killed = append(r.killed, r.servers[i])
		if err := r.Servers[i].Kill(); err != nil {
			return err
		}
	}
	return r.until(ctx, startMax, "health says that they are dead", func(ctx context.Context) (bool, error) {
		h, err := r.op.Health(ctx, "drill.health", 0)
		return err == nil && len(h.Dead) >= len(r.killed), err
	})
}

// A server that is back is watched for a while before its repairs are dropped; until then it counts as returning.
//
// revive starts the dead servers and waits until none counts as dead or returning.
func (r *repair) revive(ctx context.Context) error {
	for i, id := range r.servers {
		if slices.Contains(r.killed, id) {
			if err := r.Servers[i].Start(); err != nil {
				return err
			}
		}
	}
	r.killed = nil
	return r.until(ctx, startMax, "the servers are back, and no hold is left", func(ctx context.Context) (bool, error) {
		h, err := r.op.Health(ctx, "drill.health", 0)
		return err == nil && len(h.Dead)+len(h.Holds) == 0, err
	})
}

// It is a list of several pages, so not of one moment; cells change slowly enough here that it does not matter.
//
// look takes the state of all cells.
func (r *repair) look(ctx context.Context) (p patients, err error) {
	p = patients{at: time.Now(), dead: map[cell.ID][]cell.ServerID{}, live: map[cell.ID]int{}}
	cells, err := r.op.Cells(ctx, "drill.list", "")
	for _, c := range cells {
		for _, m := range c.Members {
			if slices.Contains(r.killed, m.Server) {
				p.dead[c.Cell] = append(p.dead[c.Cell], m.Server)
			} else {
				p.live[c.Cell]++
			}
		}
	}
	return p, err
}

// counts are the repairer's own counters.
func (r *repair) counts(ctx context.Context) (map[string]uint64, *wire.HealthReport, error) {
	h, err := r.op.Health(ctx, "drill.health", 0)
	if err != nil {
		return nil, nil, err
	}
	all := map[string]uint64{}
	for _, c := range h.Counts {
		all[c.Name] = c.Value
	}
	return all, h, nil
}

// The second death comes at a quarter of the patience, in another rack and power domain, so that it is no correlated failure. Cells
// that lost both are urgent and repaired after the time to settle; those that lost one wait for the rest of the patience, and are
// spared if the servers return.
//
// two kills one server and, before the patience is over, another in another rack and power domain; both return in time.
func (r *repair) two(ctx context.Context) error {
	r.cfg.Say("one server dies; the patience is %v", r.cfg.Patience)
	died := time.Now()
	if err := r.kill(ctx, 0); err != nil {
		return err
	}
	if err := r.wait(ctx, time.Until(died.Add(r.cfg.Patience/4))); err != nil {
		return err
	}
	none, _, err := r.counts(ctx)
	if err != nil {
		return err
	}
	r.wrong(none["proposed"] > 0, "%d repairs were proposed %v after one server died, the patience is %v", none["proposed"], time.Since(died), r.cfg.Patience)
	r.cfg.Say("a second one dies")
	second := time.Now()
	if err := r.kill(ctx, 1); err != nil {
		return err
	}
	before, err := r.look(ctx)
	if err != nil {
		return err
	}
	single, double := 0, 0
	for id := range before.dead {
		if len(before.dead[id]) > 1 {
			double++
		} else {
			single++
		}
	}
	if single == 0 || double == 0 {
		return fmt.Errorf("%d cells have lost one member and %d two; use more --cells", single, double)
	}
	var after patients
	if err := r.until(ctx, convergeMax, "every cell that lost two members has got one back", func(ctx context.Context) (bool, error) {
		after, err = r.look(ctx)
		waiting := 0
		for id, dead := range before.dead {
			if len(dead) > 1 && len(after.dead[id]) > 1 {
				waiting++
			}
		}
		return err == nil && waiting == 0, errors.Join(err, fmt.Errorf("%d still wait", waiting))
	}); err != nil {
		return err
	}
	took := time.Since(second)
	c, _, err := r.counts(ctx)
	if err != nil {
		return err
	}
	early := 0
	for id, dead := range before.dead {
		if len(dead) == 1 && len(after.dead[id]) == 0 {
			early++
		}
	}
	r.count("cells that lost one of two dead servers", single)
	r.count("cells that lost both", double)
	r.figure("all of those have one back, after the second death", took.Seconds(), "s")
	r.wrong(early > 0 && after.at.Before(died.Add(r.cfg.Patience)), "%d cells that lost one member were repaired before the patience was over", early)
	r.within("the second death", none, c, took)
	return r.returned(ctx, after, "both servers")
}

// A budget saves up one second of its rate, so that much may be spent at once on top.
//
// within compares what was spent with the budget: its rate, and one second of it at once.
func (r *repair) within(what string, before, after map[string]uint64, took time.Duration) {
	n, bytes := float64(after["proposed"]-before["proposed"]), float64(after["bytes-proposed"]-before["bytes-proposed"])
	r.figure("repairs proposed in "+what, n, "")
	r.figure("repairs per second in "+what+fmt.Sprintf(", of %d", repairRate), n/took.Seconds(), "")
	r.figure("bytes per second in "+what+fmt.Sprintf(", of %d", repairBytes), bytes/took.Seconds(), "")
	r.wrong(n > repairRate*(took.Seconds()+1)+1, "%v repairs within %v of %s, the budget is %d per second", n, took, what, repairRate)
	r.wrong(bytes > repairBytes*(took.Seconds()+1), "%v bytes within %v of %s, the budget is %d per second", bytes, took, what, repairBytes)
}

// Replacements that had begun are let finish first: they may have a learner, and giving them up would be the greater disturbance.
//
// returned brings the dead back, waits until the patience would have been over, and sees that nothing more was moved.
func (r *repair) returned(ctx context.Context, before patients, who string) error {
	r.cfg.Say("back again: %s", who)
	dead := slices.Clone(r.killed)
	if err := r.revive(ctx); err != nil {
		return err
	}
	if err := r.converged(ctx); err != nil { // what was under way finishes
		return err
	}
	from, _, err := r.counts(ctx)
	if err != nil {
		return err
	}
	if err := r.wait(ctx, r.cfg.Patience); err != nil {
		return err
	}
	to, h, err := r.counts(ctx)
	if err != nil {
		return err
	}
	r.wrong(to["proposed"] > from["proposed"], "%d repairs were proposed after %s had returned", to["proposed"]-from["proposed"], who)
	for _, p := range h.Pools {
		r.wrong(p.Waiting+p.Held+p.Aged+p.Urgent+p.Brink+p.Lost > 0, "repairs are pending after %s had returned: %+v", who, p)
	}
	r.killed = dead
	after, err := r.look(ctx)
	r.killed = nil
	if err != nil {
		return err
	}
	kept := 0
	for id, was := range before.dead {
		if len(was) == 1 && len(after.dead[id]) == 1 {
			kept++
		}
	}
	r.count("cells that kept their member when "+who+" returned", kept)
	return nil
}

// A cell that lost one or two members to the rack keeps its four, and gains nothing from being moved while everybody is: most racks
// come back. One that lost three is a death away from standing still, so it gets one member, and only one.
//
// rack kills a whole rack: its cells are held, those at the brink are raised by one, and nothing else moves until it returns.
func (r *repair) rack(ctx context.Context) error {
	name, at := r.rackOf(repairRack, 0)
	r.cfg.Say("rack %s dies, %d servers", name, len(at))
	from, _, err := r.counts(ctx)
	if err != nil {
		return err
	}
	died := time.Now()
	if err := r.kill(ctx, at...); err != nil {
		return err
	}
	before, err := r.look(ctx)
	if err != nil {
		return err
	}
	var held []string
	if err := r.until(ctx, convergeMax, "a hold on the rack", func(ctx context.Context) (bool, error) {
		_, h, err := r.counts(ctx)
		if err != nil {
			return false, err
		}
		held = held[:0]
		for _, d := range h.Holds {
			held = append(held, d.Domain)
		}
		return slices.ContainsFunc(held, func(d string) bool { return strings.HasSuffix(d, "/"+name) }), nil
	}); err != nil {
		return err
	}
	r.cfg.Say("repairs are held for %v; waiting until the patience is over", held)
	// Without a hold every wounded cell would be repaired some seconds after the patience, or at once where two died.
	if err := r.wait(ctx, time.Until(died.Add(r.cfg.Patience+3*time.Second))); err != nil {
		return err
	}
	to, _, err := r.counts(ctx)
	if err != nil {
		return err
	}
	after, err := r.look(ctx)
	if err != nil {
		return err
	}
	wounded, brink := 0, 0
	for id, live := range before.live {
		want := live
		if live < 7 {
			wounded++
		}
		if live == 4 { // exactly a majority
			brink++
			want++
		}
		r.wrong(after.live[id] != want, "%s had %d live members and has %d under the hold, want %d", id, live, after.live[id], want)
	}
	r.count("cells wounded by the rack", wounded)
	r.count("of them at the brink, and raised by one", brink)
	r.wrong(brink == 0, "no cell was brought to the brink, so nothing was shown")
	r.within("the loss of the rack", from, to, time.Since(died))
	return r.returned(ctx, after, "the rack")
}
