package wire

import (
	"bytes"
	"fmt"

	"physalia/cell"
)

// The format and version bytes of what is logged and stored.
const (
	commandFormat, commandVersion     = 'C', 1
	cellStateFormat, cellStateVersion = 'S', 1
)

// entriesMax bounds the entries of one CellState: what fits into a cell when keys have one byte and values none.
const entriesMax = cell.CellBytesMax / (cell.KeyOverheadBytes + 1)

// CommandKind is what a Command does. The numbers are part of the format and never change.
type CommandKind uint8

// The kinds of commands. A transaction, a grant and a revoke are recorded in the window of outcomes; a keep-alive and an
// expiry are not, see package machine.
const (
	CommandTxn       CommandKind = 0 // Txn; the empty one resolves its Request
	CommandGrant     CommandKind = 1 // Lease.TTL, Lease.Label
	CommandKeepAlive CommandKind = 2 // Lease.ID; Request only tells who asked
	CommandRevoke    CommandKind = 3 // Lease.ID
	CommandExpire    CommandKind = 4 // Lease.ID, Lease.Renewals; Request is cell.LogClient's, with the lease as its sequence
)

// Command is what a cell's log carries for the state machine: one transaction of one client, or one step in the life of
// a lease. (No-ops, seals and configuration changes are entries of Paxos, not commands.) Its encoding starts with the
// format byte 'C' and a version; a reader that does not fully understand a command must refuse it and stop as failed,
// never skip it (rule 9).
type Command struct {
	Kind    CommandKind
	Request cell.Request
	Txn     cell.Txn     // of CommandTxn, else empty
	Lease   cell.LeaseOp // of the other kinds, else zero
}

// Check is the gate for commands: what passes can be logged, and applying it is total. Errors are *cell.Error.
func (m *Command) Check() error {
	if own := m.Request.Client == cell.LogClient; own != (m.Kind == CommandExpire) {
		return &cell.Error{Op: "command.check", Kind: cell.Invalid, Detail: "client identity ff..ff is reserved for expiries of leases"}
	}
	switch {
	case m.Kind == CommandTxn && m.Lease != (cell.LeaseOp{}), m.Kind != CommandTxn && !m.Txn.IsResolve():
		return &cell.Error{Op: "command.check", Kind: cell.Invalid, Detail: "a command is either a transaction or about a lease"}
	case m.Kind == CommandTxn && m.Txn.IsResolve():
		return nil
	case m.Kind == CommandTxn:
		return m.Txn.Check()
	case m.Kind == CommandGrant:
		return m.Lease.CheckGrant()
	}
	named := m.Lease
	if m.Kind == CommandExpire {
		named.Renewals = 0
		if m.Request != (cell.Request{Client: cell.LogClient, Sequence: uint64(m.Lease.ID)}) {
			return &cell.Error{Op: "command.check", Kind: cell.Invalid, Detail: fmt.Sprintf("lease %d expires by request %v", uint64(m.Lease.ID), m.Request)}
		}
	}
	return named.CheckNamed()
}

// CellState is the whole state of a cell's machine, the content of paxos.Snapshot.State. Its encoding starts with the
// format byte 'S' and a version, and is canonical: equal states have equal bytes.
type CellState struct {
	Revision   cell.Revision
	Entries    []cell.Entry  // ordered by key
	Floor      cell.Revision // results at or below this revision may have been forgotten
	Remembered []Remembered  // ordered by revision
	Leases     []cell.Lease  // ordered by ID
}

// Remembered is the recorded outcome of one transaction, for exactly-once results (rule 14). Err is set when the
// transaction was aborted; then Result holds only the revision.
type Remembered struct {
	Client   cell.ClientID
	Sequence uint64
	Result   cell.TxnResult
	Err      *cell.Error
}

// Append adds 'C', the version, and [kind, request identity, transaction, lease operation].
func (m *Command) Append(b []byte) []byte {
	b = AppendUint(AppendArray(append(b, commandFormat, commandVersion), 4), uint64(m.Kind))
	b = AppendTxn(AppendIdentity(b, &m.Request), &m.Txn)
	return AppendLeaseOp(b, &m.Lease)
}

// AppendTxnCommand is Command.Append for a transaction of which UnmarshalTxn has returned what is logged.
func AppendTxnCommand(b, logged []byte) []byte {
	b = AppendUint(AppendArray(append(b, commandFormat, commandVersion), 4), uint64(CommandTxn))
	return AppendNil(append(b, logged...))
}

// TxnCommandBytes is what AppendTxnCommand adds to what is logged.
const TxnCommandBytes = 5

// Decode reads a command and refuses every encoding but the one that Append makes.
func (m *Command) Decode(r *Reader) {
	m.Txn = cell.Txn{}
	m.decode(r)
}

func (m *Command) decode(r *Reader) {
	was := r.canonical
	r.canonical = true
	r.formatUpTo(commandFormat, commandVersion, CommandSet, "command")
	r.Struct(4, "command")
	if k := r.Uint(); k <= uint64(CommandExpire) {
		m.Kind = CommandKind(k)
	} else {
		r.FailUnknown("kind of command", k)
	}
	DecodeIdentity(r, &m.Request)
	decodeTxn(r, &m.Txn)
	DecodeLeaseOp(r, &m.Lease)
	r.canonical = was
}

// DecodeCommand reads a command from the log. Any error means that the node must stop as failed (rule 9): it is a
// *cell.Error of kind Quarantined; errors.Is(err, ErrNotUnderstood) tells a command of a newer version from damage.
func DecodeCommand(buf []byte) (Command, error) {
	var m Command
	if err := m.Reread(buf); err != nil {
		return Command{}, err
	}
	return m, nil
}

// Reread is DecodeCommand into a command that was emptied, whose memory it uses. After an error the command means nothing.
func (m *Command) Reread(buf []byte) error {
	r := NewReader(buf)
	m.decode(&r)
	if err := r.Done(); err != nil {
		return decodeError(cell.Quarantined, (*Command)(nil), err, stopHint)
	}
	return nil
}

// Empty forgets the transaction and keeps the memory of its lists for Reread. Nothing may refer to the lists any more; what was copied
// out of them stays good.
func (m *Command) Empty() {
	m.Txn = cell.Txn{If: emptied(m.Txn.If), Then: emptied(m.Txn.Then), Else: emptied(m.Txn.Else)}
}

// rereadKept is how many items of each list Empty keeps the memory of.
const rereadKept = 8

// emptied is a list without items, nil when its memory is not worth to be kept.
func emptied[T any](list []T) []T {
	if cap(list) > rereadKept {
		return nil
	}
	clear(list)
	return list[:0]
}

// Append adds 'S', the version, and [revision, entries, floor, remembered, leases].
func (m *CellState) Append(b []byte) []byte {
	return m.AppendBehind(appendList(m.AppendBefore(b), m.Remembered))
}

// AppendBefore adds what stands before the remembered outcomes: whoever holds these encoded adds them between here and AppendBehind, as an
// array of what Remembered.Append makes.
func (m *CellState) AppendBefore(b []byte) []byte {
	b = AppendUint(AppendArray(append(b, cellStateFormat, cellStateVersion), 5), uint64(m.Revision))
	return AppendUint(appendEntries(b, m.Entries), uint64(m.Floor))
}

// AppendBehind adds what stands behind the remembered outcomes.
func (m *CellState) AppendBehind(b []byte) []byte {
	b = AppendArray(b, len(m.Leases))
	for i := range m.Leases {
		b = AppendLease(b, &m.Leases[i])
	}
	return b
}

// Decode reads a state and refuses every encoding but the one that Append makes, and lists out of order.
func (m *CellState) Decode(r *Reader) {
	was := r.canonical
	r.canonical = true
	r.Format(cellStateFormat, cellStateVersion, "cell state")
	r.Struct(5, "cell state")
	m.Revision = cell.Revision(r.Uint())
	m.Entries = decodeEntries(r, entriesMax)
	m.Floor = cell.Revision(r.Uint())
	m.Remembered = decodeList[Remembered](r, cell.WindowMax, rememberedBytesMin, "remembered results")
	m.Leases = decodeLeases(r)
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
	for i := 1; i < len(m.Leases); i++ {
		if m.Leases[i-1].ID >= m.Leases[i].ID {
			r.Fail("lease %d is not above the one before", i)
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
	return AppendError(AppendTxnResult(appendRequester(b, &m.Client, m.Sequence), &m.Result), m.Err)
}

// appendRequester adds the head of a Remembered: whose outcome it is.
func appendRequester(b []byte, c *cell.ClientID, sequence uint64) []byte {
	return AppendUint(AppendBytes(AppendArray(b, 4), c[:]), sequence)
}

// IsOutcomeOf reports whether an encoded Remembered is that of a request, without decoding it.
func IsOutcomeOf(remembered []byte, c *cell.ClientID, sequence uint64) bool {
	var head [1 + 18 + 9]byte
	return bytes.HasPrefix(remembered, appendRequester(head[:0], c, sequence))
}

// Decode reads what Append wrote.
func (m *Remembered) Decode(r *Reader) {
	r.Struct(4, "remembered result")
	decodeClient(r, &m.Client)
	m.Sequence = r.Uint()
	DecodeTxnResult(r, &m.Result)
	m.Err = DecodeError(r)
}

// formatUpTo is Format for several versions.
func (r *Reader) formatUpTo(format, least byte, most uint32, what string) {
	if got := r.big(1); r.err == nil && got != uint64(format) {
		r.FailUnknown("format of a "+what, got)
	}
	if got := r.big(1); r.err == nil && (got < uint64(least) || got > uint64(most)) {
		r.FailUnknown("version of a "+what, got)
	}
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
