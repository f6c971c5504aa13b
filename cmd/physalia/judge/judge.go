package judge

import (
	"math"
	"slices"
	"sort"
	"time"

	"github.com/anishathalye/porcupine"

	"physalia/cell"
)

// Counters tells, for each client of a cell, the final value of its counter; a client without one counts zero.
type Counters map[int]uint64

// Verdict is what the books say.
type Verdict struct {
	Acked    uint64
	Unknown  uint64
	Lost     uint64    // acknowledged writes that are not there
	Doubled  uint64    // writes that took effect more often than they were sent
	Bent     []cell.ID // cells whose history is not linearizable
	Unsolved []cell.ID // cells whose history could not be decided in time
	WentBack uint64    // fences seen going back
	Unread   []cell.ID // cells that could not be read in the end
}

// OK reports whether nothing is wrong, and nothing is open.
func (v *Verdict) OK() bool {
	return v.Lost == 0 && v.Doubled == 0 && v.WentBack == 0 && len(v.Bent)+len(v.Unsolved)+len(v.Unread) == 0
}

// Linearizable reports whether every history was found to be so.
func (v *Verdict) Linearizable() bool { return len(v.Bent)+len(v.Unsolved) == 0 }

// Judge compares the logs of a trial with what its cells hold in the end. final must have an entry per cell that could be
// read. Each cell's history gets at most the given time to be decided.
func Judge(logs []*Log, final map[cell.ID]Counters, most time.Duration) Verdict {
	var v Verdict
	byCell := map[cell.ID][]*Log{}
	for _, l := range logs {
		byCell[l.Cell] = append(byCell[l.Cell], l)
		v.Acked += l.Acked
		v.Unknown += l.Unknown
		v.WentBack += l.WentBack
	}
	ids := make([]cell.ID, 0, len(byCell))
	for id := range byCell {
		ids = append(ids, id)
	}
	slices.Sort(ids)
	for _, id := range ids {
		counters, read := final[id]
		if !read {
			v.Unread = append(v.Unread, id)
		}
		for _, l := range byCell[id] {
			n := counters[l.Client]
			if read && n < l.Acked {
				v.Lost += l.Acked - n
			}
			if read && n > l.Acked+l.Unknown {
				v.Doubled += n - l.Acked - l.Unknown
			}
		}
		switch porcupine.CheckOperationsTimeout(register, history(byCell[id]), most) {
		case porcupine.Illegal:
			v.Bent = append(v.Bent, id)
		case porcupine.Unknown:
			v.Unsolved = append(v.Unsolved, id)
		}
	}
	return v
}

// register is the sequential meaning of the key that all clients of a cell share: a read returns the last write.
var register = porcupine.Model{
	Init: func() any { return uint64(0) },
	Step: func(state, input, _ any) (bool, any) {
		op := input.(Operation)
		if op.Write {
			return true, op.Value
		}
		return state.(uint64) == op.Value, state
	},
}

// history merges the logs of a cell. A write whose outcome is unknown may take effect at any time after its call, so it
// never returns; unless nobody ever read its value: then it may as well have taken no effect, and leaving it out keeps the
// search short.
func history(logs []*Log) []porcupine.Operation {
	seen := map[uint64]bool{}
	for _, l := range logs {
		for _, op := range l.Operations {
			seen[op.Value] = seen[op.Value] || !op.Write
		}
	}
	var all []porcupine.Operation
	for _, l := range logs {
		for _, op := range l.Operations {
			returned := int64(op.Returned)
			if op.Unknown {
				if !seen[op.Value] {
					continue
				}
				returned = math.MaxInt64
			}
			all = append(all, porcupine.Operation{ClientId: l.Client, Input: op, Call: int64(op.Called), Return: returned})
		}
	}
	return all
}

// LongestGap is the longest time that any client of any cell wanted to write and could not, within [from, to). A gap that
// began before counts from there on; a client that waits to the end counts to the end.
func LongestGap(logs []*Log, from, to time.Duration) time.Duration {
	var longest time.Duration
	for _, l := range logs {
		gaps := l.gaps
		if l.waiting {
			gaps = append(slices.Clone(gaps), gap{l.since, to})
		}
		for _, g := range gaps {
			longest = max(longest, min(g.to, to)-max(g.from, from))
		}
	}
	return longest
}

// AckedWithin counts the writes that were acknowledged within [from, to).
func AckedWithin(logs []*Log, from, to time.Duration) (n int) {
	for _, l := range logs {
		for _, op := range l.Operations {
			if op.Write && !op.Unknown && from <= op.Returned && op.Returned < to {
				n++
			}
		}
	}
	return n
}

// ErrorsWithin counts the requests that failed within [from, to).
func ErrorsWithin(logs []*Log, from, to time.Duration) map[cell.Kind]int {
	count := map[cell.Kind]int{}
	for _, l := range logs {
		for _, f := range l.Errors {
			if from <= f.At && f.At < to {
				count[f.Kind]++
			}
		}
	}
	return count
}

// Percentiles sorts times in place and returns the given percentiles, or zeros when there are none.
func Percentiles(times []time.Duration, percents ...float64) []time.Duration {
	slices.Sort(times)
	out := make([]time.Duration, len(percents))
	for i, p := range percents {
		if n := len(times); n > 0 {
			rank := int(math.Ceil(p / 100 * float64(n)))
			out[i] = times[min(max(rank, 1), n)-1]
		}
	}
	return out
}

// WriteTimes collects the times of all acknowledged writes.
func WriteTimes(logs []*Log) []time.Duration {
	var all []time.Duration
	for _, l := range logs {
		all = append(all, l.WriteTimes...)
	}
	return all
}

// Kinds lists kinds with their counts, most frequent first, for people: "unavailable 3, overloaded 1".
func Kinds(count map[cell.Kind]int) []cell.Kind {
	kinds := make([]cell.Kind, 0, len(count))
	for k := range count {
		kinds = append(kinds, k)
	}
	sort.Slice(kinds, func(i, j int) bool {
		if count[kinds[i]] != count[kinds[j]] {
			return count[kinds[i]] > count[kinds[j]]
		}
		return kinds[i] < kinds[j]
	})
	return kinds
}
