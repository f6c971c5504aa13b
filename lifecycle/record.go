package lifecycle

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"math"
	"math/bits"
	"unique"

	"physalia/cell"
	"physalia/internal/must"
	"physalia/internal/wire"
)

// State is how far an incarnation has come. The numbers are stored and never change.
type State uint8

// The states, in the order in which an incarnation passes through them. No state is ever left backwards.
const (
	Creating State = 1 // the jury is durable here; fewer than a majority have confirmed that they host their node
	Live     State = 2 // a majority has confirmed; the rest is told until it has, too
	Sealing  State = 3 // deletion was asked for; the seal is not known to be chosen
	Wiping   State = 4 // nothing can ever be chosen again (see Ending); the nodes are being dropped
	Deleted  State = 5 // tombstone: remembers the incarnation, so that the next one is higher
)

var stateNames = [...]string{Creating: "creating", Live: "live", Sealing: "sealing", Wiping: "wiping", Deleted: "deleted"}

// String names the state as wire.CellInfo shows it.
func (s State) String() string {
	if s.valid() {
		return stateNames[s]
	}
	return fmt.Sprintf("state(%d)", uint8(s))
}

func (s State) valid() bool { return s >= Creating && s <= Deleted }

// Ending is the proof that nothing can ever be chosen in an incarnation again. The numbers are stored and never change.
type Ending uint8

// The endings.
const (
	NotEnded Ending = 0
	BySeal   Ending = 1 // a member reported the seal chosen (rule 15)
	ByVoid   Ending = 2 // so many members durably refuse ever to host it that no majority can come together
	ByLoss   Ending = 3 // an operator has declared so many servers dead that no majority is left (rule 17)
)

// Member is one member of a jury, in 16 bytes: a million cells have seven million members on a few thousand servers.
type Member struct {
	server unique.Handle[cell.ServerID]
	node   uint32
}

// NewMember makes a member. Node numbers are 1 to 7 in a founding jury, and never issued twice in one incarnation.
func NewMember(node uint32, server cell.ServerID) Member { return Member{unique.Make(server), node} }

// Node is the member's number.
func (m Member) Node() uint64 { return uint64(m.node) }

// Server is who hosts the member.
func (m Member) Server() cell.ServerID { return m.server.Value() }

// memberSet is a set of positions in Record.Members.
type memberSet uint16

// The helpers of memberSet and Record, one line each: all is the whole jury; founded, that a majority hosts its nodes;
// hopeless, that no majority ever will; settled, who has said for good whether it hosts its node.
func (s memberSet) has(i int) bool   { return s&(1<<i) != 0 }
func (s *memberSet) add(i int)       { *s |= 1 << i }
func (s *memberSet) remove(i int)    { *s &^= 1 << i }
func (s memberSet) size() int        { return bits.OnesCount16(uint16(s)) }
func allMembers(n int) memberSet     { return memberSet(1)<<n - 1 }
func (r *Record) all() memberSet     { return allMembers(len(r.Members)) }
func (r *Record) majority() int      { return len(r.Members)/2 + 1 }
func (r *Record) founded() bool      { return r.Founded.size() >= r.majority() }
func (r *Record) hopeless() bool     { return len(r.Members)-r.Void.size() < r.majority() }
func (r *Record) settled() memberSet { return r.Founded | r.Void }
func (r *Record) drop() wire.Drop    { return wire.Drop{Cell: r.Cell, Incarnation: r.Incarnation} }
func (r *Record) String() string     { return fmt.Sprintf("%s.%d %s", r.Cell, r.Incarnation, r.State) }
func (r *Record) is(states ...State) bool {
	for _, s := range states {
		if r.State == s {
			return true
		}
	}
	return false
}

// Record is what the manager knows durably about one incarnation of a cell. Founded, Void and Dropped may lag behind
// what servers have confirmed: a lost confirmation is asked for again, and every question is idempotent.
type Record struct {
	Cell          cell.ID
	Incarnation   cell.Incarnation
	Plan          uint64 // raised by every decision about this cell, over all its incarnations
	Brick         label
	Color         label
	Configuration uint64   // number of the configuration that Members is; 1 is the founding one
	Members       []Member // ordered by node number; none in a tombstone
	Owner         uint64   // node number that owns ballot 1
	Alpha         uint32
	State         State
	Ending        Ending
	Retry         bool      // ended ByVoid, and the creation is still wanted: the next incarnation follows
	Adopted       bool      // made from what servers reported, not planned by the manager of this store
	Founded       memberSet // confirmed: hosts its node of exactly this jury, durably
	Void          memberSet // confirmed: never hosted it and never will (its own tombstone forbids it)
	Dropped       memberSet // confirmed: wiped, and will never host it again
	// Absent are members that are known not to be there, or were never heard of: they count as dead, and are never founded. A
	// member that confirmed once and is gone since is in Founded, too.
	Absent memberSet
	// What few records have is behind pointers, since a million that have none are held in memory. Both are replaced, never changed.
	Founding *[]Member // who founded it, while a member is to be told of the founding although Members has changed
	move     *Move     // the replacement under way; nil: none. See Moving.
}

// label is a text that many records share, in 8 bytes; the zero value is the empty one.
type label struct{ text unique.Handle[string] }

func labelOf(text string) label {
	if text == "" {
		return label{}
	}
	return label{unique.Make(text)}
}

// String is the text.
func (l label) String() string {
	if l == (label{}) {
		return ""
	}
	return l.text.Value()
}

// Move is one member that shall be replaced. Everything else about it is the cell's own log's to tell.
type Move struct {
	// Remove is the server whose member shall go, Add the one whose member shall come. Both stay as they were wished, whatever
	// the cell's configuration is by now: that the wish is fulfilled is seen from the configuration, not noted here.
	Remove, Add cell.ServerID
	Node        uint32 // number that the cell issued for Add; zero: not known, so no server was told of it
	Cause       Cause  // what it is for
}

// Moving is the replacement under way; zero: none.
func (r *Record) Moving() Move {
	if r.move == nil {
		return Move{}
	}
	return *r.move
}

// setMoving begins a replacement, changes what is known of it, or ends it with the zero Move.
func (r *Record) setMoving(m Move) {
	r.move = nil
	if !m.isZero() {
		r.move = &m
	}
}

// founding is who founded the cell, if that is kept.
func (r *Record) founding() []Member {
	if r.Founding == nil {
		return nil
	}
	return *r.Founding
}

// isZero reports whether nothing is to be replaced.
func (m Move) isZero() bool { return m == Move{} }

// What is stored is one frame of bytes: format, version, one positional MessagePack struct, and the CRC32C of all of
// that, big-endian.
const (
	formatRecord  = 'L'
	formatServer  = 'V'
	formatState   = 'Z'
	formatUsers   = 'N'
	formatMode    = 'M'
	storedVersion = 1 // of every format but records
	recordVersion = 3 // 2: with the cause of a replacement; 3: with absent members
	recordFields  = 22
	alphaMax      = 1 << 16 // of slots in flight; a record with more is refused when it is read
	keyUsers      = 'n'
	keyRecord     = 'r' // cells sort behind the servers that they name
	keyMode       = '!' // before everything else
	keyServer     = 'a'
	keyRetired    = 'b'
	keyPause      = 'c'
	keyDrain      = 'd'
	keyRecovery   = 's' // behind the record that it belongs to
)

// The two reasons why something stored is refused; errors.Is tells them apart.
var (
	ErrUnknownVersion = errors.New("written by another version")
	ErrDamaged        = errors.New("damaged")
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// key orders records by name, then incarnation; names contain no zero byte.
func (r *Record) key() []byte {
	b := append([]byte{keyRecord}, r.Cell...)
	return binary.BigEndian.AppendUint64(append(b, 0), uint64(r.Incarnation))
}

// appendRecord adds the stored form of r.
func appendRecord(b []byte, r *Record) []byte {
	must.That(r.check() == nil, "stored records are well-formed: %v: %v", r, r.check())
	start := len(b)
	b = append(b, formatRecord, recordVersion)
	b = wire.AppendArray(b, recordFields)
	b = wire.AppendString(b, string(r.Cell))
	b = wire.AppendUint(b, uint64(r.Incarnation))
	b = wire.AppendUint(b, uint64(r.State))
	b = wire.AppendUint(b, r.Plan)
	b = wire.AppendString(b, r.Brick.String())
	b = wire.AppendString(b, r.Color.String())
	b = wire.AppendUint(b, r.Configuration)
	b = appendMembers(b, r.Members)
	b = wire.AppendUint(b, r.Owner)
	b = wire.AppendUint(b, uint64(r.Alpha))
	b = wire.AppendUint(b, uint64(r.Founded))
	b = wire.AppendUint(b, uint64(r.Void))
	b = wire.AppendUint(b, uint64(r.Dropped))
	b = wire.AppendUint(b, uint64(r.Ending))
	b = wire.AppendBool(b, r.Retry)
	b = appendMembers(b, r.founding())
	moving := r.Moving()
	b = wire.AppendString(b, string(moving.Remove))
	b = wire.AppendString(b, string(moving.Add))
	b = wire.AppendUint(b, uint64(moving.Node))
	b = wire.AppendUint(b, uint64(moving.Cause))
	b = wire.AppendBool(wire.AppendUint(b, uint64(r.Absent)), r.Adopted)
	return appendSum(b, start)
}

// appendMembers adds [[node, server], ...].
func appendMembers(b []byte, members []Member) []byte {
	b = wire.AppendArray(b, len(members))
	for _, m := range members {
		b = wire.AppendUint(wire.AppendArray(b, 2), m.Node())
		b = wire.AppendString(b, string(m.Server()))
	}
	return b
}

// decodeMembers reads what appendMembers wrote.
func decodeMembers(r *wire.Reader, names intern) (members []Member) {
	if n := r.Array(wire.MembersMax, "members"); n > 0 {
		members = make([]Member, n)
	}
	for i := range members {
		r.Struct(2, "member")
		node := r.UintMax(math.MaxUint32, "node number")
		members[i] = NewMember(uint32(node), cell.ServerID(names.text(r.Text(cell.ServerIDBytesMax, "server"))))
	}
	return members
}

// intern makes equal strings share memory: a million records name a few thousand servers.
type intern map[string]string

func (t intern) text(b []byte) string {
	if s, ok := t[string(b)]; ok {
		return s
	}
	s := string(b)
	t[s] = s
	return s
}

// decodeRecord reads the stored form; the error is a *cell.Error that wraps ErrDamaged or ErrUnknownVersion.
func decodeRecord(b []byte, names intern) (Record, error) {
	r, err := storedBody(formatRecord, b)
	if err != nil {
		return Record{}, err
	}
	r.Struct(recordFields, "cell record")
	rec := Record{
		Cell:          cell.ID(r.String(cell.IDBytesMax, "cell")),
		Incarnation:   cell.Incarnation(r.Uint()),
		State:         State(r.UintMax(uint64(Deleted), "state")),
		Plan:          r.Uint(),
		Brick:         labelOf(names.text(r.Text(wire.NameBytesMax, "brick"))),
		Color:         labelOf(names.text(r.Text(wire.NameBytesMax, "color"))),
		Configuration: r.Uint(),
	}
	rec.Members = decodeMembers(&r, names)
	rec.Owner = r.Uint()
	rec.Alpha = uint32(r.UintMax(alphaMax, "alpha"))
	rec.Founded = memberSet(r.UintMax(1<<wire.MembersMax-1, "founded"))
	rec.Void = memberSet(r.UintMax(1<<wire.MembersMax-1, "void"))
	rec.Dropped = memberSet(r.UintMax(1<<wire.MembersMax-1, "dropped"))
	rec.Ending = Ending(r.UintMax(uint64(ByLoss), "ending"))
	rec.Retry = r.Bool()
	if founding := decodeMembers(&r, names); founding != nil {
		rec.Founding = &founding
	}
	rec.setMoving(Move{
		Remove: cell.ServerID(names.text(r.Text(cell.ServerIDBytesMax, "server to remove"))),
		Add:    cell.ServerID(names.text(r.Text(cell.ServerIDBytesMax, "server to add"))),
		Node:   uint32(r.UintMax(math.MaxUint32, "node number")),
		Cause:  Cause(r.UintMax(uint64(causeMax), "cause")),
	})
	rec.Absent = memberSet(r.UintMax(1<<wire.MembersMax-1, "absent"))
	rec.Adopted = r.Bool()
	if err := r.Done(); err != nil {
		return Record{}, damaged(err.Error())
	}
	if err := rec.check(); err != nil {
		return Record{}, damaged(err.Error())
	}
	return rec, nil
}

// check holds what is true of every record, written or read.
func (r *Record) check() error {
	if err := r.Cell.Check(); err != nil {
		return err
	}
	switch {
	case r.Incarnation == 0 || r.Plan == 0 || !r.State.valid():
		return fmt.Errorf("incarnation %d, plan %d, %s", r.Incarnation, r.Plan, r.State)
	case (r.State == Deleted) != (len(r.Members) == 0):
		return fmt.Errorf("state %s with %d members", r.State, len(r.Members))
	case (r.Founded|r.Void|r.Dropped|r.Absent)&^r.all() != 0 || r.Founded&r.Void != 0:
		return fmt.Errorf("member sets %b, %b, %b of %d members", r.Founded, r.Void, r.Dropped, len(r.Members))
	case (r.State == Wiping) != (r.Ending != NotEnded) && r.State != Deleted:
		return fmt.Errorf("state %s with ending %d", r.State, r.Ending)
	case r.Retry && (r.State < Wiping || r.Ending != ByVoid):
		return fmt.Errorf("state %s with ending %d is not tried again", r.State, r.Ending)
	case r.is(Live) && !r.founded():
		return fmt.Errorf("live with %d of %d founded", r.Founded.size(), len(r.Members))
	case r.State != Deleted && (r.Configuration == 0 || r.Alpha == 0):
		return fmt.Errorf("configuration %d, alpha %d", r.Configuration, r.Alpha)
	case !r.Moving().isZero() && (r.State != Live || r.Moving().Remove == r.Moving().Add || r.Moving().Remove.Check() != nil || r.Moving().Add.Check() != nil || !r.Moving().Cause.valid()):
		return fmt.Errorf("state %s, replacing %q by %q for %s", r.State, r.Moving().Remove, r.Moving().Add, r.Moving().Cause)
	}
	return r.checkMembers()
}

// checkMembers holds that the members are ordered, on different servers, and that the owner of ballot 1 is one of them.
func (r *Record) checkMembers() error {
	owner := r.State == Deleted || r.Configuration > 1 // once others are members, he may have left
	for i, m := range r.Members {
		if err := m.Server().Check(); err != nil {
			return err
		}
		if m.node == 0 || i > 0 && m.node <= r.Members[i-1].node {
			return fmt.Errorf("members are not ordered by node number at %d", i)
		}
		for _, other := range r.Members[:i] {
			if other.server == m.server {
				return fmt.Errorf("server %s is a member twice", m.Server())
			}
		}
		owner = owner || m.Node() == r.Owner
	}
	if !owner {
		return fmt.Errorf("owner %d of ballot 1 is not a member", r.Owner)
	}
	return nil
}

// appendSum adds the checksum of everything from start on.
func appendSum(b []byte, start int) []byte {
	return binary.BigEndian.AppendUint32(b, crc32.Checksum(b[start:], castagnoli))
}

// storedBody verifies checksum, format and version and returns a reader over what is between.
func storedBody(format byte, b []byte) (wire.Reader, error) {
	if len(b) < 2+4 {
		return wire.Reader{}, damaged(fmt.Sprintf("%d bytes, the shortest possible are 6", len(b)))
	}
	end := len(b) - 4
	want, got := binary.BigEndian.Uint32(b[end:]), crc32.Checksum(b[:end], castagnoli)
	version, hint := byte(storedVersion), "run the version that wrote it, or a newer one"
	if format == formatRecord {
		version = recordVersion
	}
	if b[1] < version {
		hint = "this build cannot read stores from before its first release: rebuild the store from the servers"
	}
	switch {
	case want != got:
		return wire.Reader{}, damaged(fmt.Sprintf("checksum over %d bytes is %08x, stored is %08x", end, got, want))
	case b[0] != format:
		return wire.Reader{}, damaged(fmt.Sprintf("format byte is %q, want %q", b[0], format))
	case b[1] != version:
		return wire.Reader{}, &cell.Error{Op: "lifecycle.load", Kind: cell.Refused, Err: ErrUnknownVersion,
			Detail: fmt.Sprintf("format %q has version %d, this build knows %d", format, b[1], version), Hint: hint}
	}
	return wire.NewReader(b[2:end]), nil
}

// damaged reports bytes that no manager has written, or that have changed since.
func damaged(detail string) error {
	return &cell.Error{Op: "lifecycle.load", Kind: cell.Internal, Detail: detail, Err: ErrDamaged,
		Hint: "do not start with a damaged store: restore it from a backup, or rebuild it from the servers"}
}
