package core

import (
	"encoding/hex"
	"flag"
	"fmt"
	"os"
	"strings"
	"testing"
)

var rewriteGolden = flag.Bool("rewrite", false, "write the golden file instead of comparing with it")

// TestGoldenKeys fixes the keys of everything that a server stores. The values are fixed
// in internal/wire/peer, but for the age, which is eight bytes.
func TestGoldenKeys(t *testing.T) {
	const path = "testdata/golden.txt"
	var b strings.Builder
	for _, c := range []struct {
		name string
		key  []byte
	}{
		{"row", handleKey(nil, keyRow, 0x0102)}, {"name", handleKey(nil, keyName, 0x0102)}, {"state", handleKey(nil, keyState, 0x0102)},
		{"ring", ringKey(nil, 0x0102, 17)}, {"tombstone", tombstoneKey(nil, "vol-17")}, {"pointer", pointerKey(nil, "vol-17")},
		{"memory", MemoryRange("s1-k3v9q2xa").Start}, {"handles", []byte{keyHandles}}, {"period", []byte{keyPeriod}},
		{"lives", []byte{keyLives}}, {"age", []byte{keyAge}}, {"journal", journalKey(nil, 0x0102)},
	} {
		fmt.Fprintf(&b, "%s\n\t%s\n", c.name, hex.EncodeToString(c.key))
	}
	if *rewriteGolden {
		if err := os.MkdirAll("testdata", 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(b.String()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if b.String() != string(want) {
		t.Errorf("keys differ from %s; got\n%s", path, b.String())
	}
}
