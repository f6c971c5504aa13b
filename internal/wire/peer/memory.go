package peer

import (
	"physalia/cell"
	"physalia/internal/must"
	"physalia/internal/wire"
)

// formatMemory is the format byte of a stored Memory.
const formatMemory = 'M'

// Memory is what a server remembers of another one's disk (rule 8): the highest batch that it heard to be durable, in the
// newest boot that it heard of, and in all boots before. Whoever finds less on its disk has forgotten something.
type Memory struct {
	Server cell.ServerID
	Boot   uint64
	Known  uint64 // in Boot
	Before uint64 // in earlier boots
	Since  uint64 // the boot in which Before was heard; 0: none
}

// AppendMemory adds a memory in its stored form: [server, boot, known, before, since].
func AppendMemory(b []byte, m *Memory) []byte {
	start := len(b)
	b = append(b, formatMemory, storedVersion)
	b = wire.AppendString(wire.AppendArray(b, 5), string(m.Server))
	b = wire.AppendUint(wire.AppendUint(wire.AppendUint(wire.AppendUint(b, m.Boot), m.Known), m.Before), m.Since)
	return appendSum(b, start)
}

// DecodeMemory reads what AppendMemory wrote; the result does not alias b.
func DecodeMemory(b []byte) (Memory, error) {
	const op = "peer.DecodeMemory"
	var m Memory
	r, err := body(op, formatMemory, b)
	if err != nil {
		return m, err
	}
	r.Struct(5, "memory")
	m.Server = cell.ServerID(r.Text(ServerBytesMax, "server identity"))
	m.Boot, m.Known, m.Before, m.Since = r.Uint(), r.Uint(), r.Uint(), r.Uint()
	return m, finish(op, &r)
}

// formatLives is the format byte of stored lives.
const formatLives = 'L'

// LivesMax bounds the lives that are kept: beyond it the oldest are forgotten.
const LivesMax = 64

// Life is one opening of a data directory: the boot, and the batch that the directory ended with then (rule 8).
type Life struct{ Boot, Found uint64 }

// AppendLives adds the lives of a data directory, oldest first and at most LivesMax, in their stored form: [[boot, found], ...].
func AppendLives(b []byte, lives []Life) []byte {
	must.That(len(lives) <= LivesMax, "wire: %d lives, allowed are %d", len(lives), LivesMax)
	start := len(b)
	b = append(b, formatLives, storedVersion)
	b = wire.AppendArray(wire.AppendArray(b, 1), len(lives))
	for _, x := range lives {
		b = wire.AppendUint(wire.AppendUint(wire.AppendArray(b, 2), x.Boot), x.Found)
	}
	return appendSum(b, start)
}

// DecodeLives reads what AppendLives wrote.
func DecodeLives(b []byte) ([]Life, error) {
	const op = "peer.DecodeLives"
	r, err := body(op, formatLives, b)
	if err != nil {
		return nil, err
	}
	r.Struct(1, "lives")
	lives := make([]Life, r.Array(LivesMax, "lives"))
	for i := range lives {
		r.Struct(2, "life")
		lives[i] = Life{Boot: r.Uint(), Found: r.Uint()}
	}
	return lives, finish(op, &r)
}

// The format bytes of single numbers.
const (
	formatPeriod  = 'D'
	formatHandles = 'N'
)

// AppendPeriod adds the longest support period of a data directory in its stored form: [nanoseconds].
func AppendPeriod(b []byte, nanoseconds uint64) []byte {
	return appendNumber(b, formatPeriod, nanoseconds)
}

// DecodePeriod reads what AppendPeriod wrote.
func DecodePeriod(b []byte) (nanoseconds uint64, err error) {
	return decodeNumber("peer.DecodePeriod", formatPeriod, b)
}

// AppendHandles adds the next handle that a data directory issues in its stored form: [handle]. A handle that is issued twice
// would give a node the ring of another one (hazard H19), so this number has a checksum like everything else.
func AppendHandles(b []byte, next uint64) []byte { return appendNumber(b, formatHandles, next) }

// DecodeHandles reads what AppendHandles wrote.
func DecodeHandles(b []byte) (next uint64, err error) {
	return decodeNumber("peer.DecodeHandles", formatHandles, b)
}

// appendNumber adds a single number in its stored form.
func appendNumber(b []byte, format byte, n uint64) []byte {
	start := len(b)
	b = append(b, format, storedVersion)
	b = wire.AppendUint(wire.AppendArray(b, 1), n)
	return appendSum(b, start)
}

// decodeNumber reads what appendNumber wrote.
func decodeNumber(op string, format byte, b []byte) (uint64, error) {
	r, err := body(op, format, b)
	if err != nil {
		return 0, err
	}
	r.Struct(1, "number")
	n := r.Uint()
	return n, finish(op, &r)
}
