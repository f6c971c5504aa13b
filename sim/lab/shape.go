package lab

import (
	"fmt"

	"physalia/cell"
	"physalia/internal/topology"
)

// Two racks of a brick share both of their aggregation devices when they are as many apart as there are devices. Placement does not know that; the
// experiments show what it costs.
//
// Shape is a regular site: rack i of a brick draws from power domain i mod Powers, server j of a rack has color j mod Colors, and
// rack i hangs on the aggregation devices i and i+1 (mod Aggregations) of its brick. Each aggregation device hangs on both
// routers of its brick, each router on all cores. So traffic between two racks survives any one device, and how much it survives
// beyond depends on where they stand.
type Shape struct {
	Bricks         int    `json:"bricks"`
	Racks          int    `json:"racks_per_brick"`
	ServersPerRack int    `json:"servers_per_rack"`
	Powers         int    `json:"power_domains_per_brick"`
	Colors         int    `json:"colors"`
	Aggregations   int    `json:"aggregation_devices_per_brick"`
	Capacity       uint64 `json:"capacity"` // nodes that a server hosts
}

// The site of the figures: six bricks of twelve racks, 864 servers in four colors.
var house = Shape{Bricks: 6, Racks: 12, ServersPerRack: 12, Powers: 4, Colors: 4, Aggregations: 6, Capacity: 20_000}

// The tiers of a generated site.
const (
	tierAggregation = "aggregation"
	tierRouter      = "router"
	tierCore        = "core"
	routersPerBrick = 2
	cores           = 4
)

// Check reports what cannot be built, as a *cell.Error of kind Invalid, or nil.
func (h Shape) Check() error {
	for _, n := range [...]int{h.Bricks, h.Racks, h.ServersPerRack, h.Powers, h.Colors, h.Aggregations} {
		if n < 1 || n > topology.ServersMax {
			return invalid("shape", "give every number at least 1", "a site of %+v", h)
		}
	}
	if n := h.Bricks * h.Racks * h.ServersPerRack; n > topology.ServersMax {
		return invalid("shape", fmt.Sprintf("at most %d", topology.ServersMax), "a site of %d servers", n)
	}
	return nil
}

// Site builds the site.
func (h Shape) Site() (*Site, error) {
	if err := h.Check(); err != nil {
		return nil, err
	}
	var servers []server
	var devices []Device
	for i := range cores {
		devices = append(devices, Device{Name: fmt.Sprintf("core%d", i+1), Tier: tierCore})
	}
	uplinks := map[string][]int32{}
	for b := range h.Bricks {
		brick := fmt.Sprintf("b%02d", b+1)
		routers := int32(len(devices))
		for i := range routersPerBrick {
			devices = append(devices, Device{Name: fmt.Sprintf("%s-router%d", brick, i+1), Tier: tierRouter, links: span(0, cores)})
		}
		first := int32(len(devices))
		for i := range h.Aggregations {
			devices = append(devices, Device{Name: fmt.Sprintf("%s-agg%d", brick, i+1), Tier: tierAggregation, links: span(routers, routersPerBrick)})
		}
		for r := range h.Racks {
			rack := fmt.Sprintf("r%02d", r+1)
			uplinks[brick+"/"+rack] = []int32{first + int32(r%h.Aggregations), first + int32((r+1)%h.Aggregations)}
			for j := range h.ServersPerRack {
				id := fmt.Sprintf("%s-%s-s%02d", brick, rack, j+1)
				servers = append(servers, server{topology.Server{ID: cell.ServerID(id), Name: id, Brick: topology.Brick(brick), Rack: topology.Rack(rack),
					Power: topology.PowerDomain(fmt.Sprintf("p%d", r%h.Powers+1)), Color: colorName(j % h.Colors), Capacity: h.Capacity}})
			}
		}
	}
	return newSite("generated", servers, devices, uplinks)
}

// span is n numbers from first on.
func span(first int32, n int) []int32 {
	out := make([]int32, n)
	for i := range out {
		out[i] = first + int32(i)
	}
	return out
}

// colorName names a color of a generated site.
func colorName(i int) topology.Color {
	names := [...]topology.Color{"red", "green", "blue", "yellow"}
	if i < len(names) {
		return names[i]
	}
	return topology.Color(fmt.Sprintf("color%d", i+1))
}

// invalid is an error about what was handed in.
func invalid(op, hint, format string, args ...any) error {
	return &cell.Error{Op: "lab." + op, Kind: cell.Invalid, Detail: fmt.Sprintf(format, args...), Hint: hint}
}
