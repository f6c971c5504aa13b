package wire

import (
	"encoding/binary"
	"math"

	"physalia/cell"
)

// The methods by which a discovery copy learns routes. It asks; whoever has routes, a server or another copy, answers.
// What a source has is divided into buckets, and the sum of a bucket's routes tells whether anything in it differs from what
// was taken before, so that what is known already is never sent again.
const (
	MethodDigest   = "discovery.digest"   // copy -> server or copy: DigestRequest -> Digests
	MethodPull     = "discovery.pull"     // copy -> server or copy: PullRequest -> Pulled
	MethodChanges  = "discovery.changes"  // copy -> copy: ChangesRequest -> RoutePush
	MethodContacts = "discovery.contacts" // copy -> copy: ContactsRequest -> Contacts
)

// How many buckets a source has. A copy never computes the sums or the buckets of a server, so servers may divide as they
// like; copies divide by BucketOf, since they compare their own sums with each other's.
const (
	ShareBuckets = 512  // of a server
	TableBuckets = 4096 // of a discovery copy, and of a snapshot
)

// Bounds of these messages. A page is as long as the answering side likes, up to the limit that was asked for; numbers of
// buckets and the lengths of lists that belong together are checked by the receiver.
const (
	CursorBytesMax = 256
	PullRoutesMax  = 512 // routes of one page
	AgeNever       = math.MaxUint32
)

// BucketOf is the bucket of a discovery copy's table that a cell is in. It is part of the format of snapshots.
func BucketOf(id cell.ID) int { return int(CellHash(id) >> (64 - 12)) }

// CellHash spreads names over 64 bits: FNV-1a, mixed so that the high bits are as good as the low ones.
func CellHash(id cell.ID) uint64 {
	h := uint64(14695981039346656037)
	for i := 0; i < len(id); i++ {
		h = (h ^ uint64(id[i])) * 1099511628211
	}
	return mix(h)
}

// RouteHash is what one route adds to the sum of its bucket. The members are not in it: (incarnation, configuration) name
// them.
func RouteHash(id cell.ID, inc cell.Incarnation, configuration uint64, deleted bool) uint64 {
	h := mix(CellHash(id) + uint64(inc)*0x9e3779b97f4a7c15)
	if deleted {
		return mix(h ^ math.MaxUint64)
	}
	return mix(h ^ mix(configuration))
}

// mix is the finalizer of splitmix64.
func mix(z uint64) uint64 {
	z = (z ^ z>>30) * 0xbf58476d1ce4e5b9
	z = (z ^ z>>27) * 0x94d049bb133111eb
	return z ^ z>>31
}

// TotalOf is the sum of a source's sums, by which both sides tell in eight bytes that nothing differs.
func TotalOf(sums []uint64) uint64 {
	total := uint64(0)
	for i, s := range sums {
		total += mix(s + uint64(i)*0x9e3779b97f4a7c15)
	}
	return total
}

// DigestRequest asks for the sums of all buckets.
type DigestRequest struct {
	Known uint64 // TotalOf what was taken so far
}

// Digests are the sums of a source at one moment.
type Digests struct {
	Position uint64   // how many changes the source had seen
	Same     bool     // the total is the one of the request
	Sums     []uint64 // by bucket; empty when Same
}

// PullRequest asks for the routes of some buckets, in their order, a page at a time.
type PullRequest struct {
	Buckets []uint32
	Cursor  []byte // where the first of them goes on, as the answer before said; empty: at its beginning
	Limit   uint32 // routes, 1 to PullRoutesMax
}

// Pulled is one page. It has the whole rest of every bucket that Sums names, but, when Cursor is set, of the last.
type Pulled struct {
	Position uint64   // how many changes the source had seen
	Sums     []uint64 // of the first len(Sums) buckets that were asked for, at this moment
	Routes   []Route
	Cursor   []byte // where the last bucket of Sums goes on; empty: it is complete
}

// RoutePush carries what changed between two positions of a source: from a server to discovery unasked, and between copies
// as the answer to a ChangesRequest.
type RoutePush struct {
	From, To uint64 // everything that changed after From and up to To is in it
	Lost     bool   // what changed after From is not known any more: compare the sums
	Routes   []Route
	Buckets  []uint32 // that changed up to To and not since
	Sums     []uint64 // of these
}

// ChangesRequest asks a copy for what changed after a position.
type ChangesRequest struct {
	After uint64
	Limit uint32 // routes, 1 to PullRoutesMax
}

// Contact is what a copy knows of one server.
type Contact struct {
	Server     cell.ServerID
	Brick      string
	PeerAddr   string
	ClientAddr string
	Boot       uint64 // whose word the addresses are; zero: hearsay
	Age        uint32 // seconds since the server was last heard of by any copy; AgeNever
}

// ContactsRequest pages through the servers that a copy knows, in order of identity.
type ContactsRequest struct {
	After cell.ServerID
	Limit uint32 // 1 to ListLimitMax
}

// Contacts is one page of servers.
type Contacts struct {
	Contacts []Contact
	More     bool
}

// Append adds [known].
func (m *DigestRequest) Append(b []byte) []byte { return AppendUint(AppendArray(b, 1), m.Known) }

// Decode reads what Append wrote.
func (m *DigestRequest) Decode(r *Reader) {
	r.Struct(1, "DigestRequest")
	m.Known = r.Uint()
}

// Append adds [position, same, sums].
func (m *Digests) Append(b []byte) []byte {
	return appendSums(AppendBool(AppendUint(AppendArray(b, 3), m.Position), m.Same), m.Sums)
}

// Decode reads what Append wrote.
func (m *Digests) Decode(r *Reader) {
	r.Struct(3, "Digests")
	*m = Digests{Position: r.Uint(), Same: r.Bool(), Sums: decodeSums(r)}
}

// Append adds [buckets, cursor, limit].
func (m *PullRequest) Append(b []byte) []byte {
	b = appendNumbers(AppendArray(b, 3), m.Buckets)
	return AppendUint(AppendBytes(b, m.Cursor), uint64(m.Limit))
}

// Decode reads what Append wrote.
func (m *PullRequest) Decode(r *Reader) {
	r.Struct(3, "PullRequest")
	*m = PullRequest{Buckets: decodeBuckets(r), Cursor: decodeCursor(r), Limit: r.Uint32("limit of a page")}
}

// Append adds [position, sums, routes, cursor].
func (m *Pulled) Append(b []byte) []byte {
	b = appendSums(AppendUint(AppendArray(b, 4), m.Position), m.Sums)
	return AppendBytes(appendList(b, m.Routes), m.Cursor)
}

// Decode reads what Append wrote.
func (m *Pulled) Decode(r *Reader) {
	r.Struct(4, "Pulled")
	*m = Pulled{Position: r.Uint(), Sums: decodeSums(r), Routes: decodeRoutes(r), Cursor: decodeCursor(r)}
}

// Append adds [from, to, lost, routes, buckets, sums].
func (m *RoutePush) Append(b []byte) []byte {
	b = AppendBool(AppendUint(AppendUint(AppendArray(b, 6), m.From), m.To), m.Lost)
	return appendSums(appendNumbers(appendList(b, m.Routes), m.Buckets), m.Sums)
}

// Decode reads what Append wrote.
func (m *RoutePush) Decode(r *Reader) {
	r.Struct(6, "RoutePush")
	*m = RoutePush{From: r.Uint(), To: r.Uint(), Lost: r.Bool(), Routes: decodeRoutes(r), Buckets: decodeBuckets(r), Sums: decodeSums(r)}
}

// Append adds [after, limit].
func (m *ChangesRequest) Append(b []byte) []byte {
	return AppendUint(AppendUint(AppendArray(b, 2), m.After), uint64(m.Limit))
}

// Decode reads what Append wrote.
func (m *ChangesRequest) Decode(r *Reader) {
	r.Struct(2, "ChangesRequest")
	*m = ChangesRequest{After: r.Uint(), Limit: r.Uint32("limit of a page")}
}

// Append adds the fields in the order of the struct.
func (m *Contact) Append(b []byte) []byte {
	b = AppendString(AppendString(AppendArray(b, 6), string(m.Server)), m.Brick)
	b = AppendString(AppendString(b, m.PeerAddr), m.ClientAddr)
	return AppendUint(AppendUint(b, m.Boot), uint64(m.Age))
}

// Decode reads what Append wrote.
func (m *Contact) Decode(r *Reader) {
	r.Struct(6, "Contact")
	*m = Contact{
		Server:     decodeServer(r),
		Brick:      r.String(NameBytesMax, "brick"),
		PeerAddr:   r.String(AddrBytesMax, "peer address"),
		ClientAddr: r.String(AddrBytesMax, "client address"),
		Boot:       r.Uint(),
		Age:        r.Uint32("age"),
	}
}

// Append adds [after, limit].
func (m *ContactsRequest) Append(b []byte) []byte {
	return AppendUint(AppendString(AppendArray(b, 2), string(m.After)), uint64(m.Limit))
}

// Decode reads what Append wrote.
func (m *ContactsRequest) Decode(r *Reader) {
	r.Struct(2, "ContactsRequest")
	*m = ContactsRequest{After: decodeServer(r), Limit: r.Uint32("limit of a page")}
}

// Append adds [contacts, more].
func (m *Contacts) Append(b []byte) []byte {
	return AppendBool(appendList(AppendArray(b, 2), m.Contacts), m.More)
}

// Decode reads what Append wrote.
func (m *Contacts) Decode(r *Reader) {
	r.Struct(2, "Contacts")
	*m = Contacts{Contacts: decodeList[Contact](r, ListLimitMax, 7, "contacts"), More: r.Bool()}
}

// appendSums adds sums as bytes, eight each, since they are random numbers.
func appendSums(b []byte, sums []uint64) []byte {
	raw := make([]byte, 0, 8*len(sums))
	for _, s := range sums {
		raw = binary.BigEndian.AppendUint64(raw, s)
	}
	return AppendBytes(b, raw)
}

// decodeSums reads what appendSums wrote; nil when there are none.
func decodeSums(r *Reader) []uint64 {
	raw := r.Bytes(8*TableBuckets, "sums")
	if len(raw)%8 != 0 {
		r.Fail("sums have %d bytes, not a multiple of 8", len(raw))
	}
	if len(raw) == 0 || r.err != nil {
		return nil
	}
	sums := make([]uint64, len(raw)/8)
	for i := range sums {
		sums[i] = binary.BigEndian.Uint64(raw[8*i:])
	}
	return sums
}

// appendNumbers adds a list of numbers.
func appendNumbers[T ~uint32 | ~uint64](b []byte, list []T) []byte {
	b = AppendArray(b, len(list))
	for _, n := range list {
		b = AppendUint(b, uint64(n))
	}
	return b
}

// decodeNumbers reads a list of at most max numbers up to most; nil when it is empty.
func decodeNumbers[T ~uint32 | ~uint64](r *Reader, max int, most uint64, what string) []T {
	n := r.list(max, 1, what)
	if n == 0 {
		return nil
	}
	list := make([]T, n)
	for i := range list {
		list[i] = T(r.UintMax(most, what))
	}
	return list
}

func decodeBuckets(r *Reader) []uint32 {
	return decodeNumbers[uint32](r, TableBuckets, math.MaxUint32, "buckets")
}

// decodeCursor reads a place to go on from; nil when it is empty.
func decodeCursor(r *Reader) []byte {
	p := r.Bytes(CursorBytesMax, "cursor")
	if len(p) == 0 {
		return nil
	}
	return append([]byte(nil), p...)
}
