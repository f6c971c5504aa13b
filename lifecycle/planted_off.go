//go:build !planted

package lifecycle

// Planted bugs exist only under the build tag "planted"; here they are constants that the compiler removes.
const (
	plantedTrustSilence    = false
	plantedDropUnknown     = false
	plantedForgetFoundings = false
	plantedBlindToColors   = false
)
