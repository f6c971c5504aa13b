//go:build !planted

package machine

// Planted bugs exist only under the build tag "planted"; here they are constants that the compiler removes.
const (
	plantedNoFloor     = false
	plantedBlindExpiry = false
)
