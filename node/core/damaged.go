package core

import (
	"encoding/binary"
	"errors"
	"fmt"

	"physalia/cell"
	"physalia/internal/wire/peer"
	"physalia/node/storage"
	"physalia/paxos"
)

// A node whose row is damaged must not be forgotten: it could be created again beside its own votes. So which node a handle belongs to
// stands a second time beside the row, written once and read only when the row cannot be. Such a node is out of service like any
// other, and hosted without a configuration: its number and incarnation are known, and that it never votes again.

// putName writes whose row a handle's is; in the batch that creates the row.
func (c *Core) putName(h *hosted) {
	c.value = peer.AppendNodeName(c.value[:0], &peer.NodeName{Cell: h.id, Incarnation: h.incarnation, Node: h.node})
	c.key = handleKey(c.key[:0], keyName, h.handle)
	c.write().Set(c.key, c.value)
}

// halted is a page of the restart scan that waits for the name of the node whose row comes first in it, and cannot be read. Rows enter the
// table in the order of their handles, so the rest waits, too, and so does the next page, which was asked for already.
type halted struct {
	pairs  []storage.Pair
	last   bool  // it is the last page
	why    error // what is wrong with the row
	next   []storage.Pair
	isNext bool // next has come
}

// halt asks whose a damaged row is.
func (c *Core) halt(pairs []storage.Pair, last bool, why error) {
	c.halted = &halted{pairs: pairs, last: last, why: why}
	c.out.Loads = append(c.out.Loads, Load{ID: nameLoad, Ranges: []storage.Range{handleRange(keyName, rowHandle(&pairs[0]))}})
}

// rowHandle is the handle in the key of a row.
func rowHandle(pair *storage.Pair) Handle { return Handle(binary.BigEndian.Uint64(pair.Key[1:])) }

// onName hosts the node whose row is damaged, and goes on with the scan.
func (c *Core) onName(pairs []storage.Pair) error {
	h := c.halted
	c.halted = nil
	if err := c.restoreName(pairs, rowHandle(&h.pairs[0]), h.why); err != nil {
		return err
	}
	if err := c.bootPage(h.pairs[1:], false, h.last); err != nil {
		return err
	}
	switch {
	case !h.isNext:
		return nil
	case c.halted != nil:
		c.halted.next, c.halted.isNext = h.next, true
		return nil
	}
	return c.boot(h.next)
}

// restoreName hosts a node whose row is damaged. A row without a readable name was written by a version that kept none, or the name is
// damaged, too: then nobody can tell which node would be forgotten, and the server must not go on.
func (c *Core) restoreName(pairs []storage.Pair, handle Handle, why error) error {
	name, err := peer.NodeName{}, error(nil)
	if len(pairs) == 1 {
		name, err = peer.DecodeNodeName(pairs[0].Value)
	}
	if len(pairs) != 1 || err != nil {
		return &cell.Error{Op: "node.start", Kind: cell.Quarantined, Err: errors.Join(why, err),
			Detail: fmt.Sprintf("the row of node %d is damaged, and nothing else tells of which cell it is", handle),
			Hint:   "this data directory must not be used again: start the server on an empty one, its nodes are then replaced"}
	}
	if at, ok := c.cold.Find(string(name.Cell)); ok {
		return fmt.Errorf("nodes %d and %d are both of %s", c.cold.At(at).Handle, handle, name.Cell)
	}
	h := &hosted{id: name.Cell, incarnation: name.Incarnation, node: name.Node, handle: handle, configuration: &paxos.Configuration{}, rowLost: true}
	c.add(h)
	c.mark(h, string(Damaged)+": its row: "+why.Error())
	if c.cfg.Events.Quarantined != nil {
		c.cfg.Events.Quarantined(h.id, Damaged, h.quarantined)
	}
	return nil
}

// resignLost is resignBelow for a node that does not know its jury any more: whoever stands by it and asks is told that its ballots are
// free, since it will never use one of them again (hazard H9).
func (c *Core) resignLost(h *hosted, m *PeerMessage) {
	own := paxos.Ballot{Round: m.Message.Ballot.Round, Node: h.node}
	if m.Message.Kind != peer.KindStands || own.Round == 0 {
		return
	}
	if m.Message.Ballot.Node != h.node {
		own.Round--
	}
	envelope := peer.Envelope{Cell: h.id, Incarnation: h.incarnation, Configuration: m.Envelope.Configuration}
	c.body = peer.AppendMessage(c.body[:0], &envelope, &paxos.Message{Kind: paxos.MsgResign, From: h.node, To: m.Message.From, Ballot: own})
	c.enqueue(c.sender(m.From), LanePaxos, c.body)
}
