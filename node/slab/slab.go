package slab

import (
	"encoding/binary"
	"math/bits"
	"sort"

	"physalia/internal/must"
)

// Flags are what else is known of a row. All but Gone are the owner's, who alone gives them a meaning.
type Flags uint8

// Gone marks a gap; no row that Add is given may have it.
const Gone Flags = 1 << 7

// Row is the numbers of one node. The owner may change all but Handle in place.
type Row struct {
	Handle      uint64 // above that of every row before
	Incarnation uint64
	Founding    uint64
	Round       uint64 // of the ballot that it promised
	Promised    uint32 // node of that ballot
	Node        uint32
	text        uint32 // where its text begins
	next, prev  uint32 // in its chain: position + 1, or 0
	chain       Chain
	Flags       Flags
}

// Bounds of a text.
const (
	NameBytesMax = 255
	KeptBytesMax = 16 << 10
)

const (
	rowBytes   = 56
	blockRows  = 1 << 10
	blockText  = 64 << 10 // no text crosses the end of a block
	indexLeast = 64
)

// Table is many rows. The zero Table is empty and usable; New gives it a key.
type Table struct {
	key    uint64
	rows   []*[blockRows]Row
	span   int // rows, gaps included
	gaps   int
	index  []uint32 // open addressing: position + 1, or 0; at most half full
	chains []links  // by chain
	texts  [][]byte // blocks; all but the last are closed
	waste  int      // bytes of texts that no row refers to
	filled int      // bytes of texts in all
}

// New makes an empty table. Names come from outside: whoever does not know the key cannot choose names that collide.
func New(key uint64) *Table { return &Table{key: key} }

// Len is the number of rows without gaps, Span with them: positions are below it.
func (t *Table) Len() int  { return t.span - t.gaps }
func (t *Table) Span() int { return t.span }

// At is the row at a position, which may be a gap.
func (t *Table) At(at int) *Row { return &t.rows[at/blockRows][at%blockRows] }

// Bytes is the memory of the table, within a few words.
func (t *Table) Bytes() int {
	return len(t.rows)*blockRows*rowBytes + 4*len(t.index) + len(t.texts)*blockText
}

// After is the position of the first row with a handle of at least h, perhaps a gap; Span when there is none.
func (t *Table) After(h uint64) int {
	return sort.Search(t.span, func(i int) bool { return t.At(i).Handle >= h })
}

// Find is the position of the row with a name.
func (t *Table) Find(name string) (at int, ok bool) {
	if len(t.index) == 0 {
		return 0, false
	}
	mask := uint64(len(t.index) - 1)
	for i := hash(t.key, name) & mask; t.index[i] != 0; i = (i + 1) & mask {
		if at := int(t.index[i] - 1); string(t.Name(at)) == name {
			return at, true
		}
	}
	return 0, false
}

// Add appends a row whose name is in no other, with what is kept beside it. It returns its position.
func (t *Table) Add(row Row, name string, kept []byte) int {
	must.That(len(name) > 0 && len(name) <= NameBytesMax && row.Flags&Gone == 0, "slab: name of %d bytes, flags %x", len(name), row.Flags)
	must.That(t.span == 0 || t.At(t.span-1).Handle < row.Handle, "slab: handle %d is not above the last", row.Handle)
	if t.span == len(t.rows)*blockRows {
		t.rows = append(t.rows, new([blockRows]Row))
	}
	if 2*(t.Len()+1) > len(t.index) {
		t.reindex(max(2*len(t.index), indexLeast))
	}
	row.text, row.chain = t.write(name, kept), 0
	at := t.span
	t.span++
	*t.At(at) = row
	t.place(at)
	return at
}

// Put replaces the numbers of a row; its handle must be the same.
func (t *Table) Put(at int, row Row) {
	old := t.At(at)
	must.That(row.Handle == old.Handle && row.Flags&Gone == 0 && old.Flags&Gone == 0, "slab: row of handle %d in the place of %d", row.Handle, old.Handle)
	row.text, row.chain, row.next, row.prev = old.text, old.chain, old.next, old.prev
	*old = row
}

// Keep replaces what is kept beside a row.
func (t *Table) Keep(at int, kept []byte) {
	row := t.At(at)
	name, old, size := t.text(row.text)
	if string(old) == string(kept) {
		return
	}
	row.text = t.write(string(name), kept)
	t.waste += size
	t.tidy()
}

// Remove makes a gap of a row.
func (t *Table) Remove(at int) {
	row := t.At(at)
	name, _, size := t.text(row.text)
	t.displace(string(name))
	t.Link(at, 0)
	row.Flags = Gone
	t.gaps++
	t.waste += size
	if 2*t.gaps >= t.span {
		t.close()
	}
	t.tidy()
}

// Name and Kept are the text of a row. They alias the table: they are good until it is changed, and must not be written to.
func (t *Table) Name(at int) []byte {
	name, _, _ := t.text(t.At(at).text)
	return name
}

// Kept is what is kept beside a row.
func (t *Table) Kept(at int) []byte {
	_, kept, _ := t.text(t.At(at).text)
	return kept
}

// text reads a text: the length of the name in a byte, the name, the length of the rest in two, the rest.
func (t *Table) text(from uint32) (name, kept []byte, size int) {
	b := t.texts[from/blockText][from%blockText:]
	n := 1 + int(b[0])
	m := n + 2 + int(binary.LittleEndian.Uint16(b[n:]))
	return b[1:n:n], b[n+2 : m : m], m
}

// write appends a text and tells where.
func (t *Table) write(name string, kept []byte) uint32 {
	must.That(len(kept) <= KeptBytesMax, "slab: %d bytes are kept beside a row", len(kept))
	size := 1 + len(name) + 2 + len(kept)
	last := len(t.texts) - 1
	if last < 0 || len(t.texts[last])+size > blockText {
		must.That(last < 1<<16-1, "slab: %d blocks of texts", last+1)
		t.texts = append(t.texts, make([]byte, 0, blockText))
		last++
	}
	b := t.texts[last]
	from := uint32(last*blockText + len(b))
	b = append(append(b, byte(len(name))), name...)
	b = append(binary.LittleEndian.AppendUint16(b, uint16(len(kept))), kept...)
	t.texts[last] = b
	t.filled += size
	return from
}

// tidy writes the texts anew when half of them is waste, and more than a block.
func (t *Table) tidy() {
	if t.waste < blockText || 2*t.waste < t.filled {
		return
	}
	old := *t
	t.texts, t.waste, t.filled = nil, 0, 0
	for at := range t.span {
		if row := t.At(at); row.Flags&Gone == 0 {
			name, kept, _ := old.text(row.text)
			row.text = t.write(string(name), kept)
		}
	}
}

// close moves rows up into the gaps.
func (t *Table) close() {
	to := 0
	for at := range t.span {
		if row := t.At(at); row.Flags&Gone == 0 {
			*t.At(to) = *row
			to++
		}
	}
	t.span, t.gaps = to, 0
	t.relink()
	for len(t.rows) > 0 && (len(t.rows)-1)*blockRows >= to {
		t.rows[len(t.rows)-1] = nil
		t.rows = t.rows[:len(t.rows)-1]
	}
	size := indexLeast
	for size < 2*(to+1) {
		size *= 2
	}
	t.reindex(size)
}

// reindex makes the index anew.
func (t *Table) reindex(size int) {
	t.index = make([]uint32, size)
	for at := range t.span {
		if t.At(at).Flags&Gone == 0 {
			t.place(at)
		}
	}
}

// place puts a row into the index.
func (t *Table) place(at int) {
	mask := uint64(len(t.index) - 1)
	i := hash(t.key, t.Name(at)) & mask
	for t.index[i] != 0 {
		i = (i + 1) & mask
	}
	t.index[i] = uint32(at + 1)
}

// displace takes a name out of the index, and moves up what was only behind it for lack of room.
func (t *Table) displace(name string) {
	mask := uint64(len(t.index) - 1)
	i := hash(t.key, name) & mask
	for string(t.Name(int(t.index[i]-1))) != name {
		i = (i + 1) & mask
	}
	for j := (i + 1) & mask; t.index[j] != 0; j = (j + 1) & mask {
		home := hash(t.key, t.Name(int(t.index[j]-1))) & mask
		if (j-home)&mask >= (j-i)&mask { // its home is at i or before
			t.index[i], i = t.index[j], j
		}
	}
	t.index[i] = 0
}

// hash mixes a name with the key, eight bytes at a time, by folded multiplication.
func hash[T string | []byte](key uint64, name T) uint64 {
	const a, b = 0x9e3779b97f4a7c15, 0xe7037ed1a0b428db
	h := key ^ uint64(len(name))*a
	for len(name) > 8 {
		h = fold(h^word(name[:8]), b)
		name = name[8:]
	}
	return fold(fold(h^word(name), b)^key, a)
}

// word is up to eight bytes as a number.
func word[T string | []byte](s T) (w uint64) {
	for i := range len(s) {
		w |= uint64(s[i]) << (8 * i)
	}
	return w
}

// fold multiplies to 128 bits and adds the halves without carry.
func fold(x, y uint64) uint64 {
	high, low := bits.Mul64(x, y)
	return high ^ low
}
