package lab

// State is a site at one moment: which servers are down, and which racks can talk with each other. Failures are counted, so that
// a server that fails with its rack and by itself is up again only when both are over. It has one owner.
type State struct {
	site    *Site
	servers []uint16 // by server: failures in force
	devices []uint16
	downs   int // devices that are down
	part    []int32
	stale   bool // part is to be computed again
}

// NewState is a site in which all is well.
func NewState(s *Site) *State {
	return &State{site: s, servers: make([]uint16, s.View.Len()), devices: make([]uint16, len(s.Devices)), stale: true}
}

// FailServer takes a server down once more, HealServer ends one of its failures.
func (t *State) FailServer(i int32) { t.servers[i]++ }

// HealServer ends a failure.
func (t *State) HealServer(i int32) { t.servers[i]-- }

// FailDevice takes a device down once more, HealDevice ends one of its failures.
func (t *State) FailDevice(i int32) {
	if t.devices[i]++; t.devices[i] == 1 {
		t.downs++
		t.stale = true
	}
}

// HealDevice ends a failure.
func (t *State) HealDevice(i int32) {
	if t.devices[i]--; t.devices[i] == 0 {
		t.downs--
		t.stale = true
	}
}

// Heal ends all failures.
func (t *State) Heal() {
	clear(t.servers)
	clear(t.devices)
	t.stale, t.downs = true, 0
}

// Up reports whether a server runs.
func (t *State) Up(i int32) bool { return t.servers[i] == 0 }

// Part is the part of the network that a server's rack is in. Servers of one part, and of one rack, can talk.
func (t *State) Part(i int32) int32 {
	if t.stale {
		t.partition()
	}
	return t.part[t.site.unit[LevelRack][i]]
}

// Talk reports whether two servers run and can talk with each other.
func (t *State) Talk(a, b int32) bool { return t.Up(a) && t.Up(b) && t.Part(a) == t.Part(b) }

// It is done once for each change of the network, when somebody asks: racks and devices are a few hundred, and failures of servers, which are
// most, change nothing in it.
//
// partition joins racks and live devices along the links. A site without devices is one part.
func (t *State) partition() {
	racks := t.site.Len(LevelRack)
	root := span(0, racks+len(t.devices))
	find := func(i int32) int32 {
		for root[i] != i {
			root[i] = root[root[i]]
			i = root[i]
		}
		return i
	}
	for r, devices := range t.site.uplink {
		for _, d := range devices {
			if t.devices[d] == 0 {
				root[find(int32(r))] = find(int32(racks) + d)
			}
		}
	}
	for i := range t.site.Devices {
		for _, d := range t.site.Devices[i].links {
			if t.devices[i] == 0 && t.devices[d] == 0 {
				root[find(int32(racks+i))] = find(int32(racks) + d)
			}
		}
	}
	t.part, t.stale = t.part[:0], false
	for r := range racks {
		part := find(int32(r))
		if len(t.devices) == 0 {
			part = 0
		}
		t.part = append(t.part, part)
	}
}

// majority is how many members of a jury of n decide.
func majority(n int) int { return n/2 + 1 }

// alive counts the members that run.
func (t *State) alive(jury []uint16) (n int) {
	for _, m := range jury {
		if t.servers[m] == 0 {
			n++
		}
	}
	return n
}

// reaches reports whether a client on a server, which is up, can have an answer from a jury: a majority of it runs in the client's part
// of the network.
func (t *State) reaches(client int32, jury []uint16) bool {
	n, part := 0, t.Part(client)
	for _, m := range jury {
		if t.servers[m] == 0 && t.Part(int32(m)) == part {
			n++
		}
	}
	return n >= majority(len(jury))
}
