package judge

import (
	"time"

	"physalia/cell"
)

// Outcome is how a request ended.
type Outcome uint8

// The outcomes. NotApplied is final: the request had and will have no effect. Unknown may have taken effect, or may yet.
const (
	Acked Outcome = iota
	NotApplied
	Unknown
)

// Operation is one access to the cell's register, the key that all its clients write and read. Values are unique in the
// trial, so a read tells which write it saw; zero means that the register did not exist.
type Operation struct {
	Write    bool
	Value    uint64
	Called   time.Duration
	Returned time.Duration // for a write whose outcome is unknown: meaningless
	Unknown  bool          // writes only
}

// Log is what one client did to one cell. Beside writing the register, each write adds one to a counter that belongs to
// this log alone, in the same transaction: in the end the counter tells how many writes took effect.
type Log struct {
	Cell   cell.ID
	Client int // index of the client within the cell

	Operations []Operation
	Acked      uint64 // writes that were acknowledged
	Unknown    uint64 // writes that may have taken effect
	WentBack   uint64 // times that a fence was seen below one seen before

	WriteTimes []time.Duration // of acknowledged writes
	Errors     []Failure       // requests that did not succeed

	fence   cell.Fence
	waiting bool // a write has failed and none has succeeded since
	since   time.Duration
	gaps    []gap
}

// Failure is one request that did not succeed.
type Failure struct {
	At   time.Duration
	Kind cell.Kind
}

// gap is a time in which this client wanted to write and could not: from the call of the first attempt that was not
// acknowledged, or took long, to the return of the next acknowledged write.
type gap struct{ from, to time.Duration }

// gapMin is the shortest wait that is worth remembering as a gap.
const gapMin = 5 * time.Millisecond

// Wrote notes a write of value. kind is that of the error, or zero.
func (l *Log) Wrote(value uint64, called, returned time.Duration, how Outcome, kind cell.Kind) {
	if !l.waiting {
		l.waiting, l.since = true, called
	}
	switch how {
	case Acked:
		l.Acked++
		l.WriteTimes = append(l.WriteTimes, returned-called)
		if returned-l.since >= gapMin {
			l.gaps = append(l.gaps, gap{l.since, returned})
		}
		l.waiting = false
	case Unknown:
		l.Unknown++
		l.Errors = append(l.Errors, Failure{returned, kind})
	case NotApplied:
		l.Errors = append(l.Errors, Failure{returned, kind})
		return
	}
	l.Operations = append(l.Operations, Operation{Write: true, Value: value, Called: called, Returned: returned, Unknown: how == Unknown})
}

// Read notes a linearizable read that returned value, or failed with a kind; a read that failed says nothing about the
// register.
func (l *Log) Read(value uint64, called, returned time.Duration, kind cell.Kind) {
	if kind != 0 {
		l.Errors = append(l.Errors, Failure{returned, kind})
		return
	}
	l.Operations = append(l.Operations, Operation{Value: value, Called: called, Returned: returned})
}

// Failed notes another request that did not succeed.
func (l *Log) Failed(at time.Duration, kind cell.Kind) {
	l.Errors = append(l.Errors, Failure{at, kind})
}

// Saw notes the fence of a volume record; one client must never see them go back.
func (l *Log) Saw(f cell.Fence) {
	if f.Less(l.fence) {
		l.WentBack++
		return
	}
	l.fence = f
}
