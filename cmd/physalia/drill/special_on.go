//go:build poison

package drill

// special lists the drills that only this build can carry out: its servers fall over where they are told to (machine.PoisonKey).
func special() []Drill { return []Drill{poisonDrill, fatalDrill, colorDrill} }
