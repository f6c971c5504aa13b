package etcdstore

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"

	"physalia/lifecycle"
)

// What one transaction may hold. etcd's defaults are 128 operations (--max-txn-ops) and 1.5 MiB (--max-request-bytes).
const (
	writesMax    = 125        // of a batch; the rest is for head, and to end a journal
	bytesMax     = 1 << 20    // of a batch, as bytesOf counts
	oneBytesMax  = 1400 << 10 // of a single write, which cannot be split
	writeBytes   = 64         // what etcd needs for a write beside its key and value, generously
	journalOnly  = 1 << 30    // writes in a part of a journal: no bound but that of bytes
	journalMagic = 'J'
)

// bytesOf is what a write takes in a request, the key's prefix included.
func bytesOf(w lifecycle.Write, prefix int) int {
	return prefix + len(w.Key) + len(w.Value) + writeBytes
}

// lastOfEach leaves of several writes of one key only the last: etcd refuses two in one transaction, and in an atomic batch
// nobody can tell the difference. The order is that of the writes that are left.
func lastOfEach(batch []lifecycle.Write) []lifecycle.Write {
	last := make(map[string]int, len(batch))
	for i, w := range batch {
		last[string(w.Key)] = i
	}
	if len(last) == len(batch) {
		return batch
	}
	left := make([]lifecycle.Write, 0, len(last))
	for i, w := range batch {
		if last[string(w.Key)] == i {
			left = append(left, w)
		}
	}
	return left
}

// split cuts a batch into parts of at most so many writes and bytes, in order. A write that is larger than that is a part of
// its own.
func split(batch []lifecycle.Write, writes, bytes, prefix int) (parts [][]lifecycle.Write) {
	from, size := 0, 0
	for i, w := range batch {
		n := bytesOf(w, prefix)
		if i > from && (i-from >= writes || size+n > bytes) {
			parts = append(parts, batch[from:i])
			from, size = i, 0
		}
		size += n
	}
	if from < len(batch) {
		parts = append(parts, batch[from:])
	}
	return parts
}

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// errJournal says that a committed journal is not what a Store has written.
var errJournal = errors.New("the journal is damaged")

// appendJournal adds the stored form of one part of a journal: magic, the writes, CRC32C over all of it. A write is the
// length of its key, the key, the length of its value plus one, the value; zero stands for no value.
func appendJournal(b []byte, part []lifecycle.Write) []byte {
	start := len(b)
	b = append(b, journalMagic)
	for _, w := range part {
		b = append(binary.AppendUvarint(b, uint64(len(w.Key))), w.Key...)
		if w.Value == nil {
			b = append(b, 0)
			continue
		}
		b = append(binary.AppendUvarint(b, uint64(len(w.Value))+1), w.Value...)
	}
	return binary.BigEndian.AppendUint32(b, crc32.Checksum(b[start:], castagnoli))
}

// decodeJournal reads what appendJournal wrote; the writes share memory with b. The error wraps errJournal.
func decodeJournal(b []byte) (part []lifecycle.Write, err error) {
	if len(b) < 5 || b[0] != journalMagic {
		return nil, fmt.Errorf("%w: %d bytes", errJournal, len(b))
	}
	end := len(b) - 4
	if want, got := binary.BigEndian.Uint32(b[end:]), crc32.Checksum(b[:end], castagnoli); want != got {
		return nil, fmt.Errorf("%w: checksum over %d bytes is %08x, stored is %08x", errJournal, end, got, want)
	}
	for b = b[1:end]; len(b) > 0; {
		var w lifecycle.Write
		var ok bool
		if w.Key, b, ok = field(b, 0); !ok {
			return nil, fmt.Errorf("%w: a key is cut", errJournal)
		}
		if w.Value, b, ok = field(b, 1); !ok {
			return nil, fmt.Errorf("%w: the value of %q is cut", errJournal, w.Key)
		}
		part = append(part, w)
	}
	return part, nil
}

// field reads bytes behind their length, which was raised by more; a length below that stands for nil.
func field(b []byte, more uint64) (value, rest []byte, ok bool) {
	n, k := binary.Uvarint(b)
	if k <= 0 {
		return nil, nil, false
	}
	b = b[k:]
	if n < more {
		return nil, b, true
	}
	n -= more
	if n > uint64(len(b)) {
		return nil, nil, false
	}
	return b[:n:n], b[n:], true
}
