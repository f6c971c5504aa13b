//go:build !planted

package placement

// Planted bugs exist only under the build tag "planted"; here they are constants that the compiler removes.
const (
	plantedCrowdedPower  = false
	plantedIgnoreOverlap = false
)
