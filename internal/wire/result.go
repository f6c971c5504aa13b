package wire

import (
	"math"
	"time"
	"unicode/utf8"

	"physalia/cell"
)

// AppendOpResult adds the result of one operation: [found, entry, entries, more].
func AppendOpResult(b []byte, o *cell.OpResult) []byte {
	b = AppendBool(AppendArray(b, 4), o.Found)
	b = appendEntries(AppendEntry(b, &o.Entry), o.Entries)
	return AppendBool(b, o.More)
}

// DecodeOpResult reads the result of one operation.
func DecodeOpResult(r *Reader, o *cell.OpResult) {
	r.Struct(4, "operation result")
	o.Found = r.Bool()
	DecodeEntry(r, &o.Entry)
	o.Entries = decodeEntries(r, cell.ScanLimitMax)
	o.More = r.Bool()
}

// opResultBytesMin is the least encoding of an operation result: an array of four elements of one byte.
const opResultBytesMin = 5

// AppendTxnResult adds the result of a transaction: [succeeded, failed, revision, results].
func AppendTxnResult(b []byte, t *cell.TxnResult) []byte {
	b = AppendInt(AppendBool(AppendArray(b, 4), t.Succeeded), int64(t.Failed))
	b = AppendArray(AppendUint(b, uint64(t.Revision)), len(t.Results))
	for i := range t.Results {
		b = AppendOpResult(b, &t.Results[i])
	}
	return b
}

// DecodeTxnResult reads the result of a transaction.
func DecodeTxnResult(r *Reader, t *cell.TxnResult) {
	decodeFate(r, t)
	n := r.list(cell.TxnOpsMax, opResultBytesMin, "results")
	if n == 0 {
		return
	}
	t.Results = make([]cell.OpResult, n)
	for i := 0; i < n && r.err == nil; i++ {
		DecodeOpResult(r, &t.Results[i])
	}
}

// decodeFate reads the result of a transaction up to those of its operations.
func decodeFate(r *Reader, t *cell.TxnResult) {
	*t = cell.TxnResult{}
	r.Struct(4, "transaction result")
	t.Succeeded = r.Bool()
	failed := r.Int()
	if failed < -1 || failed >= cell.TxnOpsMax {
		r.Fail("failed condition is %d, allowed are -1 to %d", failed, cell.TxnOpsMax-1)
		return
	}
	t.Failed = int(failed)
	t.Revision = cell.Revision(r.Uint())
}

// AppendError adds an error: [op, kind, cell, detail, hint, retry after in nanoseconds, leader, leader's address], behind it
// the pointer if there is one, [incarnation, configuration, [[server, client address], ...]], or nil for no error. The cause does not cross the wire. Every text is cut to its bound, and an error without a known kind
// crosses as Internal, the kind that promises nothing: whatever went wrong, the peer can always read the error.
func AppendError(b []byte, e *cell.Error) []byte {
	if e == nil {
		return AppendNil(b)
	}
	kind := e.Kind
	if !kind.Valid() {
		kind = cell.Internal
	}
	n := 8
	if e.Pointer != nil {
		n++
	}
	b = AppendString(AppendArray(b, n), cut(e.Op, NameBytesMax))
	b = AppendUint(b, uint64(kind))
	b = AppendString(b, cut(string(e.Cell), cell.IDBytesMax))
	b = AppendString(b, cut(e.Detail, DetailBytesMax))
	b = AppendString(b, cut(e.Hint, DetailBytesMax))
	b = AppendUint(b, uint64(max(e.RetryAfter, 0)))
	b = AppendString(b, cut(string(e.Leader), cell.ServerIDBytesMax))
	b = AppendString(b, cut(e.LeaderAddr, AddrBytesMax))
	if e.Pointer != nil {
		b = appendPointer(b, e.Pointer)
	}
	return b
}

// appendPointer adds where a cell lives.
func appendPointer(b []byte, p *cell.Pointer) []byte {
	b = AppendUint(AppendUint(AppendArray(b, 3), uint64(p.Incarnation)), p.Configuration)
	servers := p.Servers[:min(len(p.Servers), MembersMax)]
	b = AppendArray(b, len(servers))
	for _, s := range servers {
		b = AppendString(AppendArray(b, 2), cut(string(s.Server), cell.ServerIDBytesMax))
		b = AppendString(b, cut(s.ClientAddr, AddrBytesMax))
	}
	return b
}

// decodePointer reads where a cell lives.
func decodePointer(r *Reader) *cell.Pointer {
	r.Struct(3, "pointer")
	p := &cell.Pointer{Incarnation: cell.Incarnation(r.Uint()), Configuration: r.Uint()}
	if n := r.Array(MembersMax, "servers of a pointer"); n > 0 && r.Err() == nil {
		p.Servers = make([]cell.Location, n)
	}
	for i := range p.Servers {
		r.Struct(2, "location")
		p.Servers[i] = cell.Location{Server: decodeServer(r), ClientAddr: r.String(AddrBytesMax, "client address")}
	}
	return p
}

// DecodeError reads an error, or nil for none.
func DecodeError(r *Reader) *cell.Error {
	if r.Nil() {
		return nil
	}
	n := r.Array(9, "elements of an error")
	if r.err == nil && n < 8 {
		r.Fail("error has %d elements, want 8 or 9", n)
	}
	if r.err != nil {
		return nil
	}
	e := &cell.Error{Op: r.String(NameBytesMax, "operation of an error")}
	if k := r.Uint(); k <= math.MaxUint8 && cell.Kind(k).Valid() {
		e.Kind = cell.Kind(k)
	} else {
		r.FailUnknown("kind of error", k)
	}
	e.Cell = decodeID(r)
	e.Detail = r.String(DetailBytesMax, "detail of an error")
	e.Hint = r.String(DetailBytesMax, "hint of an error")
	e.RetryAfter = time.Duration(r.UintMax(math.MaxInt64, "retry after"))
	e.Leader = decodeServer(r)
	e.LeaderAddr = r.String(AddrBytesMax, "address of a leader")
	if n == 9 && r.err == nil {
		e.Pointer = decodePointer(r)
	}
	return e
}

// cut shortens a text to at most max bytes without splitting a character.
func cut(s string, max int) string {
	if len(s) <= max {
		return s
	}
	end := max
	for end > max-utf8.UTFMax && !utf8.RuneStart(s[end]) {
		end--
	}
	return s[:end]
}
