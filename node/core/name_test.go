package core

import (
	"testing"

	"physalia/cell"
	"physalia/internal/must"
	"physalia/internal/wire/peer"
)

// TestNamesLeadToWarmNodes: what a Name leads to is what a search would find, whatever became of the node since.
func TestNamesLeadToWarmNodes(t *testing.T) {
	l := newLonely(t)
	if err := l.answer(nil); err != nil {
		t.Fatal(err)
	}
	l.create(0, 1)
	c, id := l.core, cell.ID("vol-00000000000000000")
	message := func(n *Name) *PeerMessage { return &PeerMessage{Name: n, Envelope: peer.Envelope{Cell: id}} }
	one, other := &Name{ID: id}, &Name{ID: id}
	h := c.named(message(one))
	if h == nil || h != c.find(id) || one.node != h || c.named(message(one)) != h {
		t.Fatalf("found %v, the name leads to %v", h, one.node)
	}
	if c.named(message(other)) != h || other.node != h || one.node != nil {
		t.Fatal("two names lead to one node: the first would survive it")
	}
	c.Flush() // nobody uses the node: it is forgotten, and what is found next is another copy
	if other.node != nil || len(c.warm) != 0 {
		t.Fatalf("after the node was forgotten, the name leads to %p; %d are warm", other.node, len(c.warm))
	}
	if c.named(message(other)) != c.find(id) || other.node == h {
		t.Error("the name leads to what was forgotten")
	}
	c.remove(c.find(id), nil)
	if other.node != nil || c.named(message(other)) != nil || c.named(message(nil)) != nil {
		t.Error("the name leads to a node that was wiped")
	}
	c.Flush()
	l.create(0, 1)
	if again := c.named(message(other)); again == nil || again != c.find(id) {
		t.Error("the name does not lead to the node that was created again")
	}
	defer func() {
		if _, ok := recover().(*must.Violation); !ok {
			t.Error("a message was given to the node of another cell")
		}
	}()
	c.named(&PeerMessage{Name: other, Envelope: peer.Envelope{Cell: "vol-2"}})
}
