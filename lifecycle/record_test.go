package lifecycle

import (
	"encoding/hex"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode/utf8"
	"unsafe"

	"pgregory.net/rapid"

	"physalia/cell"
	"physalia/internal/wire"
)

func drawRecord(t *rapid.T) Record {
	n := rapid.IntRange(1, wire.MembersMax).Draw(t, "members")
	r := Record{
		Cell:          cell.ID(rapid.StringMatching(`[a-z][a-z0-9._:/-]{0,62}`).Draw(t, "cell")),
		Incarnation:   cell.Incarnation(rapid.Uint64Range(1, 1<<63).Draw(t, "incarnation")),
		State:         State(rapid.IntRange(int(Creating), int(Deleted)).Draw(t, "state")),
		Plan:          rapid.Uint64Min(1).Draw(t, "plan"),
		Brick:         labelOf(rapid.StringN(0, 16, 64).Draw(t, "brick")),
		Color:         labelOf(rapid.StringN(0, 16, 64).Draw(t, "color")),
		Configuration: rapid.Uint64Min(1).Draw(t, "configuration"),
		Alpha:         rapid.Uint32Range(1, 16).Draw(t, "alpha"),
	}
	if r.State != Deleted {
		for i := range n {
			r.Members = append(r.Members, NewMember(uint32(i*3)+1, cell.ServerID(rapid.StringMatching(`[a-z]{8}`).Draw(t, "server")+string(rune('a'+i)))))
		}
		r.Owner = r.Members[rapid.IntRange(0, n-1).Draw(t, "owner")].Node()
		r.Founded = memberSet(rapid.Uint16().Draw(t, "founded")) & r.all()
		r.Void = memberSet(rapid.Uint16().Draw(t, "void")) & r.all() &^ r.Founded
		r.Dropped = memberSet(rapid.Uint16().Draw(t, "dropped")) & r.all()
		r.Absent = memberSet(rapid.Uint16().Draw(t, "absent")) & r.all()
		r.Adopted = rapid.Bool().Draw(t, "adopted")
	}
	if r.State == Live {
		r.Founded, r.Void = r.all(), 0
		if rapid.Bool().Draw(t, "move") {
			r.setMoving(Move{Remove: r.Members[0].Server(), Add: "new", Node: rapid.Uint32().Draw(t, "number"),
				Cause: Cause(rapid.IntRange(int(ByOperator), int(causeMax)).Draw(t, "cause"))})
			founding := slices.Clone(r.Members)
			r.Founding = &founding
		}
	}
	if r.State >= Wiping {
		r.Ending = Ending(rapid.IntRange(int(BySeal), int(ByVoid)).Draw(t, "ending"))
		r.Retry = r.Ending == ByVoid && rapid.Bool().Draw(t, "retry")
	}
	return r
}

func TestRecordRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		r := drawRecord(t)
		if err := r.check(); err != nil {
			t.Fatalf("drawn record: %v", err)
		}
		b := appendRecord(nil, &r)
		got, err := decodeRecord(b, intern{})
		if err != nil || !reflect.DeepEqual(got, r) {
			t.Fatalf("got %+v, %v\nwant %+v", got, err, r)
		}
		b[rapid.IntRange(0, len(b)-1).Draw(t, "byte")] ^= 1 << rapid.IntRange(0, 7).Draw(t, "bit")
		if _, err := decodeRecord(b, intern{}); !errors.Is(err, ErrDamaged) {
			t.Fatalf("a flipped bit: %v", err)
		}
	})
}

// TestStoredForm holds the bytes on disk: a change of these needs a new version.
func TestStoredForm(t *testing.T) {
	r := Record{Cell: "vol-1", Incarnation: 2, State: Live, Plan: 3, Brick: labelOf("b1"), Color: labelOf("red"), Configuration: 1, Alpha: 4,
		Owner: 2, Members: []Member{NewMember(1, "s1"), NewMember(2, "s2"), NewMember(3, "s3")}, Founded: 0b111}
	g := wire.Registration{Server: "s1", Name: "n", Colony: "c", Brick: "b", Rack: "r", Power: "p", Color: "red", PeerAddr: "h:1",
		ClientAddr: "h:2", GossipAddr: "h:3", Boot: 7, Nodes: 99, Capacity: 1000}
	for _, c := range []struct {
		name string
		got  []byte
		want string
	}{
		{"record", appendRecord(nil, &r), goldenRecord},
		{"server", appendServer(nil, &g), goldenServer},
		{"record key", r.key(), "72766f6c2d31000000000000000002"},
		{"server key", serverKey("s1"), "617331"},
	} {
		if got := hex.EncodeToString(c.got); got != c.want {
			t.Errorf("%s:\n got %s\nwant %s", c.name, got, c.want)
		}
	}
	back, err := decodeServer(appendServer(nil, &g), intern{})
	if g.Nodes = 0; err != nil || back != g {
		t.Errorf("server: got %+v, %v", back, err)
	}
}

func TestNewerVersionIsNotDamage(t *testing.T) {
	r := Record{Cell: "a", Incarnation: 1, State: Deleted, Plan: 1}
	b := appendRecord(nil, &r)
	b[1]++
	b = appendSum(b[:len(b)-4], 0)
	if _, err := decodeRecord(b, intern{}); !errors.Is(err, ErrUnknownVersion) || errors.Is(err, ErrDamaged) {
		t.Fatalf("got %v", err)
	}
}

// TestRecordChecks: what no manager writes is not believed either.
func TestRecordChecks(t *testing.T) {
	good := Record{Cell: "a", Incarnation: 1, State: Creating, Plan: 1, Configuration: 1, Alpha: 4, Owner: 1,
		Members: []Member{NewMember(1, "s1"), NewMember(2, "s2"), NewMember(3, "s3")}}
	if err := good.check(); err != nil {
		t.Fatal(err)
	}
	for name, change := range map[string]func(*Record){
		"no name":             func(r *Record) { r.Cell = "" },
		"incarnation 0":       func(r *Record) { r.Incarnation = 0 },
		"plan 0":              func(r *Record) { r.Plan = 0 },
		"state 9":             func(r *Record) { r.State = 9 },
		"tombstone with jury": func(r *Record) { r.State = Deleted },
		"no jury":             func(r *Record) { r.Members = nil },
		"owner":               func(r *Record) { r.Owner = 9 },
		"order":               func(r *Record) { r.Members[1] = NewMember(1, "s2") },
		"twice":               func(r *Record) { r.Members[1] = NewMember(2, "s1") },
		"unknown founder":     func(r *Record) { r.Founded = 1 << 3 },
		"founded and void":    func(r *Record) { r.Founded, r.Void = 1, 1 },
		"wiping unproven":     func(r *Record) { r.State = Wiping },
		"ended alive":         func(r *Record) { r.Ending = BySeal },
		"retry of the sealed": func(r *Record) { r.State, r.Ending, r.Retry = Wiping, BySeal, true },
		"live by a minority":  func(r *Record) { r.State, r.Founded = Live, 1 },
		"alpha 0":             func(r *Record) { r.Alpha = 0 },
	} {
		r := good
		r.Members = slices.Clone(good.Members)
		change(&r)
		if r.check() == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}

// TestIndex compares the index with a sorted slice.
func TestIndex(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		names := rapid.SliceOfNDistinct(rapid.StringMatching(`[a-c]{1,8}`), 0, 2000, rapid.ID[string]).Draw(t, "names")
		var x nameIndex
		for _, n := range names {
			x.add(cell.ID(n))
		}
		slices.Sort(names)
		from := rapid.StringMatching(`[a-d]{0,8}`).Draw(t, "from")
		limit := rapid.IntRange(1, 2001).Draw(t, "limit")
		var got, want []string
		x.scan(cell.ID(from), "", func(n cell.ID) bool {
			got = append(got, string(n))
			return len(got) < limit
		})
		i, _ := slices.BinarySearch(names, from)
		want = names[i:min(len(names), i+limit)]
		if !slices.Equal(got, want) {
			t.Fatalf("from %q: got %d names, want %d", from, len(got), len(want))
		}
		for _, c := range x.chunks {
			if len(c) == 0 || len(c) > chunkMax {
				t.Fatalf("a chunk has %d names", len(c))
			}
		}
	})
}

func TestListPages(t *testing.T) {
	w := newWorld(t.Fatalf, smallConfig(), 3)
	w.create(time.Minute, "b/1", "a/1", "b/2", "b/3", "c/1")
	w.settle()
	page := func(after cell.ID, prefix string, limit uint32) (names string, more bool) {
		w.nextID++
		w.m.List(w.now, w.nextID, wire.ListCells{After: after, Prefix: prefix, Limit: limit})
		w.turn()
		r := w.replies[w.nextID]
		if r.Err != nil {
			t.Fatal(r.Err)
		}
		for _, c := range r.List.Cells {
			names += " " + string(c.Cell)
		}
		return strings.TrimSpace(names), r.List.More
	}
	for _, c := range []struct {
		after  cell.ID
		prefix string
		limit  uint32
		want   string
		more   bool
	}{
		{"", "", 10, "a/1 b/1 b/2 b/3 c/1", false},
		{"", "", 2, "a/1 b/1", true},
		{"b/1", "", 2, "b/2 b/3", true},
		{"b/3", "", 2, "c/1", false},
		{"", "b/", 2, "b/1 b/2", true},
		{"b/2", "b/", 2, "b/3", false},
		{"a/1", "b/", 3, "b/1 b/2 b/3", false},
		{"c/1", "", 1, "", false},
	} {
		if got, more := page(c.after, c.prefix, c.limit); got != c.want || more != c.more {
			t.Errorf("after %q prefix %q limit %d: got %q, %v", c.after, c.prefix, c.limit, got, more)
		}
	}
	w.nextID++
	w.m.List(w.now, w.nextID, wire.ListCells{})
	w.turn()
	if r := w.replies[w.nextID]; r.Err == nil || r.Err.Kind != cell.Invalid {
		t.Errorf("limit 0: %+v", r)
	}
}

const (
	goldenRecord = "4c03dc0016a5766f6c2d31020203a26231a372656401939201a273319202a273329203a27333020407000000c290a0a0000000c2641b3a34"
	goldenServer = "56019ca27331a16ea163a162a172a170a3726564a3683a31a3683a32a3683a3307cd03e8d55c1a12"
)

// TestAnswersFitAFrame: whatever names, texts and addresses are, an outcome of a full batch and a page of the list fit the
// smallest frame of a client.
func TestAnswersFitAFrame(t *testing.T) {
	w := newWorld(t.Fatalf, seven(), 7)
	for _, s := range w.servers {
		s.reg.PeerAddr, s.reg.ClientAddr = strings.Repeat("p", wire.AddrBytesMax), strings.Repeat("c", wire.AddrBytesMax)
		s.refuse = &cell.Error{Kind: cell.Unavailable, Detail: strings.Repeat("ä", wire.DetailBytesMax)}
	}
	w.crash()
	names := make([]cell.ID, wire.BatchMax)
	for i := range names {
		names[i] = cell.ID(fmt.Sprintf("%064d", i))
	}
	id := w.create(time.Second, names...)
	w.advance(2 * time.Second)
	outcomes := w.replies[id].Outcomes
	if n := len(outcomes.Append(nil)); n > wire.ClientFrameMax {
		t.Errorf("the outcomes have %d bytes, a client's frame has %d", n, wire.ClientFrameMax)
	}
	for i := range outcomes.Outcomes {
		if err := outcomes.Outcomes[i].Err; !utf8.ValidString(err.Detail) || !strings.Contains(err.Detail, "0 of 7 nodes founded") {
			t.Fatalf("%s: %q", names[i], err.Detail)
		}
	}
	listed := cell.ID("")
	for pages := 1; ; pages++ {
		w.nextID++
		w.m.List(w.now, w.nextID, wire.ListCells{After: listed, Limit: wire.ListLimitMax})
		w.turn()
		l := w.replies[w.nextID].List
		if n := len(l.Append(nil)); n > wire.ClientFrameMax {
			t.Fatalf("page %d has %d bytes", pages, n)
		}
		listed = l.Cells[len(l.Cells)-1].Cell
		if !l.More {
			break
		}
	}
	if listed != names[len(names)-1] {
		t.Errorf("the last page ends with %s", listed)
	}
}

// A million incarnations are held in memory: what every one of them takes counts.
func TestIncarnationIsSmall(t *testing.T) {
	if n := unsafe.Sizeof(incarnation{}); n > 160 {
		t.Errorf("an incarnation takes %d bytes beside its members and its name, the budget is 160", n)
	}
}
