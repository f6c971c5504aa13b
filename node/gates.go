package node

import (
	"sync"
	"time"

	"physalia/cell"
	"physalia/internal/rpc"
	"physalia/node/admission"
)

// gates hold the accounts of those who ask this server, by identity: a client that opens a hundred connections has one
// account. Safe for concurrent use; the only lock that is shared is held while a connection begins or ends.
type gates struct {
	limits  admission.IdentityLimits
	clock   func() time.Duration
	refused func(admission.Reason)

	mu    sync.Mutex
	of    map[string]*gate
	sweep int // size at which accounts without connections are looked through
}

// gate is the account of one identity.
type gate struct {
	all         *gates
	who         string
	connections int // guarded by all.mu

	mu      sync.Mutex
	account admission.Account
}

// accountsMin is the size below which no account is forgotten.
const accountsMin = 1024

func newGates(l admission.IdentityLimits, clock func() time.Duration, refused func(admission.Reason)) *gates {
	return &gates{limits: l, clock: clock, refused: refused, of: make(map[string]*gate), sweep: accountsMin}
}

// open returns the account of an identity, for one more connection. An account outlives its connections for as long as its
// rate remembers anything: who connects again must not find it full again.
func (g *gates) open(who string) rpc.Meter {
	g.mu.Lock()
	defer g.mu.Unlock()
	one := g.of[who]
	if one == nil {
		if len(g.of) >= g.sweep {
			g.forget()
		}
		one = &gate{all: g, who: who}
		g.of[who] = one
	}
	one.connections++
	return one
}

// forget drops the accounts without connections that say nothing; g.mu is held.
func (g *gates) forget() {
	now := g.clock()
	for who, one := range g.of {
		if one.connections == 0 && one.account.Forgettable(now, &g.limits) {
			delete(g.of, who)
		}
	}
	g.sweep = max(accountsMin, 2*len(g.of))
}

// identities counts the accounts.
func (g *gates) identities() int {
	g.mu.Lock()
	defer g.mu.Unlock()
	return len(g.of)
}

// Enter implements rpc.Meter.
func (g *gate) Enter(method string, bytes int) *cell.Error {
	now := time.Duration(0)
	if !g.all.limits.Rate.Off() { // nothing else looks at the time
		now = g.all.clock()
	}
	g.mu.Lock()
	refusal := g.account.Enter(now, bytes, &g.all.limits)
	g.mu.Unlock()
	if refusal.Reason == admission.None {
		return nil
	}
	g.all.refused(refusal.Reason)
	return refusedAs(method, "", refusal)
}

// Leave implements rpc.Meter.
func (g *gate) Leave(bytes int) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.account.Leave(bytes)
}

// Close implements rpc.Meter.
func (g *gate) Close() {
	g.all.mu.Lock()
	defer g.all.mu.Unlock()
	g.connections--
	if g.connections == 0 && g.account.Forgettable(g.all.clock(), &g.all.limits) {
		delete(g.all.of, g.who)
	}
}

// refusedAs is a refusal as its client reads it.
func refusedAs(op string, id cell.ID, r admission.Refusal) *cell.Error {
	return &cell.Error{Op: op, Kind: cell.Overloaded, Cell: id, Detail: r.Detail, Hint: "come back later, with jitter", RetryAfter: r.RetryAfter}
}
