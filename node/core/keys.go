package core

import (
	"encoding/binary"

	"physalia/cell"
	"physalia/node/storage"
)

// Handle is the local name of a node in its data directory. Handles are never reused there, so a node that moves away and
// back finds nothing of its former life (rule 11, hazard H19).
type Handle uint64

// The kinds of keys. The kind byte precedes the handle, so that the restart scan reads one dense range of rows and never
// steps over rings. Key 0x00 and what follows belong to package storage.
const (
	keyRow       = 'h' // + handle: peer.Row
	keyName      = 'n' // + handle: peer.NodeName, whose row it is; read when the row cannot be
	keyRing      = 'l' // + handle + position: peer.RingRecord
	keyState     = 's' // + handle: paxos.Snapshot
	keyTombstone = 't' // + cell name: peer.Tombstone
	keyHandles   = 'm' // the next handle to issue, with its checksum
	keyMemory    = 'p' // + server identity: peer.Memory
	keyPeriod    = 'q' // the longest support period that was ever configured in this directory
	keyLives     = 'b' // peer.Life: the openings of this directory
	keyPointer   = 'w' // + cell name: peer.Pointer
	keyAge       = 'a' // minutes of service, while there are pointers
)

// Rows of the journal (journal.go) stand behind the lives: in a range that the restart scan of every build reads, so that one from before
// there was a journal refuses to start while there are any, and does not vote without them.
const keyJournal = keyLives // + batch number: peer.DecodeJournal

// journalKey appends the key of a turn's row.
func journalKey(b []byte, n storage.BatchNumber) []byte {
	return binary.BigEndian.AppendUint64(append(b, keyJournal), uint64(n))
}

// journalRange covers the rows from one batch on, up to another.
func journalRange(from, to storage.BatchNumber) storage.Range {
	return storage.Range{Start: journalKey(nil, from), End: journalKey(nil, to)}
}

// handleKey appends the key of a node's row or state. Handles are big-endian, so keys sort like handles.
func handleKey(b []byte, kind byte, h Handle) []byte {
	return binary.BigEndian.AppendUint64(append(b, kind), uint64(h))
}

// ringKey appends the key of one ring position, which is the slot modulo Config.Window: writing it is what overwrites the
// slot one window before, so the ring needs no deletes.
func ringKey(b []byte, h Handle, position int) []byte {
	return binary.BigEndian.AppendUint16(handleKey(b, keyRing, h), uint16(position))
}

// tombstoneKey appends the key of a cell's tombstone: by name, since it outlives every handle.
func tombstoneKey(b []byte, id cell.ID) []byte { return append(append(b, keyTombstone), id...) }

// pointerKey appends the key of what is kept of a node that left, by name for the same reason.
func pointerKey(b []byte, id cell.ID) []byte { return append(append(b, keyPointer), id...) }

// handleRange covers every key of one kind and handle.
func handleRange(kind byte, h Handle) storage.Range {
	return storage.Range{Start: handleKey(nil, kind, h), End: handleKey(nil, kind, h+1)}
}

// kindRange covers every key of one kind.
func kindRange(kind byte) storage.Range {
	return storage.Range{Start: []byte{kind}, End: []byte{kind + 1}}
}
