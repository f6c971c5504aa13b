package sim

import (
	"fmt"
	"time"

	"physalia/cell"
)

// recorder changes the record of a partition of its cell, with the others of its cell: it attaches, promotes and replaces by
// the transactions of package cell, on condition of the generation that it saw last. Each success is a fence that nobody
// else is ever given.
type recorder struct {
	session *session
	known   cell.VolumeRecord // as last seen
	left    int               // changes to come
	done    bool
}

// recordedPartition is theirs; the block store has another one.
const recordedPartition = 1

// newRecorder makes a recorder that begins soon.
func (w *World) newRecorder(v *volume, i int) {
	r := &recorder{session: w.newSession(v, i), left: 12}
	w.recorders = append(w.recorders, r)
	r.session.rest(50*time.Millisecond, r.start)
}

// change is a transaction that raises the generation, as far as this recorder knows the record.
func (r *recorder) change() (cell.Txn, error) {
	name := func() string { return fmt.Sprintf("host-%d", r.session.dice.IntN(4)) }
	switch g := r.known.Generation; {
	case g == 0:
		return cell.AttachTxn(recordedPartition, "host-0", "host-1")
	case r.known.Replica != "" && r.session.dice.IntN(2) == 0:
		return cell.PromoteTxn(recordedPartition, g, r.known.Replica)
	default:
		return cell.ReplaceTxn(recordedPartition, g, name())
	}
}

// start changes the record once more.
func (r *recorder) start() {
	s := r.session
	if r.left == 0 || s.world.healed || s.volume.sealed {
		r.done = true
		return
	}
	r.left--
	s.acquaint(func(err *cell.Error) {
		if err != nil {
			r.again(err)
			return
		}
		txn, wrong := r.change()
		if wrong != nil {
			s.world.fail("fences", place{v: s.volume}, "record %v allows no change: %v", r.known, wrong)
			return
		}
		called := s.world.now
		s.send(s.place.Request(s.id), s.place.Incarnation(), &txn, s.deadline(), func(x *exchange, err *cell.Error) {
			if err == nil {
				r.take(&txn, x, called)
			}
			r.again(err)
		})
	})
}

// take notes what a change was told: the new record, or the one that stands in its way.
func (r *recorder) take(txn *cell.Txn, x *exchange, called time.Duration) {
	s := r.session
	x.result.Complete(txn)
	record, err := cell.ParseRecord(x.result)
	if err == nil {
		r.known = record
		s.world.report.Records++
		s.world.granted(s.volume, fmt.Sprintf("partition %d", record.Partition), record.Fence(x.incarnation), called, s.world.now)
		return
	}
	if actual, ok := cell.AsError("sim.record", cell.Conflict, err).Err.(*cell.VolumeConflict); ok {
		r.known = actual.Actual
	}
}

// again plans the next change, unless the cell is gone. A change of unknown outcome needs no excuse: the next one conflicts
// and shows what stands.
func (r *recorder) again(err *cell.Error) {
	if err != nil && (err.Kind == cell.Deleted || err.Kind == cell.Stale) {
		r.left = 0
	}
	r.session.rest(60*time.Millisecond, r.start)
}
