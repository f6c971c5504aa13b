package wire

import (
	"go/ast"
	"go/parser"
	"go/token"
	"math"
	"math/big"
	"path/filepath"
	"reflect"
	"slices"
	"testing"
	"time"

	"physalia/cell"
)

// sample is one message with every field set. Goldens, round trips, seeds and damage tests all use it.
type sample struct {
	name  string
	full  Message
	empty func() Message
}

// again decodes buf as the sample's message and encodes it.
func (s *sample) again(buf []byte) ([]byte, error) {
	m := s.empty()
	if err := Unmarshal(buf, m); err != nil {
		return nil, err
	}
	return m.Append(nil), nil
}

// of makes a sample of a message.
func of[T any, M interface {
	*T
	Message
}](full T) sample {
	return sample{reflect.TypeFor[T]().Name(), M(&full), func() Message { return M(new(T)) }}
}

func bigValue(text string) cell.Value {
	n, ok := new(big.Int).SetString(text, 0)
	if !ok {
		panic("not a number: " + text)
	}
	return cell.BigInt(n)
}

var (
	sampleClient  = cell.ClientID{0xc0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 0xff}
	sampleRequest = cell.Request{Client: sampleClient, Sequence: 300, Since: 70000}
	sampleError   = cell.Error{Op: "kv.put", Kind: cell.NotProposer, Cell: "vol-17", Detail: "node 3 follows",
		Hint: "ask the leader", RetryAfter: 1500 * time.Millisecond, Leader: "s1-k3v9q2xa", LeaderAddr: "10.0.0.1:7101"}
	sampleEntry = cell.Entry{Key: "primary", Value: cell.String("server-1"), CreateRevision: 3, ModRevision: 130, Version: 12, Lease: 129}
	sampleTxn   = cell.Txn{
		If: []cell.Condition{
			{Key: "primary", Target: cell.OnValue, Compare: cell.Equal, Value: cell.String("server-1")},
			{Key: "generation", Target: cell.OnModRevision, Compare: cell.LessEqual, Number: 70000},
			{Key: "lock", Target: cell.OnExistence, Compare: cell.NotEqual},
			{Key: "primary", Target: cell.OnLease, Compare: cell.Equal, Number: 129},
			{Target: cell.OnHeld, Compare: cell.Equal, Number: 129},
		},
		Then: []cell.Op{
			{Kind: cell.OpPut, Key: "primary", Value: cell.String("server-2"), Lease: 129},
			{Kind: cell.OpPut, Key: "blob", Value: cell.Bytes([]byte{0, 0xff})},
			{Kind: cell.OpPut, Key: "clean", Value: cell.Bool(true)},
			{Kind: cell.OpPut, Key: "low", Value: cell.Int(math.MinInt64)},
			{Kind: cell.OpPut, Key: "huge", Value: bigValue("-0x8000000000000001")},
			{Kind: cell.OpIncrement, Key: "generation", Value: bigValue("0x8000000000000000")},
			{Kind: cell.OpDelete, Key: "old"},
		},
		Else: []cell.Op{
			{Kind: cell.OpGet, Key: "primary"},
			{Kind: cell.OpScan, Key: "log/", After: "log/0017", Limit: 100},
		},
	}
	sampleResult = cell.TxnResult{Succeeded: true, Failed: -1, Revision: 131, Results: []cell.OpResult{
		{Found: true, Entry: sampleEntry},
		{Entries: []cell.Entry{sampleEntry, {Key: "replica", Value: cell.Int(-1), CreateRevision: 4, ModRevision: 4, Version: 1}}, More: true},
		{},
	}}
	sampleLeaseOp = cell.LeaseOp{ID: 129, TTL: 10 * time.Second, Label: "host-1", Renewals: 300}
	sampleLease   = cell.Lease{ID: 129, TTL: 10 * time.Second, Label: "host-1", Renewals: 300}
	sampleHeader  = Header{Cell: "vol-17", Incarnation: 2, Timeout: 5000, Trace: 0xfeedfacecafebeef, Attempt: 1}
	sampleMembers = []Founder{
		{Node: 1, Server: "s1-k3v9q2xa", PeerAddr: "10.0.0.1:7100", ClientAddr: "10.0.0.1:7101"},
		{Node: 9, Server: "s2-aaaaaaaa", PeerAddr: "10.0.0.2:7100", ClientAddr: "10.0.0.2:7101"},
	}
	sampleRegistration = Registration{Server: "s1-k3v9q2xa", Name: "alpha", Colony: "test", Brick: "b1", Rack: "r1",
		Power: "p1", Color: "red", PeerAddr: "10.0.0.1:7100", ClientAddr: "10.0.0.1:7101", GossipAddr: "10.0.0.1:7102",
		Boot: 4, Nodes: 1000, Capacity: 100000, Wants: DutyDiscovery}
	sampleRemembered = []Remembered{
		{Client: sampleClient, Sequence: 299, Result: cell.TxnResult{Failed: 2, Revision: 130}, Err: &sampleError},
		{Client: sampleClient, Sequence: 300, Result: sampleResult, Err: nil},
	}
	sampleNode = NodeInfo{Handle: 77, Cell: "vol-17", Incarnation: 2, Node: 9, Configuration: 3, Sealed: true,
		Quarantined: "P2 violated", Members: sampleMembers}
	sampleRoute = Route{Cell: "vol-17", Incarnation: 2, Configuration: 3, Members: sampleMembers, Deleted: true}
	sampleDrops = []Drop{{Cell: "vol-17", Incarnation: 2}, {Cell: "vol-18", Incarnation: 1}}
	sampleCell  = CellInfo{Cell: "vol-17", Incarnation: 2, State: "live", Brick: "b1", Color: "red", Members: sampleMembers,
		Live: 6, Margin: -2, Plan: 41, Waiting: "node 9 learns"}
)

// samples has one sample of every message, record and command of the package.
func samples() []sample {
	founding := Founding{Cell: "vol-17", Incarnation: 2, Members: sampleMembers, Owner: 1, Alpha: 4}
	member := ExplainedMember{Node: 9, Server: "s1-k3v9q2xa", Addr: "10.0.0.1:7101", Alive: true, Supported: true, Supports: true, Confirmed: true}
	state := ServerState{Registration: sampleRegistration, Up: true, Since: 60000}
	moved := sampleError
	moved.Kind, moved.Pointer = cell.Moved, &cell.Pointer{Incarnation: 2, Configuration: 5,
		Servers: []cell.Location{{Server: "s1-k3v9q2xa", ClientAddr: "10.0.0.1:7101"}, {Server: "s9-ffffffff"}}}
	return slices.Concat([]sample{
		of(Command{Kind: CommandExpire, Request: sampleRequest, Txn: sampleTxn, Lease: sampleLeaseOp}),
		of(CellState{Revision: 131, Entries: []cell.Entry{sampleEntry, {Key: "replica", Value: cell.Int(7), CreateRevision: 4, ModRevision: 4, Version: 1}},
			Floor: 129, Remembered: sampleRemembered, Leases: []cell.Lease{sampleLease, {ID: 130, TTL: time.Second}}}),
		of(LeaseRequest{Header: sampleHeader, Request: sampleRequest, Lease: sampleLeaseOp}),
		of(LeaseReply{Incarnation: 2, Revision: 131, Lease: 129, Renewals: 300}),
		of(LeasesRequest{Header: sampleHeader}),
		of(Leases{Incarnation: 2, Revision: 131, Leases: []cell.LeaseStatus{{Lease: sampleLease, Keys: 3}, {}}}),
		of(sampleRemembered[0]),
		of(sampleHeader),
		of(TxnRequest{Header: sampleHeader, Request: sampleRequest, Txn: sampleTxn}),
		of(TxnReply{Incarnation: 2, Result: sampleResult}),
		of(ReadRequest{Header: sampleHeader, Stale: true, Least: 130, Txn: cell.Txn{If: sampleTxn.If, Then: sampleTxn.Else, Else: sampleTxn.Else}, Confirm: true}),
		of(ReadReply{Incarnation: 2, Result: cell.TxnResult{Failed: 1, Revision: 131, Succeeded: true, Results: sampleResult.Results}}),
		of(ExplainRequest{Header: sampleHeader}),
		of(Explanation{Server: "s1-k3v9q2xa", Cell: "vol-17", Incarnation: 2, Node: 9, State: "hot", Role: "proposer",
			Promised: "9.3", Leader: "s2-aaaaaaaa", Applied: 117, Chosen: 118, Floor: 53, Configuration: 3, Revision: 131, Keys: 12,
			Bytes: 999, StateHash: math.MaxUint64, Members: []ExplainedMember{member}, Note: "behind", ReadLease: true}),
		of(member),
		of(ServerInfo{Server: "s1-k3v9q2xa", Name: "alpha", Colony: "test", Brick: "b1", Rack: "r1", Power: "p1", Color: "red",
			Version: "v0.1.0", Boot: 4, Nodes: 1000, Hot: 10, Peers: 6}),
		of(sampleRegistration),
		of(Registered{Control: "control-1", Addr: "10.0.0.8:7300", Seeds: []string{"10.0.0.1:7102", "10.0.0.2:7102"}, Takes: DutyHealth,
			Elsewhere: sampleHolders}),
		of(sampleMembers[0]),
		of(founding),
		of(CreateNodes{Foundings: []Founding{founding, founding}}),
		of(sampleDrops[0]),
		of(DropNodes{Sealed: true, Drops: sampleDrops}),
		of(Outcome{Err: &sampleError}),
		of(Outcomes{Outcomes: []Outcome{{}, {Err: &sampleError}, {Err: &moved}}}),
		of(SealCell{Cell: "vol-17", Incarnation: 2, Timeout: 5000, Attempt: 1}),
		of(ListNodes{After: 76, Limit: 1000}),
		of(sampleNode),
		of(NodeList{Nodes: []NodeInfo{sampleNode}, More: true}),
		of(Pong{Boot: 4, Nodes: 1000}),
		of(sampleRoute),
		of(LookupRequest{Cells: []cell.ID{"vol-17", "vol-18"}}),
		of(Routes{Routes: []Route{sampleRoute, {Cell: "vol-18"}}, Ages: []uint32{70000, AgeNever}, Filling: true}),
		of(CreateCells{Cells: []cell.ID{"vol-17", "vol-18"}, Brick: "b1", Color: "red", Wait: 10000}),
		of(DeleteCells{Drops: sampleDrops, Wait: 10000}),
		of(ListCells{After: "vol-17", Prefix: "vol-", Limit: 1000}),
		of(sampleCell),
		of(CellList{Cells: []CellInfo{sampleCell}, More: true}),
		of(state),
		of(ListServers{After: "s1-k3v9q2xa", Limit: 1000}),
		of(ServerList{Servers: []ServerState{state}, More: true}),
		of(ChangeCell{Cell: "vol-17", Incarnation: 2, Timeout: 5000, Attempt: 1, Kind: Replace, Request: 9, Number: 3, Old: 4, New: 9, Server: "s9-ffffffff"}),
		of(Configured{Incarnation: 2, Number: 3, Alpha: 4, Busy: true, Node: 9, Members: sampleMembers, Learners: sampleMembers[1:]}),
		of(CreateLearner{Cell: "vol-17", Incarnation: 2, Node: 9, Request: 77, Number: 3, Alpha: 4, Members: sampleMembers}),
		of(ReplaceMember{Cell: "vol-17", Remove: "s1-k3v9q2xa", Add: "s9-ffffffff", Wait: 30000}),
		of(Hello{Min: 1, Max: 2, Features: 1 << 63, Purpose: ForPaxos, Colony: "test", Brick: "b1", Color: "red",
			Server: "s1-k3v9q2xa", Boot: 4, Refusal: &sampleError}),
		of(LocateVolume{Cell: "vol-17", Client: "s1-k3v9q2xa", Primary: "s2-bbbbbbbb", Replica: "s9-ffffffff", Wait: 30000}),
	},
		recoverySamples(),
		dutySamples(),
		operateSamples(),
		healthSamples(), instanceSamples(), accessSamples(),
		rebuildSamples(),
		discoverySamples(),
	)
}

// TestSamplesAreComplete keeps the tests honest: a message that is added without a sample, or a field that no sample
// sets, fails here and so cannot escape the goldens and the round trips.
func TestSamplesAreComplete(t *testing.T) {
	have := make(map[string]bool)
	for _, s := range samples() {
		if have[s.name] {
			t.Errorf("two samples of %s", s.name)
		}
		have[s.name] = true
		requireFull(t, s.name, reflect.ValueOf(s.full).Elem())
	}
	messages := messagesInSource(t)
	if len(messages) < 30 {
		t.Fatalf("found only %d messages in the source", len(messages))
	}
	for _, name := range messages {
		if !have[name] {
			t.Errorf("message %s has no sample", name)
		}
	}
}

// requireFull fails for every zero field of a sample. Elements of lists may have some.
func requireFull(t *testing.T, path string, v reflect.Value) {
	t.Helper()
	for i := range v.NumField() {
		name := path + "." + v.Type().Field(i).Name
		if v.Field(i).IsZero() && name != "Remembered.Result.Succeeded" && name != "Remembered.Result.Results" {
			t.Errorf("sample does not set %s", name)
		}
		if v.Field(i).Kind() == reflect.Struct {
			requireFull(t, name, v.Field(i))
		}
	}
}

// messagesInSource lists the types with a method Decode.
func messagesInSource(t *testing.T) (names []string) {
	t.Helper()
	files, err := filepath.Glob("*.go")
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range files {
		f, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.SkipObjectResolution)
		if err != nil {
			t.Fatal(err)
		}
		for _, d := range f.Decls {
			if fn, ok := d.(*ast.FuncDecl); ok && fn.Name.Name == "Decode" && fn.Recv != nil {
				names = append(names, fn.Recv.List[0].Type.(*ast.StarExpr).X.(*ast.Ident).Name)
			}
		}
	}
	return names
}
