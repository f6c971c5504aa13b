package blocks

import (
	"context"
	"errors"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"physalia/cell"
	"physalia/cell/machine"
	"physalia/client"
	"physalia/internal/wire"
	"physalia/sim/blockstore"
)

// record is a volume whose cell is one state machine behind a mutex. Every other change is applied and then called unknown.
type record struct {
	mu       sync.Mutex
	machine  *machine.Machine
	sequence uint64
}

func (r *record) run(txn cell.Txn, err error) (client.VolumeState, error) {
	if err != nil {
		return client.VolumeState{}, err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.sequence++
	c := wire.Command{Request: cell.Request{Sequence: r.sequence, Since: r.machine.Revision()}, Txn: txn}
	out, err := r.machine.Apply(c.Append(nil))
	if err != nil {
		return client.VolumeState{}, err
	}
	v, err := cell.ParseRecord(out.Result)
	if err == nil && !txn.IsRead() && r.sequence%2 == 0 {
		err = cell.UnknownResult
	}
	return client.VolumeState{VolumeRecord: v, Fence: v.Fence(1)}, err
}

func (r *record) Lookup(_ context.Context, p uint32, _ ...client.ReadOption) (client.VolumeState, error) {
	return r.run(cell.LookupTxn(p), nil)
}

func (r *record) Attach(_ context.Context, p uint32, primary, replica string) (client.VolumeState, error) {
	return r.run(cell.AttachTxn(p, primary, replica))
}

func (r *record) Promote(_ context.Context, p uint32, g cell.Generation, primary string) (client.VolumeState, error) {
	return r.run(cell.PromoteTxn(p, g, primary))
}

func (r *record) Replace(_ context.Context, p uint32, g cell.Generation, replica string) (client.VolumeState, error) {
	return r.run(cell.ReplaceTxn(p, g, replica))
}

// Two volumes on three servers lose their primaries one after the other, and no write.
func TestTrial(t *testing.T) {
	defer goleak.VerifyNone(t)
	records := map[cell.ID]*record{"x": {machine: machine.New()}, "y": {machine: machine.New()}}
	trial, err := Start(t.Context(), Config{Volumes: []cell.ID{"x", "y"}, Partition: 1, Servers: 3, Users: 2, Pause: time.Millisecond,
		Open:   func(_ int, id cell.ID) Volume { return records[id] },
		Timing: blockstore.Timing{Resend: 50 * time.Millisecond, Silence: 200 * time.Millisecond, Lookup: time.Second}})
	if err != nil {
		t.Fatal(err)
	}
	for range 3 {
		victim := await(t, func() string { return trial.Primary(0) })
		trial.Kill(victim)
		await(t, func() string {
			if now := trial.Primary(0); now != victim {
				return now
			}
			return ""
		})
		trial.Restart()
		await(t, func() string { // the next failover needs a replica
			s, err := records["x"].Lookup(t.Context(), 1)
			if err != nil {
				return ""
			}
			return s.Replica
		})
	}
	r := trial.Stop()
	if r.Acked == 0 || r.Lost != 0 || r.SplitBrain != 0 || len(r.Unread) > 0 || r.Failovers < 3 || errors.Join(r.Bent...) != nil {
		t.Errorf("%+v", r)
	}
}

// await waits for something that is not empty.
func await(t *testing.T, what func() string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	ticker := time.NewTicker(5 * time.Millisecond)
	defer ticker.Stop()
	for {
		if s := what(); s != "" {
			return s
		}
		select {
		case <-ctx.Done():
			t.Fatal("waited in vain")
		case <-ticker.C:
		}
	}
}
