//go:build !planted

package blockstore

// Planted bugs exist only under the build tag "planted"; here they are constants that the compiler removes.
const (
	plantedAckEarly          = false
	plantedUnprovenRead      = false
	plantedDirtyRead         = false
	plantedLowerFence        = false
	plantedEarlyReplica      = false
	plantedAloneTooLong      = false
	plantedServeAfterRestart = false
	plantedBelieveUnknown    = false
	plantedForgetWriters     = false
	plantedReplicaAnswers    = false
)
