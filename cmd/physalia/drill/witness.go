package drill

import (
	"context"
	"errors"
	"fmt"
	"net"
	"time"

	"physalia/cell"
	"physalia/cmd/physalia/colony"
	"physalia/internal/fleet"
	"physalia/internal/wire"
)

// The control plane is judged, so it cannot be asked. Servers answer nobody else about what they host; so the witness kills the
// control plane and listens at its address for a while: servers come to it as they would to any control process, and are asked
// for their own lists. It creates, moves and removes nothing.

// seen is one node that a server says it hosts.
type seen struct {
	server cell.ServerID
	wire.CensusNode
}

// hosted is what all servers say: nodes that they host, and the highest incarnation that any of them has a tombstone of.
type hosted struct {
	nodes  map[cell.ID]map[cell.Incarnation][]seen
	graves map[cell.ID]cell.Incarnation
	total  int // nodes
}

// witness asks every server what it hosts, without the control plane, which it kills and then starts again.
func (s *site) witness(ctx context.Context) (*hosted, error) {
	if err := s.killControl(); err != nil {
		return nil, err
	}
	h, err := s.listen(ctx)
	if err != nil {
		return nil, err
	}
	s.cfg.Say("the servers say that they host %d nodes of %d cells", h.total, len(h.nodes))
	return h, s.restartControl(ctx)
}

// Servers come back within seconds, as after any death of the control plane. They register with the witness, which has every duty and
// does nothing of it.
//
// listen takes the place of the control plane and asks all servers.
func (s *site) listen(ctx context.Context) (h *hosted, err error) {
	ln, err := net.Listen("tcp", s.ControlAddr)
	if err != nil {
		return nil, err
	}
	f := fleet.Serve(ln, fleet.Config{Colony: colony.Name, Control: "witness", Server: map[string]fleet.Handler{
		wire.MethodPush: func(r fleet.Request) { r.Reply(nil, nil) }, // it is no copy of discovery
	}})
	defer func() { err = errors.Join(err, f.Close()) }()
	if err := s.until(ctx, startMax, "every server comes to the witness", func(context.Context) (bool, error) {
		return len(f.Sessions()) == len(s.Servers), fmt.Errorf("%d of %d have come", len(f.Sessions()), len(s.Servers))
	}); err != nil {
		return nil, err
	}
	h = &hosted{nodes: map[cell.ID]map[cell.Incarnation][]seen{}, graves: map[cell.ID]cell.Incarnation{}}
	for _, state := range f.Sessions() {
		id := state.Registration.Server
		if err := h.ask(ctx, f, id); err != nil {
			return nil, fmt.Errorf("ask %s what it hosts: %w", id, err)
		}
	}
	return h, nil
}

// Pages are of one server's present; between two of them a node may come or go, but nobody is left who would order that.
//
// ask adds what one server says.
func (h *hosted) ask(ctx context.Context, f *fleet.Fleet, id cell.ServerID) error {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	for request := (wire.Census{Limit: wire.ListLimitMax}); ; {
		var page wire.CensusPage
		if err := f.Call(ctx, id, wire.MethodCensus, &request, &page); err != nil {
			return err
		}
		for _, n := range page.Nodes {
			if h.nodes[n.Cell] == nil {
				h.nodes[n.Cell] = map[cell.Incarnation][]seen{}
			}
			h.nodes[n.Cell][n.Incarnation] = append(h.nodes[n.Cell][n.Incarnation], seen{id, n})
			h.total++
			request.After = n.Handle
		}
		if !page.More || len(page.Nodes) == 0 {
			break
		}
	}
	for request := (wire.Census{Limit: wire.ListLimitMax}); ; {
		var page wire.GravePage
		if err := f.Call(ctx, id, wire.MethodGraves, &request, &page); err != nil {
			return err
		}
		for _, g := range page.Graves {
			h.graves[g.Cell] = max(h.graves[g.Cell], g.Incarnation)
		}
		request.After = page.Next
		if !page.More {
			return nil
		}
	}
}

// agree compares what the lifecycle manager lists with what the servers host, and notes every difference. doomed tells of which
// cells somebody asked the deletion: no other may have lost an incarnation that ever served.
func (s *site) agree(cells []wire.CellInfo, h *hosted, doomed func(cell.ID) bool) {
	listed := map[cell.ID]bool{}
	for i := range cells {
		c := &cells[i]
		listed[c.Cell] = true
		switch c.State {
		case "live":
			s.agreeLive(c, h)
			s.wrong(h.graves[c.Cell] >= c.Incarnation, "%s: incarnation %d is live, and a server has a tombstone of %d", c.Cell, c.Incarnation, h.graves[c.Cell])
		case "deleted":
			s.wrong(!doomed(c.Cell), "%s is deleted, and nobody asked for that", c.Cell)
			s.wrong(len(h.nodes[c.Cell]) > 0, "%s is deleted, and servers still host %d incarnations of it", c.Cell, len(h.nodes[c.Cell]))
		default:
			s.wrong(true, "%s is neither live nor deleted, but %s: %s", c.Cell, c.State, c.Waiting)
		}
	}
	for id, lives := range h.nodes {
		s.wrong(!listed[id], "%s is hosted in %d incarnations, and the lifecycle manager does not know it", id, len(lives))
	}
	for id := range h.graves {
		s.wrong(!listed[id] && !doomed(id), "%s has a tombstone, nobody asked for its deletion, and the lifecycle manager does not know it", id)
	}
}

// The newest configuration is the highest number that any of its nodes knows: a configuration is chosen by a majority, and every
// member of the newest one learns it in time; the drill waits for that before it asks.
//
// agreeLive compares one cell that should be live: one incarnation, hosted by exactly the jury of its newest configuration, which
// is the one that the lifecycle manager lists.
func (s *site) agreeLive(c *wire.CellInfo, h *hosted) {
	lives := h.nodes[c.Cell]
	if len(lives) != 1 || len(lives[c.Incarnation]) == 0 {
		s.wrong(true, "%s should be hosted as incarnation %d and no other, it is hosted in %d incarnations", c.Cell, c.Incarnation, len(lives))
		return
	}
	var newest wire.CensusNode
	on := map[cell.ServerID]uint64{}
	for _, n := range lives[c.Incarnation] {
		if n.Configuration >= newest.Configuration {
			newest = n.CensusNode
		}
		s.wrong(n.Quarantined != "", "%s: node %d on %s has stopped itself: %s", c.Cell, n.Node, n.server, n.Quarantined)
		s.wrong(n.Sealed, "%s is live, and sealed on %s", c.Cell, n.server)
		s.wrong(n.Learner, "%s: a learner %d is left on %s", c.Cell, n.Node, n.server)
		on[n.server] = n.Node
	}
	s.wrong(len(on) != len(newest.Members), "%s is hosted by %d servers, its jury has %d members", c.Cell, len(on), len(newest.Members))
	jury := map[cell.ServerID]uint64{}
	for _, m := range newest.Members {
		s.wrong(on[m.Server] != m.Node, "%s: node %d of its jury should be on %s, there is node %d", c.Cell, m.Node, m.Server, on[m.Server])
		jury[m.Server] = m.Node
	}
	for _, m := range c.Members {
		s.wrong(jury[m.Server] != m.Node, "%s: the lifecycle manager lists node %d on %s, the cell's own log does not", c.Cell, m.Node, m.Server)
	}
	s.wrong(len(c.Members) != len(jury), "%s: the lifecycle manager lists %d members, the cell's own log %d", c.Cell, len(c.Members), len(jury))
}
