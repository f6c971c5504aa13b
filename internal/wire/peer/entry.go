package peer

import (
	"physalia/internal/must"
	"physalia/internal/wire"
	"physalia/paxos"
)

// AppendEntry adds an entry: the array [kind, command, command, ...], or [kind, change].
func AppendEntry(b []byte, e *paxos.Entry) []byte {
	if err := checkEntry(e.Kind, len(e.Commands), e.Size()); err != "" || (e.Kind == paxos.Reform) != (e.Change != nil) {
		must.That(false, "wire: entry of kind %d with %d commands of %d bytes: %s", e.Kind, len(e.Commands), e.Size(), err)
	}
	if e.Kind == paxos.Reform {
		return appendChange(append(wire.AppendArray(b, 2), byte(e.Kind)), e.Change)
	}
	b = wire.AppendArray(b, 1+len(e.Commands))
	b = append(b, byte(e.Kind))
	for _, c := range e.Commands {
		b = wire.AppendBytes(b, c)
	}
	return b
}

// checkEntry says what is wrong with an entry of that shape, or "". An entry without commands is a no-op or a seal.
func checkEntry(kind paxos.EntryKind, commands, size int) string {
	switch {
	case kind < paxos.NoOp || kind > paxos.Reform:
		return "kind is not known to this version"
	case (kind == paxos.Commands) != (commands > 0):
		return "commands do not go with the kind"
	case commands > CommandsMax:
		return "too many commands"
	case size > EntryBytesMax:
		return "too many bytes"
	}
	return ""
}

// DecodeEntry consumes an entry. The commands are copied out of the reader's buffer into one allocation of the right
// size; together with the slice of slices an entry costs two, a no-op or a seal none.
func DecodeEntry(r *wire.Reader, e *paxos.Entry) {
	*e = paxos.Entry{}
	n := r.Array(1+CommandsMax, "entry")
	if n == 0 {
		r.Fail("entry has no kind")
		return
	}
	n-- // the kind
	kind := paxos.EntryKind(r.Enum(uint8(paxos.Reform), "entry kind"))
	if r.Err() != nil {
		return
	}
	if kind == paxos.Reform {
		decodeReform(r, n, e)
		return
	}
	if err := checkEntry(kind, n, 0); err != "" {
		r.Fail("entry of kind %d with %d commands: %s", kind, n, err)
		return
	}
	e.Kind = kind
	if n == 0 {
		return
	}
	e.Commands = copyCommands(r, n)
}

// copyCommands reads n commands, first as views into the buffer to learn their sizes, then moves them out.
func copyCommands(r *wire.Reader, n int) [][]byte {
	commands := make([][]byte, n)
	size := 0
	for i := range commands {
		commands[i] = r.Bytes(EntryBytesMax-size, "command")
		size += len(commands[i])
	}
	if r.Err() != nil {
		return nil
	}
	data := make([]byte, 0, size)
	for i, c := range commands {
		start := len(data)
		data = append(data, c...)
		commands[i] = data[start:len(data):len(data)]
	}
	return commands
}

// AppendRecord adds a record: [slot, round, node, entry].
func AppendRecord(b []byte, rec *paxos.Record) []byte {
	b = wire.AppendArray(b, 4)
	b = wire.AppendUint(b, uint64(rec.Slot))
	b = appendBallot(b, rec.Ballot)
	return AppendEntry(b, &rec.Entry)
}

// DecodeRecord consumes a record; see DecodeEntry for what it allocates.
func DecodeRecord(r *wire.Reader, rec *paxos.Record) {
	r.Struct(4, "record")
	rec.Slot = paxos.Slot(r.Uint())
	rec.Ballot = ballot(r)
	DecodeEntry(r, &rec.Entry)
}

func appendRecords(b []byte, records []paxos.Record) []byte {
	must.That(len(records) <= RecordsMax, "wire: message has too many records")
	b = wire.AppendArray(b, len(records))
	for i := range records {
		b = AppendRecord(b, &records[i])
	}
	return b
}

// decodeRecords returns nil when there are none.
func decodeRecords(r *wire.Reader) []paxos.Record {
	n := r.Array(RecordsMax, "records")
	if n == 0 {
		return nil
	}
	records := make([]paxos.Record, n)
	for i := range records {
		if DecodeRecord(r, &records[i]); r.Err() != nil {
			return nil
		}
	}
	return records
}
