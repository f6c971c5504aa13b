package wire

import (
	"bytes"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"strings"
	"testing"

	"physalia/cell"
)

// killers are inputs that broke MessagePack decoders elsewhere.
func killers() map[string][]byte {
	return map[string][]byte{
		"nothing":                     {},
		"array of 4 G elements":       {0xdd, 0xff, 0xff, 0xff, 0xff},
		"array of 64 K elements":      {0xdc, 0xff, 0xff},
		"string of 4 GiB":             {0xdb, 0xff, 0xff, 0xff, 0xff},
		"bytes of 4 GiB":              {0xc6, 0xff, 0xff, 0xff, 0xff},
		"map of 4 G pairs":            {0xdf, 0xff, 0xff, 0xff, 0xff},
		"extension of 4 GiB":          {0xc9, 0xff, 0xff, 0xff, 0xff, 1},
		"2 MB of nested arrays":       bytes.Repeat([]byte{0x91}, 2<<20),
		"2 MB of nested arrays in 15": append(bytes.Repeat([]byte{0x9f}, 14), bytes.Repeat([]byte{0x91}, 2<<20)...),
		"2 MB of nil":                 bytes.Repeat([]byte{0xc0}, 2<<20),
		"2 MB of array heads":         bytes.Repeat([]byte{0xdd, 0, 0xff, 0xff, 0xff}, 2<<20/5),
		"never used code":             {0xc1},
		"float":                       {0xcb, 0, 0, 0, 0, 0, 0, 0, 0},
	}
}

// allocated tells how many bytes f allocates.
func allocated(f func()) uint64 {
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	f()
	runtime.ReadMemStats(&after)
	return after.TotalAlloc - before.TotalAlloc
}

// hostileBytesMax is what decoding n bytes of anything may allocate: an error with its texts, and per byte no more than
// the widest struct has over its shortest encoding.
func hostileBytesMax(n int) uint64 { return 16<<10 + 32*uint64(n) }

func TestKillersAreRefusedCheaply(t *testing.T) {
	for name, input := range killers() {
		for _, s := range samples() {
			if n, err := unmarshalCost(input, s.empty()); err == nil || n > hostileBytesMax(0) {
				t.Errorf("%s as %s: %d bytes allocated, %v", name, s.name, n, err)
			}
		}
	}
}

// TestFalseLengthsAreRefusedCheaply replaces every array head of every message by one that claims more, with just
// enough bytes behind it or with 32 KB of elements of all kinds, so that each list is filled as far as its decoder goes.
func TestFalseLengthsAreRefusedCheaply(t *testing.T) {
	fillers := [][]byte{{0xc0}, {0x93, 0x90, 0x90, 0x90}, {0x96, 0xa1, 'k', 0xc0, 0, 0, 0, 0}, {0x94, 0, 0xa0, 0xa0, 0xa0}}
	worst, cases := 0.0, 0
	for _, s := range samples() {
		buf := s.full.Append(nil)
		for r := NewReader(buf); r.Left() > 0; {
			at := r.off
			if _, isArray := r.step(); !isArray {
				continue
			}
			for _, claimed := range []int{13, cell.TxnOpsMax, ListLimitMax, 7936, 1<<32 - 1} {
				for _, filler := range fillers {
					tail := bytes.Repeat(filler, 32<<10/len(filler))
					for _, n := range []int{min(claimed, len(tail)), len(tail)} {
						input := slices.Concat(buf[:at], AppendArray(nil, claimed), tail[:n])
						grew, err := unmarshalCost(input, s.empty())
						if err == nil || grew > hostileBytesMax(len(input)) {
							t.Errorf("%s with %d elements at %d in %x of %d bytes: %d bytes allocated, %v", s.name, claimed, at, filler, n, grew, err)
						}
						worst, cases = max(worst, float64(grew)/float64(len(input))), cases+1
					}
				}
			}
		}
	}
	t.Logf("%d cases, at worst %.1f bytes allocated per byte of input", cases, worst)
}

// unmarshalCost decodes and tells how many bytes that allocates.
func unmarshalCost(input []byte, m Message) (uint64, error) {
	var err error
	n := allocated(func() { err = Unmarshal(input, m) })
	return n, err
}

// TestDensestInputsStayProportional decodes valid messages made of the shortest elements only.
func TestDensestInputsStayProportional(t *testing.T) {
	results := func() []cell.OpResult { return make([]cell.OpResult, cell.TxnOpsMax) }
	remembered := make([]Remembered, cell.WindowMax)
	for i := range remembered {
		remembered[i].Result.Results = results()
	}
	leases := make([]cell.Lease, cell.LeasesMax)
	for i := range leases {
		leases[i].ID = cell.LeaseID(i)
	}
	for _, m := range []Message{
		&CellState{Remembered: remembered, Leases: leases}, &Leases{Leases: make([]cell.LeaseStatus, cell.LeasesMax)},
		&TxnReply{Result: cell.TxnResult{Results: results()}},
		&Routes{Routes: make([]Route, BatchMax)}, &CreateNodes{make([]Founding, BatchMax)}, &Registered{Seeds: make([]string, BatchMax)},
		&CellList{Cells: make([]CellInfo, ListLimitMax)}, &NodeList{Nodes: make([]NodeInfo, ListLimitMax)},
		&ServerList{Servers: make([]ServerState, ListLimitMax)}, &Outcomes{make([]Outcome, BatchMax)},
	} {
		buf := m.Append(nil)
		if n, err := unmarshalCost(buf, m); err != nil || n > hostileBytesMax(len(buf)) {
			t.Errorf("%T: %d bytes allocated for %d, %v", m, n, len(buf), err)
		}
	}
}

func TestEveryTruncationIsRefused(t *testing.T) {
	for _, s := range samples() {
		buf := s.full.Append(nil)
		for n := range buf {
			if err := Unmarshal(buf[:n], s.empty()); cell.KindOf(err) != cell.Invalid {
				t.Errorf("%s cut to %d of %d bytes: %v", s.name, n, len(buf), err)
			}
		}
		if err := Unmarshal(append(buf, 0xc0), s.empty()); cell.KindOf(err) != cell.Invalid {
			t.Errorf("%s with a byte left over: %v", s.name, err)
		}
	}
}

func TestErrorsNameMessageAndPlace(t *testing.T) {
	err := Unmarshal([]byte{0x93, 0xc0}, &TxnRequest{})
	var e *cell.Error
	if !errors.As(err, &e) || e.Kind != cell.Invalid || e.Hint == "" || !strings.HasPrefix(e.Detail, "TxnRequest: byte 1: ") {
		t.Fatalf("got %v", err)
	}
}

// TestBounds offers each bound exactly and exceeds it by one.
func TestBounds(t *testing.T) {
	text := func(n int) string { return strings.Repeat("x", n) }
	ops := func(n int) []cell.Op { return slices.Repeat([]cell.Op{{Kind: cell.OpGet, Key: "k"}}, n) }
	txn := func(t cell.Txn) Message { return &TxnRequest{Txn: t} }
	entries := func(n int) []cell.Entry {
		list := make([]cell.Entry, n)
		for i := range list {
			list[i].Key = fmt.Sprintf("%09d", i)
		}
		return list
	}
	result := func(o cell.OpResult) Message { return &TxnReply{Result: cell.TxnResult{Results: []cell.OpResult{o}}} }
	for _, c := range []struct {
		name string
		max  int
		make func(n int) Message
	}{
		{"key", cell.KeyBytesMax, func(n int) Message { return txn(cell.Txn{Then: []cell.Op{{Kind: cell.OpPut, Key: text(n)}}}) }},
		{"key of a condition", cell.KeyBytesMax, func(n int) Message {
			return txn(cell.Txn{If: []cell.Condition{{Key: text(n), Target: cell.OnValue, Compare: cell.Equal}}})
		}},
		{"scan position", cell.KeyBytesMax, func(n int) Message { return txn(cell.Txn{Then: []cell.Op{{Kind: cell.OpScan, After: text(n)}}}) }},
		{"string value", cell.ValueBytesMax, func(n int) Message {
			return txn(cell.Txn{Then: []cell.Op{{Kind: cell.OpPut, Value: cell.String(text(n))}}})
		}},
		{"bytes value", cell.ValueBytesMax, func(n int) Message {
			return txn(cell.Txn{Then: []cell.Op{{Kind: cell.OpPut, Value: cell.Bytes([]byte(text(n)))}}})
		}},
		{"operations", cell.TxnOpsMax, func(n int) Message { return txn(cell.Txn{Then: ops(n - 10), Else: ops(10)}) }},
		{"conditions", cell.TxnOpsMax, func(n int) Message {
			c := cell.Condition{Key: "k", Target: cell.OnExistence, Compare: cell.Equal}
			return txn(cell.Txn{If: slices.Repeat([]cell.Condition{c}, n-2), Then: ops(1), Else: ops(1)})
		}},
		{"magnitude", cell.IntBitsMax / 8, func(n int) Message {
			return txn(cell.Txn{Then: []cell.Op{{Kind: cell.OpPut, Value: bigValue("0x" + strings.Repeat("ff", n))}}})
		}},
		{"results", cell.TxnOpsMax, func(n int) Message {
			return &TxnReply{Result: cell.TxnResult{Results: make([]cell.OpResult, n)}}
		}},
		{"scanned entries", cell.ScanLimitMax, func(n int) Message { return result(cell.OpResult{Entries: entries(n)}) }},
		{"failed condition", cell.TxnOpsMax - 1, func(n int) Message { return &TxnReply{Result: cell.TxnResult{Failed: n}} }},
		{"entries of a state", cell.CellBytesMax / (cell.KeyOverheadBytes + 1), func(n int) Message { return &CellState{Entries: entries(n)} }},
		{"remembered", cell.WindowMax, func(n int) Message { return &CellState{Remembered: make([]Remembered, n)} }},
		{"cell name", cell.IDBytesMax, func(n int) Message { return &ExplainRequest{Header{Cell: cell.ID(text(n))}} }},
		{"server identity", cell.ServerIDBytesMax, func(n int) Message { return &ListServers{After: cell.ServerID(text(n))} }},
		{"name", NameBytesMax, func(n int) Message { return &Hello{Colony: text(n)} }},
		{"address", AddrBytesMax, func(n int) Message { return &Founder{PeerAddr: text(n)} }},
		{"members", MembersMax, func(n int) Message { return &Route{Members: make([]Founder, n)} }},
		{"explained members", MembersMax, func(n int) Message { return &Explanation{Members: make([]ExplainedMember, n)} }},
		{"foundings", BatchMax, func(n int) Message { return &CreateNodes{make([]Founding, n)} }},
		{"drops", BatchMax, func(n int) Message { return &DropNodes{Drops: make([]Drop, n)} }},
		{"outcomes", BatchMax, func(n int) Message { return &Outcomes{make([]Outcome, n)} }},
		{"routes", BatchMax, func(n int) Message { return &Routes{Routes: make([]Route, n)} }},
		{"looked up cells", BatchMax, func(n int) Message { return &LookupRequest{make([]cell.ID, n)} }},
		{"seeds", BatchMax, func(n int) Message { return &Registered{Seeds: make([]string, n)} }},
		{"listed nodes", ListLimitMax, func(n int) Message { return &NodeList{Nodes: make([]NodeInfo, n)} }},
		{"listed cells", ListLimitMax, func(n int) Message { return &CellList{Cells: make([]CellInfo, n)} }},
		{"listed servers", ListLimitMax, func(n int) Message { return &ServerList{Servers: make([]ServerState, n)} }},
		{"page", ListLimitMax, func(n int) Message { return &ListNodes{Limit: uint32(n)} }},
	} {
		m := c.make(c.max)
		if err := Unmarshal(m.Append(nil), m); err != nil {
			t.Errorf("%s of %d is refused: %v", c.name, c.max, err)
		}
		m = c.make(c.max + 1)
		if err := Unmarshal(m.Append(nil), m); cell.KindOf(err) != cell.Invalid {
			t.Errorf("%s of %d is accepted: %v", c.name, c.max+1, err)
		}
	}
}
