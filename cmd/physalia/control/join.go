package control

import (
	"crypto/rand"
	"fmt"
	"net"
	"sync/atomic"
	"time"

	"physalia/cell"
	"physalia/internal/audit"
	"physalia/internal/fleet"
	"physalia/internal/pki"
	"physalia/internal/rpc"
	"physalia/internal/wire"
	"physalia/lifecycle"
)

// How a process without a certificate gets one: an operator has an invitation made, of which the lifecycle manager remembers a hash, and
// whoever brings it to the join port, once, with a key of his own, has that key signed. The join port is the only one that talks to
// somebody who has proven nothing; it is closed unless it was asked for, takes one small frame per connection, and serves few at a time.

// join is the join port of a control process.
type join struct {
	server *rpc.Server // nil: there is none
	addr   string      // as told to others
	counts [joinResults]atomic.Uint64
}

// joinResult is what became of an attempt to join. The names are label values of a metric and do not change.
type joinResult uint8

const (
	joinSigned joinResult = iota
	joinUnknown
	joinUsed
	joinExpired
	joinMalformed
	joinFailed
	joinResults
)

// String is the result as the metric has it.
func (r joinResult) String() string {
	return [joinResults]string{"signed", "unknown", "used", "expired", "malformed", "failed"}[r]
}

// Bounds of joining.
const (
	joinConnectionsMax = 64
	inviteLifeMin      = time.Minute
	inviteLifeMax      = 7 * 24 * time.Hour
)

// listenJoin opens the join port, if it was asked for.
func (p *Control) listenJoin() error {
	if p.cfg.ListenJoin == "" {
		return nil
	}
	home, refusal := p.home("control.listen")
	if refusal != nil {
		return refusal
	}
	if home.Signer.Colony() != p.cfg.Colony {
		return &cell.Error{Op: "control.listen", Kind: cell.Invalid, Detail: fmt.Sprintf("%s is the authority of colony %q", p.cfg.JoinCA, home.Signer.Colony()), Hint: "name this colony's with --join-ca"}
	}
	// The listener asks nobody for a certificate; everything else about it is as narrow as it can be.
	ln, err := net.Listen("tcp", p.cfg.ListenJoin)
	if err != nil {
		return &cell.Error{Op: "control.listen", Kind: cell.Refused, Detail: err.Error(), Hint: "choose another --listen-join"}
	}
	// Who is invited is told where to come, by the name under which this process is reached from elsewhere.
	p.join.addr = ln.Addr().String()
	if host, _, err := net.SplitHostPort(p.cfg.Advertise); err == nil {
		_, port, _ := net.SplitHostPort(p.join.addr) // a listener's address has one
		p.join.addr = net.JoinHostPort(host, port)
	}
	if ln, err = p.guard.JoinListener(ln); err != nil {
		return err
	}
	p.join.server = rpc.NewServer(ln, rpc.Config{Hello: wire.Hello{Purpose: wire.ForJoin, Colony: p.cfg.Colony}, FrameMax: wire.JoinFrameMax, InFlightMax: 1,
		Limits: rpc.Limits{Connections: joinConnectionsMax}, Handler: rpc.HandlerFunc(p.redeem), Check: func(h wire.Hello) *cell.Error {
			if h.Purpose != wire.ForJoin {
				return &cell.Error{Op: "control.hello", Kind: cell.Refused, Detail: "this is the join port", Hint: "it is for `physalia cert join`"}
			}
			return nil
		}})
	return nil
}

// JoinAddr is where processes join, or empty.
func (p *Control) JoinAddr() string { return p.join.addr }

// close ends the join port.
func (j *join) close() error {
	if j.server == nil {
		return nil
	}
	return j.server.Close()
}

// home is the authority that signs for those who join, read anew each time: it may have been rotated.
func (p *Control) home(op string) (*pki.Home, *cell.Error) {
	if p.cfg.JoinCA == "" {
		return nil, &cell.Error{Op: op, Kind: cell.Refused, Detail: "this control process has no authority's key, so it cannot sign for anybody",
			Hint: "start it with --join-ca and --listen-join, or issue certificates with `physalia cert issue` where the authority is"}
	}
	// A rotation that was begun or finished meanwhile counts from the next request on, without a restart.
	h, err := pki.OpenHome(p.cfg.JoinCA)
	return h, cell.AsError(op, cell.Internal, err)
}

// invite answers join.invite.
func (p *Control) invite(r fleet.Request) {
	var req wire.Invite
	if !r.Decode(&req) {
		return
	}
	life := time.Duration(req.Life) * time.Second
	// Everything that can be refused is refused before a secret exists.
	id, err := pki.ParseIdentity(req.Identity)
	switch {
	case err != nil:
	case id.Colony != p.cfg.Colony:
		err = &cell.Error{Kind: cell.Invalid, Detail: fmt.Sprintf("this is colony %q, not %q", p.cfg.Colony, id.Colony), Hint: "check --colony and --control-plane"}
	case life < inviteLifeMin || life > inviteLifeMax:
		err = &cell.Error{Kind: cell.Invalid, Detail: fmt.Sprintf("a life of %v, allowed are %v to %v", life, inviteLifeMin, inviteLifeMax), Hint: "set --life"}
	case p.join.server == nil:
		err = &cell.Error{Kind: cell.Refused, Detail: "this control process has no join port", Hint: "start it with --join-ca and --listen-join, or use `physalia cert issue`"}
	}
	// The secret is drawn here and told to who asked; what is kept is a hash.
	var token pki.JoinToken
	if err == nil {
		token.Authority, err = p.guard.AuthorityFingerprint()
	}
	if err == nil {
		_, err = rand.Read(token.Secret[:])
	}
	if err != nil {
		r.Reply(nil, cell.AsError(r.Method, cell.Internal, err))
		return
	}
	manager, standing := p.seat.current(r.Method)
	if standing != nil {
		r.Reply(nil, standing)
		return
	}
	// The text goes out only after the hash is durable: an invitation that is known to nobody would be a riddle.
	answer := &wire.Invited{Token: token.Text(), Addr: p.join.addr, Expires: uint64(time.Now().Add(life).UnixMilli())}
	manager.Invite(lifecycle.Invitation{Hash: pki.HashSecret(token.Secret[:]), Identity: id.String()}, life, func(err *cell.Error) {
		if err != nil {
			r.Reply(nil, err)
			return
		}
		r.Reply(answer, nil)
	})
}

// redeem takes a request at the join port. What can be found wrong with it is found before its invitation is used up.
func (p *Control) redeem(c *rpc.Conn, q rpc.Request) {
	if q.Notify {
		return
	}
	// One end for all outcomes, so that none is not counted.
	began := time.Now()
	end := func(result joinResult, identity string, joined *wire.Joined, err *cell.Error) {
		p.joined(c, began, result, identity, err)
		if err != nil {
			c.Reply(q.ID, nil, err)
			return
		}
		c.Reply(q.ID, joined, nil)
	}
	var req wire.Join
	err := wire.Unmarshal(q.Params, &req)
	if q.Method != wire.MethodJoin {
		// The same port for other questions would be a way around certificates.
		err = &cell.Error{Kind: cell.Invalid, Detail: "the join port serves " + wire.MethodJoin + " alone"}
	}
	key, keyErr := pki.RequestedKey(req.Request)
	if err == nil {
		err = keyErr
	}
	if err != nil {
		end(joinMalformed, "", nil, cell.AsError(wire.MethodJoin, cell.Invalid, err))
		return
	}
	// From here on it is this side's fault if nothing comes of it.
	home, failure := p.home(wire.MethodJoin)
	if failure != nil {
		end(joinFailed, "", nil, failure)
		return
	}
	// An instance that stands by cannot know whether the invitation was used; the refusal names the one that does.
	manager, standing := p.seat.current(wire.MethodJoin)
	if standing != nil {
		end(joinFailed, "", nil, standing)
		return
	}
	manager.Redeem(pki.HashSecret(req.Secret), func(identity string, err *cell.Error) {
		if err != nil {
			end(joinResultOf(err.Kind), identity, nil, err)
			return
		}
		// Signing reads files, for which the manager's loop must not wait.
		p.wait.Go(func() {
			joined, err := welcome(home, identity, key)
			if err != nil {
				end(joinFailed, identity, nil, err)
				return
			}
			end(joinSigned, identity, joined, nil)
		})
	})
}

// welcome signs for somebody whose invitation has just been used up.
func welcome(home *pki.Home, identity string, key any) (*wire.Joined, *cell.Error) {
	// It was checked when it was stored, which may have been by another version.
	id, err := pki.ParseIdentity(identity)
	var files pki.Files
	if err == nil {
		files, err = home.Welcome(id, key, time.Now(), pki.LeafLife)
	}
	if err != nil {
		failure := cell.AsError(wire.MethodJoin, cell.Internal, err)
		failure.Hint = "the join token is used up: have a new one made when this is mended"
		return nil, failure
	}
	return &wire.Joined{Identity: identity, Certificate: files.Certificate, Authorities: files.Authorities, Gossip: files.Gossip, Tokens: files.Tokens}, nil
}

// joinResultOf sorts what the manager says of an invitation.
func joinResultOf(kind cell.Kind) joinResult {
	switch kind {
	case cell.NotFound:
		return joinUnknown
	case cell.Exists:
		return joinUsed
	case cell.Stale:
		return joinExpired
	}
	return joinFailed
}

// joined counts and records an attempt to join. Anybody who reaches the port can make any number of them, so failures are recorded at
// the pace of denials.
func (p *Control) joined(c *rpc.Conn, began time.Time, result joinResult, identity string, err *cell.Error) {
	p.join.counts[result].Add(1)
	// Who it was is not known: that is what an invitation is for. The address is, and whom the invitation was for if it was one.
	entry := audit.Entry{Who: "who has a join token", From: c.RemoteAddr().String(), Action: wire.MethodJoin, Took: time.Since(began).Milliseconds()}
	if identity != "" {
		entry.What = []string{identity}
	}
	if err != nil {
		ok, skipped := p.denials.take(time.Now())
		if !ok {
			return
		}
		entry.Skipped = skipped
	}
	entry.Answer(nil, err)
	p.audit.Record(entry)
}
