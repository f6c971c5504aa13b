package fleet

import (
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"physalia/cell"
	"physalia/internal/duty"
	"physalia/internal/wire"
)

// entry keeps the pace at which servers come in. A connection pays for its first registration with its Hello, so that a
// server that comes too early is refused before anything is made for it; later registrations pay when they are asked for.
type entry struct {
	began time.Time
	max   int

	mu       sync.Mutex
	gate     *duty.Gate
	entering map[cell.ServerID]time.Time // admitted and not registered yet; until when that counts

	admitted, refused, full atomic.Uint64
}

// enteringTime is how long a connection may take from its Hello to its registration before its place is given to another.
const enteringTime = 5 * time.Second

func (e *entry) init(c Config) {
	e.began, e.max, e.entering = time.Now(), c.EnteringMax, make(map[cell.ServerID]time.Time)
	e.gate = duty.NewGate(0, c.RegistersPerSecond, c.RegistersAtOnce, rand.New(rand.NewPCG(rand.Uint64(), rand.Uint64())))
}

// admit lets a connection of a server in, or says when it should come again.
func (e *entry) admit(id cell.ServerID) *cell.Error {
	e.mu.Lock()
	defer e.mu.Unlock()
	now := time.Now()
	if len(e.entering) >= e.max {
		// Whoever said Hello and did not go on has lost its place. Looking for them only when it matters bounds the cost.
		for other, until := range e.entering {
			if now.After(until) {
				delete(e.entering, other)
			}
		}
	}
	if len(e.entering) >= e.max {
		e.full.Add(1)
		return busy("control.hello", e.gate.Appoint(now.Sub(e.began)), "too many servers are registering at this moment")
	}
	ok, again := e.gate.Admit(now.Sub(e.began))
	if !ok {
		e.refused.Add(1)
		return busy("control.hello", again, "servers register faster than this instance admits them")
	}
	e.admitted.Add(1)
	e.entering[id] = now.Add(enteringTime)
	return nil
}

// pass waits until the pace lets a server in whom this process calls itself; false when stop ends first. Calls are spread a
// little around the pace.
func (e *entry) pass(id cell.ServerID, stop <-chan struct{}) bool {
	for {
		e.mu.Lock()
		now := time.Now()
		wait := e.gate.Wait(now.Sub(e.began))
		if len(e.entering) >= e.max {
			wait = max(wait, enteringTime/50)
		}
		if wait == 0 {
			e.gate.Admit(now.Sub(e.began)) // there is a token: Wait says so
			e.admitted.Add(1)
			e.entering[id] = now.Add(enteringTime)
			e.mu.Unlock()
			return true
		}
		e.mu.Unlock()
		select {
		case <-stop:
			return false
		case <-time.After(wait + rand.N(wait)):
		}
	}
}

// register lets a registration in: the first of a connection is paid for.
func (e *entry) register(id cell.ServerID) *cell.Error {
	e.mu.Lock()
	defer e.mu.Unlock()
	// An identity enters once at a time; two connections of one identity at once share what the first has paid.
	if _, paid := e.entering[id]; paid {
		delete(e.entering, id)
		return nil
	}
	ok, again := e.gate.Admit(time.Since(e.began))
	if !ok {
		e.refused.Add(1)
		return busy(wire.MethodRegister, again, "servers register faster than this instance admits them")
	}
	e.admitted.Add(1)
	return nil
}

// leave forgets a connection that has ended.
func (e *entry) leave(id cell.ServerID) {
	e.mu.Lock()
	defer e.mu.Unlock()
	delete(e.entering, id)
}

// busy refuses with an appointment.
func busy(op string, again time.Duration, why string) *cell.Error {
	return &cell.Error{Op: op, Kind: cell.Overloaded, Detail: why, RetryAfter: max(again, time.Millisecond),
		Hint: "the server comes again by itself; raise --registers-per-second if this instance is not busy"}
}
