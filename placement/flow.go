package placement

// Which sets of servers keep to the bounds on racks and power domains is a question of flow: a server is an edge of
// capacity one from its rack to its power domain, every rack may emit and every power domain may absorb as many units
// as it may still take members. An integral flow of k units picks k servers that can serve together, and the other way
// round, so the maximum flow is exactly how many members can still join. Greedy choice alone would not do: it may fill
// r1 with servers of p1 and find that r2, which draws from p1 only, has nowhere to go.

// network is the flow network of a pool, with a dense matrix from racks to power domains: pools have few of both.
type network struct {
	racks, powers int
	room          []int // by rack, then power domain: servers not yet used
	used          []int // by rack, then power domain: units of flow
	rackRoom      []int // members that the rack may still take
	powerRoom     []int
}

// flow returns how many more members could join the jury, up to need, as far as racks and power domains (and the heat
// that there is now) decide: the exact answer when the overlap constraint is off, else an upper bound. It takes
// O(candidates + need * racks * powers).
func (s *search) flow(need int) int {
	n := s.network()
	for got := range need {
		if !n.augment() {
			return got
		}
	}
	return need
}

func (s *search) network() *network {
	n := &network{racks: len(s.racks), powers: len(s.powers)}
	n.room, n.used = make([]int, n.racks*n.powers), make([]int, n.racks*n.powers)
	s.steps += len(s.cands) + len(n.room)
	most := domainMax(s.size)
	for _, r := range s.racks {
		n.rackRoom = append(n.rackRoom, most-int(r))
	}
	for _, p := range s.powers {
		n.powerRoom = append(n.powerRoom, most-int(p))
	}
	// A hot server can never join again on this branch: members only add heat.
	for i := range s.cands {
		c := &s.cands[i]
		cold := !s.enforce || c.number < 0 || s.book.scan.heat[c.number] == 0
		if !c.out && cold {
			n.room[int(c.rack)*n.powers+int(c.power)]++
		}
	}
	return n
}

// augment adds one unit of flow along a shortest path from a rack to a power domain with room, rerouting units that are
// in the way. It reports false when the flow is at its maximum. Vertices are racks, then power domains.
func (n *network) augment() bool {
	from := make([]int, n.racks+n.powers) // predecessor, itself for a start, -1 for unseen
	queue := make([]int, 0, len(from))
	for v := range from {
		from[v] = -1
		if v < n.racks && n.rackRoom[v] > 0 {
			from[v] = v
			queue = append(queue, v)
		}
	}
	for len(queue) > 0 {
		v := queue[0]
		queue = queue[1:]
		if v >= n.racks && n.powerRoom[v-n.racks] > 0 {
			n.push(from, v)
			return true
		}
		for _, w := range n.neighbours(v) {
			if from[w] < 0 {
				from[w] = v
				queue = append(queue, w)
			}
		}
	}
	return false
}

// neighbours lists where a unit can go: from a rack to a power domain over an unused server, back over a used one.
func (n *network) neighbours(v int) []int {
	var ws []int
	if v < n.racks {
		for p := range n.powers {
			if n.room[v*n.powers+p] > 0 {
				ws = append(ws, n.racks+p)
			}
		}
		return ws
	}
	for r := range n.racks {
		if n.used[r*n.powers+v-n.racks] > 0 {
			ws = append(ws, r)
		}
	}
	return ws
}

// push moves one unit along the path that ends in the power domain at.
func (n *network) push(from []int, at int) {
	n.powerRoom[at-n.racks]--
	for {
		v := from[at]
		if v == at {
			n.rackRoom[v]--
			return
		}
		if v < n.racks { // takes a server
			i := v*n.powers + at - n.racks
			n.room[i]--
			n.used[i]++
		} else { // gives one back, so that the rack can serve from elsewhere
			i := at*n.powers + v - n.racks
			n.room[i]++
			n.used[i]--
		}
		at = v
	}
}
