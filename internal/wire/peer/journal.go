package peer

import (
	"encoding/binary"
	"fmt"

	"physalia/internal/must"
	"physalia/paxos"
)

// A row of the journal holds the ring records that the nodes of a server wrote in one turn, each behind the local name of its node and
// its length: a format byte, a version byte, (name, 8 bytes; length, 4 bytes; the record in its stored form) any number of times,
// and the CRC32C of all of that, all big-endian. The sum is of the whole row, since a record says nothing of whose it is.
const journaledOverhead = 8 + 4

// AppendJournaled adds a node's ring record to a row, and begins the row when b is empty.
func AppendJournaled(b []byte, node uint64, rec *RingRecord) []byte {
	if len(b) == 0 {
		b = append(b, formatJournal, storedVersion)
	}
	b = binary.BigEndian.AppendUint64(b, node)
	at := len(b)
	b = AppendRingRecord(append(b, 0, 0, 0, 0), rec)
	binary.BigEndian.PutUint32(b[at:], uint32(len(b)-at-4))
	return b
}

// RingPlace reads of a ring record in its stored form what tells which of two is the newer one. The entry is not looked at, and may be one
// that only a later version understands.
func RingPlace(b []byte) (paxos.Slot, paxos.Ballot, error) {
	const op = "peer.RingPlace"
	r, err := body(op, formatRing, b)
	if err != nil {
		return 0, paxos.Ballot{}, err
	}
	r.Struct(4, "ring record")
	r.Struct(4, "record")
	slot, of := paxos.Slot(r.Uint()), ballot(&r)
	if r.Err() != nil {
		return 0, paxos.Ballot{}, damaged(op, "in the body, "+r.Err().Error())
	}
	return slot, of, nil
}

// FinishJournal ends a row that AppendJournaled began.
func FinishJournal(b []byte) []byte {
	must.That(len(b) > 2, "a row of the journal without a record")
	return appendSum(b, 0)
}

// DecodeJournal calls each for every record of a row, in order; stored aliases b, and is what RingPlace and DecodeRingRecord read. It ends with the
// first error of each. Its own wraps ErrDamaged or ErrUnknownVersion: then nobody knows whose records are lost.
func DecodeJournal(b []byte, each func(node uint64, stored []byte) error) error {
	const op = "peer.DecodeJournal"
	if _, err := body(op, formatJournal, b); err != nil {
		return err
	}
	if len(b) == storedOverhead {
		return damaged(op, "there is no record")
	}
	for b = b[2 : len(b)-4]; len(b) > 0; {
		if len(b) < journaledOverhead {
			return damaged(op, fmt.Sprintf("%d bytes behind the last record", len(b)))
		}
		node, size := binary.BigEndian.Uint64(b), binary.BigEndian.Uint32(b[8:])
		b = b[journaledOverhead:]
		if uint64(size) > uint64(len(b)) {
			return damaged(op, fmt.Sprintf("a record of %d bytes in the last %d", size, len(b)))
		}
		if err := each(node, b[:size:size]); err != nil {
			return err
		}
		b = b[size:]
	}
	return nil
}
