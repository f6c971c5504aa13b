// Package changes keeps what changed lately in a set that is divided into buckets, in the order in which it changed: the
// part of a source of routes that servers and discovery copies have in common. It is a plain value machine with one owner.
//
// Changes are numbered from 1 on, without gaps. Whoever has seen the set as of one number is brought to a later one by the
// page between them, unless the log does not reach back that far; then the sums of the buckets have to be compared.
package changes

// Log is the last changes of a set. The zero Log is not usable; see New.
type Log[K comparable] struct {
	last    uint64 // number of the newest change
	entries []change[K]
	newest  []uint64 // by bucket: number of its newest change
	max     int
}

// change is one entry; its number follows from its place.
type change[K comparable] struct {
	key    K
	bucket uint32
}

// New makes an empty log of so many buckets that remembers at least max changes, and at most twice as many. Numbers begin
// behind base: whoever may be asked by those who knew an earlier life of the set begins behind all of that life's.
func New[K comparable](buckets, max int, base uint64) *Log[K] {
	return &Log[K]{newest: make([]uint64, buckets), max: max, last: base}
}

// Position is the number of the newest change, zero before the first.
func (l *Log[K]) Position() uint64 { return l.last }

// Note adds a change. It costs no more than a copy of max entries once per max calls.
func (l *Log[K]) Note(key K, bucket int) {
	if len(l.entries) >= 2*l.max {
		l.entries = append(l.entries[:0], l.entries[l.max:]...)
	}
	l.last++
	l.entries = append(l.entries, change[K]{key, uint32(bucket)})
	l.newest[bucket] = l.last
}

// Page is what changed after one position and up to another.
type Page[K comparable] struct {
	To      uint64
	Lost    bool     // the log does not reach back: To is the present, and nothing is listed
	Keys    []K      // each once
	Buckets []uint32 // those whose newest change is on this page, each once
}

// After returns the page after a position, with at most limit keys; more may follow after its To. A position of the
// future, which another life of the set gave out, is lost as well.
func (l *Log[K]) After(position uint64, limit int) Page[K] {
	begin := l.last - uint64(len(l.entries)) // number before the first entry
	if position > l.last || position < begin {
		return Page[K]{To: l.last, Lost: true}
	}
	p := Page[K]{To: position}
	keys := map[K]struct{}{}
	for _, c := range l.entries[position-begin:] {
		if _, ok := keys[c.key]; !ok {
			if len(p.Keys) == limit {
				break
			}
			keys[c.key] = struct{}{}
			p.Keys = append(p.Keys, c.key)
		}
		p.To++
		if l.newest[c.bucket] == p.To {
			p.Buckets = append(p.Buckets, c.bucket)
		}
	}
	return p
}
