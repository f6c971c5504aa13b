//go:build !poison

package drill

// special lists the drills that only a build for trials can carry out: none in this one.
func special() []Drill { return nil }
