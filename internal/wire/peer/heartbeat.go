package peer

import (
	"math"

	"physalia/internal/wire"
)

// Epoch names one uninterrupted stretch of support that a server gives another: its own durable boot number, and a
// counter that it raises whenever that support lapses (rule 12). It is unique per giver and receiver; zero is no support.
type Epoch struct {
	Boot    uint64
	Counter uint64
}

// Less orders the epochs of one giver and receiver by time.
func (e Epoch) Less(f Epoch) bool {
	return e.Boot < f.Boot || e.Boot == f.Boot && e.Counter < f.Counter
}

// appendEpoch adds an epoch: [boot, counter].
func appendEpoch(b []byte, e Epoch) []byte {
	return wire.AppendUint(wire.AppendUint(wire.AppendArray(b, 2), e.Boot), e.Counter)
}

// decodeEpoch consumes an epoch that is not zero.
func decodeEpoch(r *wire.Reader) Epoch {
	r.Struct(2, "support epoch")
	e := Epoch{Boot: r.Uint(), Counter: r.Uint()}
	if e == (Epoch{}) {
		r.Fail("support epoch is zero")
	}
	return e
}

// Heartbeat is the only message of the heartbeat lane. It asks the receiver for support, says how far the sender supports
// the receiver, and tells what each remembers of the other's disk. Everything from Echo on speaks of boot For of the
// receiver: what was meant for an earlier life of it concerns nobody.
type Heartbeat struct {
	Boot     uint64 // the sender's boot number
	Sequence uint64 // counts the sender's heartbeats to this receiver in this boot, from 1
	Durable  uint64 // newest batch of the sender's storage that is durable (rule 8)

	For     uint64 // newest boot of the receiver that the sender ever heard of; 0: none
	Echo    uint64 // highest Sequence heard: a proven round trip, if the receiver sent it lately; 0: none
	Lane    uint64 // milliseconds since a frame of the Paxos lane arrived; SilentLane: never
	Counter uint64 // of the epoch (Boot, Counter) in which the sender supports the receiver, or would
	Granted uint64 // highest Sequence upon which support was extended in that epoch; 0: none is given
	Known   uint64 // highest batch that the sender heard to be durable in boot For
	Before  uint64 // the same of all boots before For
	Since   uint64 // the boot in which Before was heard; 0: none

	Ails Ailment // of the sender; not of boot For alone
}

// Ailment says what is wrong with a server that goes on all the same; bits that this version does not know mean nothing to it.
type Ailment uint8

// The ailments.
const (
	SlowDisk Ailment = 1 << iota // its disk stalls, or has stalled lately: it should lead nothing that others can lead
	NoRoom                       // its disk is low on space: it takes no new nodes and leads no writes
)

// SilentLane is the value of Heartbeat.Lane when nothing was ever heard.
const SilentLane = math.MaxUint32

// heartbeatFields is without Ails, which only a server adds that has any: the usual heartbeat is what it always was.
const heartbeatFields = 11

// AppendHeartbeat adds a heartbeat: the fields in the order of the struct.
func AppendHeartbeat(b []byte, h *Heartbeat) []byte {
	if h.Ails != 0 {
		b = wire.AppendArray(b, heartbeatFields+1)
	} else {
		b = wire.AppendArray(b, heartbeatFields)
	}
	for _, n := range [...]uint64{h.Boot, h.Sequence, h.Durable, h.For, h.Echo, h.Lane, h.Counter, h.Granted, h.Known, h.Before, h.Since} {
		b = wire.AppendUint(b, n)
	}
	if h.Ails != 0 {
		b = wire.AppendUint(b, uint64(h.Ails))
	}
	return b
}

// DecodeHeartbeat consumes a heartbeat.
func DecodeHeartbeat(r *wire.Reader, h *Heartbeat) {
	fields := r.Array(heartbeatFields+1, "heartbeat")
	if fields < heartbeatFields {
		r.Fail("heartbeat has %d fields, want %d or one more", fields, heartbeatFields)
	}
	for _, n := range [...]*uint64{&h.Boot, &h.Sequence, &h.Durable, &h.For, &h.Echo, &h.Lane, &h.Counter, &h.Granted, &h.Known, &h.Before, &h.Since} {
		*n = r.Uint()
	}
	ails := uint64(0)
	if fields > heartbeatFields {
		ails = r.Uint()
	}
	h.Ails = Ailment(ails)
	switch {
	case r.Err() != nil:
	case fields > heartbeatFields && h.Ails == 0 || ails > math.MaxUint8:
		r.Fail("heartbeat says that %d ails its sender", ails)
	case h.Boot == 0 || h.Sequence == 0:
		r.Fail("heartbeat %d of boot %d: both count from 1", h.Sequence, h.Boot)
	case h.Lane > SilentLane:
		r.Fail("heartbeat says that a lane was silent for %d ms", h.Lane)
	}
}
