// Package thin is the thinnest protocol that a key-value service over TCP can have: length-prefixed frames, requests that are answered
// in any order, and a client that remembers who leads which group. The Raft libraries come without a client and a server; this one
// costs them less than a real one would.
//
// A request is: number (8 bytes), operation (1), group (4), length of the key (2), key, value. An answer is: number (8), status (1), and
// the value, the leader's index (1 byte), or an error's text.
package thin

// The operations.
const (
	OpPut = 1
	OpGet = 2
)

// The statuses of an answer.
const (
	OK        = 0 // with the value read
	Absent    = 1 // the key does not exist
	NotLeader = 2 // nothing was done; with the index of the server to ask, or NoLeader
	Failed    = 3 // with a text; a write may have happened
)

// NoLeader stands for an unknown leader.
const NoLeader = 255

// FrameMax bounds a frame, checked before it is allocated.
const FrameMax = 16 << 20
