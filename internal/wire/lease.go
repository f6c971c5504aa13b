package wire

import (
	"math"
	"time"

	"physalia/cell"
)

// The methods of the client face about leases. Their params carry a request's identity like a transaction's, and repeating
// them is safe: a grant and a revoke take effect once, and one keep-alive more does no harm.
const (
	MethodGrant     = "lease.grant"     // LeaseRequest (TTL, label) -> LeaseReply
	MethodKeepAlive = "lease.keepalive" // LeaseRequest (lease) -> LeaseReply
	MethodRevoke    = "lease.revoke"    // LeaseRequest (lease) -> LeaseReply
	MethodLeases    = "lease.list"      // LeasesRequest -> Leases
)

// LeaseRequest asks something of one lease.
type LeaseRequest struct {
	Header  Header
	Request cell.Request
	Lease   cell.LeaseOp
}

// LeaseReply answers a LeaseRequest that was applied.
type LeaseReply struct {
	Incarnation cell.Incarnation
	Revision    cell.Revision // of the cell, after it was applied
	Lease       cell.LeaseID
	Renewals    uint64 // of a keep-alive: this one included, if it went through the log
}

// LeasesRequest asks for all leases of a cell, by a linearizable read.
type LeasesRequest struct{ Header Header }

// Leases lists the leases of a cell by ID.
type Leases struct {
	Incarnation cell.Incarnation
	Revision    cell.Revision
	Leases      []cell.LeaseStatus
}

// AppendLeaseOp adds what is asked of a lease: [lease, duration in nanoseconds, label, renewals], or nil for nothing.
func AppendLeaseOp(b []byte, o *cell.LeaseOp) []byte {
	if *o == (cell.LeaseOp{}) {
		return AppendNil(b)
	}
	b = AppendUint(AppendUint(AppendArray(b, 4), uint64(o.ID)), uint64(o.TTL))
	return AppendUint(AppendString(b, o.Label), o.Renewals)
}

// DecodeLeaseOp reads what is asked of a lease.
func DecodeLeaseOp(r *Reader, o *cell.LeaseOp) {
	*o = cell.LeaseOp{}
	if r.Nil() {
		return
	}
	r.Struct(4, "lease operation")
	o.ID = cell.LeaseID(r.Uint())
	o.TTL = decodeTTL(r)
	o.Label = r.String(cell.LeaseLabelBytesMax, "label of a lease")
	o.Renewals = r.Uint()
	if *o == (cell.LeaseOp{}) {
		r.Fail("empty lease operation is not in its short form")
	}
}

func decodeTTL(r *Reader) time.Duration {
	return time.Duration(r.UintMax(math.MaxInt64, "duration of a lease"))
}

// leaseBytesMin is the least encoding of a lease: an array of four elements of one byte.
const leaseBytesMin = 5

// AppendLease adds a lease: [id, duration in nanoseconds, label, renewals].
func AppendLease(b []byte, l *cell.Lease) []byte {
	b = AppendUint(AppendUint(AppendArray(b, 4), uint64(l.ID)), uint64(l.TTL))
	return AppendUint(AppendString(b, l.Label), l.Renewals)
}

// DecodeLease reads a lease.
func DecodeLease(r *Reader, l *cell.Lease) {
	r.Struct(4, "lease")
	*l = cell.Lease{ID: cell.LeaseID(r.Uint()), TTL: decodeTTL(r),
		Label: r.String(cell.LeaseLabelBytesMax, "label of a lease"), Renewals: r.Uint()}
}

// decodeLeases reads the leases of a cell.
func decodeLeases(r *Reader) []cell.Lease {
	n := r.list(cell.LeasesMax, leaseBytesMin, "leases")
	if n == 0 {
		return nil
	}
	list := make([]cell.Lease, n)
	for i := 0; i < n && r.err == nil; i++ {
		DecodeLease(r, &list[i])
	}
	return list
}

// Append adds [header, request identity, lease operation].
func (m *LeaseRequest) Append(b []byte) []byte {
	b = AppendIdentity(m.Header.Append(AppendArray(b, 3)), &m.Request)
	return AppendLeaseOp(b, &m.Lease)
}

// Decode reads what Append wrote.
func (m *LeaseRequest) Decode(r *Reader) {
	r.Struct(3, "LeaseRequest")
	m.Header.Decode(r)
	DecodeIdentity(r, &m.Request)
	DecodeLeaseOp(r, &m.Lease)
}

// Append adds [incarnation, revision, lease, renewals].
func (m *LeaseReply) Append(b []byte) []byte {
	b = AppendUint(AppendUint(AppendArray(b, 4), uint64(m.Incarnation)), uint64(m.Revision))
	return AppendUint(AppendUint(b, uint64(m.Lease)), m.Renewals)
}

// Decode reads what Append wrote.
func (m *LeaseReply) Decode(r *Reader) {
	r.Struct(4, "LeaseReply")
	*m = LeaseReply{Incarnation: cell.Incarnation(r.Uint()), Revision: cell.Revision(r.Uint()),
		Lease: cell.LeaseID(r.Uint()), Renewals: r.Uint()}
}

// Append adds [header].
func (m *LeasesRequest) Append(b []byte) []byte { return m.Header.Append(AppendArray(b, 1)) }

// Decode reads what Append wrote.
func (m *LeasesRequest) Decode(r *Reader) {
	r.Struct(1, "LeasesRequest")
	m.Header.Decode(r)
}

// Append adds [incarnation, revision, [[lease, keys], ...]].
func (m *Leases) Append(b []byte) []byte {
	b = AppendUint(AppendUint(AppendArray(b, 3), uint64(m.Incarnation)), uint64(m.Revision))
	b = AppendArray(b, len(m.Leases))
	for i := range m.Leases {
		b = AppendUint(AppendLease(AppendArray(b, 2), &m.Leases[i].Lease), m.Leases[i].Keys)
	}
	return b
}

// Decode reads what Append wrote.
func (m *Leases) Decode(r *Reader) {
	r.Struct(3, "Leases")
	*m = Leases{Incarnation: cell.Incarnation(r.Uint()), Revision: cell.Revision(r.Uint())}
	n := r.list(cell.LeasesMax, leaseBytesMin+2, "leases")
	if n == 0 {
		return
	}
	m.Leases = make([]cell.LeaseStatus, n)
	for i := 0; i < n && r.err == nil; i++ {
		r.Struct(2, "listed lease")
		DecodeLease(r, &m.Leases[i].Lease)
		m.Leases[i].Keys = r.Uint()
	}
}
