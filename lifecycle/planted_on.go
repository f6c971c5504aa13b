//go:build planted

package lifecycle

// Planted bugs: deliberate mistakes that the simulation must find, to prove that its checkers are alive.
var (
	plantedTrustSilence    bool // breaks rule 15: a seal whose answer was lost counts as chosen (hazard H15)
	plantedDropUnknown     bool // breaks rule 16: a node that no record explains is dropped (hazard H16)
	plantedForgetFoundings bool // breaks rule 4: a jury that was not confirmed before a restart is planned again (hazard H13)
	plantedBlindToColors   bool // breaks a hard constraint of placement: all servers of a brick count as one color
)

// Plant switches one bug on and returns how to switch it off again; nil when there is no bug of that name.
func Plant(name string) (undo func()) {
	bugs := map[string]*bool{
		"trust-silence":    &plantedTrustSilence,
		"drop-unknown":     &plantedDropUnknown,
		"forget-foundings": &plantedForgetFoundings,
		"blind-to-colors":  &plantedBlindToColors,
	}
	bug, ok := bugs[name]
	if !ok {
		return nil
	}
	*bug = true
	return func() { *bug = false }
}
