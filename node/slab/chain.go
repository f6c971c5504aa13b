package slab

// Chain is a set of rows that belong together by something that changes, such as who leads their cells: a row is in one chain at a
// time, 0 is none. What is asked of all rows of a chain costs nothing for the others.
type Chain uint16

// ChainMax is the highest chain. An owner with more groups than that leaves the rows of the others unchained.
const ChainMax = 1<<16 - 1

// links is one chain.
type links struct {
	first uint32 // position + 1, or 0
	count uint32
}

// Chained is the chain of the row at a position.
func (t *Table) Chained(at int) Chain { return t.At(at).chain }

// Link puts the row at a position into a chain, at its beginning, and takes it out of the one that it was in.
func (t *Table) Link(at int, to Chain) {
	row := t.At(at)
	if row.chain == to {
		return
	}
	if row.chain != 0 {
		old := &t.chains[row.chain]
		old.count--
		if row.prev != 0 {
			t.At(int(row.prev - 1)).next = row.next
		} else {
			old.first = row.next
		}
		if row.next != 0 {
			t.At(int(row.next - 1)).prev = row.prev
		}
	}
	row.chain, row.next, row.prev = 0, 0, 0
	if to != 0 {
		t.enter(at, to)
	}
}

// enter puts a row that is in no chain into one.
func (t *Table) enter(at int, to Chain) {
	for int(to) >= len(t.chains) {
		t.chains = append(t.chains, links{})
	}
	row, l := t.At(at), &t.chains[to]
	if l.first != 0 {
		t.At(int(l.first - 1)).prev = uint32(at + 1)
	}
	row.chain, row.next, row.prev = to, l.first, 0
	l.first = uint32(at + 1)
	l.count++
}

// relink makes all chains anew, after rows moved.
func (t *Table) relink() {
	clear(t.chains)
	for at := range t.span {
		if row := t.At(at); row.Flags&Gone == 0 && row.chain != 0 {
			t.enter(at, row.chain)
		}
	}
}

// Count is how many rows are in a chain.
func (t *Table) Count(of Chain) int {
	if int(of) >= len(t.chains) {
		return 0
	}
	return int(t.chains[of].count)
}

// Each visits the rows of a chain, the newest first, until f returns false. The chain must not change meanwhile.
func (t *Table) Each(of Chain, f func(at int) bool) {
	if int(of) >= len(t.chains) {
		return
	}
	for i := t.chains[of].first; i != 0; i = t.At(int(i - 1)).next {
		if !f(int(i - 1)) {
			return
		}
	}
}
