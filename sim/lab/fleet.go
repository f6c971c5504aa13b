package lab

import (
	"fmt"
	"math/rand/v2"
	"slices"

	"physalia/cell"
	"physalia/internal/topology"
	"physalia/placement"
)

// Volume is where the users of a cell are: on three servers, by number.
type Volume struct{ Client, Primary, Replica int32 }

// hints are the volume's users, as placement wants them.
func (s *Site) hints(v Volume) placement.Hints {
	return placement.Hints{Client: s.location(v.Client), Primary: s.location(v.Primary), Replica: s.location(v.Replica)}
}

// drawVolumes draws volumes: a client anywhere, its two copies in the same brick, all three in different racks where the brick has
// three.
func drawVolumes(s *Site, n int, rng *rand.Rand) []Volume {
	out := make([]Volume, n)
	for i := range out {
		client := int32(rng.IntN(s.View.Len()))
		pool := s.of[LevelBrick][s.unit[LevelBrick][client]]
		taken := []int32{client}
		for try := 0; len(taken) < 3; try++ {
			c := pool[rng.IntN(len(pool))]
			apart := !slices.ContainsFunc(taken, func(t int32) bool { return s.unit[LevelRack][t] == s.unit[LevelRack][c] })
			if apart || try > 64 { // a brick with fewer than three racks
				taken = append(taken, c)
			}
		}
		out[i] = Volume{taken[0], taken[1], taken[2]}
	}
	return out
}

// Servers are numbers of 16 bits because a view has at most 65,536 of them; a million cells of seven are 14 MB, and judging one touches
// one line of the cache.
//
// Fleet is very many juries of one size, 2 bytes per node.
type Fleet struct {
	Size    int
	members []uint16
}

// NewFleet is a fleet without cells, with room for n.
func NewFleet(size, n int) *Fleet { return &Fleet{Size: size, members: make([]uint16, 0, size*n)} }

// Len is the number of cells.
func (f *Fleet) Len() int { return len(f.members) / f.Size }

// Jury is the servers of a cell, by number; it is part of the fleet.
func (f *Fleet) Jury(i int) []uint16 { return f.members[i*f.Size : (i+1)*f.Size] }

// Add appends a cell.
func (f *Fleet) Add(jury []uint16) { f.members = append(f.members, jury...) }

// numbers turns servers into their numbers in the site.
func (s *Site) numbers(members []cell.ServerID) []uint16 {
	out := make([]uint16, len(members))
	for i, m := range members {
		out[i] = uint16(s.number[m])
	}
	return out
}

// identities turns numbers into servers.
func (s *Site) identities(jury []uint16) []cell.ServerID {
	out := make([]cell.ServerID, len(jury))
	for i, m := range jury {
		out[i] = s.View.Servers()[m].ID
	}
	return out
}

// Colors are dealt in turn as an operator would: left to itself, Place prefers the pool with the most room.
//
// placer places cells one after the other with the real code.
type placer struct {
	site   *Site
	book   *placement.Book // nil: every cell is placed as if it were the first
	size   int
	rng    *rand.Rand
	colors []topology.Color // dealt in turn, since nearness must not fill one color
	next   int
}

func newPlacer(s *Site, size int, rng *rand.Rand) *placer {
	p := &placer{site: s, book: placement.NewBook(), size: size, rng: rng}
	for _, c := range s.names[LevelColor] {
		p.colors = append(p.colors, topology.Color(c))
	}
	return p
}

// cellName names the i-th cell.
func cellName(i int) cell.ID { return cell.ID(fmt.Sprintf("vol-%07d", i)) }

// place places one cell in a brick, near its users if hints say where they are, and takes it into the book.
func (p *placer) place(brick topology.Brick, hints placement.Hints) ([]uint16, error) {
	color := p.colors[p.next%len(p.colors)]
	p.next++
	placed, _, err := placement.Place(placement.Input{View: p.site.View, Book: p.book, JurySize: p.size, Brick: brick, Color: color, Hints: hints}, p.rng)
	if err != nil {
		return nil, err
	}
	if p.book != nil {
		if err := p.book.Add(cellName(p.next), 1, placed); err != nil {
			return nil, err
		}
	}
	return p.site.numbers(placed.Members), nil
}

// fleet places one cell per volume close to its users; without hints, in the users' brick.
func (p *placer) fleet(volumes []Volume, hints bool, w Watch) (*Fleet, error) {
	f := NewFleet(p.size, len(volumes))
	for i, v := range volumes {
		if err := w.every(i, len(volumes), "placing cells"); err != nil {
			return nil, err
		}
		var h placement.Hints
		if hints {
			h = p.site.hints(v)
		}
		jury, err := p.place(p.site.location(v.Client).Brick, h)
		if err != nil {
			return nil, err
		}
		f.Add(jury)
	}
	return f, nil
}

// noHints is for cells whose users nobody knows.
var noHints placement.Hints

// Watch is told how far a long run has come; an error from it ends the run and is returned. A nil Watch is told nothing.
type Watch func(what string, done, total int) error

// every asks the watch from time to time.
func (w Watch) every(done, total int, what string) error {
	if w == nil || done%1000 != 0 {
		return nil
	}
	return w(what, done, total)
}
