//go:build !planted

package core

// plantedAckEarly exists only under the build tag "planted".
const plantedAckEarly = false
