package peer

import (
	"bytes"

	"physalia/cell"
	"physalia/internal/wire"
	"physalia/paxos"
)

// sample is one value in its encoded form, and the way back: again decodes bytes and encodes what it got.
type sample struct {
	name   string
	bytes  []byte
	stored bool
	again  func(b []byte) ([]byte, error)
}

func testConfiguration() paxos.Configuration {
	return paxos.Configuration{Number: 3, Alpha: 4, Owner: 1, Next: 10, Members: []paxos.Member{
		{Node: 1, Server: "s1-k3v9q2xa"}, {Node: 2, Server: "s2-aaaaaaaa"}, {Node: 3, Server: "s3-bbbbbbbb"},
		{Node: 5, Server: "s5-cccccccc"}, {Node: 6, Server: "s6-dddddddd"}, {Node: 7, Server: "s7-eeeeeeee"},
		{Node: 9, Server: "s9-ffffffff"},
	}, Since: 4000, Learners: []paxos.Learner{{Member: paxos.Member{Node: 8, Server: "s8-gggggggg"}, Request: 77}},
		Left: paxos.Member{Node: 4, Server: "s4-hhhhhhhh"}, Unsettled: true}
}

// testPending is a configuration that follows testConfiguration.
func testPending() *paxos.Configuration {
	c := testConfiguration()
	c.Number, c.Since, c.Learners = 4, 4714, nil
	return &c
}

func testSnapshot() paxos.Snapshot {
	return paxos.Snapshot{Applied: 4711, Sealed: true, Configuration: testConfiguration(), Pending: testPending(),
		State: []byte("S\x01state of the machine"), Hash: 0xfedcba9876543210}
}

func testEntry() paxos.Entry {
	return paxos.Entry{Kind: paxos.Commands, Commands: [][]byte{[]byte("C\x01put"), {}, bytes.Repeat([]byte{0xc1}, 40)}}
}

// testMessage is a message of the kind with every field of Message set; which of them are sent is the kind's business.
func testMessage(k paxos.MessageKind) paxos.Message {
	s := testSnapshot()
	return paxos.Message{Kind: k, From: 3, To: 300, Ballot: paxos.Ballot{Round: 70000, Node: 3}, Slot: 4712, Through: 4710,
		Floor: 4600, Number: 1 << 40, Entry: testEntry(), Snapshot: &s, Records: []paxos.Record{
			{Slot: 4711, Ballot: paxos.Ballot{Round: 2, Node: 5}, Entry: testEntry()},
			{Slot: 4712, Ballot: paxos.Ballot{Round: 70000, Node: 3}, Entry: paxos.Entry{Kind: paxos.NoOp}},
			{Slot: 4713, Ballot: paxos.Ballot{Round: 70000, Node: 3}, Entry: paxos.Entry{Kind: paxos.Seal}},
			{Slot: 4714, Ballot: paxos.Ballot{Round: 70000, Node: 3}, Entry: paxos.Entry{Kind: paxos.Reform,
				Change: &paxos.Change{Kind: paxos.Replace, Request: 9, Number: 3, Old: 5, New: 8}}},
		}}
}

func testHeartbeat() Heartbeat {
	return Heartbeat{Boot: 3, Sequence: 1000, Durable: 70000, For: 9, Echo: 999, Lane: 150, Counter: 4, Granted: 998, Known: 80000, Before: 300, Since: 7}
}

func testEnvelope() Envelope { return Envelope{Cell: "vol-17", Incarnation: 2, Configuration: 3} }

// samples has one value of everything that this package encodes. Goldens, fuzz seeds and damage tests all use it.
func samples() []sample {
	var all []sample
	for k := range fieldsOf {
		if fieldsOf[k] == 0 {
			continue
		}
		env, m := testEnvelope(), testMessage(paxos.MessageKind(k))
		all = append(all, sample{kindNames[k], AppendMessage(nil, &env, &m), false, againMessage})
	}
	env, m := testEnvelope(), testMessage(paxos.MsgAccepted)
	env.HashSlot, env.Hash = 4608, 0x0123456789abcdef
	supported, both := testEnvelope(), env
	supported.Support, both.Support = Epoch{3, 4}, Epoch{3, 1 << 40}
	forward := Forward{ID: 7, Boot: 3, Method: "cell.txn", Body: []byte("params"), Err: &cell.Error{Kind: cell.Stale, Detail: "x"}}
	memory := Memory{Server: "s1-k3v9q2xa", Boot: 9, Known: 80000, Before: 300, Since: 7}
	head, beat, s := FrameHead{Durable: 99, Count: 2}, testHeartbeat(), testSnapshot()
	ill := beat
	ill.Ails = SlowDisk | NoRoom
	ring := RingRecord{Record: m.Records[0], Promised: m.Ballot, Applied: 4709}
	row := Row{Cell: "vol-17", Incarnation: 2, Node: 9, Promised: m.Ballot, Quarantined: "P2 violated", Founding: 1 << 63, Configuration: s.Configuration}
	tomb := Tombstone{Cell: "vol-17", Incarnation: 2}
	pointer := Pointer{Cell: "vol-17", Incarnation: 2, Node: 4, Founding: 1 << 63, Born: 43200, Configuration: &s.Configuration}
	for i, host := range []string{"Moved", "Vouch", "Vouched", "Stands", "Absent"} {
		env, m := testEnvelope(), testMessage(KindMoved+paxos.MessageKind(i))
		if env.HashSlot, env.Hash = 4608, 0x0123456789abcdef; m.Kind == KindMoved {
			env.HashSlot, env.Moved = 0, &s.Configuration
		}
		all = append(all, sample{host, AppendMessage(nil, &env, &m), false, againMessage})
	}
	return append(all,
		sample{"Accepted with hash", AppendMessage(nil, &env, &m), false, againMessage},
		sample{"Accepted with support", AppendMessage(nil, &supported, &m), false, againMessage},
		sample{"Accepted with both", AppendMessage(nil, &both, &m), false, againMessage},
		sample{"Forward", AppendForward(nil, &forward), false, againForward},
		sample{"Memory", AppendMemory(nil, &memory), true, againMemory},
		sample{"Period", AppendPeriod(nil, 1_000_000_000), true, againPeriod},
		sample{"Lives", AppendLives(nil, []Life{{1, 0}, {3, 4711}}), true, againLives},
		sample{"Handles", AppendHandles(nil, 4711), true, againHandles},
		sample{"FrameHead", head.Append(nil), false, againHead},
		sample{"Heartbeat", AppendHeartbeat(nil, &beat), false, againHeartbeat},
		sample{"Heartbeat of the ill", AppendHeartbeat(nil, &ill), false, againHeartbeat},
		sample{"RingRecord", AppendRingRecord(nil, &ring), true, againRing},
		sample{"Journal", FinishJournal(AppendJournaled(AppendJournaled(nil, 4711, &ring), 4712, &ring)), true, againJournal},
		sample{"Row", AppendRow(nil, &row), true, againRow},
		sample{"Tombstone", AppendTombstone(nil, &tomb), true, againTombstone},
		sample{"NodeName", AppendNodeName(nil, &NodeName{Cell: "vol-17", Incarnation: 2, Node: 9}), true, againNodeName},
		sample{"Pointer", AppendPointer(nil, &pointer), true, againPointer},
		sample{"Snapshot", AppendSnapshot(nil, &s), true, againSnapshot},
		sample{"Stored snapshot", AppendStoredSnapshot(nil, &s), true, againStoredSnapshot},
	)
}

var kindNames = [...]string{
	paxos.MsgPrepare: "Prepare", paxos.MsgPromise: "Promise", paxos.MsgNack: "Nack", paxos.MsgAccept: "Accept",
	paxos.MsgAccepted: "Accepted", paxos.MsgChosen: "Chosen", paxos.MsgConfirm: "Confirm",
	paxos.MsgConfirmed: "Confirmed", paxos.MsgLearn: "Learn", paxos.MsgTeach: "Teach", paxos.MsgTeachAll: "TeachAll",
	paxos.MsgAhead: "Ahead", paxos.MsgBehind: "Behind", paxos.MsgResign: "Resign",
}

func againMessage(b []byte) ([]byte, error) {
	var env Envelope
	var m paxos.Message
	r := wire.NewReader(b)
	if DecodeMessage(&r, &env, &m); r.Done() != nil {
		return nil, r.Done()
	}
	return AppendMessage(nil, &env, &m), nil
}

func againHead(b []byte) ([]byte, error) {
	var h FrameHead
	r := wire.NewReader(b)
	h.Decode(&r)
	return h.Append(nil), r.Done()
}

func againHeartbeat(b []byte) ([]byte, error) {
	var h Heartbeat
	r := wire.NewReader(b)
	DecodeHeartbeat(&r, &h)
	return AppendHeartbeat(nil, &h), r.Done()
}

func againForward(b []byte) ([]byte, error) {
	var f Forward
	r := wire.NewReader(b)
	DecodeForward(&r, &f)
	return AppendForward(nil, &f), r.Done()
}

func againMemory(b []byte) ([]byte, error) {
	m, err := DecodeMemory(b)
	if err != nil {
		return nil, err
	}
	return AppendMemory(nil, &m), nil
}

func againHandles(b []byte) ([]byte, error) {
	n, err := DecodeHandles(b)
	if err != nil {
		return nil, err
	}
	return AppendHandles(nil, n), nil
}

func againLives(b []byte) ([]byte, error) {
	lives, err := DecodeLives(b)
	if err != nil {
		return nil, err
	}
	return AppendLives(nil, lives), nil
}

func againPeriod(b []byte) ([]byte, error) {
	n, err := DecodePeriod(b)
	if err != nil {
		return nil, err
	}
	return AppendPeriod(nil, n), nil
}

func againRing(b []byte) ([]byte, error) {
	v, err := DecodeRingRecord(b)
	if err != nil {
		return nil, err
	}
	return AppendRingRecord(nil, &v), nil
}

func againJournal(b []byte) (again []byte, err error) {
	err = DecodeJournal(b, func(node uint64, stored []byte) error {
		v, err := DecodeRingRecord(stored)
		again = AppendJournaled(again, node, &v)
		return err
	})
	if err != nil {
		return nil, err
	}
	return FinishJournal(again), nil
}

func againRow(b []byte) ([]byte, error) {
	v, err := DecodeRow(b)
	if err != nil {
		return nil, err
	}
	return AppendRow(nil, &v), nil
}

func againNodeName(b []byte) ([]byte, error) {
	v, err := DecodeNodeName(b)
	if err != nil {
		return nil, err
	}
	return AppendNodeName(nil, &v), nil
}

func againTombstone(b []byte) ([]byte, error) {
	v, err := DecodeTombstone(b)
	if err != nil {
		return nil, err
	}
	return AppendTombstone(nil, &v), nil
}

func againPointer(b []byte) ([]byte, error) {
	v, err := new(Decoder).DecodePointer(b)
	if err != nil {
		return nil, err
	}
	return AppendPointer(nil, &v), nil
}

func againSnapshot(b []byte) ([]byte, error) {
	v, err := DecodeSnapshot(b)
	if err != nil {
		return nil, err
	}
	return AppendSnapshot(nil, &v), nil
}

func againStoredSnapshot(b []byte) ([]byte, error) {
	v, err := DecodeStoredSnapshot(b)
	if err != nil {
		return nil, err
	}
	return AppendStoredSnapshot(nil, &v), nil
}

// only returns the message with the fields that its kind does not use cleared.
func only(m paxos.Message) paxos.Message {
	f, _ := known(m.Kind)
	out := paxos.Message{Kind: m.Kind, From: m.From, To: m.To}
	if f&hasBallot != 0 {
		out.Ballot = m.Ballot
	}
	if f&hasSlot != 0 {
		out.Slot = m.Slot
	}
	if f&hasThrough != 0 {
		out.Through = m.Through
	}
	if f&hasFloor != 0 {
		out.Floor = m.Floor
	}
	if f&hasNumber != 0 {
		out.Number = m.Number
	}
	if f&hasEntry != 0 {
		out.Entry = m.Entry
	}
	if f&hasRecords != 0 {
		out.Records = m.Records
	}
	if f&hasSnapshot != 0 {
		out.Snapshot = m.Snapshot
	}
	return out
}
