package machine

import (
	"bytes"
	"encoding/binary"
	"math"

	"github.com/cespare/xxhash/v2"

	"physalia/cell"
	"physalia/internal/must"
	"physalia/internal/wire"
)

// window remembers the outcomes of the newest transactions, one per revision without gaps (M4): the outcome of revision
// floor+1 is the oldest. They are kept as they are written, encoded and without a pointer: decoded, a full window was most of a server's
// memory, and most of what a snapshot cost. A lookup searches the marks, a byte per outcome, before it looks at any outcome.
type window struct {
	floor  cell.Revision // newest forgotten revision, zero when nothing was forgotten
	log    []byte        // each outcome as wire.Remembered, oldest first; there may be gaps
	places []place       // places[first:] are remembered
	marks  []byte        // marks[i] is the mark of places[i]
	sum    uint64        // of the sums of places[first:] (M6)
	raw    uint64        // of the hashes of their bytes (M6)
	first  int           // items before it are forgotten, left for the next slide
	bare   int           // items before this one carry no results
	bytes  int           // resultSize over items
	live   int           // bytes of log in use
}

// place is what has to be known of a remembered outcome without decoding it.
type place struct {
	sum    uint64 // outcomeSum
	start  uint32 // in window.log
	length uint16 // encoded: results are bounded by cell.ResultKeptMax
	size   uint16 // resultSize
}

// slideMin is how many forgotten items gather before the others slide down over them.
const slideMin = 64

// gapMax is how many bytes of the log may be out of use besides as many as are in use.
const gapMax = 16 << 10

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

// len is how many outcomes are remembered.
func (w *window) len() int { return len(w.places) - w.first }

// at returns one outcome, encoded; it is valid until the next remember.
func (w *window) at(i int) []byte {
	f := &w.places[i]
	return w.log[f.start : f.start+uint32(f.length)]
}

// decode returns one outcome, which shares no memory with the window. One that cannot be decoded was damaged in memory (M6).
func (w *window) decode(i int) (item wire.Remembered) {
	if err := wire.Unmarshal(w.at(i), &item); err != nil {
		must.That(false, "M6: outcome %d after floor %d cannot be read: %v", i-w.first+1, w.floor, err)
	}
	return item
}

// find tells where the outcome of a request is recorded, -1 when it is not.
func (w *window) find(c *cell.ClientID, sequence uint64) int {
	m := mark(c, sequence)
	for at := w.first; ; at++ {
		i := bytes.IndexByte(w.marks[at:], m)
		if i < 0 {
			return -1
		}
		if at += i; wire.IsOutcomeOf(w.at(at), c, sequence) {
			return at
		}
	}
}

// remember records the outcome of the next revision, in which ops ran, and forgets what no longer has room.
func (w *window) remember(s *Scratch, out *Outcome, ops []cell.Op) {
	if w.len() == cell.WindowMax {
		w.forget()
	}
	w.makeRoom()
	item := wire.Remembered{Client: out.Request.Client, Sequence: out.Request.Sequence, Result: out.Result}
	if out.Err != nil {
		item.Err = &cell.Error{Kind: out.Err.Kind} // the text is not state, see the package comment
	}
	item.Result.Results = s.keep(ops, out.Result.Results)
	w.add(&item)
	w.trim()
	if n := cell.Revision(w.len()); item.Result.Revision != w.floor+n { // guarded: That's arguments allocate
		must.That(false, "M4: revision %d recorded as number %d after floor %d", item.Result.Revision, n, w.floor)
	}
}

// keep returns the results of ops as they are remembered: puts without what the client sent, and nothing at all when the rest is too
// large. They stand in the scratch.
func (s *Scratch) keep(ops []cell.Op, results []cell.OpResult) []cell.OpResult {
	kept := append(s.kept[:0], results...)
	for i := range kept {
		if ops[i].Kind == cell.OpPut {
			kept[i].Entry.Key, kept[i].Entry.Value = "", cell.Value{}
		}
	}
	if s.kept = kept; cap(kept) > scratchKept {
		s.kept = nil
	}
	if len(kept) == 0 || resultSize(kept) > cell.ResultKeptMax {
		return nil
	}
	return kept
}

// add appends the newest outcome.
func (w *window) add(item *wire.Remembered) {
	start := len(w.log)
	w.log = item.Append(w.log)
	size := resultSize(item.Result.Results)
	if length := len(w.log) - start; length > math.MaxUint16 || size > math.MaxUint16 {
		must.That(false, "an outcome takes %d bytes, its results count %d", length, size)
	}
	w.places = append(w.places, place{sum: outcomeSum(item), start: uint32(start), length: uint16(len(w.log) - start), size: uint16(size)})
	w.marks = append(w.marks, mark(&item.Client, item.Sequence))
	w.bytes += size
	w.live += len(w.log) - start
	w.count(len(w.places) - 1)
}

// count adds one outcome to the sums.
func (w *window) count(i int) {
	w.sum += w.places[i].sum
	w.raw += xxhash.Sum64(w.at(i))
}

// discount takes one outcome out of the sums. What was damaged since it was counted stays in them, for verify to find.
func (w *window) discount(i int) {
	w.sum -= w.places[i].sum
	w.raw -= xxhash.Sum64(w.at(i))
}

// forget drops the oldest outcome.
func (w *window) forget() {
	w.discount(w.first)
	w.bytes -= int(w.places[w.first].size)
	w.live -= int(w.places[w.first].length)
	w.first++
	w.floor++
	w.bare = max(w.bare, w.first)
}

// trim drops the oldest results until the rest is within cell.WindowBytesMax. What an outcome is shorter then is a gap behind it.
func (w *window) trim() {
	for ; w.bytes > cell.WindowBytesMax; w.bare++ {
		f := &w.places[w.bare]
		if f.size == 0 {
			continue
		}
		item := w.decode(w.bare)
		item.Result.Results = nil
		w.discount(w.bare)
		w.bytes -= int(f.size)
		w.live -= int(f.length)
		f.sum, f.size = outcomeSum(&item), 0
		f.length = uint16(len(item.Append(w.log[:f.start])) - int(f.start)) // shorter than before, so in its place
		w.live += int(f.length)
		w.count(w.bare)
	}
}

// makeRoom slides the outcomes down once enough were forgotten, or enough results given up, so that the window stays one slice without
// ever moving an item more than a few times.
func (w *window) makeRoom() {
	if w.first < slideMin && len(w.log) <= 2*w.live+gapMax {
		return
	}
	end := 0
	for i := w.first; i < len(w.places); i++ {
		f := w.places[i]
		copy(w.log[end:], w.at(i))
		f.start = uint32(end)
		end += int(f.length)
		w.places[i-w.first] = f
	}
	n := copy(w.marks, w.marks[w.first:])
	w.log, w.places, w.marks = w.log[:end], w.places[:n], w.marks[:n]
	w.bare -= w.first
	w.first = 0
}

// append adds all outcomes to b as an array, oldest first.
func (w *window) append(b []byte) []byte {
	b = wire.AppendArray(b, w.len())
	for i := w.first; i < len(w.places); i++ {
		b = append(b, w.at(i)...)
	}
	return b
}

// verify reports whether the outcomes in memory are those that were recorded (M6).
func (w *window) verify() bool {
	var sum, raw uint64
	for i := w.first; i < len(w.places); i++ {
		sum += w.places[i].sum
		raw += xxhash.Sum64(w.at(i))
	}
	return sum == w.sum && raw == w.raw
}
