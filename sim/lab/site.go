package lab

import (
	"fmt"
	"slices"

	"physalia/cell"
	"physalia/internal/topology"
)

// Level is a kind of thing that fails as one.
type Level uint8

// The levels, from small to large. A color is what is deployed together; a device carries traffic between racks.
const (
	LevelServer Level = iota
	LevelRack
	LevelPower
	LevelBrick
	LevelColor
	LevelDevice
	levels
)

var levelNames = [levels]string{"server", "rack", "power", "brick", "color", "device"}

// String names the level as --kill does.
func (l Level) String() string {
	if l < levels {
		return levelNames[l]
	}
	return fmt.Sprintf("level %d", uint8(l))
}

// levelNamed is the level with a name.
func levelNamed(name string) (Level, bool) {
	i := slices.Index(levelNames[:], name)
	return Level(max(i, 0)), i >= 0
}

// Device is a box that carries traffic between racks: an aggregation switch, a brick's router, a core router.
type Device struct {
	Name  string
	Tier  string // for example "aggregation", "router", "core"
	links []int32
}

// Site is a data centre with servers, domains and network devices numbered from 0. It is immutable once built.
type Site struct {
	Name    string
	View    *topology.View
	Devices []Device

	names  [levels][]string          // of the units of each level; racks and power domains with their brick, "b1/r1"
	unit   [LevelColor + 1][]int32   // by level and server: its unit
	of     [LevelColor + 1][][]int32 // by level and unit: its servers
	uplink [][]int32                 // by rack: devices it hangs on
	number map[cell.ServerID]int32
}

// server is a server on the way into a site.
type server struct {
	topology.Server
}

// newSite numbers what was described. uplinks are by rack name with brick, links by device.
func newSite(name string, servers []server, devices []Device, uplinks map[string][]int32) (*Site, error) {
	all := make([]topology.Server, len(servers))
	for i := range servers {
		all[i] = servers[i].Server
	}
	view, err := topology.NewView(all)
	if err != nil {
		return nil, err
	}
	s := &Site{Name: name, View: view, Devices: devices, number: make(map[cell.ServerID]int32, len(all))}
	for l := range s.unit {
		s.index(Level(l))
	}
	for i := range view.Servers() {
		s.number[view.Servers()[i].ID] = int32(i)
	}
	for i := range devices {
		s.names[LevelDevice] = append(s.names[LevelDevice], devices[i].Name)
	}
	for _, rack := range s.names[LevelRack] {
		s.uplink = append(s.uplink, uplinks[rack])
	}
	return s, nil
}

// Names are ordered, so that a number means the same whatever the order of the description; dice that choose a unit by number depend on it.
//
// index numbers the units of one level, by name.
func (s *Site) index(l Level) {
	servers := s.View.Servers()
	for i := range servers {
		s.names[l] = append(s.names[l], unitName(&servers[i], l))
	}
	slices.Sort(s.names[l])
	s.names[l] = slices.Clip(slices.Compact(s.names[l]))
	s.of[l] = make([][]int32, len(s.names[l]))
	for i := range servers {
		at, _ := slices.BinarySearch(s.names[l], unitName(&servers[i], l))
		s.unit[l] = append(s.unit[l], int32(at))
		s.of[l][at] = append(s.of[l][at], int32(i))
	}
}

// unitName names the unit of a level that a server belongs to.
func unitName(v *topology.Server, l Level) string {
	switch l {
	case LevelRack:
		return string(v.Brick) + "/" + string(v.Rack)
	case LevelPower:
		return string(v.Brick) + "/" + string(v.Power)
	case LevelBrick:
		return string(v.Brick)
	case LevelColor:
		return string(v.Color)
	case LevelServer, LevelDevice:
	}
	return string(v.ID)
}

// Len is the number of units of a level.
func (s *Site) Len(l Level) int { return len(s.names[l]) }

// UnitName names a unit, racks and power domains with their brick: "b1/r1".
func (s *Site) UnitName(l Level, unit int) string { return s.names[l][unit] }

// Unit is the unit of a level that a server belongs to; there is none of devices.
func (s *Site) Unit(l Level, server int32) int32 { return s.unit[l][server] }

// Servers lists the servers of a unit; read-only. A device has none.
func (s *Site) Servers(l Level, unit int) []int32 {
	if l == LevelDevice {
		return nil
	}
	return s.of[l][unit]
}

// tier lists the devices of some tiers.
func (s *Site) tier(names ...string) (out []int32) {
	for i := range s.Devices {
		if slices.Contains(names, s.Devices[i].Tier) {
			out = append(out, int32(i))
		}
	}
	return out
}

// location is where a server stands, as a hint for placement.
func (s *Site) location(server int32) topology.Location { return s.View.Servers()[server].Location() }

// String shows the size of a site in one line.
func (s *Site) String() string {
	return fmt.Sprintf("%d bricks, %d racks, %d power domains, %d colors, %d servers, %d network devices",
		s.Len(LevelBrick), s.Len(LevelRack), s.Len(LevelPower), s.Len(LevelColor), s.View.Len(), len(s.Devices))
}
