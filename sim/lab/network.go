package lab

import (
	"fmt"
	"math/rand/v2"
	"slices"

	"physalia/cell"
	"physalia/internal/topology"
	"physalia/placement"
)

// contest is one way to choose the places of the stores, and what it chose: one jury per volume.
type contest struct {
	name  string
	fleet *Fleet
}

// arena is what experiments 3 and 4 share: a site, volumes, and the devices that fail.
type arena struct {
	site    *Site
	volumes []Volume
	devices []int32
}

// networkParameters are what experiments 3 and 4 depend on.
type networkParameters struct {
	Site       Shape `json:"site"`
	Volumes    int   `json:"volumes"`
	Devices    int   `json:"devices_that_may_fail"` // aggregation devices and brick routers
	Failed     []int `json:"failed_devices"`
	Draws      int   `json:"draws_per_point"`
	CellSizes  []int `json:"cell_sizes"`
	Candidates int   `json:"swap_candidates_per_cell"`
}

func newArena(r Run) (*arena, networkParameters, error) {
	p := networkParameters{Site: house, Volumes: r.trials(1500, 100), Draws: r.trials(300, 30), CellSizes: []int{5, 7, 9}, Candidates: 20}
	site, err := p.Site.Site()
	if err != nil {
		return nil, p, err
	}
	a := &arena{site: site, volumes: drawVolumes(site, p.Volumes, stream(r.Seed, "network/volumes")), devices: site.tier(tierAggregation, tierRouter)}
	p.Devices = len(a.devices)
	for k := 2; k <= p.Devices; k += 2 {
		p.Failed = append(p.Failed, k)
	}
	return a, p, nil
}

// fail takes k devices down, drawn at random.
func (a *arena) fail(state *State, k int, rng *rand.Rand) {
	state.Heal()
	for i := range k {
		j := i + rng.IntN(len(a.devices)-i)
		a.devices[i], a.devices[j] = a.devices[j], a.devices[i]
		state.FailDevice(a.devices[i])
	}
}

// scattered chooses juries at random among all servers of one color, wherever they stand.
func (a *arena) scattered(size int, rng *rand.Rand) *Fleet {
	f := NewFleet(size, len(a.volumes))
	for i := range a.volumes {
		pool := a.site.of[LevelColor][i%a.site.Len(LevelColor)]
		f.Add(randomJury(pool, size, rng))
	}
	return f
}

// randomJury draws distinct servers.
func randomJury(pool []int32, size int, rng *rand.Rand) []uint16 {
	jury := make([]uint16, 0, size)
	for len(jury) < size {
		if s := uint16(pool[rng.IntN(len(pool))]); !slices.Contains(jury, s) {
			jury = append(jury, s)
		}
	}
	return jury
}

// single is one store for all volumes in one brick, over as many racks as can be.
func (a *arena) single(size int, rng *rand.Rand) (*Fleet, error) {
	jury, err := newPlacer(a.site, size, rng).place(topology.Brick(a.site.UnitName(LevelBrick, 0)), noHints)
	if err != nil {
		return nil, err
	}
	f := NewFleet(size, len(a.volumes))
	for range a.volumes {
		f.Add(jury)
	}
	return f, nil
}

// It exchanges nodes instead of moving one to a free server, so that loads stay as they are, and it looks at nothing but distance: it keeps neither
// racks nor power domains apart. That is the paper's heuristic as far as it is published.
//
// swapped is the paper's heuristic: begin with scattered juries, then let each cell meet so many others of its color, and exchange a
// random node of each if both together come nearer to their users.
func (a *arena) swapped(size, candidates int, rng *rand.Rand) *Fleet {
	f := a.scattered(size, rng)
	colors := a.site.Len(LevelColor)
	for range candidates {
		for i := range a.volumes {
			j := i%colors + colors*rng.IntN((len(a.volumes)-i%colors+colors-1)/colors)
			one, two := rng.IntN(size), rng.IntN(size)
			a.exchange(f, i, one, j, two)
		}
	}
	return f
}

// exchange gives each of two cells the other's node if that helps and no jury has a server twice.
func (a *arena) exchange(f *Fleet, i, one, j, two int) {
	x, y := f.Jury(i), f.Jury(j)
	s, t := x[one], y[two]
	if i == j || slices.Contains(x, t) || slices.Contains(y, s) {
		return
	}
	before := a.far(i, s) + a.far(j, t)
	if a.far(i, t)+a.far(j, s) < before {
		x[one], y[two] = t, s
	}
}

// far is the distance of a server to the users of a volume.
func (a *arena) far(i int, server uint16) (n int) {
	v, at := a.volumes[i], a.site.location(int32(server))
	for _, user := range [...]int32{v.Client, v.Primary, v.Replica} {
		n += int(at.Distance(a.site.location(user)))
	}
	return n
}

// improved begins with brick-local juries and lets placement.Improve exchange nodes, one at a time, until it finds nothing.
func (a *arena) improved(size int, rng *rand.Rand, w Watch) (*Fleet, error) {
	pl := newPlacer(a.site, size, rng)
	f, err := pl.fleet(a.volumes, false, w)
	if err != nil {
		return nil, err
	}
	for i, v := range a.volumes {
		if err := w.every(i*10, len(a.volumes)*10, "improving placements"); err != nil {
			return nil, err
		}
		if _, err := pl.improve(cellName(i+1), f.Jury(i), a.site.hints(v), 10*size); err != nil {
			return nil, err
		}
	}
	return f, nil
}

// improve applies the best swap as long as there is one, most times at the most, and tells how many there were. The jury is changed in place.
func (p *placer) improve(id cell.ID, jury []uint16, hints placement.Hints, most int) (int, error) {
	for n := range most {
		members := p.site.identities(jury)
		in := placement.Input{View: p.site.View, Book: p.book, JurySize: p.size, Hints: hints}
		swap, ok := placement.Improve(in, members)
		if !ok {
			return n, nil
		}
		at := slices.Index(members, swap.Remove)
		members[at] = swap.Add
		if err := p.rebook(id, members); err != nil {
			return n, err
		}
		jury[at] = uint16(p.site.number[swap.Add])
	}
	return most, nil
}

// rebook writes down that a cell has another jury.
func (p *placer) rebook(id cell.ID, members []cell.ServerID) error {
	p.book.Remove(id, 1)
	return p.book.Add(id, 1, placement.Jury(members, p.site.View))
}

// The order is that of the figures' legends, from worst to best as one would expect it.
//
// contests places the stores in every way that is compared, for one cell size.
func (a *arena) contests(r Run, size, candidates int) ([]contest, error) {
	dice := func(name string) *rand.Rand { return stream(r.Seed, fmt.Sprintf("network/%s/%d", name, size)) }
	single, err := a.single(size, dice("single"))
	if err != nil {
		return nil, err
	}
	local, err := newPlacer(a.site, size, dice("local")).fleet(a.volumes, false, r.Watch)
	if err != nil {
		return nil, err
	}
	near, err := newPlacer(a.site, size, dice("near")).fleet(a.volumes, true, r.Watch)
	if err != nil {
		return nil, err
	}
	better, err := a.improved(size, dice("improved"), r.Watch)
	if err != nil {
		return nil, err
	}
	return []contest{{"single-point database", single}, {"random servers", a.scattered(size, dice("random"))},
		{fmt.Sprintf("random, then %d swaps per cell", candidates), a.swapped(size, candidates, dice("swapped"))},
		{"in the client's brick", local}, {"in the brick, then Improve", better}, {"Place near its users", near}}, nil
}
