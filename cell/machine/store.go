package machine

import (
	"slices"
	"strings"

	"physalia/cell"
)

// store holds the keys and leases of a cell; the keys sorted, in one slice. A cell has at most about 6,400 keys, so that an insertion moves
// at most 512 KB and typically a few hundred bytes; lookups are a binary search over keys that lie side by side, and
// snapshots and scans walk straight through.
type store struct {
	entries []cell.Entry // strictly ascending by key
	leases  []cell.Lease // strictly ascending by ID
	bytes   int          // sum of cost over entries and of leaseCost over leases
	sum     uint64       // sum of entrySum over entries and of leaseSum over leases (M6)
	scratch *Scratch     // to work in; see Machine.room
}

// change remembers what a key was before a write.
type change struct {
	before  cell.Entry // only Key is set when it did not exist
	existed bool
}

// undoKept is how many changes' worth of memory a scratch keeps between transactions.
const undoKept = 8

// cost is what an entry counts against cell.CellBytesMax.
func cost(e *cell.Entry) int { return len(e.Key) + e.Value.Size() + cell.KeyOverheadBytes }

// find returns the position of a key, or where it would be inserted.
func (s *store) find(key string) (int, bool) {
	low, high := 0, len(s.entries)
	for low < high {
		mid := int(uint(low+high) >> 1)
		switch c := strings.Compare(s.entries[mid].Key, key); {
		case c == 0:
			return mid, true
		case c < 0:
			low = mid + 1
		default:
			high = mid
		}
	}
	return low, false
}

// get returns a copy of the entry of a key; the zero Entry when it is absent.
func (s *store) get(key string) (cell.Entry, bool) {
	if i, found := s.find(key); found {
		return s.entries[i], true
	}
	return cell.Entry{}, false
}

// set writes an entry at the position that find returned for its key.
func (s *store) set(i int, found bool, e cell.Entry) {
	s.bytes += cost(&e)
	s.sum += entrySum(&e)
	if !found {
		s.scratch.undo = append(s.scratch.undo, change{before: cell.Entry{Key: e.Key}})
		s.entries = slices.Insert(s.entries, i, e)
		return
	}
	s.bytes -= cost(&s.entries[i])
	s.sum -= entrySum(&s.entries[i])
	s.scratch.undo = append(s.scratch.undo, change{before: s.entries[i], existed: true})
	s.entries[i] = e
}

// remove deletes the entry at a position.
func (s *store) remove(i int) {
	s.bytes -= cost(&s.entries[i])
	s.sum -= entrySum(&s.entries[i])
	s.scratch.undo = append(s.scratch.undo, change{before: s.entries[i], existed: true})
	s.entries = slices.Delete(s.entries, i, i+1)
}

// commit keeps every change since the last commit or rollback.
func (s *store) commit() {
	if cap(s.scratch.undo) > undoKept {
		s.scratch.undo = nil
		return
	}
	clear(s.scratch.undo)
	s.scratch.undo = s.scratch.undo[:0]
}

// rollback takes back every change since the last commit or rollback, newest first.
func (s *store) rollback() {
	for n := len(s.scratch.undo); n > 0; n-- {
		c := s.scratch.undo[n-1]
		switch i, found := s.find(c.before.Key); {
		case c.existed:
			s.set(i, found, c.before)
		case found:
			s.remove(i)
		}
		s.scratch.undo = s.scratch.undo[:n-1]
	}
	s.commit()
}

// scan returns the entries that a scan answers: those with prefix o.Key behind o.After, at most o.Limit, and as many as
// fit into budget bytes of keys and values. More tells that there are others behind them. The second result is what they
// used of the budget.
func (s *store) scan(o *cell.Op, budget int) (list []cell.Entry, more bool, used int) {
	first, _ := s.find(o.Key)
	if o.After != "" {
		after, found := s.find(o.After)
		if found {
			after++
		}
		first = max(first, after)
	}
	limit := int(o.Limit)
	if limit == 0 {
		limit = cell.ScanLimitMax
	}
	end := first
	for ; end < len(s.entries) && strings.HasPrefix(s.entries[end].Key, o.Key); end++ {
		size := len(s.entries[end].Key) + s.entries[end].Value.Size()
		if end-first == limit || used+size > budget {
			more = true
			break
		}
		used += size
	}
	if end > first {
		list = slices.Clone(s.entries[first:end])
	}
	return list, more, used
}
