package sim

import (
	"fmt"
	"slices"
	"strings"
	"time"
)

// Scenario is a narrower swarm: it draws from some of the patterns of faults only.
type Scenario struct {
	Name  string
	About string
	only  []string // names of patterns; nil: all
	// control says that every schedule has a control plane.
	control bool
	// site says that every schedule is one of failures that belong together, on a site of its own.
	site bool
	// cold says that in every schedule nodes go cold as soon as nobody speaks to them.
	cold bool
}

// Scenarios are all of them; the first is the default.
func Scenarios() []Scenario {
	return []Scenario{
		{"swarm", "everything but a control plane of its own", nil, false, false, false},
		{"calm", "weather and knobs, but no faults", []string{}, false, false, false},
		{"crashes", "servers, racks and power domains die and lose what they had not synced", []string{"crash", "ambush", "power cut", "rack loss",
			"domain loss", "broken disk", "forgetting", "thin quorum", "slow disk"}, false, false, false},
		{"partitions", "links are cut: one way, partly, by lane, around racks, towards clients", []string{"cut", "deafen", "isolate", "rack cut",
			"lane cut", "pause", "client cut", "rivals", "late answers"}, false, false, false},
		{"disks", "disks are slow, stall, fill up, break, and lose or change what they hold", []string{"slow disk", "stalled disk", "full disk", "broken disk", "rollback",
			"swap", "wipe", "flip", "poison", "crash", "forgetting"}, false, false, false},
		{"elections", "rivals for the same cells, late messages, thin quorums", []string{"duel", "hand over", "rivals", "late answers", "thin quorum", "pause", "ambush", "stormy", "struck campaign"}, false, false, false},
		{"cold", "as elections, and nodes go cold at once, so most of those that are asked for a promise answer from their rows", []string{"duel", "hand over", "rivals",
			"late answers", "thin quorum", "pause", "ambush", "stormy", "struck campaign", "crash", "isolate", "forgetting"}, false, false, true},
		{"moves", "members are replaced while servers die, disks break and managers disagree", []string{"move", "struck move", "procession", "crash",
			"isolate", "flip", "wipe", "duel", "hand over", "no control", "lossy"}, false, false, false},
		{"clients", "clients lose replies, are cut off or stand still; discovery is away", []string{"lost replies", "client cut", "client pause",
			"no control", "duel", "lossy", "seal in trouble"}, false, false, false},
		{"leases", "holders of locks reach a proposer that nobody else hears", []string{"stale keeper", "client pause", "rivals"}, false, false, false},
		{"expiries", "renewals of leases race with their expiry", []string{"slow expiry"}, false, false, false},
		{"reads", "two proposers that do not hear each other, each with clients of its own", []string{"two proposers"}, false, false, false},
		{"retries", "clients ask again when the cell has forgotten", []string{"late retry"}, false, false, false},
		{"volumes", "a block store whose machines do not hear each other", []string{"busy store", "isolate", "cut", "client pause"}, false, false, false},
		{"deaf", "proposers that hear nobody", []string{"deaf proposer"}, false, false, false},
		{"control", "everything, and a control plane that dies, doubles and loses its store", nil, true, false, false},
		{"correlated", "racks, power domains, colors, bricks and whole juries are lost together, on a site with a control plane", nil, false, true, false},
	}
}

// ScenarioNamed finds a scenario; the empty name is the default.
func ScenarioNamed(name string) (Scenario, error) {
	var names []string
	for _, s := range Scenarios() {
		if s.Name == name || name == "" {
			return s, nil
		}
		names = append(names, s.Name)
	}
	return Scenario{}, fmt.Errorf("sim: no scenario is called %q; there are %s", name, strings.Join(names, ", "))
}

// Draw makes a schedule of the scenario.
func (s Scenario) Draw(source Source) Schedule {
	if s.site {
		return drawSite(source)
	}
	if s.control {
		p := Draw(source)
		giveControl(source, &p)
		return p
	}
	if s.only == nil {
		return Draw(source)
	}
	p := drawFrom(source, slices.DeleteFunc(slices.Clone(patterns), func(p pattern) bool { return !slices.Contains(s.only, p.name) }))
	if s.cold {
		p.Cramped, p.Idle = true, 30*time.Millisecond+ms(source, "idle", 300)
	}
	return p
}
