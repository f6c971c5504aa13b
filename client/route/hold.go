package route

import (
	"fmt"
	"time"

	"physalia/cell"
)

// HoldEnd is why a lease is over for its holder.
type HoldEnd uint8

// The ends of a lease. Zero is none: it is held.
const (
	HoldLapsed HoldEnd = 1 // no keep-alive was acknowledged in time; the cell may still hold it for a while
	HoldGone   HoldEnd = 2 // the cell says that it is not held: it was revoked, or has expired
	HoldNoCell HoldEnd = 3 // the cell's incarnation is over
	HoldClosed HoldEnd = 4 // its holder ended it
)

// String names the end for people.
func (e HoldEnd) String() string {
	return [...]string{"held", "not renewed in time", "not held any more", "the cell is gone", "closed by its holder"}[e]
}

// HoldDo is what a HoldStep tells the owner to do.
type HoldDo uint8

// The things to do.
const (
	HoldWait  HoldDo = 1 // come back at Until
	HoldRenew HoldDo = 2 // send a keep-alive that ends by Until; then Renewed
	HoldOver  HoldDo = 3 // the lease is over; End says why
)

// HoldStep is the decision of Next.
type HoldStep struct {
	Do    HoldDo
	Until time.Duration
}

// Hold is what the holder of a lease believes, and when it keeps the lease alive. Begin it, then alternate Next and (after
// every HoldRenew) Renewed; End may come at any time.
//
// The arithmetic of rule 18. The holder believes in its lease for ttl after the moment s at which it sent the last
// keep-alive (or the grant) that was acknowledged, by its own clock. Whatever was acknowledged was applied by a proposer
// after s, and a proposer expires the lease no earlier than cell.LeaseRateBound*ttl after it applied it, by its own clock;
// a later proposer counts all of that anew from when it began to lead. Let the holder's clock run at rate h and the
// proposer's at rate p, in seconds per true second. The holder stops believing ttl/h after s, the expiry is proposed at
// the earliest LeaseRateBound*ttl/p after s. So belief ends first whenever p/h <= LeaseRateBound: a margin of 2*ttl between
// two good clocks, and still none too little for a holder whose clock runs at a third of the proposer's speed. What no
// clock can help against (a process that is paused between asking Held and acting, a machine that is suspended and whose
// clock stands still) is what the fencing token is for.
type Hold struct {
	ttl     time.Duration
	until   time.Duration // believed before this moment
	next    time.Duration // when a keep-alive is due
	sent    time.Duration // when the one under way was begun
	renewal uint64        // keep-alives acknowledged
	dice    Dice
	end     HoldEnd
	err     *cell.Error
}

// renewParts: a keep-alive is sent every third of the lease's time, and has that long to be answered, so that two may be
// lost before belief ends. After a failure the pause is a quarter of that, and up to as much again by the dice.
const renewParts, pauseParts = 3, 12

// Begin starts with a lease of ttl that was granted to a request begun at sent.
func (l *Hold) Begin(ttl, sent time.Duration, dice Dice) {
	*l = Hold{ttl: ttl, until: sent + ttl, next: sent + ttl/renewParts, dice: dice}
}

// Held reports whether the holder may believe in the lease at now. Once false it stays false.
func (l *Hold) Held(now time.Duration) bool { return l.end == 0 && now < l.until }

// Until is the end of belief unless a keep-alive is acknowledged before.
func (l *Hold) Until() time.Duration { return l.until }

// Renewals is how many keep-alives were acknowledged.
func (l *Hold) Renewals() uint64 { return l.renewal }

// Next decides.
func (l *Hold) Next(now time.Duration) HoldStep {
	l.lapse(now)
	switch {
	case l.end != 0:
		return HoldStep{Do: HoldOver}
	case now < l.next:
		return HoldStep{Do: HoldWait, Until: min(l.next, l.until)}
	}
	l.sent = now
	return HoldStep{Do: HoldRenew, Until: min(l.until, now+l.ttl/renewParts)}
}

// Renewed takes what became of a keep-alive; nil is success. One that is answered when belief has ended already changes
// nothing: nobody may have seen the lease as lost and then as held.
func (l *Hold) Renewed(now time.Duration, err *cell.Error) {
	l.lapse(now)
	pause := l.ttl / pauseParts
	switch {
	case l.end != 0:
	case err == nil:
		l.until, l.err = l.sent+l.ttl, nil
		l.next = max(l.sent+l.ttl/renewParts, now+pause)
		l.renewal++
	case err.Kind == cell.NoLease:
		l.End(HoldGone, err)
	case err.Kind == cell.Deleted || err.Kind == cell.Stale:
		l.End(HoldNoCell, err)
	default:
		l.err = err // for the story, should it be the last
		l.next = now + pause + l.dice.below(pause)
	}
}

// lapse ends the lease when its time is over.
func (l *Hold) lapse(now time.Duration) {
	if l.end == 0 && now >= l.until {
		l.End(HoldLapsed, &cell.Error{Op: "lease", Kind: cell.NoLease, Err: causeOf(l.err),
			Detail: fmt.Sprintf("no keep-alive was acknowledged for %v", l.ttl), Hint: "another holder may have it soon; ask for a new lease"})
	}
}

// causeOf avoids a nil *cell.Error in an error.
func causeOf(e *cell.Error) error {
	if e == nil {
		return nil
	}
	return e
}

// End ends the lease, unless it is over already: the first cause stays.
func (l *Hold) End(why HoldEnd, err *cell.Error) {
	if l.end == 0 {
		l.end, l.err = why, err
	}
}

// Ended returns why the lease is over, zero while it is not.
func (l *Hold) Ended() (HoldEnd, *cell.Error) {
	if l.end == 0 {
		return 0, nil
	}
	return l.end, l.err
}
