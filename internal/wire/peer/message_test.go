package peer

import (
	"bytes"
	"errors"
	"go/ast"
	"go/parser"
	"go/token"
	"reflect"
	"strconv"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"physalia/cell"
	"physalia/internal/must"
	_ "physalia/internal/rapidseed"
	"physalia/internal/wire"
	"physalia/paxos"
)

func genBytes(max int) *rapid.Generator[[]byte] { return rapid.SliceOfN(rapid.Byte(), 0, max) }

func genBallot(t *rapid.T) paxos.Ballot {
	return paxos.Ballot{Round: paxos.Round(rapid.Uint64().Draw(t, "round")), Node: paxos.NodeNumber(rapid.Uint32().Draw(t, "node"))}
}

func genEntry(t *rapid.T) paxos.Entry {
	e := paxos.Entry{Kind: paxos.EntryKind(rapid.IntRange(1, 4).Draw(t, "entry kind"))}
	if e.Kind == paxos.Reform {
		e.Change = &paxos.Change{Kind: paxos.ChangeKind(rapid.IntRange(1, 4).Draw(t, "change kind")), Request: rapid.Uint64().Draw(t, "request"),
			Number: paxos.ConfigurationNumber(rapid.Uint64().Draw(t, "number")), Old: paxos.NodeNumber(rapid.Uint32().Draw(t, "old")),
			New: paxos.NodeNumber(rapid.Uint32().Draw(t, "new")), Server: paxos.ServerID(rapid.StringN(0, 9, 20).Draw(t, "server"))}
	}
	if e.Kind == paxos.Commands {
		e.Commands = rapid.SliceOfN(genBytes(300), 1, 20).Draw(t, "commands")
	}
	return e
}

func genRecord(t *rapid.T) paxos.Record {
	return paxos.Record{Slot: paxos.Slot(rapid.Uint64().Draw(t, "slot")), Ballot: genBallot(t), Entry: genEntry(t)}
}

func genConfiguration(t *rapid.T) paxos.Configuration {
	n := rapid.IntRange(1, MembersMax).Draw(t, "members")
	c := paxos.Configuration{
		Number: paxos.ConfigurationNumber(rapid.Uint64Range(2, 1<<63).Draw(t, "number")),
		Alpha:  rapid.Uint32Range(1, paxos.AlphaMax).Draw(t, "alpha"),
		Owner:  paxos.NodeNumber(rapid.Uint32().Draw(t, "owner")),
	}
	for range n {
		c.Next += paxos.NodeNumber(rapid.Uint32Range(1, 1000).Draw(t, "gap"))
		c.Members = append(c.Members, paxos.Member{Node: c.Next, Server: paxos.ServerID("s" + strconv.Itoa(int(c.Next)))})
	}
	for range rapid.IntRange(0, paxos.LearnersMax).Draw(t, "learners") {
		c.Next += paxos.NodeNumber(rapid.Uint32Range(1, 1000).Draw(t, "gap"))
		c.Learners = append(c.Learners, paxos.Learner{Request: rapid.Uint64().Draw(t, "request"),
			Member: paxos.Member{Node: c.Next, Server: paxos.ServerID("s" + strconv.Itoa(int(c.Next)))}})
	}
	if c.Next++; rapid.Bool().Draw(t, "left") {
		c.Left = paxos.Member{Node: c.Next, Server: "gone"}
		c.Next, c.Unsettled = c.Next+1, rapid.Bool().Draw(t, "unsettled")
	}
	c.Since = paxos.Slot(rapid.Uint64().Draw(t, "since"))
	return c
}

func genSnapshot(t *rapid.T) paxos.Snapshot {
	s := paxos.Snapshot{Applied: paxos.Slot(rapid.Uint64Range(0, 1<<63).Draw(t, "applied")), Sealed: rapid.Bool().Draw(t, "sealed"),
		Configuration: genConfiguration(t), State: genBytes(2000).Draw(t, "state"), Hash: rapid.Uint64().Draw(t, "hash")}
	if rapid.Bool().Draw(t, "pending") {
		next := genConfiguration(t)
		next.Number, next.Since = s.Configuration.Number+1, s.Applied+2+next.Since%16
		s.Pending = &next
	}
	return s
}

func genCell() *rapid.Generator[cell.ID] {
	return rapid.Custom(func(t *rapid.T) cell.ID {
		return cell.ID(rapid.StringMatching(`[a-zA-Z0-9][-a-zA-Z0-9._:/]{0,63}`).Draw(t, "cell"))
	})
}

func genMessage(t *rapid.T) (Envelope, paxos.Message) {
	env := Envelope{Cell: genCell().Draw(t, "cell"), Incarnation: cell.Incarnation(rapid.Uint64().Draw(t, "incarnation")),
		Configuration: paxos.ConfigurationNumber(rapid.Uint64().Draw(t, "configuration"))}
	if rapid.Bool().Draw(t, "supported") {
		env.Support = Epoch{Boot: rapid.Uint64Min(1).Draw(t, "boot"), Counter: rapid.Uint64().Draw(t, "counter")}
	}
	if rapid.Bool().Draw(t, "hashed") {
		env.HashSlot = paxos.Slot(rapid.Uint64Min(1).Draw(t, "hash slot"))
		env.Hash = rapid.Uint64().Draw(t, "hash")
	}
	slot := func(name string) paxos.Slot { return paxos.Slot(rapid.Uint64().Draw(t, name)) }
	s := genSnapshot(t)
	m := paxos.Message{
		Kind: paxos.MessageKind(rapid.IntRange(1, len(fieldsOf)-1).Draw(t, "kind")),
		From: paxos.NodeNumber(rapid.Uint32().Draw(t, "from")), To: paxos.NodeNumber(rapid.Uint32().Draw(t, "to")),
		Ballot: genBallot(t), Slot: slot("slot"), Through: slot("through"), Floor: slot("floor"),
		Number: rapid.Uint64().Draw(t, "number"), Entry: genEntry(t), Snapshot: &s,
	}
	for range rapid.IntRange(0, 5).Draw(t, "records") {
		m.Records = append(m.Records, genRecord(t))
	}
	return env, only(m)
}

// TestMessagesRoundTrip sends several messages through one buffer, overwrites the buffer, and compares: nothing that
// was decoded may alias it.
func TestMessagesRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		n := rapid.IntRange(1, 4).Draw(t, "messages")
		envs, messages := make([]Envelope, n), make([]paxos.Message, n)
		head := FrameHead{Durable: rapid.Uint64().Draw(t, "durable"), Count: n}
		b := head.Append(nil)
		for i := range n {
			envs[i], messages[i] = genMessage(t)
			b = AppendMessage(b, &envs[i], &messages[i])
		}
		var gotHead FrameHead
		gotEnvs, gotMessages := make([]Envelope, n), make([]paxos.Message, n)
		r := wire.NewReader(b)
		gotHead.Decode(&r)
		for i := range gotHead.Count {
			DecodeMessage(&r, &gotEnvs[i], &gotMessages[i])
		}
		if err := r.Done(); err != nil {
			t.Fatal(err)
		}
		for i := range b {
			b[i] = 0xa5
		}
		if gotHead != head || !reflect.DeepEqual(gotEnvs, envs) || !same(gotMessages, messages) {
			t.Fatalf("got %+v %+v %+v\nwant %+v %+v %+v", gotHead, gotEnvs, gotMessages, head, envs, messages)
		}
	})
}

// same compares deeply, but lets an empty slice stand for a nil one.
func same(a, b []paxos.Message) bool {
	for _, list := range [2][]paxos.Message{a, b} {
		for i := range list {
			if s := list[i].Snapshot; s != nil && len(s.State) == 0 {
				s.State = nil
			}
		}
	}
	return reflect.DeepEqual(a, b)
}

// TestEveryKindHasACodec reads the source of paxos: a kind or a field that is added there fails here until it is sent.
func TestEveryKindHasACodec(t *testing.T) {
	file, err := parser.ParseFile(token.NewFileSet(), "../../../paxos/message.go", nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	kinds := 0
	ast.Inspect(file, func(n ast.Node) bool {
		spec, ok := n.(*ast.ValueSpec)
		if !ok || spec.Type == nil {
			return true
		}
		if name, ok := spec.Type.(*ast.Ident); ok && name.Name == "MessageKind" {
			kinds++
			value, err := strconv.Atoi(spec.Values[0].(*ast.BasicLit).Value)
			if err != nil {
				t.Fatal(err)
			}
			if _, ok := known(paxos.MessageKind(value)); !ok {
				t.Errorf("%s = %d has no row in fieldsOf", spec.Names[0].Name, value)
			}
		}
		return true
	})
	if kinds != len(fieldsOf)-1 {
		t.Errorf("paxos has %d kinds, fieldsOf has %d", kinds, len(fieldsOf)-1)
	}
	var all fields
	for _, f := range fieldsOf {
		all |= f
	}
	m := testMessage(0)
	const everywhere = 3 // Kind, From, To are in every message
	sent := -everywhere
	for i, v := 0, reflect.ValueOf(m); i < v.NumField(); i++ {
		field := v.Type().Field(i)
		if !field.IsExported() {
			continue // for the sender's host, and no business of a receiver
		}
		if sent++; field.Name != "Kind" && v.Field(i).IsZero() {
			t.Errorf("testMessage does not set Message.%s", field.Name)
		}
	}
	if n := sent; all != 1<<n-1 {
		t.Errorf("Message has %d fields beside the head, the codec sends the set %b", n, all)
	}
}

func TestFrameHeadIsFilledInLater(t *testing.T) {
	b := FrameHead{}.Append(nil)
	if len(b) != FrameHeadBytes {
		t.Fatalf("head takes %d bytes, want %d", len(b), FrameHeadBytes)
	}
	b = append(b, "messages"...)
	want := FrameHead{Durable: 1 << 50, Count: 77}
	want.Put(b)
	var got FrameHead
	r := wire.NewReader(b)
	if got.Decode(&r); got != want || string(r.Rest()) != "messages" {
		t.Fatalf("got %+v and %q", got, r.Rest())
	}
}

// TestHotPathAllocations holds the promise that keeps the collector out of the way: an Accept costs the commands' bytes
// and their slice header, an Accepted nothing.
func TestHotPathAllocations(t *testing.T) {
	known := map[string]cell.ID{"vol-17": "vol-17"}
	d := Decoder{Intern: func(b []byte) cell.ID { return known[string(b)] }}
	for _, c := range []struct {
		kind paxos.MessageKind
		max  float64
	}{{paxos.MsgAccept, 2}, {paxos.MsgAccepted, 0}, {paxos.MsgChosen, 0}, {paxos.MsgConfirm, 0}} {
		env, m := testEnvelope(), testMessage(c.kind)
		b := AppendMessage(nil, &env, &m)
		got := testing.AllocsPerRun(100, func() {
			r := wire.NewReader(b)
			if d.DecodeMessage(&r, &env, &m); r.Done() != nil {
				t.Fatal(r.Done())
			}
			b = AppendMessage(b[:0], &env, &m)
		})
		if got > c.max || env.Cell != "vol-17" {
			t.Errorf("%s: %v allocations for cell %q, allowed are %v", kindNames[c.kind], got, env.Cell, c.max)
		}
	}
}

func TestInternDecidesTheCell(t *testing.T) {
	env, m := testEnvelope(), testMessage(paxos.MsgTeachAll)
	b := AppendMessage(nil, &env, &m)
	var seen []string
	d := Decoder{
		Intern:       func(b []byte) cell.ID { seen = append(seen, string(b)); return "" },
		InternServer: func(b []byte) paxos.ServerID { seen = append(seen, string(b)); return paxos.ServerID("x" + string(b)) },
	}
	r := wire.NewReader(b)
	if d.DecodeMessage(&r, &env, &m); r.Done() != nil || env.Cell != "" || len(seen) != 18 || seen[0] != "vol-17" {
		t.Fatalf("cell %q, seen %v, err %v", env.Cell, seen, r.Done())
	}
	if got := m.Snapshot.Configuration.Members[6].Server; got != "xs9-ffffffff" {
		t.Fatalf("server is %q", got)
	}
}

// edited returns a sample message after a replacement of bytes, which must be found.
func edited(t *testing.T, k paxos.MessageKind, old, new string) []byte {
	t.Helper()
	env, m := testEnvelope(), testMessage(k)
	b := AppendMessage(nil, &env, &m)
	if !bytes.Contains(b, []byte(old)) {
		t.Fatalf("message % x does not contain % x", b, old)
	}
	return bytes.Replace(b, []byte(old), []byte(new), 1)
}

func TestMalformedMessagesAreRefused(t *testing.T) {
	accepted := edited(t, paxos.MsgAccepted, "", "")
	for name, c := range map[string]struct {
		bytes   []byte
		says    string
		unknown bool
	}{
		"kind 0":           {edited(t, paxos.MsgAccepted, "\x9a\x05", "\x9a\x00"), "message kind 0 is not known", true},
		"kind 15":          {edited(t, paxos.MsgAccepted, "\x9a\x05", "\x9a\x0f"), "message kind 15 is not known", true},
		"too few fields":   {edited(t, paxos.MsgAccepted, "\x9a\x05", "\x99\x05"), "has 9 elements, want 10, or up to 13", false},
		"half a hash":      {append(edited(t, paxos.MsgAccepted, "\x9a\x05", "\x9b\x05"), 7), "support epoch", false},
		"no support":       {append(edited(t, paxos.MsgAccepted, "\x9a\x05", "\x9b\x05"), 0x92, 0, 0), "support epoch is zero", false},
		"hash of nothing":  {append(edited(t, paxos.MsgAccepted, "\x9a\x05", "\x9c\x05"), 0, 7), "hash of slot 0", false},
		"no cell":          {edited(t, paxos.MsgAccepted, "\xa6vol-17", "\xa0"), "cell name is empty", false},
		"bad cell":         {edited(t, paxos.MsgAccepted, "vol-17", "vol 17"), "byte 3 is not allowed", false},
		"long cell":        {edited(t, paxos.MsgAccepted, "\xa6vol-17", "\xd9\x41"+strings.Repeat("x", 65)), "allowed are 64", false},
		"large node":       {edited(t, paxos.MsgAccepted, "\xcd\x01\x2c", "\xcf\x00\x00\x00\x01\x00\x00\x00\x00"), "node number", false},
		"entry kind 5":     {edited(t, paxos.MsgAccept, "\x94\x02\xc4", "\x94\x05\xc4"), "entry kind 5 is not known", true},
		"long change":      {edited(t, paxos.MsgAccept, "\x94\x02\xc4", "\x94\x04\xc4"), "change of configuration with 3 elements", false},
		"no-op with text":  {edited(t, paxos.MsgAccept, "\x94\x02\xc4", "\x94\x01\xc4"), "commands do not go with the kind", false},
		"too many records": {edited(t, paxos.MsgTeach, "\xcd\x12\x66\x94", "\xcd\x12\x66\xdc\x00\x41"), "records has 65 elements", false},
		"damaged snapshot": {edited(t, paxos.MsgTeachAll, "state of the machine", "state of a mind----"), "snapshot", false},
		"flipped snapshot": {edited(t, paxos.MsgTeachAll, "state of the machine", "state of the machinf"), "damaged", false},
		"cut":              {accepted[:len(accepted)-1], "input ends early", false},
		"left over":        {append(accepted, 0), "left over", false},
	} {
		_, err := againMessage(c.bytes)
		if err == nil || !strings.Contains(err.Error(), c.says) || errors.Is(err, wire.ErrNotUnderstood) != c.unknown {
			t.Errorf("%s: error does not say %q (not understood: %v): %v", name, c.says, c.unknown, err)
		}
	}
}

// TestEntriesBeyondBoundsAreRefused: a peer without our assertions may send them.
func TestEntriesBeyondBoundsAreRefused(t *testing.T) {
	half := make([]byte, EntryBytesMax/2)
	large := wire.AppendBytes(wire.AppendBytes([]byte{0x93, byte(paxos.Commands)}, half), append(half, 0))
	many := wire.AppendArray(nil, CommandsMax+2)
	many = append(many, byte(paxos.Commands))
	for range CommandsMax + 1 {
		many = append(many, 0xc4, 0)
	}
	for name, b := range map[string][]byte{"large": large, "many": many} {
		var e paxos.Entry
		r := wire.NewReader(b)
		if DecodeEntry(&r, &e); r.Done() == nil || !strings.Contains(r.Err().Error(), "allowed are") || e.Commands != nil {
			t.Errorf("%s: %v", name, r.Err())
		}
	}
}

// TestEncodersAssertBounds: what no peer would accept is not sent.
func TestEncodersAssertBounds(t *testing.T) {
	env := testEnvelope()
	big := make([]byte, EntryBytesMax/2+1)
	accept := func(e paxos.Entry) func() {
		return func() { AppendMessage(nil, &env, &paxos.Message{Kind: paxos.MsgAccept, Entry: e}) }
	}
	noop := paxos.Entry{Kind: paxos.NoOp}
	config := testConfiguration()
	config.Members[0].Server = paxos.ServerID(make([]byte, ServerBytesMax+1))
	for name, f := range map[string]func(){
		"kind 0":           func() { AppendMessage(nil, &env, &paxos.Message{}) },
		"kind 14":          func() { AppendMessage(nil, &env, &paxos.Message{Kind: paxos.MessageKind(len(fieldsOf))}) },
		"entry kind":       accept(paxos.Entry{Kind: 4}),
		"empty entry":      accept(paxos.Entry{Kind: paxos.Commands}),
		"no-op with text":  accept(paxos.Entry{Kind: paxos.NoOp, Commands: [][]byte{nil}}),
		"commands":         accept(paxos.Entry{Kind: paxos.Commands, Commands: make([][]byte, CommandsMax+1)}),
		"entry bytes":      accept(paxos.Entry{Kind: paxos.Commands, Commands: [][]byte{big, big}}),
		"missing snapshot": func() { AppendMessage(nil, &env, &paxos.Message{Kind: paxos.MsgTeachAll}) },
		"records": func() {
			records := make([]paxos.Record, RecordsMax+1)
			for i := range records {
				records[i].Entry = noop
			}
			AppendMessage(nil, &env, &paxos.Message{Kind: paxos.MsgTeach, Records: records})
		},
		"state":     func() { AppendSnapshot(nil, &paxos.Snapshot{State: make([]byte, StateBytesMax+1)}) },
		"stored":    func() { AppendStoredSnapshot(nil, &paxos.Snapshot{State: make([]byte, StateBytesMax+1)}) },
		"server":    func() { AppendConfiguration(nil, &config) },
		"members":   func() { AppendConfiguration(nil, &paxos.Configuration{Members: make([]paxos.Member, MembersMax+1)}) },
		"cell name": func() { AppendTombstone(nil, &Tombstone{Cell: "no spaces"}) },
	} {
		t.Run(name, func(t *testing.T) {
			defer func() {
				if _, ok := recover().(*must.Violation); !ok {
					t.Error("no assertion failed")
				}
			}()
			f()
		})
	}
}

// TestLargestMessageFits checks the arithmetic behind MessageBytesMax and SnapshotBytesMax.
func TestLargestMessageFits(t *testing.T) {
	e := paxos.Entry{Kind: paxos.Commands, Commands: make([][]byte, CommandsMax)}
	for i := range e.Commands {
		e.Commands[i] = make([]byte, EntryBytesMax/CommandsMax)
	}
	top := paxos.Ballot{Round: 1<<64 - 1, Node: 1<<32 - 1}
	m := paxos.Message{Kind: paxos.MsgPromise, From: 1<<32 - 1, To: 1<<32 - 1, Ballot: top, Slot: 1<<64 - 1,
		Through: 1<<64 - 1, Floor: 1<<64 - 1, Records: make([]paxos.Record, RecordsMax)}
	for i := range m.Records {
		m.Records[i] = paxos.Record{Slot: 1<<64 - 1, Ballot: top, Entry: e}
	}
	env := Envelope{Cell: cell.ID(make([]byte, CellBytesMax)), Incarnation: 1<<64 - 1, Configuration: 1<<64 - 1, HashSlot: 1<<64 - 1, Hash: 1<<64 - 1, Support: Epoch{1<<64 - 1, 1<<64 - 1}}
	if n := len(AppendMessage(nil, &env, &m)); n > MessageBytesMax {
		t.Errorf("largest promise has %d bytes, MessageBytesMax is %d", n, MessageBytesMax)
	}
	s := paxos.Snapshot{Applied: 1<<64 - 1, State: make([]byte, StateBytesMax), Hash: 1<<64 - 1}
	for range MembersMax {
		s.Configuration.Members = append(s.Configuration.Members, paxos.Member{Node: 1<<32 - 1, Server: paxos.ServerID(make([]byte, ServerBytesMax))})
	}
	if n := len(AppendSnapshot(nil, &s)); n > SnapshotBytesMax {
		t.Errorf("largest snapshot has %d bytes, SnapshotBytesMax is %d", n, SnapshotBytesMax)
	}
}
