package lab

import (
	"cmp"
	"math/rand/v2"
	"slices"
)

// Process is a kind of failure that comes again and again, independently at every unit of one level.
type Process struct {
	Level    string  `json:"level"`    // "server", "rack", "power", "brick", "color", "device", or "poison": one volume's command that stops every member that applies it
	PerYear  float64 `json:"per_year"` // of one unit; of the whole site for poison
	Hours    float64 `json:"hours"`    // mean duration; exponential
	Together float64 `json:"together"` // the chance that a server of the unit is hit when the unit is: the correlation. Devices are hit whole
}

// levelPoison is a failure that follows the command, not the machine.
const levelPoison = "poison"

// outage is one failure.
type outage struct {
	start, end float64 // hours
	level      Level
	poison     bool
	unit       int32
	servers    []int32 // hit
}

// hoursPerYear is what rates per year are divided by.
const hoursPerYear = 8760

// Failures that began before the first hour are left out: with durations of hours and a year to play they are few, and the same for all that is
// compared.
//
// trace draws all failures of some hours. Of poison there is one unit per volume.
func trace(s *Site, processes []Process, hours float64, volumes int, rng *rand.Rand) []outage {
	var out []outage
	for _, p := range processes {
		level, ok := levelNamed(p.Level)
		poison := p.Level == levelPoison
		if !ok && !poison {
			continue // Check of the parameters is a test: they are constants
		}
		units, rate := s.Len(level), p.PerYear/hoursPerYear
		if poison {
			units = 1
		}
		for u := range units {
			for at := rng.ExpFloat64() / rate; at < hours; at += rng.ExpFloat64() / rate {
				o := outage{start: at, end: at + rng.ExpFloat64()*p.Hours, level: level, poison: poison, unit: int32(u)}
				if poison {
					o.unit = int32(rng.IntN(volumes))
				} else {
					o.servers = hit(s.Servers(level, u), p.Together, rng)
				}
				out = append(out, o)
			}
		}
	}
	slices.SortStableFunc(out, func(a, b outage) int { return cmp.Compare(a.start, b.start) })
	return out
}

// hit chooses the servers of a unit that fail with it.
func hit(all []int32, together float64, rng *rand.Rand) []int32 {
	if together >= 1 {
		return all
	}
	var out []int32
	for _, s := range all {
		if rng.Float64() < together {
			out = append(out, s)
		}
	}
	return out
}

// strike puts an outage into force, or ends it.
func (t *State) strike(o *outage, begins bool) {
	switch {
	case o.poison:
	case o.level == LevelDevice && begins:
		t.FailDevice(o.unit)
	case o.level == LevelDevice:
		t.HealDevice(o.unit)
	}
	for _, s := range o.servers {
		if begins {
			t.FailServer(s)
		} else {
			t.HealServer(s)
		}
	}
}

// moment is the beginning or the end of an outage.
type moment struct {
	at     float64
	outage int
	begins bool
}

// Where an end and a beginning fall together, the order of the outages decides, so that a trace is played in one way only.
//
// moments orders the beginnings and ends of outages; those that end after the last hour do not end.
func moments(all []outage, hours float64) []moment {
	var out []moment
	for i := range all {
		out = append(out, moment{all[i].start, i, true})
		if all[i].end < hours {
			out = append(out, moment{all[i].end, i, false})
		}
	}
	slices.SortStableFunc(out, func(a, b moment) int { return cmp.Compare(a.at, b.at) })
	return out
}
