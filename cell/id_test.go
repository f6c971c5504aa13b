package cell

import (
	"strings"
	"testing"
)

func TestNamesAreChecked(t *testing.T) {
	for name, ok := range map[string]bool{
		"a": true, "vol-17": true, "V.1_2:3/4": true, "0": true, strings.Repeat("x", IDBytesMax): true,
		"": false, strings.Repeat("x", IDBytesMax+1): false, "-a": false, ".": false, "/a": false, "a b": false, "ä": false,
		"a\x00": false, "a\n": false, "a@b": false,
	} {
		for what, err := range map[string]error{"cell": ID(name).Check(), "server": ServerID(name).Check()} {
			if (err == nil) != ok || !ok && KindOf(err) != Invalid {
				t.Errorf("%s %q: %v", what, name, err)
			}
		}
	}
}

func TestFencesAreOrderedAsPairs(t *testing.T) {
	ordered := []Fence{{}, {0, 5}, {1, 1}, {1, 9}, {2, 1}, {2, 8}}
	for i, f := range ordered {
		for j, g := range ordered {
			if f.Less(g) != (i < j) {
				t.Errorf("%v before %v: %t", f, g, f.Less(g))
			}
		}
	}
	if s := (Fence{1, 9}).String(); s != "1.9" {
		t.Error(s)
	}
	if s := (Request{Client: ClientID{0xab, 1, 2, 3, 4}, Sequence: 7, Since: 8}).String(); s != "ab010203/7@8" {
		t.Error(s)
	}
}

func TestIsRead(t *testing.T) {
	for kind := OpPut; kind <= OpScan; kind++ {
		want := kind == OpGet || kind == OpScan
		for _, txn := range []Txn{{Then: []Op{{Kind: OpGet}, {Kind: kind}}}, {Else: []Op{{Kind: kind}}}} {
			if txn.IsRead() != want {
				t.Errorf("operation %d is a read: %t", kind, txn.IsRead())
			}
		}
	}
	if (Op{Kind: 9}).IsRead() || (Op{}).IsRead() {
		t.Error("an unknown operation is no read")
	}
}
