package lab

import (
	"cmp"
	"fmt"
	"slices"
	"time"

	"physalia/cell"
	"physalia/health"
	"physalia/internal/wire"
	"physalia/placement"
)

// ward is a colony in virtual time whose cells health.Repairer looks after. It stands in for trackers, routes and the lifecycle manager:
// a death is known at once, and what is proposed comes about after a while, if the cell still has its majority then.
type ward struct {
	site     *Site
	state    *State
	fleet    *Fleet
	placer   *placer
	p        *repairParameters
	repairer *health.Repairer // nil: nothing is repaired
	down     map[cell.ServerID]bool
	numbers  []uint64 // by cell: its configuration
	coming   []coming // replacements under way, the oldest first
	now      time.Duration

	copied       int // members
	risk, broken int // cells that have lost two members or more; their majority
	margin       float64
	dirty        bool
	atRisk, lost float64 // cell hours
	samples      []sample
}

// coming is a replacement under way.
type coming struct {
	at   time.Duration
	cell int
	from cell.ServerID
}

// sample is how things stood at one moment.
type sample struct{ risk, sent, margin float64 }

// start is the virtual moment at which a ward begins; health wants no time before zero.
const start = time.Hour

func newWard(site *Site, fleet *Fleet, pl *placer, config *health.RepairConfig, p *repairParameters) (*ward, error) {
	w := &ward{site: site, state: NewState(site), fleet: fleet, placer: pl, p: p, down: map[cell.ServerID]bool{}, numbers: make([]uint64, fleet.Len()), now: start, dirty: true}
	if config == nil {
		return w, nil
	}
	var err error
	if w.repairer, err = health.NewRepairer(*config); err != nil {
		return nil, err
	}
	servers := site.View.Servers()
	for i := range servers {
		s := &servers[i]
		w.repairer.Server(w.now, &wire.Registration{Server: s.ID, Brick: string(s.Brick), Rack: string(s.Rack), Power: string(s.Power), Color: string(s.Color), Boot: 1})
		w.repairer.Verdict(health.Verdict{Server: s.ID, Up: true, At: w.now})
	}
	for c := range fleet.Len() {
		w.route(c)
	}
	return w, nil
}

// route tells the repairer who a cell's members are.
func (w *ward) route(c int) {
	w.numbers[c]++
	route := wire.Route{Cell: cellName(c + 1), Incarnation: 1, Configuration: w.numbers[c]}
	for i, m := range w.site.identities(w.fleet.Jury(c)) {
		route.Members = append(route.Members, wire.Founder{Node: uint64(i + 1), Server: m})
	}
	w.repairer.Route(w.now, &route)
}

// play lets failures strike, and lets repair take its turns between them.
func (w *ward) play(all []moment, outages []outage, ask func() error) error {
	for _, m := range all {
		if err := ask(); err != nil {
			return err
		}
		if err := w.until(start + hours(m.at)); err != nil {
			return err
		}
		w.strike(&outages[m.outage], m.begins)
	}
	return w.until(start + hours(w.p.Hours))
}

func hours(h float64) time.Duration { return time.Duration(h * float64(time.Hour)) }

// The repairer learns of a death at once: how long a tracker takes to notice is seconds, against a patience of half an hour.
//
// strike begins or ends an outage, and passes verdicts on the servers whose state it changes: a nanosecond apart, since no two
// servers die at the same moment.
func (w *ward) strike(o *outage, begins bool) {
	before := make([]bool, len(o.servers))
	for i, s := range o.servers {
		before[i] = w.state.Up(s)
	}
	w.state.strike(o, begins)
	w.dirty = true
	for i, s := range o.servers {
		up := w.state.Up(s)
		if up == before[i] {
			continue
		}
		id := w.site.View.Servers()[s].ID
		if w.down[id] = !up; up {
			delete(w.down, id)
		}
		if w.repairer != nil {
			w.now += 2
			w.repairer.Verdict(health.Verdict{Server: id, Up: up, At: w.now})
		}
	}
}

// until lets time pass: a second at a time while there is something to repair, a minute at a time else.
func (w *ward) until(end time.Duration) error {
	for w.now < end {
		step := time.Minute
		if w.busy() {
			step = time.Second
		}
		next := min(w.now+step, end)
		w.account(next)
		w.now = next
		if err := w.turn(); err != nil {
			return err
		}
	}
	return nil
}

// Most of the simulated time nothing is queued, and a minute a step is a hundred times cheaper than a tenth of a second.
//
// busy reports whether repair has anything to do that the next minute may not wait for.
func (w *ward) busy() bool {
	if w.repairer == nil {
		return false
	}
	s := w.repairer.Stats()
	return len(w.coming) > 0 || s.InFlight > 0 || s.Troubled > 0 && slices.Max(s.Queued[:]) > 0
}

// account counts what passes until a moment, and takes the samples that fall before it.
func (w *ward) account(next time.Duration) {
	if w.dirty {
		w.count()
	}
	for len(w.samples) < len(w.p.Samples) && start+hours(w.p.Samples[len(w.samples)]) <= next {
		w.samples = append(w.samples, sample{100 * float64(w.risk) / float64(w.fleet.Len()), w.mib(), w.margin})
	}
	passed := (next - w.now).Hours()
	w.atRisk += passed * float64(w.risk)
	w.lost += passed * float64(w.broken)
}

// count looks at all cells.
func (w *ward) count() {
	w.risk, w.broken, w.dirty = 0, 0, false
	sum := 0
	for c := range w.fleet.Len() {
		alive := w.state.alive(w.fleet.Jury(c))
		sum += max(0, alive-majority(w.fleet.Size))
		if alive <= w.fleet.Size-2 {
			w.risk++
		}
		if alive < majority(w.fleet.Size) {
			w.broken++
		}
	}
	w.margin = float64(sum) / float64(w.fleet.Len())
}

// mib is what repair has copied, in MiB.
func (w *ward) mib() float64 { return float64(w.copied) * float64(w.p.NodeBytes) / (1 << 20) }

// turn is one beat: replacements come about, and the repairer says what it wants.
func (w *ward) turn() error {
	if w.repairer == nil {
		return nil
	}
	for len(w.coming) > 0 && w.coming[0].at <= w.now {
		if err := w.replace(w.coming[0]); err != nil {
			return err
		}
		w.coming = w.coming[1:]
	}
	for more := true; more; {
		t := w.repairer.Turn(w.now)
		for _, x := range t.Withdraw {
			w.repairer.Withdrawn(w.now, x.Cell, x.Remove, w.withdraw(x))
		}
		for _, x := range t.Propose {
			c, err := cellNumber(x.Cell)
			if err != nil {
				return err
			}
			w.repairer.Outcome(w.now, x.Cell, x.Remove, nil)
			w.coming = append(w.coming, coming{w.now + time.Duration(w.p.Replace*float64(time.Second)), c, x.Remove})
		}
		more = t.More
	}
	slices.SortStableFunc(w.coming, func(a, b coming) int { return cmp.Compare(a.at, b.at) })
	return nil
}

// withdraw gives a replacement up that has not come about yet.
func (w *ward) withdraw(x health.Withdrawal) bool {
	at := slices.IndexFunc(w.coming, func(c coming) bool { return cellName(c.cell+1) == x.Cell && c.from == x.Remove })
	if at >= 0 {
		w.coming = slices.Delete(w.coming, at, at+1)
	}
	return at >= 0
}

// It is what the lifecycle manager does, without the time that a plan, a learner and a logged change take; that time has passed already.
//
// replace lets the real placement code choose the new member. A cell without a majority, or without a server that fits, stays as it
// is; the repairer proposes it again later.
func (w *ward) replace(x coming) error {
	jury := w.fleet.Jury(x.cell)
	members := w.site.identities(jury)
	at := slices.Index(members, x.from)
	if at < 0 || w.state.alive(jury) < majority(len(jury)) {
		return nil
	}
	to, err := placement.Substitute(placement.Input{View: w.site.View, Down: w.down, Book: w.placer.book, JurySize: len(jury)}, members, x.from)
	if cell.KindOf(err) == cell.NoRoom {
		return nil
	}
	if err != nil {
		return err
	}
	members[at] = to
	if err := w.placer.rebook(cellName(x.cell+1), members); err != nil {
		return err
	}
	jury[at] = uint16(w.site.number[to])
	w.copied++
	w.dirty = true
	w.route(x.cell)
	return nil
}

// cellNumber is the position of a cell that cellName named.
func cellNumber(id cell.ID) (int, error) {
	n := 0
	if _, err := fmt.Sscanf(string(id), "vol-%d", &n); err != nil {
		return 0, fmt.Errorf("cell %s: %w", id, err)
	}
	return n - 1, nil
}
