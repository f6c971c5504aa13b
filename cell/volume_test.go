package cell

import (
	"errors"
	"strings"
	"testing"
)

// What the transactions do is tested in cell/machine/volume_test.go, where they can run.

func TestVolumeTransactionsPassTheGate(t *testing.T) {
	long := strings.Repeat("n", VolumeNameBytesMax)
	var all []Txn
	add := func(txn Txn, err error) {
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, txn)
	}
	for _, p := range []uint32{0, 1, 1<<32 - 1} {
		add(LookupTxn(p), nil)
		add(AttachTxn(p, long, long[1:]))
		add(AttachTxn(p, "a", ""))
		add(PromoteTxn(p, 1<<62, long))
		add(ReplaceTxn(p, 1, ""))
		add(ReplaceTxn(p, 1, "[::1]:80"))
	}
	for i := range all {
		if err := all[i].Check(); err != nil {
			t.Errorf("transaction %d: %v", i, err)
		}
		if all[i].IsRead() != (i%6 == 0) {
			t.Errorf("transaction %d is a read: %t", i, all[i].IsRead())
		}
	}
}

func TestVolumeNamesAreBounded(t *testing.T) {
	for _, name := range []string{"", " ", "a b", "a\n", "\x00", "ä", "a\x7f", strings.Repeat("n", VolumeNameBytesMax+1)} {
		_, attach := AttachTxn(0, name, "b")
		_, attachReplica := AttachTxn(0, "a", name)
		_, promote := PromoteTxn(0, 1, name)
		_, replace := ReplaceTxn(0, 1, name)
		for op, err := range map[string]error{"attach": attach, "attach replica": attachReplica, "promote": promote, "replace": replace} {
			if name == "" && (op == "attach replica" || op == "replace") {
				continue // no replica
			}
			var e *Error
			if !errors.As(err, &e) || e.Kind != Invalid || e.Detail == "" || e.Hint == "" {
				t.Errorf("%s with name %q: %v", op, name, err)
			}
		}
	}
	if _, err := AttachTxn(0, "a", "a"); KindOf(err) != Invalid {
		t.Errorf("primary and replica alike: %v", err)
	}
	for _, g := range []Generation{0, 1<<62 + 1, 1<<64 - 1} {
		_, promote := PromoteTxn(0, g, "a")
		_, replace := ReplaceTxn(0, g, "a")
		if KindOf(promote) != Invalid || KindOf(replace) != Invalid {
			t.Errorf("generation %d: %v, %v", g, promote, replace)
		}
	}
}

func TestVolumeRecordReadsWell(t *testing.T) {
	r := VolumeRecord{Partition: 2, Primary: "a", Replica: "b", Generation: 7}
	if s := r.String(); s != "2: primary a, replica b, generation 7" {
		t.Error(s)
	}
	r.Replica = ""
	if s := r.String(); s != "2: primary a, replica none, generation 7" {
		t.Error(s)
	}
	if f := r.Fence(3); f != (Fence{Incarnation: 3, Number: 7}) || !f.Less(Fence{Incarnation: 4, Number: 1}) {
		t.Errorf("fence %v", f)
	}
}
