package discovery

import (
	"slices"

	"physalia/cell"
	"physalia/internal/wire"
)

// What a copy answers to other copies. The routes carry no addresses: copies exchange those apart, once per server.

// Digests answers a copy that knows sums of this total.
func (c *Cache) Digests(known uint64) *wire.Digests {
	d := &wire.Digests{Position: c.log.Position()}
	if d.Same = wire.TotalOf(c.sums[:]) == known; !d.Same {
		d.Sums = slices.Clone(c.sums[:])
	}
	return d
}

// Pull answers a request with one page, in order of names within a bucket. The error is a *cell.Error of kind Invalid.
func (c *Cache) Pull(q *wire.PullRequest) (*wire.Pulled, error) {
	p := &wire.Pulled{Position: c.log.Position()}
	limit := int(min(max(q.Limit, 1), wire.PullRoutesMax))
	after := cell.ID(q.Cursor)
	for _, b := range q.Buckets {
		if b >= wire.TableBuckets {
			return nil, &cell.Error{Op: wire.MethodPull, Kind: cell.Invalid, Detail: "there is no such bucket"}
		}
		if len(p.Routes) == limit {
			return p, nil
		}
		p.Sums = append(p.Sums, c.sums[b])
		for _, id := range c.names(int(b), after) {
			if len(p.Routes) == limit {
				p.Cursor = []byte(p.Routes[limit-1].Cell)
				return p, nil
			}
			p.Routes = append(p.Routes, c.bare(id))
		}
		after = ""
	}
	return p, nil
}

// names lists the cells of a bucket behind one of them, in order.
func (c *Cache) names(bucket int, after cell.ID) []cell.ID {
	ids := make([]cell.ID, 0, len(c.buckets[bucket]))
	for id := range c.buckets[bucket] {
		if id > after {
			ids = append(ids, id)
		}
	}
	slices.Sort(ids)
	return ids
}

// bare is a route without addresses.
func (c *Cache) bare(id cell.ID) wire.Route {
	r := c.Route(id)
	for i := range r.Members {
		r.Members[i].PeerAddr, r.Members[i].ClientAddr = "", ""
	}
	return r
}

// Changes answers a copy that has seen everything up to a position.
func (c *Cache) Changes(q wire.ChangesRequest) *wire.RoutePush {
	page := c.log.After(q.After, int(min(max(q.Limit, 1), wire.PullRoutesMax)))
	p := &wire.RoutePush{From: q.After, To: page.To, Lost: page.Lost, Buckets: page.Buckets}
	for _, id := range page.Keys {
		p.Routes = append(p.Routes, c.bare(id))
	}
	for _, b := range page.Buckets {
		p.Sums = append(p.Sums, c.sums[b])
	}
	return p
}
