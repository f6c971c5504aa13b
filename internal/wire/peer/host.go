package peer

import "physalia/paxos"

// The kinds of a message between hosts, which no replica ever sees. They travel like messages of Paxos, in the same frames
// and under the same envelope. The numbers are part of the wire format; those of paxos stay below.
const (
	KindMoved   paxos.MessageKind = 100 // Envelope.Moved: the node that you asked has left; this is the cell's configuration (rule 11)
	KindVouch   paxos.MessageKind = 101 // Envelope.HashSlot, Hash: I was taught this; is it so? (rule 19)
	KindVouched paxos.MessageKind = 102 // Slot, Through: the answer for Slot of one who applied Through; Envelope.Hash is its own, HashSlot zero when it knows none
	KindStands  paxos.MessageKind = 103 // Ballot, Number: I stand by this ballot of yours; are you there? (rule 12)
	KindAbsent  paxos.MessageKind = 104 // Number: no node that you asked for is here
)

// hostFields says what each of these kinds carries beside the head, in their order.
var hostFields = [...]fields{hasMoved, 0, hasSlot | hasThrough, hasBallot | hasNumber, hasNumber}
