package paxos

// EntryKind says what a slot holds. The numbers are part of the wire and disk formats and never change.
type EntryKind uint8

// The kinds of an entry.
const (
	NoOp     EntryKind = 1 // fills a hole
	Commands EntryKind = 2 // opaque commands of the host, in order
	Seal     EntryKind = 3 // the last entry of an incarnation: nothing is proposed behind it (rule 15)
	Reform   EntryKind = 4 // one change of the configuration
)

// Entry is the value that Paxos decides for one slot. It is immutable once handed to or received from a Replica.
type Entry struct {
	Kind     EntryKind
	Commands [][]byte // Commands only
	Change   *Change  // Reform only
}

// Equal reports whether two entries are the same value.
func (e Entry) Equal(f Entry) bool {
	if e.Kind != f.Kind || len(e.Commands) != len(f.Commands) || (e.Change == nil) != (f.Change == nil) {
		return false
	}
	if e.Change != nil && *e.Change != *f.Change {
		return false
	}
	for i := range e.Commands {
		if string(e.Commands[i]) != string(f.Commands[i]) {
			return false
		}
	}
	return true
}

// Size is the sum of the commands' lengths in bytes.
func (e Entry) Size() int {
	n := 0
	for _, c := range e.Commands {
		n += len(c)
	}
	return n
}

// MessageKind tells what a Message says. The numbers are part of the wire format and never change.
type MessageKind uint8

// The kinds of a message; each names the fields of Message that it uses beside From and To.
const (
	MsgPrepare   MessageKind = 1  // Ballot, Slot: asks a promise for every slot from Slot on
	MsgPromise   MessageKind = 2  // Ballot, Slot (echo), Through, Floor, Records: promises, and tells what was accepted
	MsgNack      MessageKind = 3  // Ballot: the higher ballot that was promised
	MsgAccept    MessageKind = 4  // Ballot, Slot, Entry, Through: asks to accept; certifies chosen-through
	MsgAccepted  MessageKind = 5  // Ballot, Slot, Through: accepted, durably; everything up to Through is held here, durably, which learners and members of an unsettled jury say
	MsgChosen    MessageKind = 6  // Ballot, Through: everything up to Through is chosen
	MsgConfirm   MessageKind = 7  // Ballot, Number: is Ballot still the highest you promised? (quorum-confirmed read)
	MsgConfirmed MessageKind = 8  // Ballot, Number: it is, durably
	MsgLearn     MessageKind = 9  // Slot: teach me from Slot on; zero: I know nothing, teach me the whole state
	MsgTeach     MessageKind = 10 // Records, Through: chosen records, contiguous from the asked slot; Through is the teacher's applied slot
	MsgTeachAll  MessageKind = 11 // Snapshot: the whole state, for a pupil whose slots the teacher holds only as state
	MsgAhead     MessageKind = 12 // Ballot (promised), Through: your slot is chosen here already; learn from me (rule 6)
	MsgBehind    MessageKind = 13 // Ballot, Slot: your Accept was refused, its ring position is still needed here; Slot is my first open slot
	MsgResign    MessageKind = 14 // Ballot, Number: the owner of Ballot gave it up for good; Number is the node that should campaign, or zero
)

// Record is what a member holds for one slot: the entry it accepted last, and in which ballot.
type Record struct {
	Slot   Slot
	Ballot Ballot
	Entry  Entry
}

// Message is one Paxos message between two members of one cell and incarnation. The host adds cell, incarnation and
// configuration number to the envelope and drops what is not for this cell (rule 10).
type Message struct {
	Kind     MessageKind
	From, To NodeNumber
	Ballot   Ballot
	Slot     Slot
	Through  Slot   // chosen-through or applied-through, see the kinds
	Floor    Slot   // MsgPromise: slots up to Floor are held only as state; nothing is promised for them (rule 6)
	Number   uint64 // MsgConfirm, MsgConfirmed: fresh request number; MsgResign: the heir's node number
	Entry    Entry
	Records  []Record
	Snapshot *Snapshot

	spared voters // with To zero: who need not get it, see Spares; it stays here
}

// Snapshot is a cell's whole state after one slot, with everything that Paxos needs to go on from there. Paxos owns the
// envelope, the host owns State (rule 2).
type Snapshot struct {
	Applied       Slot
	Sealed        bool
	Configuration Configuration  // in force for slot Applied+1
	Pending       *Configuration // chosen at or before Applied, in force from its Since on; nil when there is none (hazard H21)
	State         []byte
	Hash          uint64 // of State, by the host's state machine
}
