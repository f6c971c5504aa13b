package access

import (
	"sync/atomic"
	"time"

	"physalia/cell"
	"physalia/internal/grant"
	"physalia/internal/pki"
	"physalia/internal/rpc"
	"physalia/internal/wire"
)

// Gate holds the connections of one process to their users' rights. All methods are safe for concurrent use, each Session is its
// connection's reader's alone.
type Gate struct {
	guard  *pki.Guard
	now    func() time.Time
	denied [grant.Reasons]atomic.Uint64
	shown  atomic.Uint64 // tokens that counted
}

// New makes a gate. What the guard does not secure, plain text, is open to everybody.
func New(guard *pki.Guard) *Gate { return &Gate{guard: guard, now: time.Now} }

// Session is what is known of a connection's user.
type Session struct {
	Who    string // the identity, or the address in plain text
	Reason string // what the user said of his doings
	Rights *grant.Rights

	client   string // name in a client's certificate; empty: rights do not come from tokens
	token    string // as shown; empty: none
	named    string // that token, by its name and number, if it counts
	material *pki.Material
}

// Session is that of a connection. It must be called where the connection's requests are handled, and not be kept.
func (g *Gate) Session(c *rpc.Conn) *Session {
	s, ok := c.Kept().(*Session)
	if !ok {
		s = g.meet(c)
		c.Keep(s)
	}
	if s.token != "" && s.material != g.guard.Material() {
		g.look(s)
	}
	return s
}

// meet makes the session of a connection on its first request.
func (g *Gate) meet(c *rpc.Conn) *Session {
	id, proven := pki.PeerOf(c.Transport())
	switch {
	case proven && (id.Role == pki.Operator || id.Role == pki.Control):
		return &Session{Who: id.String(), Rights: grant.Everything(id.String())}
	case proven && id.Role == pki.Client:
		return &Session{Who: id.String(), Rights: grant.Nothing("client "+id.Name, grant.NoToken), client: id.Name}
	case !proven && !g.guard.Secure():
		who := "plain text from " + c.RemoteAddr().String()
		return &Session{Who: who, Rights: grant.Everything(who)}
	}
	return &Session{Who: id.String(), Rights: grant.Nothing(id.String(), grant.ControlOnly)}
}

// look makes the session's rights from its token, by the keys of this moment.
func (g *Gate) look(s *Session) {
	s.material = g.guard.Material()
	s.named = ""
	t, why := grant.Open(s.token, s.material.TokenKeys)
	if why != grant.Allowed {
		s.Rights = grant.Nothing("client "+s.client, why)
		return
	}
	s.Rights = t.Admit(s.material.Identity.Colony, s.client, g.Now())
	s.named = t.String()
}

// Name is who the user is and by which token he may do what he does, for records.
func (s *Session) Name() string {
	if s.named == "" {
		return s.Who
	}
	return s.Who + " with token " + s.named
}

// Present takes what a user shows (wire.MethodPresent). The error says why his token does not count; nothing is allowed then.
func (g *Gate) Present(c *rpc.Conn, params []byte) *cell.Error {
	var m wire.Present
	if err := wire.Unmarshal(params, &m); err != nil {
		return cell.AsError(wire.MethodPresent, cell.Invalid, err)
	}
	s := g.Session(c)
	s.Reason = m.Reason
	if s.client == "" || m.Token == "" {
		return nil // who may do everything needs none
	}
	s.token = m.Token
	g.look(s)
	if why := s.Rights.Lack; why != grant.Allowed {
		return g.Deny(wire.MethodPresent, &grant.Refusal{Reason: why, Who: s.Rights.Who})
	}
	g.shown.Add(1)
	return nil
}

// Now is the time as rights count it.
func (g *Gate) Now() int64 { return g.now().Unix() }

// Deny counts a refusal and words it; nil stays nil.
func (g *Gate) Deny(op string, r *grant.Refusal) *cell.Error {
	if r == nil {
		return nil
	}
	g.denied[r.Reason].Add(1)
	return r.AsError(op)
}

// Control decides about a request to the control plane, and counts what it refuses.
func (g *Gate) Control(s *Session, method string, params []byte) *cell.Error {
	refusal, err := s.Rights.Control(g.Now(), method, params)
	if err != nil {
		return cell.AsError(method, cell.Invalid, err)
	}
	return g.Deny(method, refusal)
}

// Denied tells how often something was denied for a reason, since the start.
func (g *Gate) Denied(r grant.Reason) uint64 { return g.denied[r].Load() }

// Shown tells how many tokens counted when they were shown, since the start.
func (g *Gate) Shown() uint64 { return g.shown.Load() }
