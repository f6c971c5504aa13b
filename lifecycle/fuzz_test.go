package lifecycle

import (
	"reflect"
	"testing"

	"physalia/cell"
	"physalia/internal/wire"
)

// storedDecoders are the readers of everything that the store keeps, by the format that stands first.
var storedDecoders = []struct {
	format byte
	read   func(b []byte) error
}{
	{formatRecord, func(b []byte) error { _, err := decodeRecord(b, intern{}); return err }},
	{formatServer, func(b []byte) error { _, err := decodeServer(b, intern{}); return err }},
	{formatMode, func(b []byte) error { _, err := decodeMode(b); return err }},
	{formatManifest, func(b []byte) error { _, _, err := decodeManifest(b); return err }},
	{formatState, func(b []byte) error { _, err := decodeRecovery(b); return err }},
	{formatServer, func(b []byte) error { _, err := decodeRetired(b); return err }},
	{formatOrder, func(b []byte) error { _, _, err := decodeOrder(b, uint8(actionMax)); return err }},
}

// FuzzStored reads mutated records of the store, with a checksum that holds, so that the fuzzer gets past it. Nothing that is read
// makes a reader fall over, and a cell's record that is accepted is what is written again.
func FuzzStored(f *testing.F) {
	record := fuzzRecord()
	body := func(b []byte) []byte { return b[2 : len(b)-4] } // without format, version and checksum
	f.Add(uint8(0), body(appendRecord(nil, &record)))
	f.Add(uint8(1), body(appendServer(nil, &wire.Registration{Server: "s1-aaaaaaaa", Name: "s1", Colony: "c", Brick: "b", Rack: "r", Power: "p", Color: "red", Boot: 1})))
	f.Add(uint8(2), body(appendMode(nil, &mode{why: "lost", floor: 3})))
	f.Add(uint8(3), []byte{0x93, 0xa1, 'n', 1, 0x91, 0x92, 1, 2})
	f.Add(uint8(4), []byte{0x94, 1, 2, 0xc4, 1, 7, 0x90})
	f.Add(uint8(5), body(appendRetired(nil, "s1-aaaaaaaa")))
	f.Add(uint8(6), []byte{0x94, 1, 0xa1, 'a', 0xa1, 'b', 1})
	for i := range storedDecoders {
		f.Add(uint8(i), []byte{0xdd, 0xff, 0xff, 0xff, 0xff})
	}
	f.Fuzz(func(t *testing.T, which uint8, body []byte) {
		d := storedDecoders[int(which)%len(storedDecoders)]
		b := appendSum(append([]byte{d.format, storedVersion}, body...), 0)
		if d.read(b) != nil || int(which)%len(storedDecoders) != 0 {
			return
		}
		first, err := decodeRecord(b, intern{})
		if err != nil {
			t.Fatal(err)
		}
		second, err := decodeRecord(appendRecord(nil, &first), intern{})
		if err != nil || !reflect.DeepEqual(first, second) {
			t.Fatalf("%+v is read again as %+v, %v", first, second, err)
		}
	})
}

// fuzzRecord is a record with all of a cell's members.
func fuzzRecord() Record {
	r := Record{Cell: "vol-1", Incarnation: 2, State: Live, Plan: 3, Brick: labelOf("b1"), Color: labelOf("red"), Configuration: 4, Owner: 1, Alpha: 8}
	for n := uint32(1); n <= 7; n++ {
		r.Members = append(r.Members, NewMember(n, cell.ServerID("s"+string('0'+rune(n))+"-aaaaaaaa")))
	}
	r.Founded = r.all()
	return r
}
