package machine

import (
	"bytes"
	"encoding/binary"

	"physalia/cell"
	"physalia/internal/must"
	"physalia/internal/wire"
)

// window remembers the outcomes of the newest transactions, one per revision without gaps (M4): the outcome of revision
// floor+1 is the oldest. A lookup searches the marks, a byte per outcome, before it looks at any outcome.
type window struct {
	floor cell.Revision     // newest forgotten revision, zero when nothing was forgotten
	items []wire.Remembered // items[first:] are remembered
	marks []byte            // marks[i] is the mark of items[i]
	sums  []uint64          // sums[i] is outcomeSum of items[i]
	sum   uint64            // of sums[first:] (M6)
	first int               // items before it are zero, left for the next slide
	bare  int               // items before this one carry no results
	bytes int               // resultSize over items
}

// slideMin is how many forgotten items gather before the others slide down over them.
const slideMin = 64

// markSpread makes the highest byte of a product depend on every byte; it is odd.
const markSpread = 0x9e3779b97f4a7c15

// mark condenses the identity of a request; equal identities have equal marks. One byte is enough: among a full window one other
// request has the same, on average, and so many bytes are searched at once as fit a wide register.
func mark(c *cell.ClientID, sequence uint64) byte {
	h := (binary.LittleEndian.Uint64(c[:8]) ^ binary.LittleEndian.Uint64(c[8:])) + sequence
	return byte(h * markSpread >> 56)
}

// resultSize is what the results of one transaction count against cell.WindowBytesMax.
func resultSize(results []cell.OpResult) int {
	n := 0
	for i := range results {
		n += results[i].Size()
	}
	return n
}

// remembered returns the outcomes, oldest first; the slice is valid until the next remember.
func (w *window) remembered() []wire.Remembered { return w.items[w.first:] }

// find returns the recorded outcome of a request, nil when there is none.
func (w *window) find(c *cell.ClientID, sequence uint64) *wire.Remembered {
	m := mark(c, sequence)
	for at := w.first; ; at++ {
		i := bytes.IndexByte(w.marks[at:], m)
		if i < 0 {
			return nil
		}
		at += i
		if item := &w.items[at]; item.Sequence == sequence && item.Client == *c {
			return item
		}
	}
}

// remember records the outcome of the next revision, in which ops ran, and forgets what no longer has room.
func (w *window) remember(out *Outcome, ops []cell.Op) {
	var spare []cell.OpResult
	if len(w.items)-w.first == cell.WindowMax {
		spare = w.forget()
	}
	w.makeRoom()
	item := wire.Remembered{Client: out.Request.Client, Sequence: out.Request.Sequence, Result: out.Result}
	if out.Err != nil {
		item.Err = &cell.Error{Kind: out.Err.Kind} // the text is not state, see the package comment
	}
	item.Result.Results = keep(spare, ops, out.Result.Results)
	w.items = append(w.items, item)
	w.marks = append(w.marks, mark(&item.Client, item.Sequence))
	w.addSum(outcomeSum(&item))
	w.bytes += resultSize(item.Result.Results)
	w.trim()
	if n := cell.Revision(len(w.items) - w.first); item.Result.Revision != w.floor+n { // guarded: That's arguments allocate
		must.That(false, "M4: revision %d recorded as number %d after floor %d", item.Result.Revision, n, w.floor)
	}
}

// keep copies the results of ops as they are remembered into the memory of forgotten ones: puts without what the client
// sent, and nothing at all when the rest is too large.
func keep(spare []cell.OpResult, ops []cell.Op, results []cell.OpResult) []cell.OpResult {
	if cap(spare) > 2*len(results) {
		spare = nil // a few large transactions must not leave their memory to many small ones
	}
	kept := append(spare[:0], results...)
	for i := range kept {
		if ops[i].Kind == cell.OpPut {
			kept[i].Entry.Key, kept[i].Entry.Value = "", cell.Value{}
		}
	}
	if len(kept) == 0 || resultSize(kept) > cell.ResultKeptMax {
		return nil
	}
	return kept
}

// forget drops the oldest outcome and returns the memory of its results.
func (w *window) forget() []cell.OpResult {
	oldest := &w.items[w.first]
	w.bytes -= resultSize(oldest.Result.Results)
	spare := oldest.Result.Results
	*oldest = wire.Remembered{}
	w.sum -= w.sums[w.first]
	w.first++
	w.floor++
	w.bare = max(w.bare, w.first)
	return spare
}

// trim drops the oldest results until the rest is within cell.WindowBytesMax.
func (w *window) trim() {
	for ; w.bytes > cell.WindowBytesMax; w.bare++ {
		w.bytes -= resultSize(w.items[w.bare].Result.Results)
		w.items[w.bare].Result.Results = nil
		w.sum -= w.sums[w.bare]
		w.sums[w.bare] = outcomeSum(&w.items[w.bare])
		w.sum += w.sums[w.bare]
	}
}

// addSum notes the term of the newest outcome.
func (w *window) addSum(sum uint64) {
	w.sums = append(w.sums, sum)
	w.sum += sum
}

// makeRoom slides the items down once enough were forgotten, so that the window stays one slice without ever moving an
// item more than a few times.
func (w *window) makeRoom() {
	if w.first < slideMin {
		return
	}
	n := copy(w.items, w.items[w.first:])
	copy(w.marks, w.marks[w.first:])
	copy(w.sums, w.sums[w.first:])
	clear(w.items[n:])
	w.items, w.marks, w.sums = w.items[:n], w.marks[:n], w.sums[:n]
	w.bare -= w.first
	w.first = 0
}
