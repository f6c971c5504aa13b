package etcdstore

import (
	"encoding/binary"
	"hash/crc32"
	"reflect"
	"testing"

	"physalia/lifecycle"
)

// FuzzJournal reads mutated parts of a journal, with a checksum that holds: what is accepted is what is written again.
func FuzzJournal(f *testing.F) {
	whole := appendJournal(nil, []lifecycle.Write{{Key: []byte("k"), Value: []byte("v")}, {Key: []byte("gone")}, {Key: []byte("e"), Value: []byte{}}})
	f.Add(whole[1 : len(whole)-4])
	f.Add([]byte{0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1})
	f.Fuzz(func(t *testing.T, body []byte) {
		b := append([]byte{journalMagic}, body...)
		first, err := decodeJournal(binary.BigEndian.AppendUint32(b, crc32.Checksum(b, castagnoli)))
		if err != nil {
			return
		}
		second, err := decodeJournal(appendJournal(nil, first))
		if err != nil || !reflect.DeepEqual(first, second) {
			t.Fatalf("%q is read again as %q, %v", first, second, err)
		}
	})
}

// FuzzURL reads mutated URLs of a store: no secret and no rest is ever taken for a host.
func FuzzURL(f *testing.F) {
	f.Add("etcd://a:1,b:2/prefix")
	f.Add("etcd://[::1]:2379/")
	f.Fuzz(func(t *testing.T, url string) {
		endpoints, _, err := ParseURL(url)
		if err == nil && len(endpoints) == 0 {
			t.Fatalf("%q has no host", url)
		}
	})
}
