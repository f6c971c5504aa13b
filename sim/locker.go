package sim

import (
	"time"

	"physalia/cell"
	"physalia/client/route"
	"physalia/internal/wire"
)

// locker competes for one lock with the other lockers of its cell, as a user of client.Lease does: grant a lease, put the
// key "lock" attached to it if nobody else has, keep the lease alive by its own clock (route.Hold decides), write while it
// believes in it, and give it back, or simply stop. When everything is healed it takes the lock once more: whoever stopped
// must have lost it by then.
type locker struct {
	session *session
	cycle   uint64 // counts leases; what comes for an earlier one comes too late
	hold    route.Hold
	lease   cell.LeaseID     // of this cycle
	inc     cell.Incarnation // in which it was granted
	lazy    bool             // it only holds the lock, and writes nothing
	locked  bool             // it was told that the lock is its own
	since   time.Duration    // then
	last    bool             // this cycle began in a healed world
	done    bool
}

// The lock, and what only its holder writes, on condition of its lease.
const lockKey, guardedKey = "lock", "guarded"

// newLocker makes a locker that begins soon.
func (w *World) newLocker(v *volume, i int) {
	l := &locker{session: w.newSession(v, i)}
	w.lockers = append(w.lockers, l)
	l.session.rest(50*time.Millisecond, l.start)
}

// start asks for a lease.
func (l *locker) start() {
	s := l.session
	l.cycle++
	l.locked, l.last, l.lazy = false, s.world.healed, s.dice.IntN(2) == 0
	cycle := l.cycle
	ttl := cell.LeaseTTLMin + between(s.dice, cell.LeaseTTLMin)
	s.acquaint(func(err *cell.Error) {
		if err != nil {
			l.again(cycle, err)
			return
		}
		l.inc = s.place.Incarnation()
		sent := s.now()
		s.about(wire.MethodGrant, cell.LeaseOp{TTL: ttl, Label: "locker"}, l.inc, s.deadline(), func(x *exchange, err *cell.Error) {
			if err != nil {
				l.again(cycle, err)
				return
			}
			l.lease = x.lease.Lease
			s.world.trace.note(s.world.now, "locker %d has lease %d for %v", s.at, l.lease, ttl)
			l.hold.Begin(ttl, sent, route.Dice(s.dice.Uint64()))
			l.keep(cycle)
			l.take(cycle)
		})
	})
}

// keep is what the one goroutine of client.Lease does.
func (l *locker) keep(cycle uint64) {
	s := l.session
	if l.cycle != cycle {
		return
	}
	switch step := l.hold.Next(s.now()); step.Do {
	case route.HoldOver:
		l.over(cycle)
	case route.HoldRenew:
		s.about(wire.MethodKeepAlive, cell.LeaseOp{ID: l.lease}, l.inc, step.Until, func(_ *exchange, err *cell.Error) {
			if l.cycle == cycle {
				l.hold.Renewed(s.now(), err)
				l.keep(cycle)
			}
		})
	default:
		s.after(step.Until-s.now(), func() { l.keep(cycle) })
	}
}

// txn runs a transaction of this cycle; do is not called when it came too late.
func (l *locker) txn(cycle uint64, txn cell.Txn, do func(x *exchange, called time.Duration, err *cell.Error)) {
	s, called := l.session, l.session.world.now
	s.send(s.place.Request(s.id), l.inc, &txn, s.deadline(), func(x *exchange, err *cell.Error) {
		if l.cycle == cycle {
			do(x, called, err)
		}
	})
}

// take puts the lock, if nobody has it. The token of its holder is the revision of that.
func (l *locker) take(cycle uint64) {
	s := l.session
	if l.cycle != cycle {
		return
	}
	l.txn(cycle, cell.Txn{If: []cell.Condition{{Key: lockKey, Target: cell.OnExistence, Compare: cell.NotEqual}},
		Then: []cell.Op{{Kind: cell.OpPut, Key: lockKey, Value: cell.Int(int64(s.at + 1)), Lease: l.lease}}}, func(x *exchange, called time.Duration, err *cell.Error) {
		switch {
		case err != nil: // perhaps it is ours, but nobody relies on that
			l.end(cycle, route.HoldClosed)
		case !x.result.Succeeded:
			s.rest(20*time.Millisecond, func() { l.take(cycle) })
		case l.hold.Held(s.now()):
			l.locked, l.since = true, s.world.now
			s.world.report.Locks++
			s.world.trace.note(s.world.now, "locker %d has the lock by lease %d", s.at, l.lease)
			s.world.granted(s.volume, "lock", cell.Fence{Incarnation: x.incarnation, Number: uint64(x.result.Revision)}, called, s.world.now)
			l.use(cycle)
		}
	})
}

// use writes under the lock, or ends with it. Whoever still believes in his lease when he hears that the cell did not hold
// it has been failed.
func (l *locker) use(cycle uint64) {
	s := l.session
	if l.cycle != cycle {
		return
	}
	switch {
	case l.lazy && !l.last:
		l.lazy = false
		s.rest(time.Second, func() { l.use(cycle) })
		return
	case l.last || s.dice.IntN(12) == 0:
		l.end(cycle, route.HoldClosed)
		return
	}
	l.txn(cycle, cell.Txn{If: []cell.Condition{{Key: lockKey, Target: cell.OnLease, Compare: cell.Equal, Number: uint64(l.lease)},
		{Target: cell.OnHeld, Compare: cell.Equal, Number: uint64(l.lease)}},
		Then: []cell.Op{{Kind: cell.OpIncrement, Key: guardedKey, Value: cell.Int(1)}}}, func(x *exchange, _ time.Duration, err *cell.Error) {
		if err == nil && !x.result.Succeeded && l.hold.Held(s.now()) {
			s.world.fail("lease", place{v: s.volume}, "client %d believes in lease %d, and the cell does not hold it at revision %d", s.at, l.lease, x.result.Revision)
		}
		s.rest(60*time.Millisecond, func() { l.use(cycle) })
	})
}

// end ends the lease from here: by a revoke, or by doing nothing for it any more; then its holder may as well believe in it
// until its time is over.
func (l *locker) end(cycle uint64, why route.HoldEnd) {
	s := l.session
	if l.cycle != cycle {
		return
	}
	if !l.last && s.dice.IntN(2) == 0 {
		l.cycle++
		s.world.report.LeaseEnds[why]++
		l.linger()
		s.after(l.hold.Until()-s.now(), l.free)
		return
	}
	l.hold.End(why, nil)
	l.over(cycle)
	s.about(wire.MethodRevoke, cell.LeaseOp{ID: l.lease}, l.inc, s.deadline(), func(*exchange, *cell.Error) {})
}

// linger sends one keep-alive more, around the time at which the cell expires the lease: a renewal that races with the
// expiry. Nobody believes anything because of it.
func (l *locker) linger() {
	s := l.session
	id, inc := l.lease, l.inc
	left := max(0, l.hold.Until()-s.now()) // it may be over by now
	s.after(2*left+between(s.dice, 2*left), func() {
		s.about(wire.MethodKeepAlive, cell.LeaseOp{ID: id}, inc, s.deadline(), func(*exchange, *cell.Error) {})
	})
}

// free notes for how long the lock was believed in, after a cycle without an end, and begins the next.
func (l *locker) free() {
	l.note()
	l.begin()
}

// over is what comes after the end of the hold.
func (l *locker) over(cycle uint64) {
	if l.cycle != cycle {
		return
	}
	why, err := l.hold.Ended()
	l.session.world.report.LeaseEnds[why]++
	l.session.world.trace.note(l.session.world.now, "locker %d: lease %d ends: %v", l.session.at, l.lease, why)
	if why == route.HoldGone && err != nil {
		l.session.world.gone = append(l.session.world.gone, loss{l.session, l.lease})
	}
	l.note()
	l.again(cycle, err)
}

// note tells the checker how long the lock was believed in.
func (l *locker) note() {
	if s := l.session; l.locked {
		l.locked = false
		s.world.held(s.volume, lockKey, s, l.since, min(s.world.now, s.clock.when(l.hold.Until())))
	}
}

// again plans the next cycle, unless the cell is gone, or the lock was taken in a healed world.
func (l *locker) again(cycle uint64, err *cell.Error) {
	if l.cycle != cycle {
		return
	}
	l.cycle++
	s := l.session
	took := l.last && err == nil
	if took || err != nil && (err.Kind == cell.Deleted || err.Kind == cell.Stale) || s.volume.sealed {
		l.done = true
		return
	}
	l.begin()
}

// begin plans the next cycle.
func (l *locker) begin() { l.session.rest(30*time.Millisecond, l.start) }

// loss is a lease of which its holder was told that the cell does not hold it.
type loss struct {
	session *session     // of the holder
	lease   cell.LeaseID // in its cell
}
