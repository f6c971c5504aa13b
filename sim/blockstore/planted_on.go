//go:build planted

package blockstore

// Planted bugs: deliberate mistakes, each one that a block store has been written with, to prove that the checkers are alive.
var (
	plantedAckEarly          bool // breaks B3: a write is acknowledged before the replica has it
	plantedUnprovenRead      bool // breaks B6: a read is served without asking the replica
	plantedDirtyRead         bool // breaks B3: a read shows what the replica does not have yet
	plantedLowerFence        bool // breaks B5: a copy obeys a primary of a lower fence
	plantedEarlyReplica      bool // breaks B4: a replica counts before it is full
	plantedAloneTooLong      bool // breaks B3: a primary goes on alone while its proposal of a replica is open
	plantedServeAfterRestart bool // breaks B2: a restarted primary serves under its old fence
	plantedBelieveUnknown    bool // breaks B1: a promotion of unknown outcome counts as done
	plantedForgetWriters     bool // breaks B7: a repeated write takes effect again
	plantedReplicaAnswers    bool // breaks B1: a replica answers reads, too
)

// Plant switches one bug on and returns how to switch it off again; nil when there is no bug of that name.
func Plant(name string) (undo func()) {
	bugs := map[string]*bool{
		"ack-before-replica":      &plantedAckEarly,
		"read-without-proof":      &plantedUnprovenRead,
		"read-before-replica":     &plantedDirtyRead,
		"accept-lower-fence":      &plantedLowerFence,
		"replica-before-full":     &plantedEarlyReplica,
		"alone-while-proposing":   &plantedAloneTooLong,
		"serve-after-restart":     &plantedServeAfterRestart,
		"believe-unknown-promote": &plantedBelieveUnknown,
		"forget-writers":          &plantedForgetWriters,
		"replica-answers-reads":   &plantedReplicaAnswers,
	}
	bug, ok := bugs[name]
	if !ok {
		return nil
	}
	*bug = true
	return func() { *bug = false }
}
