package core

import (
	"errors"
	"fmt"
	"strings"

	"physalia/cell"
	"physalia/internal/must"
	"physalia/internal/wire"
	"physalia/internal/wire/peer"
)

// A node that cannot go on is taken out of service alone: quarantined. It answers nothing but that, its data stays as it is, its
// row says why, and so do `physalia cell explain`, the metrics and the list that the control plane asks for, which replaces it like the
// node of a dead server. The mark is in the batch of the turn that found out, so a restart does not meet the same thing again.

// Reason is why a node is out of service, in one word for metrics. The text that is stored begins with it, so the words never change.
type Reason string

// The reasons.
const (
	Panicked   Reason = "panic"          // stepping it or applying to it panicked
	Violated   Reason = "assertion"      // an invariant does not hold
	Unknown    Reason = "not-understood" // it met a command or record of a later version (rule 9)
	Damaged    Reason = "damaged"        // what is stored is not what was written
	Diverged   Reason = "diverged"       // its state is not what a majority holds (rule 19)
	Crashed    Reason = "crash"          // the process died at it again and again
	Unrecorded Reason = "other"          // of a row that was written before reasons were
)

// Reasons lists all of them.
var Reasons = [...]Reason{Panicked, Violated, Unknown, Damaged, Diverged, Crashed, Unrecorded}

// reasonOf finds the reason in a stored text.
func reasonOf(why string) Reason {
	word, _, _ := strings.Cut(why, ":")
	for _, r := range Reasons {
		if string(r) == word {
			return r
		}
	}
	return Unrecorded
}

// reasonFor tells what time heals, a later version, from what it does not.
func reasonFor(err error) Reason {
	if errors.Is(err, wire.ErrNotUnderstood) {
		return Unknown
	}
	return Damaged
}

// Why the text of what is not understood names the command set and the forms of what is stored: a build that knows more looks again (healed).
const unknownFormat = "command set %d, stored forms %d: %s"

// Not everything that ends a process can be recovered. So what the core works on stands where the next start finds it, which costs two
// writes to memory per step: a node at which the process dies again and again is taken out of service before it is touched (Suspect).
//
// guard runs a step of one node and quarantines the node if it panics; it reports whether it did not.
func (c *Core) guard(h *hosted, f func()) (ok bool) {
	before := *c.cfg.Working
	*c.cfg.Working = uint64(h.handle)
	defer func() {
		*c.cfg.Working = before
		if p := recover(); p != nil {
			c.quarantinePanic(h, p)
			ok = false
		}
	}()
	f()
	return true
}

// distrust takes the suspect out of service, at the end of the restart scan.
func (c *Core) distrust() {
	at, ok := c.position(c.cfg.Suspect)
	if !ok || c.cfg.Suspect == 0 {
		return
	}
	c.quarantine(c.find(cell.ID(c.cold.Name(at))), Crashed, "the process died again and again while it worked on this node")
}

// quarantinePanic takes a node out of service that panicked.
func (c *Core) quarantinePanic(h *hosted, p any) {
	reason, text := Panicked, fmt.Sprint(p)
	if v, ok := p.(*must.Violation); ok {
		reason, text = Violated, v.Text
	}
	c.quarantine(h, reason, text)
}

// quarantineError takes a node out of service over what it read or was given.
func (c *Core) quarantineError(h *hosted, where string, err error) {
	c.quarantine(h, reasonFor(err), where+err.Error())
}

// quarantine takes a node out of service: it answers nothing, keeps its data, and says why. The server goes on.
func (c *Core) quarantine(h *hosted, reason Reason, text string) {
	if c.warm[h.id] != h { // wiped meanwhile: its row must not rise again
		h.hot = nil
		return
	}
	if h.quarantined != "" {
		return
	}
	if reason == Unknown {
		text = fmt.Sprintf(unknownFormat, c.cfg.CommandSet, peer.StoredForms, text)
	}
	c.mark(h, string(reason)+": "+text)
	if c.cfg.Events.Quarantined != nil {
		c.cfg.Events.Quarantined(h.id, reason, h.quarantined)
	}
	c.resignQuarantined(h)
	c.cool(h, &cell.Error{Op: "node", Kind: cell.Quarantined, Cell: h.id, Detail: h.quarantined, Hint: quarantineHint})
	c.putRow(h)
	c.strand(h)
	c.routeChanged(h, false)
}

const quarantineHint = "this node is out of service and kept for inspection; the other members go on"

// mark notes why a node is out of service.
func (c *Core) mark(h *hosted, why string) {
	if len(why) > peer.QuarantineBytesMax {
		why = strings.ToValidUTF8(why[:peer.QuarantineBytesMax], "")
	}
	h.quarantined = why
	c.sick[h.handle] = h
	c.sickChanges++
}

// healed reports whether a mark is about what only an older build did not understand. What is stored is as sound as after a crash:
// the turn in which the node met it was lost as a whole. Marks of builds that knew one form of everything name none.
func (c *Core) healed(why string) bool {
	of, unknown := strings.CutPrefix(why, string(Unknown)+": command set ")
	set, forms := uint32(0), 1
	n, _ := fmt.Sscanf(of, "%d, stored forms %d:", &set, &forms) // its error says no more than that there are fewer
	return unknown && n > 0 && (set < c.cfg.CommandSet || forms < peer.StoredForms)
}

// Quarantined counts the nodes that are out of service, by reason.
func (c *Core) Quarantined() map[Reason]int {
	n := make(map[Reason]int, len(Reasons))
	for _, h := range c.sick {
		n[reasonOf(h.quarantined)]++
	}
	return n
}

// SickChanges grows whenever Quarantined may have changed.
func (c *Core) SickChanges() int { return c.sickChanges }

// unmark forgets a node that is wiped.
func (c *Core) unmark(h *hosted) {
	if h.quarantined != "" {
		delete(c.sick, h.handle)
		c.sickChanges++
	}
}

// refuseInput answers what can no longer be served. Nothing of it has reached the replica, so every kind may say "not
// applied".
func (c *Core) refuseInput(h *hosted, in input) {
	if in.sweep {
		return // somebody else's turn, when a client asks
	}
	if in.request == nil {
		c.drop("node is quarantined")
		if h.rowLost {
			c.resignLost(h, in.peer)
			return
		}
		c.resignBelow(h, in.peer.Message.Ballot)
		return
	}
	if in.request.Kind == RequestExplain && h.quarantined != "" {
		c.reply(in.request.Origin, &wire.Explanation{Server: c.cfg.Server, Cell: h.id, Incarnation: h.incarnation, Node: uint64(h.node),
			State: "quarantined", Note: h.quarantined, Configuration: uint64(h.configuration.Number)}, nil)
		return
	}
	c.resignQuarantined(h)
	kind, detail, hint := cell.Quarantined, h.quarantined, quarantineHint
	if h.quarantined == "" {
		kind, detail, hint = cell.Unavailable, "this node went out of service", ""
	}
	c.reply(in.request.Origin, nil, &cell.Error{Op: in.request.op(), Kind: kind, Cell: h.id, Detail: detail, Hint: hint})
}
