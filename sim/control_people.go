package sim

import (
	"fmt"
	"math/rand/v2"
	"time"

	"physalia/cell"
	"physalia/internal/wire"
	"physalia/lifecycle"
)

// operators are who asks the control plane for things: cells with clients are created, and never deleted unless a fault says so;
// scratch cells are created and deleted again and again; members are replaced, servers drained, users located; and a store that
// was lost is rebuilt.
type operators struct {
	control *control
	dice    *rand.Rand
	wanted  []*wanted
	drained map[cell.ServerID]time.Duration // that are to be told that they serve again, and when they were told to be empty
	seen    bool                            // a rebuild under way, since the store was lost
}

// wanted is one name, and what was asked for last.
type wanted struct {
	id      cell.ID
	exists  bool // shall it exist?
	settled bool // that was acknowledged
	was     bool // somebody was told that it existed
	ended   bool // nobody asks for anything any more
	serial  uint64
}

// The patience of operators with an answer, and their pause.
const (
	operatorWait  = 300 * time.Millisecond
	operatorPause = 50 * time.Millisecond
)

// begin plans what everybody does.
func (o *operators) begin() {
	w, plan := o.control.world, o.control.plan
	o.drained = map[cell.ServerID]time.Duration{}
	for _, v := range w.cells {
		x := &wanted{id: v.id, exists: true}
		o.wanted = append(o.wanted, x)
		w.after(2*time.Millisecond, func() { o.pursue(x) })
	}
	for i := range plan.Scratch {
		x := &wanted{id: cell.ID(fmt.Sprintf("tmp-%d", i+1)), exists: true}
		o.wanted = append(o.wanted, x)
		w.after(between(o.dice, w.plan.Span/4), func() { o.pursue(x) })
	}
	for range plan.Wishes {
		w.after(between(o.dice, w.plan.Span), o.wish)
	}
	w.after(2*operatorPause, o.watchRebuild)
}

// ask makes a request of the active process; an answer that does not come is asked for again by whoever wants it. Operators use
// the process that is meant to be active, never its twin: which of the two is believed, the vault decides.
func (o *operators) ask(do func(p *process, now time.Duration, id lifecycle.RequestID), answer func(lifecycle.Reply)) {
	p, w := o.control.active, o.control.world
	if p == nil || p.dead {
		return
	}
	w.after(between(o.dice, wayMax), func() {
		p.ask(func(now time.Duration, id lifecycle.RequestID) { do(p, now, id) }, func(r lifecycle.Reply) {
			if !percent(o.dice, w.lostReplies) {
				w.after(between(o.dice, wayMax), func() { answer(r) })
			}
		})
	})
}

// pursue asks for a name to be there, or to be gone, until that is acknowledged; then it asks for the opposite, if it is a
// scratch cell.
func (o *operators) pursue(x *wanted) {
	w := o.control.world
	if x.settled || x.ended {
		return
	}
	if w.plan.Site != nil && !x.was && !w.healed && !o.control.everybodyIsKnown() {
		w.after(operatorPause, func() { o.pursue(x) })
		return
	}
	x.serial++
	serial := x.serial
	answered := func(r lifecycle.Reply) {
		if x.serial == serial && r.Outcomes != nil {
			o.told(x, r.Outcomes.Outcomes[0].Err)
		}
	}
	o.ask(func(p *process, now time.Duration, id lifecycle.RequestID) {
		if x.exists {
			p.manager.Create(now, id, wire.CreateCells{Cells: []cell.ID{x.id}, Wait: uint32(operatorWait / time.Millisecond)})
		} else {
			p.manager.Delete(now, id, wire.DeleteCells{Drops: []wire.Drop{{Cell: x.id}}, Wait: uint32(operatorWait / time.Millisecond)})
		}
	}, answered)
	w.after(operatorWait+operatorPause, func() {
		if x.serial == serial {
			o.pursue(x)
		}
	})
}

// told takes the answer about a name. Only success is an acknowledgement; every error means to ask again, since what was asked for
// may have begun, and asking is idempotent. A name that nobody knows cannot be deleted, and need not be.
func (o *operators) told(x *wanted, err *cell.Error) {
	c, w := o.control, o.control.world
	w.trace.note(w.now, "%s shall exist: %v; answered with %v", x.id, x.exists, err)
	if err != nil && !x.exists && err.Kind == cell.NotFound && !x.was {
		err = nil // it was never planned
	}
	if err != nil && x.exists && err.Kind == cell.Exists && isScratch(x.id) {
		x.exists = false // nodes are left of which nobody knows what they are: the operator says so
	}
	if err != nil {
		x.serial++
		w.after(operatorPause+between(o.dice, operatorPause), func() { o.pursue(x) })
		return
	}
	x.settled = true
	if x.exists {
		x.was = true
		w.report.Created++
		c.checks.created(x.id)
	} else {
		x.was = false
		w.report.Deleted++
		c.checks.deleted(x.id)
	}
	if !isScratch(x.id) {
		if x.ended = !x.exists; x.ended {
			w.cellNamed(x.id).sealed = true
		}
		return
	}
	w.after(between(o.dice, 400*time.Millisecond), func() {
		if w.healed && (x.exists || o.dice.IntN(2) == 0) {
			return // what is there in the end, and what is not, is compared
		}
		x.exists, x.settled = !x.exists, false
		o.pursue(x)
	})
}

// delete asks for the deletion of a cell with clients. From now on nobody expects answers from it.
func (o *operators) delete(v *volume) {
	v.sealing = true
	x := o.wanted[v.at]
	x.exists, x.settled = false, false
	o.pursue(x)
}

// wish asks for one thing that is asked for once: half of the wishes are replacements, to a server of the operator's choice or of
// placement's, the others tell where a volume is used, or have a server drained for a while.
func (o *operators) wish() {
	w := o.control.world
	if w.healed {
		return
	}
	v := w.cells[o.dice.IntN(len(w.cells))]
	at := func() *server { return w.servers[o.dice.IntN(len(w.servers))] }
	switch o.dice.IntN(4) {
	case 0, 1:
		if len(v.members) > 0 {
			add := cell.ServerID("")
			if o.dice.IntN(2) == 0 {
				add = at().id
			}
			o.replace(v, v.members[o.dice.IntN(len(v.members))].id, add)
		}
	case 2:
		q := wire.LocateVolume{Cell: v.id, Client: at().id, Primary: at().id, Replica: at().id}
		o.ask(func(p *process, now time.Duration, id lifecycle.RequestID) { p.manager.Locate(now, id, q) }, func(lifecycle.Reply) {})
	case 3:
		s := at()
		if _, drained := o.drained[s.id]; !drained {
			o.duty(s.id, lifecycle.Draining)
			o.drained[s.id] = w.now
			w.after(w.plan.Span/4, func() { o.restore(s.id) })
		}
	}
}

// replace asks for a member to be replaced.
func (o *operators) replace(v *volume, remove, add cell.ServerID) {
	o.control.world.report.Moves++
	q := wire.ReplaceMember{Cell: v.id, Remove: remove, Add: add, Wait: uint32(operatorWait / time.Millisecond)}
	o.ask(func(p *process, now time.Duration, id lifecycle.RequestID) { p.manager.Replace(now, id, q) }, func(r lifecycle.Reply) {
		if r.Outcomes != nil && r.Outcomes.Outcomes[0].Err == nil {
			o.control.world.report.Moved++
		}
	})
}

// duty orders what a server is to be. Orders may overtake each other, so that it serves counts only where it was asked for after every
// order to be empty had arrived.
func (o *operators) duty(s cell.ServerID, d lifecycle.Duty) {
	asked := o.control.world.now
	o.ask(func(p *process, now time.Duration, id lifecycle.RequestID) {
		p.manager.SetDuty(now, id, s, d, lifecycle.Order{By: "operator"})
	}, func(r lifecycle.Reply) {
		o.control.world.trace.note(o.control.world.now, "%s shall be %v; answered with %v", s, d, r.Err)
		if d == lifecycle.Serving && asked >= o.drained[s]+wayMax && (r.Err == nil || r.Err.Kind == cell.NotFound) {
			delete(o.drained, s)
		}
	})
}

// restore tells a drained server to serve again, until that is acknowledged.
func (o *operators) restore(s cell.ServerID) {
	if _, drained := o.drained[s]; drained {
		o.duty(s, lifecycle.Serving)
		o.control.world.after(operatorWait, func() { o.restore(s) })
	}
}

// moveOne is the fault Move for a control plane: one of who is replaced by one of others.
func (o *operators) moveOne(v *volume, who, others Servers) {
	var remove, add *server
	w := o.control.world
	w.each(who, func(s *server) {
		if remove == nil && v.sits(s) {
			remove = s
		}
	})
	w.each(others, func(s *server) {
		if add == nil && !v.sits(s) {
			add = s
		}
	})
	if remove != nil && add != nil {
		o.replace(v, remove.id, add.id)
	}
}

// serveAgain undoes drains that a store of yesterday remembers.
func (o *operators) serveAgain() {
	for _, s := range o.control.world.servers {
		if _, drained := o.drained[s.id]; !drained {
			o.drained[s.id] = -wayMax // whenever that was
		}
		o.restore(s.id)
	}
}

// watchRebuild looks how far a rebuild is, and ends it when every server that there is was heard: an operator knows his fleet.
func (o *operators) watchRebuild() {
	c := o.control
	c.world.after(2*operatorPause, o.watchRebuild)
	if !c.vault.restored {
		o.seen = false
		return
	}
	act := func(action wire.RebuildAction, answer func(*wire.RebuildState)) {
		o.ask(func(p *process, now time.Duration, id lifecycle.RequestID) {
			p.manager.Rebuild(now, id, wire.Rebuild{Action: action, Limit: 1})
		}, func(r lifecycle.Reply) {
			if r.Rebuild != nil {
				answer(r.Rebuild)
			}
		})
	}
	act(wire.RebuildLook, func(s *wire.RebuildState) {
		switch {
		case !s.Rebuilding && o.seen:
			c.vault.restored = false
			o.serveAgain()
		case s.Rebuilding && s.Complete && int(s.Connected) >= c.fleet():
			o.seen = true
			act(wire.RebuildEnd, func(s *wire.RebuildState) {
				if !s.Rebuilding && c.vault.restored {
					c.vault.restored = false
					c.world.report.Rebuilds++
					o.serveAgain()
				}
			})
		case s.Rebuilding:
			o.seen = true
		}
	})
}

// fleet is how many servers an operator expects: all but those that stopped for good, that stay down, or that are not let in since
// their disks are not the ones that were known: those he replaces, as the refusal tells him.
func (c *control) fleet() (n int) {
	for _, s := range c.world.servers {
		if !s.stopped && !(c.active != nil && c.active.refused.Has(s.at)) && !(c.world.healed && c.world.dead.Has(s.at)) {
			n++
		}
	}
	return n
}
