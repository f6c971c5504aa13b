package admission

import (
	"cmp"
	"fmt"
	"time"
)

// IdentityLimits bound what one identity asks of a server over all its connections.
type IdentityLimits struct {
	Requests, Bytes int // in flight
	Rate            Rate
}

// DefaultIdentity is generous: a client library at its own bounds passes, a program that never waits for an answer does not.
func DefaultIdentity() IdentityLimits { return IdentityLimits{Requests: 65_536, Bytes: 64 << 20} }

// Complete fills in the default of every bound that is zero; the rate stays off.
func (l IdentityLimits) Complete() IdentityLimits {
	d := DefaultIdentity()
	l.Requests, l.Bytes = cmp.Or(l.Requests, d.Requests), cmp.Or(l.Bytes, d.Bytes)
	return l
}

// Validate reports what is wrong with complete limits.
func (l IdentityLimits) Validate() error {
	if l.Requests < 1 || l.Bytes < 1 {
		return fmt.Errorf("%d requests of %d bytes per identity: both must be positive", l.Requests, l.Bytes)
	}
	return l.Rate.validate("identity")
}

// Account is what one identity has in flight at a server. It has one owner at a time.
type Account struct {
	requests, bytes int
	rate            bucket
}

// Enter counts a request of so many bytes in, or says why it must not come in; then nothing is counted.
func (a *Account) Enter(now time.Duration, bytes int, l *IdentityLimits) Refusal {
	switch {
	case a.requests >= l.Requests:
		return Refusal{IdentityRequests, fmt.Sprintf("%d requests of this identity are in flight", a.requests), againIdentity}
	case a.requests > 0 && a.bytes+bytes > l.Bytes:
		return Refusal{IdentityBytes, fmt.Sprintf("requests of %d bytes of this identity are in flight", a.bytes), againIdentity}
	}
	if !l.Rate.Off() {
		if wait := a.rate.take(l.Rate, now); wait > 0 {
			return Refusal{IdentityRate, fmt.Sprintf("this identity may ask %g times per second", l.Rate.PerSecond), wait}
		}
	}
	a.requests++
	a.bytes += bytes
	return Refusal{}
}

// againIdentity is when to come back who has too much in flight: a few answers later.
const againIdentity = 50 * time.Millisecond

// Leave counts a request out that Enter counted in.
func (a *Account) Leave(bytes int) {
	a.requests--
	a.bytes -= bytes
}

// InFlight is what is counted in.
func (a *Account) InFlight() (requests, bytes int) { return a.requests, a.bytes }

// Forgettable reports that the account says nothing that a new one would not say.
func (a *Account) Forgettable(now time.Duration, l *IdentityLimits) bool {
	if a.requests > 0 {
		return false
	}
	if !l.Rate.Off() {
		a.rate.refill(l.Rate, now)
	}
	return a.rate.spent == 0
}
