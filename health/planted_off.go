//go:build !planted

package health

// Planted bugs exist only under the build tag "planted"; here they are constants that the compiler removes.
const plantedImpatience = false
