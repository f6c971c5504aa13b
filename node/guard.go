package node

import (
	"fmt"

	"physalia/internal/access"
	"physalia/internal/pki"
	"physalia/internal/pki/export"
	"physalia/internal/refusal"
	"physalia/internal/rpc"
)

// openGuard reads the certificates. They must be this server's: with those of another one, its peers would take it for that.
func (s *Server) openGuard() (err error) {
	c := &s.cfg
	should := pki.Identity{Colony: c.Colony, Role: pki.Server, Brick: c.Brick, Color: c.Color, Name: c.Name}
	s.guard, err = pki.Open(c.Certs, func(is pki.Identity) error {
		if is != should {
			return invalid(fmt.Sprintf("they are for %s, this is %s", is, should), "name this server's own directory with --certs")
		}
		return nil
	}, c.Logger)
	s.gate = access.New(s.guard)
	return err
}

// refused counts connections that a port refused, or ended for what came on them, as far as the guard has not.
func (s *Server) refused(port pki.Port, err error) {
	if why := rpc.ReasonOf(err); why != refusal.Welcome {
		s.guard.Count(port, pki.Accepting, why)
	}
}

// certificates exports what the guard counts, read at each scrape.
func (m *metrics) certificates(g *pki.Guard) { m.registry.MustRegister(export.New(g, m.labels)) }
