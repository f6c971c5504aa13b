//go:build !planted

package core

// Planted bugs exist only under the build tag "planted"; here they are constants that the compiler removes.
const (
	plantedAckEarly      = false
	plantedUnreadRing    = false
	plantedBlindColdVote = false
	plantedForgetful     = false
	plantedCutJournal    = false
	plantedLoosePromise  = false
	plantedOlderWins     = false
	plantedSkipUnknown   = false
	plantedAnyEpoch      = false
	plantedOneWayBeats   = false
	plantedBlindKeeping  = false
	plantedPromiseAnyone = false
)
