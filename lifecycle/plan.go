package lifecycle

import (
	"math/rand/v2"

	"physalia/cell"
	"physalia/internal/topology"
	"physalia/internal/wire"
	"physalia/placement"
)

// planner keeps what placement decides by: the servers, which of them are down, and the book of all incarnations whose
// nodes are not proven gone.
type planner struct {
	servers map[cell.ServerID]topology.Server
	down    map[cell.ServerID]bool // not connected, or closed
	closed  map[cell.ServerID]bool // being emptied: takes no new node
	lost    map[cell.ServerID]bool // not connected
	coming  map[cell.ServerID]int  // learners of replacements under way
	book    *placement.Book
	view    *topology.View // of servers; nil when they have changed since
	rng     *rand.Rand
}

func newPlanner(seed uint64) *planner {
	return &planner{servers: map[cell.ServerID]topology.Server{}, down: map[cell.ServerID]bool{}, closed: map[cell.ServerID]bool{},
		lost: map[cell.ServerID]bool{}, coming: map[cell.ServerID]int{}, book: placement.NewBook(),
		rng: rand.New(rand.NewPCG(seed, placeStream))}
}

// placeOf is a registration as placement sees it.
func placeOf(g *wire.Registration) topology.Server {
	color := topology.Color(g.Color)
	if plantedBlindToColors {
		color = "any"
	}
	return topology.Server{ID: g.Server, Name: g.Name, Brick: topology.Brick(g.Brick), Rack: topology.Rack(g.Rack),
		Power: topology.PowerDomain(g.Power), Color: color, Capacity: g.Capacity, Load: g.Nodes}
}

// check refuses a malformed description, and one that moves a known server to another place: juries were chosen by the
// old one.
func (p *planner) check(s topology.Server) error {
	if err := s.Check(); err != nil {
		return err
	}
	if was, ok := p.servers[s.ID]; ok {
		return was.Contradiction(&s)
	}
	if len(p.servers) >= topology.ServersMax {
		return &cell.Error{Op: "lifecycle.server", Kind: cell.TooLarge, Detail: "too many servers are known",
			Hint: "retire the identities of servers that are gone for good"}
	}
	return nil
}

// server takes note of a server that passed check. The load that it reports counts only where it exceeds what the book
// knows, which stays right while nodes come and go.
func (p *planner) server(s topology.Server, up bool) {
	if s.Load <= uint64(p.book.Nodes(s.ID)) {
		s.Load = 0
	}
	if was, ok := p.servers[s.ID]; !ok || was != s {
		p.servers[s.ID] = s
		p.view = nil
	}
	p.mark(p.lost, s.ID, !up)
}

// close keeps new nodes off a server, or opens it again.
func (p *planner) close(id cell.ServerID, closed bool) { p.mark(p.closed, id, closed) }

// mark changes one of the reasons why a server takes no new node.
func (p *planner) mark(reason map[cell.ServerID]bool, id cell.ServerID, holds bool) {
	if holds {
		reason[id] = true
	} else {
		delete(reason, id)
	}
	delete(p.down, id)
	if p.lost[id] || p.closed[id] {
		p.down[id] = true
	}
}

// place chooses a founding jury, with the servers to keep in it where that is possible. The error is a *cell.Error, of kind
// NoRoom when the constraints cannot be met.
func (p *planner) place(members int, brick, color string, keep ...cell.ServerID) (placement.Placement, error) {
	view, err := p.viewNow()
	if err != nil {
		return placement.Placement{}, err
	}
	jury, _, err := placement.Place(placement.Input{View: view, Down: p.down, Coming: p.coming, Book: p.book, JurySize: members,
		Brick: topology.Brick(brick), Color: topology.Color(color), Keep: keep}, p.rng)
	return jury, err
}

// keep counts an incarnation's nodes. The error says that the stored jury contradicts what else is stored.
func (p *planner) keep(r *Record) error {
	jury := placement.Placement{Brick: topology.Brick(r.Brick.String()), Color: topology.Color(r.Color.String()),
		Members: make([]cell.ServerID, len(r.Members))}
	for i, m := range r.Members {
		jury.Members[i] = m.Server()
		if m.Node() == r.Owner {
			jury.Owner = i
		}
	}
	return p.book.Add(r.Cell, r.Incarnation, jury)
}

// substitute chooses who takes the place of a member; kind NoRoom when nobody can.
func (p *planner) substitute(r *Record, leaves cell.ServerID, users placement.Hints) (cell.ServerID, error) {
	view, err := p.viewNow()
	if err != nil {
		return "", err
	}
	jury := r.servers()
	return placement.Substitute(placement.Input{View: view, Down: p.down, Coming: p.coming, Book: p.book, JurySize: len(jury), Hints: users}, jury, leaves)
}

// improve finds the replacement that brings a cell nearest to its users; ok is false when none is worth its while.
func (p *planner) improve(r *Record, users placement.Hints) (swap placement.Swap, ok bool, err error) {
	view, err := p.viewNow()
	if err != nil {
		return swap, false, err
	}
	jury := r.servers()
	swap, ok = placement.Improve(placement.Input{View: view, Down: p.down, Coming: p.coming, Book: p.book, JurySize: len(jury), Hints: users}, jury)
	return swap, ok, nil
}

// viewNow is the servers as placement sees them.
func (p *planner) viewNow() (*topology.View, error) {
	if p.view == nil {
		list := make([]topology.Server, 0, len(p.servers))
		for _, s := range p.servers { // the view orders them
			list = append(list, s)
		}
		view, err := topology.NewView(list)
		if err != nil {
			return nil, err
		}
		p.view = view
	}
	return p.view, nil
}

// forget stops counting an incarnation's nodes.
func (p *planner) forget(r *Record) { p.book.Remove(r.Cell, r.Incarnation) }
