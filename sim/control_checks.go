package sim

import (
	"time"

	"physalia/cell"
	"physalia/health"
	"physalia/internal/wire"
	"physalia/node/storage"
	"physalia/paxos"
)

// controlChecks remember what the checkers of the control plane need; each property has a file of its own: checker_founding.go,
// checker_rises.go, checker_drops.go, checker_repairs.go, and control_settle.go for what agrees in the end.
type controlChecks struct {
	control *control
	newest  map[cell.ID]cell.Incarnation // that any server was told to found
	deaths  map[*process]*[siteMax]death
	open    map[*process]map[cell.ID]opened // proposals that have not come about
	taken   []time.Duration                 // proposals that a manager took
}

func newControlChecks(c *control) controlChecks {
	return controlChecks{control: c, newest: map[cell.ID]cell.Incarnation{}, deaths: map[*process]*[siteMax]death{},
		open: map[*process]map[cell.ID]opened{}}
}

// isOver reports whether nothing can be chosen in an incarnation any more: it is sealed.
func (v *volume) isOver() bool {
	return len(v.log) > 0 && v.log[len(v.log)-1].Kind == paxos.Seal
}

// wasFounded reports whether a majority of the founders ever hosted their nodes, or something was chosen.
func (v *volume) wasFounded() bool {
	n := 0
	for _, hosted := range v.hosted {
		if hosted {
			n++
		}
	}
	return n > jurySize/2 || len(v.log) > 0
}

// hosting is a node that a server has decided to host, in a batch that may be lost.
type hosting struct {
	v     *volume
	batch storage.BatchNumber
}

// watchNode sees every node that appears at a server, changes, or goes, at the moment when the server decides it. That may be a turn
// before it is durable: who hosted a node once is counted as somebody who may have answered for it, unless a crash takes the batch
// (forgetHosted). Nothing leaves a server before that is durable.
func (w *World) watchNode(s *server, n *wire.NodeInfo, gone bool) {
	v := w.volumeOf(n.Cell, n.Incarnation)
	w.trace.note(w.now, "%s: node %d of %s.%d, configuration %d, gone: %v", s.id, n.Node, n.Cell, n.Incarnation, n.Configuration, gone)
	if gone {
		w.checkDrop(s, v, n)
	} else {
		if !v.hosted[s.at] {
			v.hosted[s.at] = true
			s.hosting = append(s.hosting, hosting{v, s.model.Last() + 1})
		}
		if n.Configuration > v.known.Number {
			w.checkChange(v, v.known.Members, n.Members)
			v.known = wire.Configured{Number: n.Configuration, Members: n.Members}
		}
	}
	s.push(n, gone)
}

// forgetHosted takes back that a server hosts what it decided in batches which a crash has lost: it never answered for them, and a
// founding that only such servers took up proves nothing to anybody, and binds nobody.
func (s *server) forgetHosted(kept storage.BatchNumber) {
	for _, h := range s.hosting {
		if h.batch > kept {
			h.v.hosted[s.at] = false
		}
	}
	s.hosting = nil
}

// created and deleted take what was acknowledged. The newest incarnation that any server was told of is meant: operators ask for one
// thing at a time for each name.
func (c *controlChecks) created(id cell.ID) {
	inc := max(1, c.newest[id])
	w := c.control.world
	if v := w.volumeOf(id, inc); !v.wasFounded() {
		w.fail("desired", place{v: v}, "incarnation %d is acknowledged as created, and no majority ever hosted it", inc)
	}
}

func (c *controlChecks) deleted(id cell.ID) {
	w := c.control.world
	for inc := cell.Incarnation(1); inc <= c.newest[id]; inc++ {
		v := w.volumeOf(id, inc)
		if v.wasFounded() && !v.isOver() {
			w.fail("rises", place{v: v}, "its deletion is acknowledged, and incarnation %d is not sealed", inc)
		}
		v.ended = true
	}
}

// withdrawn takes a proposal back.
func (c *controlChecks) withdrawn(p *process, x health.Withdrawal, given bool) {
	if delete(c.open[p], x.Cell); given {
		c.control.world.report.Repairs--
	}
}
