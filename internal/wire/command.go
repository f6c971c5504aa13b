package wire

import "physalia/cell"

// The format and version bytes of what is logged and stored.
const (
	commandFormat, commandVersion     = 'C', 1
	cellStateFormat, cellStateVersion = 'S', 1
)

// entriesMax bounds the entries of one CellState: what fits into a cell when keys have one byte and values none.
const entriesMax = cell.CellBytesMax / (cell.KeyOverheadBytes + 1)

// Command is what a cell's log carries for the state machine: one transaction of one client. (No-ops, seals and
// configuration changes are entries of Paxos, not commands.) Its encoding starts with the format byte 'C' and a
// version; a reader that does not fully understand a command must refuse it and stop as failed, never skip it (rule 9).
type Command struct {
	Request cell.Request
	Txn     cell.Txn
}

// CellState is the whole state of a cell's machine, the content of paxos.Snapshot.State. Its encoding starts with the
// format byte 'S' and a version, and is canonical: equal states have equal bytes.
type CellState struct {
	Revision   cell.Revision
	Entries    []cell.Entry  // ordered by key
	Floor      cell.Revision // results at or below this revision may have been forgotten
	Remembered []Remembered  // ordered by revision
}

// Remembered is the recorded outcome of one transaction, for exactly-once results (rule 14). Err is set when the
// transaction was aborted; then Result holds only the revision.
type Remembered struct {
	Client   cell.ClientID
	Sequence uint64
	Result   cell.TxnResult
	Err      *cell.Error
}

// Append adds 'C', the version, and [request identity, transaction].
func (m *Command) Append(b []byte) []byte {
	b = AppendIdentity(AppendArray(append(b, commandFormat, commandVersion), 2), &m.Request)
	return AppendTxn(b, &m.Txn)
}

// Decode reads a command and refuses every encoding but the one that Append makes.
func (m *Command) Decode(r *Reader) {
	was := r.canonical
	r.canonical = true
	r.Format(commandFormat, commandVersion, "command")
	r.Struct(2, "command")
	DecodeIdentity(r, &m.Request)
	DecodeTxn(r, &m.Txn)
	r.canonical = was
}

// DecodeCommand reads a command from the log. Any error means that the node must stop as failed (rule 9): it is a
// *cell.Error of kind Quarantined; errors.Is(err, ErrNotUnderstood) tells a command of a newer version from damage.
func DecodeCommand(buf []byte) (Command, error) {
	var m Command
	r := NewReader(buf)
	m.Decode(&r)
	if err := r.Done(); err != nil {
		return Command{}, decodeError(cell.Quarantined, (*Command)(nil), err, stopHint)
	}
	return m, nil
}

// Append adds 'S', the version, and [revision, entries, floor, remembered].
func (m *CellState) Append(b []byte) []byte {
	b = AppendUint(AppendArray(append(b, cellStateFormat, cellStateVersion), 4), uint64(m.Revision))
	b = AppendUint(appendEntries(b, m.Entries), uint64(m.Floor))
	return appendList(b, m.Remembered)
}

// Decode reads a state and refuses every encoding but the one that Append makes, and lists out of order.
func (m *CellState) Decode(r *Reader) {
	was := r.canonical
	r.canonical = true
	r.Format(cellStateFormat, cellStateVersion, "cell state")
	r.Struct(4, "cell state")
	m.Revision = cell.Revision(r.Uint())
	m.Entries = decodeEntries(r, entriesMax)
	m.Floor = cell.Revision(r.Uint())
	m.Remembered = decodeList[Remembered](r, cell.WindowMax, rememberedBytesMin, "remembered results")
	r.canonical = was
	for i := 1; i < len(m.Entries); i++ {
		if m.Entries[i-1].Key >= m.Entries[i].Key {
			r.Fail("entry %d is not above the one before in key order", i)
			return
		}
	}
	for i := 1; i < len(m.Remembered); i++ {
		if m.Remembered[i-1].Result.Revision > m.Remembered[i].Result.Revision {
			r.Fail("remembered result %d is below the one before in revision", i)
			return
		}
	}
}

// DecodeCellState reads a state. Errors are those of DecodeCommand.
func DecodeCellState(buf []byte) (CellState, error) {
	var m CellState
	r := NewReader(buf)
	m.Decode(&r)
	if err := r.Done(); err != nil {
		return CellState{}, decodeError(cell.Quarantined, (*CellState)(nil), err, stopHint)
	}
	return m, nil
}

// stopHint is what to do about a command or state that cannot be read.
const stopHint = "this node must stop and be kept for inspection; run the newest version of the colony here, or replace the node"

// rememberedBytesMin is the least encoding of a Remembered: array, client, sequence, result, no error.
const rememberedBytesMin = 1 + 18 + 1 + 5 + 1

// Append adds [client, sequence, result, error].
func (m *Remembered) Append(b []byte) []byte {
	b = AppendUint(AppendBytes(AppendArray(b, 4), m.Client[:]), m.Sequence)
	return AppendError(AppendTxnResult(b, &m.Result), m.Err)
}

// Decode reads what Append wrote.
func (m *Remembered) Decode(r *Reader) {
	r.Struct(4, "remembered result")
	decodeClient(r, &m.Client)
	m.Sequence = r.Uint()
	DecodeTxnResult(r, &m.Result)
	m.Err = DecodeError(r)
}

// Format consumes a format byte and a version byte; any others are not understood.
func (r *Reader) Format(format, version byte, what string) {
	if got := r.big(1); r.err == nil && got != uint64(format) {
		r.FailUnknown("format of a "+what, got)
	}
	if got := r.big(1); r.err == nil && got != uint64(version) {
		r.FailUnknown("version of a "+what, got)
	}
}
