package peer

import (
	"physalia/cell"
	"physalia/internal/wire"
	"physalia/paxos"
)

// Bounds of everything in this package. Decoders refuse what is beyond them before they allocate for it; encoders panic
// with a *must.Violation, because a peer would close the connection over it, or a restart would find it unreadable.
const (
	CommandsMax        = 1024                           // commands of one entry
	EntryBytesMax      = 256 << 10                      // paxos.Entry.Size of one entry
	RecordsMax         = 64                             // records of one message
	MembersMax         = paxos.JuryMax                  // members of a configuration
	StateBytesMax      = 1 << 20                        // paxos.Snapshot.State
	FrameMessagesMax   = 1 << 16                        // messages of one frame
	ServerBytesMax     = paxos.ServerBytesMax           // a server identity
	CellBytesMax       = cell.IDBytesMax                // a cell's name
	QuarantineBytesMax = wire.DetailBytesMax            // Row.Quarantined; longer texts are cut when encoded
	commandOverheadMax = 5                              // head of one encoded command
	recordOverheadMax  = 3*9 + 2*5                      // heads and numbers of one encoded record
	messageOverheadMax = 1024 + CellBytesMax            // everything of a message but its records and its snapshot's state
	configBytesMax     = 256 + 2*20*(ServerBytesMax+20) // two encoded configurations
)

// Sizes that follow from the bounds, in bytes. MessageBytesMax, the size of a Promise or Teach with RecordsMax records of
// the largest size, is more than wire.PeerFrameMax: whoever collects records stops where the frame is full. A single
// entry or a snapshot always fits.
const (
	EntryEncodedMax  = EntryBytesMax + CommandsMax*commandOverheadMax + recordOverheadMax
	MessageBytesMax  = messageOverheadMax + RecordsMax*(EntryEncodedMax+recordOverheadMax)
	SnapshotBytesMax = messageOverheadMax + configBytesMax + StateBytesMax

	packedStateBytesMax = StateBytesMax + 64 // what cannot be packed grows by some bytes
)
