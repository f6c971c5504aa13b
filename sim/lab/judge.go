package lab

import (
	"fmt"
	"slices"
)

// Flaw is a single loss that costs cells more than it may.
type Flaw struct {
	What  string // for example "rack b01/r02"
	Cells []int  // that lose their majority with it, and should not
}

// String shows a flaw in one line.
func (f Flaw) String() string {
	return fmt.Sprintf("%s takes the majority of %d cells", f.What, len(f.Cells))
}

// It costs a walk over all cells for each unit and, with overlap, for each cell: it is for tests and small colonies. WhatIf is for large ones.
//
// Judge finds what is wrong with a fleet by brute force, from the site alone: every rack, power domain and server is taken down on its
// own, and so is every color, which may cost only its own cells; then every cell is poisoned, and its servers may cost no other
// cell the majority. It asks placement nothing. overlap false leaves the last question out: beyond the overlap limit it has no good answer.
func Judge(site *Site, fleet *Fleet, overlap bool) []Flaw {
	var flaws []Flaw
	state := NewState(site)
	for _, l := range [...]Level{LevelServer, LevelRack, LevelPower, LevelColor} {
		for u := range site.Len(l) {
			state.Heal()
			for _, s := range site.Servers(l, u) {
				state.FailServer(s)
			}
			flaws = note(flaws, fmt.Sprintf("%s %s", l, site.UnitName(l, u)), lostTo(site, state, fleet, l, u))
		}
	}
	if !overlap {
		return flaws
	}
	for c := range fleet.Len() {
		state.Heal()
		for _, m := range fleet.Jury(c) {
			state.FailServer(int32(m))
		}
		lost := lostTo(site, state, fleet, LevelServer, -1)
		lost = slices.DeleteFunc(lost, func(other int) bool { return other == c })
		flaws = note(flaws, fmt.Sprintf("poison in cell %d", c), lost)
	}
	return flaws
}

// lostTo lists the cells without a majority. A color may cost the cells that are all of it, and must not touch any other: of these,
// who loses a single member is listed.
func lostTo(site *Site, state *State, fleet *Fleet, l Level, unit int) (lost []int) {
	for c := range fleet.Len() {
		jury := fleet.Jury(c)
		alive := state.alive(jury)
		if l == LevelColor {
			if alive > 0 && alive < len(jury) {
				lost = append(lost, c)
			}
			continue
		}
		if alive < majority(len(jury)) {
			lost = append(lost, c)
		}
	}
	return lost
}

func note(flaws []Flaw, what string, lost []int) []Flaw {
	if len(lost) == 0 {
		return flaws
	}
	return append(flaws, Flaw{what, lost})
}
