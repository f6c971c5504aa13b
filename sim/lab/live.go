package lab

import (
	"fmt"
	"slices"

	"physalia/cell"
	"physalia/internal/topology"
	"physalia/placement"
)

// Live is a colony that runs, on its way into a site: whoever asks the control plane adds servers, then cells, and asks WhatIf about what
// Question gives. It has one owner. A cell costs 2 bytes per node, and its name.
type Live struct {
	servers  []server
	down     map[cell.ServerID]bool
	juries   []liveJury
	unjudged int
}

// liveJury is a cell before the site is numbered: servers may turn up with it that have not registered.
type liveJury struct {
	id      cell.ID
	pool    topology.PoolKey
	members []cell.ServerID
}

// AddServer takes a registered server; up says whether it runs now.
func (l *Live) AddServer(s topology.Server, up bool) {
	l.servers = append(l.servers, server{s})
	if !up {
		l.mark(s.ID)
	}
}

func (l *Live) mark(id cell.ServerID) {
	if l.down == nil {
		l.down = map[cell.ServerID]bool{}
	}
	l.down[id] = true
}

// AddCell takes a cell and where its members are; one that is not live, being created or deleted, is counted and not judged.
func (l *Live) AddCell(id cell.ID, pool topology.PoolKey, live bool, members []cell.ServerID) error {
	if !live {
		l.unjudged++
		return nil
	}
	if n := len(members); n < 1 || n > placement.JuryMax {
		return invalid("what-if", "see `physalia cell show "+string(id)+"`", "%s has %d members", id, n)
	}
	l.juries = append(l.juries, liveJury{id, pool, slices.Clone(members)})
	return nil
}

// Members on servers that nobody knows are on servers that are down, in a rack and a power domain of their own: the store of the control
// plane may have been rebuilt, and they may come back.
//
// Question numbers everything, and makes a question without kills, policy and names of it.
func (l *Live) Question() (*Site, Question, error) {
	known := map[cell.ServerID]bool{}
	for i := range l.servers {
		known[l.servers[i].ID] = true
	}
	for i := range l.juries {
		for _, m := range l.juries[i].members {
			if !known[m] {
				known[m] = true
				l.servers = append(l.servers, server{topology.Server{ID: m, Name: string(m), Brick: l.juries[i].pool.Brick, Color: l.juries[i].pool.Color,
					Rack: topology.Rack(fmt.Sprintf("unknown-%d", len(l.servers))), Power: topology.PowerDomain(fmt.Sprintf("unknown-%d", len(l.servers)))}})
				l.mark(m)
			}
		}
	}
	if len(l.servers) == 0 {
		return nil, Question{}, invalid("what-if", "start servers first", "no server has registered")
	}
	site, err := newSite("the running colony", l.servers, nil, nil)
	if err != nil {
		return nil, Question{}, err
	}
	q := Question{Pools: l.pools(site)}
	for i := range int32(site.View.Len()) {
		if l.down[site.View.Servers()[i].ID] {
			q.Down = append(q.Down, i)
		}
	}
	return site, q, nil
}

// Unjudged is how many cells were not live.
func (l *Live) Unjudged() int { return l.unjudged }

// pools sorts the cells by pool and jury size, in the order in which they first turn up.
func (l *Live) pools(site *Site) (out []PoolFleet) {
	type kind struct {
		pool topology.PoolKey
		size int
	}
	at := map[kind]int{}
	for i := range l.juries {
		j := &l.juries[i]
		k := kind{j.pool, len(j.members)}
		n, ok := at[k]
		if !ok {
			n = len(out)
			at[k] = n
			out = append(out, PoolFleet{Pool: j.pool, Names: []cell.ID{}, Fleet: NewFleet(k.size, 0)})
		}
		out[n].Names = append(out[n].Names, j.id)
		out[n].Fleet.Add(site.numbers(j.members))
	}
	return out
}
