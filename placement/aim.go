package placement

import (
	"slices"

	"physalia/internal/topology"
)

// aim is a hint as seen from one pool, in the pool's numbers: it gives the same distances as topology.Location.Distance
// without comparing a name per server.
type aim struct {
	weight uint64
	inside bool  // the hint is in the pool's brick
	at     int   // position of the hint's server in the pool, or -1
	rack   int32 // or -1
	power  int32 // or -1
}

func aims(hints []hint, pool *topology.Pool) []aim {
	out := make([]aim, len(hints))
	for i, h := range hints {
		a := aim{weight: h.weight, inside: h.where.Brick == pool.Key.Brick, at: pool.Index(h.where.Server), rack: -1, power: -1}
		if r, ok := slices.BinarySearch(pool.Racks, h.where.Rack); ok {
			a.rack = int32(r)
		}
		if p, ok := slices.BinarySearch(pool.Powers, h.where.Power); ok {
			a.power = int32(p)
		}
		out[i] = a
	}
	return out
}

// distance from the aim to the server at position i of the pool.
func (a *aim) distance(pool *topology.Pool, i int) topology.Distance {
	switch {
	case i == a.at:
		return topology.SameServer
	case !a.inside:
		return topology.OtherBrick
	case pool.RackOf[i] == a.rack:
		return topology.SameRack
	case pool.PowerOf[i] == a.power:
		return topology.SamePower
	}
	return topology.SameBrick
}

// farness is the weighted distance from the server at position i of the pool to all hints.
func farness(as []aim, pool *topology.Pool, i int) uint64 {
	far := uint64(0)
	for k := range as {
		far += as[k].weight * uint64(as[k].distance(pool, i))
	}
	return far
}
