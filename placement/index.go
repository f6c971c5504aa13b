package placement

import "physalia/cell"

// cellRef finds a cell's account: its pool, by Book.order, and its slot there. It is one more than what it packs, so zero is nobody.
type cellRef uint64

func refOf(pool, slot uint32) cellRef { return cellRef(pool)<<32 | cellRef(slot) + 1 }

func (r cellRef) pool() uint32 { return uint32((r - 1) >> 32) }
func (r cellRef) slot() uint32 { return uint32(r - 1) }

// index finds cells by name and incarnation. It is a table of references with open addressing, a power of two long and at most
// three quarters full: some 14 bytes per cell. A map would hold the names a second time, and take 70.
type index struct {
	refs  []cellRef
	cells int
}

func newIndex() index { return index{refs: make([]cellRef, 64)} }

// hash spreads cells over the table: FNV-1a with a final mix. Names come from those who may create cells, who harm only themselves
// by names that collide.
func hash(id cell.ID, inc cell.Incarnation) uint64 {
	h := uint64(14695981039346656037) ^ uint64(inc)
	for i := range len(id) {
		h = (h ^ uint64(id[i])) * 1099511628211
	}
	h ^= h >> 32
	h *= 0xd6e8feb86659fd93
	return h ^ h>>32
}

// cell tells what a reference stands for.
func (b *Book) cell(ref cellRef) (cell.ID, cell.Incarnation) {
	p := b.order[ref.pool()]
	return p.names[ref.slot()], p.lives[ref.slot()]
}

// find tells where in the index a cell stands, or the empty place where it would.
func (b *Book) find(id cell.ID, inc cell.Incarnation) (at int, ok bool) {
	mask := uint64(len(b.index.refs) - 1)
	for at := hash(id, inc) & mask; ; at = (at + 1) & mask {
		ref := b.index.refs[at]
		if ref == 0 {
			return int(at), false
		}
		if name, life := b.cell(ref); name == id && life == inc {
			return int(at), true
		}
	}
}

// place puts a reference where it belongs.
func (x *index) place(b *Book, ref cellRef) {
	at, _ := b.find(b.cell(ref))
	x.refs[at] = ref
}

// add takes in a cell that is in its pool already, and not here.
func (x *index) add(b *Book, ref cellRef) {
	if x.cells++; 4*x.cells > 3*len(x.refs) {
		old := x.refs
		x.refs = make([]cellRef, 2*len(old))
		for _, r := range old {
			if r != 0 {
				x.place(b, r)
			}
		}
	}
	x.place(b, ref)
}

// remove takes out what stands at a place, while it is still in its pool. Who was pushed behind it moves up, so that no search ends early.
func (x *index) remove(b *Book, at int) {
	x.cells--
	x.refs[at] = 0
	mask := len(x.refs) - 1
	for i := (at + 1) & mask; x.refs[i] != 0; i = (i + 1) & mask {
		home := int(hash(b.cell(x.refs[i]))) & mask
		if (i-home)&mask >= (i-at)&mask {
			x.refs[at], x.refs[i] = x.refs[i], 0
			at = i
		}
	}
}
