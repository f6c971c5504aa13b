package blockstore

import (
	"strings"
	"testing"
	"time"

	"physalia/cell"
)

func at(generation, number uint64) Version {
	return Version{Fence: cell.Fence{Incarnation: 1, Number: generation}, Number: number}
}

// history makes operations on block 0 from lines, each an operation that begins after the one before has ended.
func inTurn(ops ...Operation) []Operation {
	for i := range ops {
		ops[i].Called, ops[i].Ended, ops[i].Done = time.Duration(10*i), time.Duration(10*i+5), true
	}
	return ops
}

func TestOverwritten(t *testing.T) {
	write := func(data string, v Version) Operation { return Operation{Write: true, Data: data, Version: v} }
	read := func(data string, v Version) Operation { return Operation{Data: data, Version: v} }
	never := inTurn(write("x", at(1, 1)), read("y", at(1, 2)), write("y", Version{}))
	never[2].Called, never[2].Done = 0, false
	late := inTurn(write("x", at(1, 1)), read("y", at(1, 2)), write("y", Version{}))
	late[2].Done = false
	together := inTurn(write("x", at(1, 1)), write("y", at(1, 2)), read("x", at(1, 1)))
	together[1].Ended = 100
	for _, c := range []struct {
		name string
		ops  []Operation
		want string
	}{
		{"in order", inTurn(read("", Version{}), write("x", at(1, 1)), read("x", at(1, 1)), write("y", at(2, 1)), read("y", at(2, 1))), ""},
		{"a write that never ended was read", never, ""},
		{"a read beside a write may see the past", together, ""},
		{"a read of the past", inTurn(write("x", at(1, 1)), write("y", at(1, 2)), read("x", at(1, 1))), "after"},
		{"two reads, the second one of the past", inTurn(write("x", at(1, 1)), read("x", at(1, 1)), read("", Version{})), "after"},
		{"a later write is ordered before", inTurn(write("x", at(2, 1)), write("y", at(1, 9))), "after"},
		{"two writes with one version", inTurn(write("x", at(1, 1)), write("y", at(1, 1))), "but"},
		{"one write with two versions", inTurn(write("x", at(1, 1)), read("x", at(2, 1))), "written twice"},
		{"a read of what nobody wrote", inTurn(write("x", at(1, 1)), read("z", at(1, 2))), "nobody"},
		{"a read of what was written later", late, "nobody"},
	} {
		err := Overwritten(c.ops)
		if (err != nil) != (c.want != "") || err != nil && !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %q", c.name, err, c.want)
		}
	}
}

func TestSplitBrainAndLost(t *testing.T) {
	ack := Message{Kind: WriteDone, From: "a", Fence: cell.Fence{Incarnation: 1, Number: 7}, Block: 1, Version: at(7, 3)}
	var split SplitBrain
	var lost Lost
	for _, m := range []Message{ack, {Kind: Stored, From: "b", Fence: ack.Fence}, ack} {
		if err := split.Sent(m); err != nil {
			t.Error(err)
		}
		lost.Sent(m)
	}
	next := ack
	next.From, next.Fence.Incarnation = "b", 2
	if err := split.Sent(next); err != nil {
		t.Errorf("another incarnation: %v", err)
	}
	next.Fence = ack.Fence
	if split.Sent(next) == nil {
		t.Error("two servers acknowledged under one fence, and nobody noticed")
	}
	for v, want := range map[Version]bool{at(7, 2): true, at(7, 3): false, at(8, 1): false, at(6, 9): true} {
		disk := &State{Blocks: []Block{{}, {Version: v}}}
		if err := lost.Check(cell.VolumeRecord{}, "a", disk); (err != nil) != want {
			t.Errorf("a disk with %v: %v", v, err)
		}
	}
	if lost.Check(cell.VolumeRecord{}, "a", &State{}) == nil {
		t.Error("an empty disk was not noticed")
	}
	if n := Final([]Operation{{Write: true, Done: true, Version: at(1, 2)}, {Write: true, Version: at(1, 3)}}, map[int]Version{0: at(1, 1)}); n != 1 {
		t.Errorf("%d acknowledged writes are lost, not 1", n)
	}
}

// What comes from outside is bounded at one gate.
func TestSound(t *testing.T) {
	good := Message{Kind: Write, From: "x", Data: make([]byte, BlockBytesMax), Block: 1}
	if !good.sound(2) {
		t.Error("the largest message is refused")
	}
	for name, spoil := range map[string]func(*Message){
		"kind zero": func(m *Message) { m.Kind = 0 }, "unknown kind": func(m *Message) { m.Kind = Refused + 1 },
		"block": func(m *Message) { m.Block = 2 }, "negative block": func(m *Message) { m.Block = -1 },
		"data": func(m *Message) { m.Data = append(m.Data, 0) }, "nobody": func(m *Message) { m.From = "" },
		"writers": func(m *Message) { m.Writers = make([]Writer, WritersMax+1) },
	} {
		bad := good
		spoil(&bad)
		if bad.sound(2) {
			t.Errorf("%s is accepted", name)
		}
		c := New(Config{Name: "a", Blocks: 2, Timing: timing}, 0, State{})
		if e := c.Step(time.Second, bad); e.Persist != nil || len(e.Send) > 0 {
			t.Errorf("%s has effects: %+v", name, e)
		}
	}
}
