package colony

import (
	"errors"
	"net"
	"path/filepath"
	"time"

	"physalia/cell"
	"physalia/internal/pki"
)

// userName is whose certificate a trial itself has.
const userName = "trial"

// home is where the colony's authority is kept.
func (s Spec) home() string { return filepath.Join(s.Dir, "certs", "ca") }

// CertsDir is the directory of certificates of one process of a secure colony, by its name.
func (s Spec) CertsDir(name string) string { return filepath.Join(s.Dir, "certs", name) }

// User is how a trial itself talks to the colony, as an operator: with a certificate to a secure one, else in plain text, beyond
// loopback where the colony's hosts are.
func (s Spec) User() pki.Settings {
	if s.Secure {
		return pki.Settings{Dir: s.CertsDir(userName)}
	}
	return pki.Settings{PlainText: s.beyondLoopback()}
}

func (s Spec) beyondLoopback() bool {
	ip := net.ParseIP(s.host("control").Addr)
	return ip == nil || !ip.IsLoopback()
}

// certify gives every process its certificate, or the permission to do without. A colony that is started again keeps its authority.
func (s Spec) certify(c *Colony) error {
	if !s.Secure {
		if s.beyondLoopback() {
			for _, p := range c.processes() {
				p.Args = append(p.Args, "--plain-text-beyond-loopback")
			}
		}
		return nil
	}
	if c.Crowd != nil {
		return &cell.Error{Op: "colony", Kind: cell.Invalid, Detail: "one process cannot be several servers in a secure colony", Hint: "use plain text"}
	}
	h, err := pki.InitHome(s.home(), Name, time.Now())
	if errors.Is(err, cell.Exists) {
		h, err = pki.OpenHome(s.home())
	}
	if err != nil {
		return err
	}
	ids := []pki.Identity{{Role: pki.Operator, Name: userName}}
	for _, v := range append(c.Instances, c.Copies...) {
		ids = append(ids, pki.Identity{Role: pki.Control, Name: v.Name})
	}
	for _, v := range c.Servers {
		ids = append(ids, pki.Identity{Role: pki.Server, Brick: v.Brick, Color: v.Color, Name: v.Name})
	}
	for _, id := range ids {
		id.Colony = Name
		if err := h.Issue(s.CertsDir(id.Name), id, time.Now(), pki.LeafLife, true); err != nil {
			return err
		}
	}
	for _, p := range c.processes() {
		p.Args = append(p.Args, "--certs", s.CertsDir(p.Name))
	}
	return nil
}
