package lifecycle

import (
	"cmp"
	"fmt"
	"slices"

	"physalia/cell"
	"physalia/internal/wire"
)

// witness is what one server answered about a lost cell: an export, or why there is none.
type witness struct {
	server cell.ServerID
	export *wire.NodeExport
	err    *cell.Error
}

// isGone reports whether the server has answered that there is nothing to be had from its node, for good: it will never vote
// in the lost incarnation again, although its server is alive.
func (w *witness) isGone() bool {
	return w.err != nil && (w.err.Kind == cell.Quarantined || w.err.Kind == cell.UnknownHere || w.err.Kind == cell.Moved)
}

// verdict is what all witnesses of a cell come to.
type verdict struct {
	source  *wire.NodeExport // whose state the cell goes on with
	server  cell.ServerID    // whose export that is
	kept    []wire.Accepted  // the records above that state that may have been chosen, without a gap
	slot    uint64           // recovered through
	known   uint64           // the highest slot that a survivor heard is chosen
	lost    []cell.ServerID  // members on servers that are named dead
	problem string           // why the cell must be left alone; empty when it can be recovered
}

// judge decides what a cell that lost its majority goes on with. It is a pure function of what the survivors hold:
//
//   - The state is that of the highest applied slot: everything up to there was chosen.
//   - Of the records above it, the one with the highest ballot is kept in each slot, up to the first slot in which no survivor
//     has one. That is what a candidate would do with the promises of these members, if they were a majority: a value that was
//     chosen and that any survivor accepted is kept (paxos P2); a value that nobody knows to be chosen may be kept, too.
//   - A cell is left alone when its own log says that a majority of its jury is left, when a member that is not named dead
//     does not answer (it may hold more, or complete a majority), when a seal may have been chosen, or when two survivors
//     differ in the state of one slot.
//
// members are those that the manager knows; the jury in the survivors' log counts for the majority.
func judge(members []cell.ServerID, dead map[cell.ServerID]bool, witnesses []witness) verdict {
	v := verdict{}
	jury := slices.Clone(members)
	for i := range witnesses {
		w := &witnesses[i]
		if w.export == nil {
			continue
		}
		v.known = max(v.known, w.export.Known, w.export.Applied)
		if v.source == nil || v.source.Applied < w.export.Applied {
			v.source, v.server = w.export, w.server
		}
	}
	if v.source != nil {
		jury = v.source.Jury
	}
	v.lost = lostOf(jury, members, dead)
	if v.problem = objection(&v, jury, members, witnesses); v.problem != "" {
		return v
	}
	v.kept = keep(v.source.Applied, witnesses)
	v.slot = v.source.Applied + uint64(len(v.kept))
	return v
}

// lostOf lists the members on dead servers, of both lists, each once, in order of identity.
func lostOf(jury, members []cell.ServerID, dead map[cell.ServerID]bool) (lost []cell.ServerID) {
	for _, id := range slices.Concat(jury, members) {
		if dead[id] && !slices.Contains(lost, id) {
			lost = append(lost, id)
		}
	}
	slices.Sort(lost)
	return lost
}

// objection says why a cell cannot be recovered, or "".
func objection(v *verdict, jury, members []cell.ServerID, witnesses []witness) string {
	have, silent, sealed, differs := 0, "", "", ""
	for i := range witnesses {
		w := &witnesses[i]
		switch x := w.export; {
		case x != nil:
			if slices.Contains(jury, w.server) {
				have++
			}
			if x.Sealed {
				sealed = fmt.Sprintf("%s holds a seal of it: its deletion was asked for and may have been carried out", w.server)
			}
			if x.Applied == v.source.Applied && x.StateHash != v.source.StateHash {
				differs = fmt.Sprintf("%s and %s differ in the state at slot %d: %x and %x", v.server, w.server, x.Applied, v.source.StateHash, x.StateHash)
			}
		case !w.isGone() && (slices.Contains(jury, w.server) || slices.Contains(members, w.server)):
			silent = fmt.Sprintf("%s is not named dead and says nothing: %v", w.server, w.err)
		}
	}
	switch {
	case have >= len(jury)/2+1:
		return fmt.Sprintf("it has %d of %d: nothing to recover", have, len(jury))
	case silent != "":
		return silent
	case v.source == nil:
		return "no survivor holds anything of it"
	}
	return cmp.Or(sealed, differs)
}

// keep picks the records above a slot that may have been chosen.
func keep(applied uint64, witnesses []witness) (kept []wire.Accepted) {
	for slot := applied + 1; len(kept) < wire.ExportRecordsMax; slot++ {
		var best *wire.Accepted
		for i := range witnesses {
			if witnesses[i].export == nil {
				continue
			}
			for k := range witnesses[i].export.Accepted {
				a := &witnesses[i].export.Accepted[k]
				if a.Slot == slot && (best == nil || best.Round < a.Round || best.Round == a.Round && best.Node < a.Node) {
					best = a
				}
			}
		}
		if best == nil {
			return kept
		}
		kept = append(kept, *best)
	}
	return kept
}

// describe shows what a witness answered, for people.
func (w *witness) describe() wire.Survivor {
	s := wire.Survivor{Server: w.server}
	switch x := w.export; {
	case x == nil:
		s.Note = w.err.Error()
	default:
		s.Node, s.Promised, s.Applied, s.Known, s.Accepted = x.Node, x.Promised, x.Applied, x.Known, uint64(len(x.Accepted))
		if x.Cut {
			s.Note = fmt.Sprintf("more records than %d bytes: those behind are not kept", wire.ExportBytesMax)
		}
	}
	return s
}

// recovery is the state that a recovered incarnation is founded with. It is stored beside the record, in the same batch,
// before the first server hears of it, and every member gets the same bytes: otherwise two members that heard of it from two
// lives of the manager could begin differently (rule 4).
type recovery struct {
	applied uint64
	hash    uint64
	state   []byte
	kept    []wire.Accepted
}

// size is about what one server is sent, in bytes.
func (r *recovery) size() int {
	n := len(r.state)
	for i := range r.kept {
		n += len(r.kept[i].Entry)
	}
	return n
}

// recoverBytes ends a batch of recoveries: with one more of the largest size it still fits a control frame.
const recoverBytes = 512 << 10

// recoveryKey is the key of a recovery; names contain no zero byte.
func recoveryKey(r *Record) []byte {
	k := r.key()
	k[0] = keyRecovery
	return k
}

// appendRecovery adds the stored form: [applied, hash, state, kept] in the frame of a record.
func appendRecovery(b []byte, r *recovery) []byte {
	start := len(b)
	b = append(b, formatState, storedVersion)
	b = wire.AppendUint(wire.AppendUint(wire.AppendArray(b, 4), r.applied), r.hash)
	b = wire.AppendArray(wire.AppendBytes(b, r.state), len(r.kept))
	for i := range r.kept {
		b = r.kept[i].Append(b)
	}
	return appendSum(b, start)
}

// decodeRecovery reads the stored form; errors as of decodeRecord.
func decodeRecovery(b []byte) (*recovery, error) {
	r, err := storedBody(formatState, b)
	if err != nil {
		return nil, err
	}
	r.Struct(4, "recovery")
	s := &recovery{applied: r.Uint(), hash: r.Uint()}
	s.state = slices.Clone(r.Bytes(wire.RecoveryStateBytesMax, "state"))
	s.kept = make([]wire.Accepted, r.Array(wire.ExportRecordsMax, "kept records"))
	for i := range s.kept {
		s.kept[i].Decode(&r)
	}
	if err := r.Done(); err != nil {
		return nil, damaged(err.Error())
	}
	return s, nil
}

// retiredKey is the key of a retired identity; its value is a frame around [server].
func retiredKey(id cell.ServerID) []byte { return append([]byte{keyRetired}, id...) }

func appendRetired(b []byte, id cell.ServerID) []byte {
	start := len(b)
	b = append(b, formatServer, storedVersion)
	return appendSum(wire.AppendString(wire.AppendArray(b, 1), string(id)), start)
}

func decodeRetired(b []byte) (cell.ServerID, error) {
	r, err := storedBody(formatServer, b)
	if err != nil {
		return "", err
	}
	r.Struct(1, "retired server")
	id := cell.ServerID(r.String(cell.ServerIDBytesMax, "server"))
	if err := r.Done(); err != nil {
		return "", damaged(err.Error())
	}
	return id, id.Check()
}

// Retired is why an identity that was named dead in a recovery may not come back: its disk may complete a majority of an
// incarnation that others have replaced.
func Retired(id cell.ServerID) *cell.Error {
	return &cell.Error{Op: wire.MethodRegister, Kind: cell.Refused,
		Detail: fmt.Sprintf("server %s was declared dead in a recovery, and its cells went on without it; the identity is retired for good", id),
		Hint:   "stop it at once: what it still serves is the past. Start it with an empty data directory to give it a new identity"}
}
