package cell

import "fmt"

// ID names a cell: the partition key, as the user chose it, for example "vol-17".
// It is 1 to IDBytesMax bytes of letters, digits, '.', '_', '-', ':' and '/', and starts with a letter or digit.
type ID string

// IDBytesMax bounds the length of an ID in bytes.
const IDBytesMax = 64

// Incarnation counts the lives of a cell: a cell that is deleted and created again, or recovered with loss, is a new
// incarnation. The first is 1; zero means "whichever is current" in requests and never names a cell.
type Incarnation uint64

// ServerID is the durable identity of one storage server, issued on its first start and never used again for another
// data directory, for example "s1-k3v9q2xa". It is at most ServerIDBytesMax bytes.
type ServerID string

// ServerIDBytesMax bounds the length of a ServerID in bytes.
const ServerIDBytesMax = 64

// Revision is the cell's one counter: every transaction that goes through the cell's log raises it by one, and so does every
// grant, revoke and expiry of a lease.
type Revision uint64

// Generation is the fencing number of a volume record, and nothing else.
type Generation uint64

// Fence is what leaves a cell to order its users in the world outside: numbers alone repeat after a deletion or a
// lossy recovery, pairs do not (hazard H17).
type Fence struct {
	Incarnation Incarnation
	Number      uint64
}

// Less orders fences by incarnation, then number.
func (f Fence) Less(g Fence) bool {
	if f.Incarnation != g.Incarnation {
		return f.Incarnation < g.Incarnation
	}
	return f.Number < g.Number
}

// String shows a fence as "incarnation.number", for example "1.9".
func (f Fence) String() string { return fmt.Sprintf("%d.%d", f.Incarnation, f.Number) }

// ClientID identifies one client instance for exactly-once results; clients draw it at random, 128 bits.
type ClientID [16]byte

// LogClient is the client of what a cell's proposer logs on its own behalf, the expiry of leases. No client may use it.
var LogClient = ClientID{0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff}

// String shows the first four bytes, enough to tell clients apart in a log.
func (c ClientID) String() string { return fmt.Sprintf("%x", c[:4]) }

// Request identifies one transaction of one client to one cell, for exactly-once effects (rule 14).
type Request struct {
	Client   ClientID
	Sequence uint64   // unique per (client, cell); retries of one transaction repeat it
	Since    Revision // a revision of this cell that the client read before it first sent the request
}

// String shows a request as "client/sequence@since".
func (r Request) String() string { return fmt.Sprintf("%s/%d@%d", r.Client, r.Sequence, r.Since) }

// Check reports what is wrong with an ID from outside, or nil.
func (id ID) Check() error {
	if len(id) == 0 || len(id) > IDBytesMax {
		return &Error{Op: "cell.ID", Kind: Invalid, Detail: fmt.Sprintf("cell name has %d bytes", len(id)),
			Hint: fmt.Sprintf("use 1 to %d bytes", IDBytesMax)}
	}
	for i := 0; i < len(id); i++ {
		if !nameByte(id[i], i == 0) {
			return &Error{Op: "cell.ID", Kind: Invalid, Detail: fmt.Sprintf("cell name %q: byte %d is not allowed", string(id), i),
				Hint: "use letters, digits, '.', '_', '-', ':' and '/'; start with a letter or digit"}
		}
	}
	return nil
}

// Check reports what is wrong with a server identity from outside, or nil.
func (s ServerID) Check() error {
	if len(s) == 0 || len(s) > ServerIDBytesMax {
		return &Error{Op: "cell.ServerID", Kind: Invalid, Detail: fmt.Sprintf("server identity has %d bytes", len(s)),
			Hint: fmt.Sprintf("use 1 to %d bytes", ServerIDBytesMax)}
	}
	for i := 0; i < len(s); i++ {
		if !nameByte(s[i], i == 0) {
			return &Error{Op: "cell.ServerID", Kind: Invalid, Detail: fmt.Sprintf("server identity %q: byte %d is not allowed", string(s), i),
				Hint: "use letters, digits, '.', '_', '-', ':' and '/'; start with a letter or digit"}
		}
	}
	return nil
}

func nameByte(b byte, first bool) bool {
	switch {
	case 'a' <= b && b <= 'z', 'A' <= b && b <= 'Z', '0' <= b && b <= '9':
		return true
	case b == '.', b == '_', b == '-', b == ':', b == '/':
		return !first
	}
	return false
}
