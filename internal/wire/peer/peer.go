// Package peer holds the Paxos half of the wire and disk formats: frames between servers, ring records, rows and
// snapshots. It is apart from package wire so that a client's binary does not link Paxos.
//
// # On the wire
//
// A frame of the Paxos and bulk lanes holds a FrameHead and as many messages as it says, one behind the other. A message
// is one array: kind, cell, incarnation, configuration number, from, to, then the fields that its kind uses in the
// order of fieldsOf, then, now and then, the hash of the sender's state. A ballot is two elements, an entry is the array
// [kind, command, command, ...] or [kind, change], a record [slot, round, node, entry]. A heartbeat has a lane and a frame of its own.
//
// Frames carry a checksum (package wire), so a message that does not decode comes from a broken or foreign peer, and the
// connection ends with it. A kind without a meaning here is wire.ErrNotUnderstood.
//
// # On disk
//
// A stored thing is the format byte, the version byte, one positional MessagePack struct, and the CRC32C of all that:
//
//	'R' ring record   one accepted value with the hard state folded in
//	'H' row           the existence of a node on this server
//	'T' tombstone     the memory of a node that was dropped
//	'W' pointer       the memory of a node that left its cell
//	'P' snapshot      a cell's whole state in its Paxos envelope; also what MsgTeachAll carries, checksum included
//
// The checksum finds every flipped bit. What it cannot find is something whole in the wrong place, or a disk that forgot:
// that is the business of batch numbers (rule 8).
//
// # Memory
//
// Nothing decoded aliases its input, so frame buffers are reused. The commands of one entry share one allocation, which
// lives as long as any of them: an entry is stored, delivered and forgotten as a whole.
package peer

import (
	"physalia/cell"
	"physalia/paxos"
)

// Envelope says which cell a Paxos message is for (rule 10).
type Envelope struct {
	Cell          cell.ID
	Incarnation   cell.Incarnation
	Configuration paxos.ConfigurationNumber // the sender's newest; a difference is never a reason to drop

	// The hash of the sender's state as of HashSlot, attached to a message of any kind now and then (rule 19). It is not
	// there, and takes no bytes, when HashSlot is zero.
	HashSlot paxos.Slot
	Hash     uint64

	// Support is the sender's support epoch for the receiving server when it confirmed the message's ballot: on a
	// Promise, Accepted or Confirmed, and only while support was given (rule 12). Zero takes no bytes.
	Support Epoch

	Moved *paxos.Configuration // KindMoved: where the cell went
}

// RingRecord is what one ring position holds on disk: the accepted record with the hard state folded in.
type RingRecord struct {
	Record   paxos.Record
	Promised paxos.Ballot
	Applied  paxos.Slot // applied through, when the record was written (rule 5)
}

// Row is a node's existence on disk: identity, configuration and lower bounds (rule 7).
type Row struct {
	Cell          cell.ID
	Incarnation   cell.Incarnation
	Node          paxos.NodeNumber
	Learner       bool         // created as a learner: without a stored state it is untaught, and Configuration is whom to ask
	Promised      paxos.Ballot // at least; ring records may carry a higher one
	Sealed        bool
	Quarantined   string // why, empty when the node is well
	Founding      uint64 // hash of the founding that the node was created by; zero: it was not founded
	Configuration paxos.Configuration
}

// Pointer stays when a node has left its cell (rule 11): where the cell lives now, and what must never be created here again.
type Pointer struct {
	Cell          cell.ID
	Incarnation   cell.Incarnation
	Node          paxos.NodeNumber     // the number that left; no number up to it is created here again
	Founding      uint64               // Row.Founding of the first node of this incarnation here
	Born          uint64               // age of the data directory in minutes of service when the node left
	Configuration *paxos.Configuration // the newest known here; nil once it was forgotten, for age or for lack of room
}

// NodeName tells whose row a handle is, beside the row.
type NodeName struct {
	Cell        cell.ID
	Incarnation cell.Incarnation
	Node        paxos.NodeNumber
}

// Tombstone stays when a node is dropped: no incarnation of the cell up to this one is created here again.
type Tombstone struct {
	Cell        cell.ID
	Incarnation cell.Incarnation
}
