package wire

import (
	"math"
	"strings"
)

// Duties is a set of what the control plane does for a server. A server keeps one connection per duty, shared where one
// control instance has several.
type Duties uint8

// The duties. The numbers are part of the wire format and never change.
const (
	DutyLifecycle Duties = 1 << 0 // of the active instance: it creates, moves and wipes nodes
	DutyDiscovery Duties = 1 << 1 // of the brick's owner: it takes the routes that servers push
	DutyHealth    Duties = 1 << 2 // of the brick's owner: it watches the server

	AllDuties = DutyLifecycle | DutyDiscovery | DutyHealth
)

// dutyNames are in the order of the bits.
var dutyNames = [...]string{"lifecycle", "discovery", "health"}

// String names the duties, for people.
func (d Duties) String() string {
	var names []string
	for i, name := range dutyNames {
		if d&(1<<i) != 0 {
			names = append(names, name)
		}
	}
	if len(names) == 0 {
		return "none"
	}
	return strings.Join(names, "+")
}

// The methods of duties, both from the control plane to a server.
const (
	MethodDutiesMoved = "server.duties"   // DutiesMoved -> nothing: other instances have these duties from now on
	MethodDialBack    = "server.dialback" // DialBack -> nothing: the first request of a connection that answers a knock
)

// DutyHolder names the control instance that has some duties for a server.
type DutyHolder struct {
	Duties Duties
	Name   string
	Addr   string // host:port
}

// DutiesMoved takes duties away from a connection. Those that no holder is named for have none now.
type DutiesMoved struct {
	Duties    Duties
	Elsewhere []DutyHolder
}

// DialBack proves that who opened this connection was knocked at: Mac is a keyed hash over all of it (package knock).
type DialBack struct {
	Control string                // name of the instance
	Addr    string                // where it is reached
	Nonce   [KnockNonceBytes]byte // of the knock
	Mac     [KnockMacBytes]byte
}

// Bounds of the messages above.
const (
	HoldersMax      = 32
	KnockNonceBytes = 16
	KnockMacBytes   = 32
)

func decodeDuties(r *Reader) Duties { return Duties(r.UintMax(math.MaxUint8, "duties")) }

func decodeHolders(r *Reader) []DutyHolder {
	return decodeList[DutyHolder](r, HoldersMax, 4, "holders of duties")
}

// Append adds [duties, name, address].
func (m *DutyHolder) Append(b []byte) []byte {
	return AppendString(AppendString(AppendUint(AppendArray(b, 3), uint64(m.Duties)), m.Name), m.Addr)
}

// Decode reads what Append wrote.
func (m *DutyHolder) Decode(r *Reader) {
	r.Struct(3, "DutyHolder")
	*m = DutyHolder{Duties: decodeDuties(r), Name: r.String(NameBytesMax, "control process"), Addr: r.String(AddrBytesMax, "address")}
}

// Append adds [duties, elsewhere].
func (m *DutiesMoved) Append(b []byte) []byte {
	return appendList(AppendUint(AppendArray(b, 2), uint64(m.Duties)), m.Elsewhere)
}

// Decode reads what Append wrote.
func (m *DutiesMoved) Decode(r *Reader) {
	r.Struct(2, "DutiesMoved")
	*m = DutiesMoved{Duties: decodeDuties(r), Elsewhere: decodeHolders(r)}
}

// Append adds [control, address, nonce, mac].
func (m *DialBack) Append(b []byte) []byte {
	b = AppendString(AppendString(AppendArray(b, 4), m.Control), m.Addr)
	return AppendBytes(AppendBytes(b, m.Nonce[:]), m.Mac[:])
}

// Decode reads what Append wrote.
func (m *DialBack) Decode(r *Reader) {
	r.Struct(4, "DialBack")
	*m = DialBack{
		Control: r.String(NameBytesMax, "control process"),
		Addr:    r.String(AddrBytesMax, "address"),
	}
	for _, f := range [...]struct {
		to   []byte
		what string
	}{{m.Nonce[:], "nonce"}, {m.Mac[:], "mac"}} {
		if n := copy(f.to, r.Bytes(len(f.to), f.what)); n != len(f.to) {
			r.Fail("%s has %d bytes, want %d", f.what, n, len(f.to))
		}
	}
}
