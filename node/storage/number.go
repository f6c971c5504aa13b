package storage

import (
	"bytes"
	"encoding/binary"
	"fmt"

	"physalia/internal/must"
)

// numberKey holds the number of the newest batch, written with every batch, so that Recovered is exact (rule 8). It is
// reserved: callers neither write nor see it, and a DeleteRange across it leaves it alone.
var numberKey = []byte("\x00batch")

// The record under numberKey: format, version, batch number (8 bytes, big endian).
const (
	numberFormat  = 'N'
	numberVersion = 1
	numberBytes   = 10
)

// appendNumber appends the record for n to dst.
func appendNumber(dst []byte, n BatchNumber) []byte {
	return binary.BigEndian.AppendUint64(append(dst, numberFormat, numberVersion), uint64(n))
}

// parseNumber reads the record back; what it does not understand is an error, never zero.
func parseNumber(record []byte) (BatchNumber, error) {
	if len(record) != numberBytes || record[0] != numberFormat || record[1] != numberVersion {
		return 0, fmt.Errorf("batch number record %x is not understood by this version", record)
	}
	return BatchNumber(binary.BigEndian.Uint64(record[2:])), nil
}

// checkNext asserts what every implementation demands of Commit: numbers without gaps, no empty key (Pebble's block
// writer panics on one), and the reserved key untouched.
func (b *Batch) checkNext(last BatchNumber) {
	must.That(b.Number == last+1, "batch order: batch %d after %d", b.Number, last)
	b.each(func(kind opKind, key, _ []byte) {
		if len(key) == 0 || kind != opDeleteRange && bytes.Equal(key, numberKey) { // asked outside of the call: its arguments would be boxed, for every key
			must.That(false, "batch %d writes the empty or the reserved key %q", b.Number, key)
		}
	})
}
