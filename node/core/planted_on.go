//go:build planted

package core

// Planted bugs: deliberate mistakes that the simulation must find, to prove that its checkers are alive.
var (
	plantedAckEarly      bool // breaks rule 1: votes leave before they are durable
	plantedBlindColdVote bool // breaks rule 7: a cold node promises as if it had accepted nothing beyond what it applied
	plantedUnreadRing    bool // breaks rule 7: a node that is loaded answers from its row and state, its ring unread (hazard H11)
	plantedForgetful     bool // breaks rule 8: nobody compares what the disk holds with what peers remember (hazard H10)
	plantedCutJournal    bool // breaks rule 7: segments are deleted although nodes have records in them
	plantedLoosePromise  bool // breaks rule 7: a promise goes with the records that carried it
	plantedOlderWins     bool // breaks rule 7: what stands in the journal is moved to a ring that has something newer
	plantedSkipUnknown   bool // breaks rule 9: a command that is not understood is skipped
	plantedAnyEpoch      bool // breaks rule 12: support that healed counts like support that never ended (hazards H1, H2)
	plantedPromiseAnyone bool // breaks rule 12: a member promises others while its server supports the proposer's
	plantedOneWayBeats   bool // breaks rule 13: heartbeats that arrive are enough, no round trip is proven (hazard H9)
	plantedBlindKeeping  bool // breaks rule 18: keep-alives are answered from memory without a read lease (hazard H18)
)

// Plant switches one bug on and returns how to switch it off again; nil when there is no bug of that name.
func Plant(name string) (undo func()) {
	bugs := map[string]*bool{
		"ack-before-durable":           &plantedAckEarly,
		"cold-vote-blind":              &plantedBlindColdVote,
		"unread-ring":                  &plantedUnreadRing,
		"forgetful-disk":               &plantedForgetful,
		"cut-journal":                  &plantedCutJournal,
		"loose-promise":                &plantedLoosePromise,
		"older-wins":                   &plantedOlderWins,
		"skip-unknown-command":         &plantedSkipUnknown,
		"lease-of-any-epoch":           &plantedAnyEpoch,
		"promise-while-supporting":     &plantedPromiseAnyone,
		"support-without-round-trip":   &plantedOneWayBeats,
		"keep-alive-without-own-lease": &plantedBlindKeeping,
	}
	bug, ok := bugs[name]
	if !ok {
		return nil
	}
	*bug = true
	return func() { *bug = false }
}
