package client

import (
	"context"

	"physalia/cell"
)

// Volume is the handle of a volume's cell as a block store sees it: for each partition, who is primary, who is its
// replica, and under which generation. Most volumes have one partition, number 0. It is safe for concurrent use.
type Volume struct{ cell *Cell }

// VolumeState is the record of one partition, and the fence that every I/O under it must carry: a storage server that
// has seen a higher fence refuses a lower one.
type VolumeState struct {
	cell.VolumeRecord
	Fence cell.Fence
}

// Volume returns the handle of the volume whose cell has this name. Like Client.Cell it asks nobody.
func (c *Client) Volume(id cell.ID) *Volume { return &Volume{cell: c.Cell(id)} }

// Cell is the volume's cell. Keys below "p/" belong to the volume's records.
func (v *Volume) Cell() *Cell { return v.cell }

// Lookup reads the record of a partition. Linearizable unless Stale is given; a stale record may have a past primary,
// which its fence makes harmless. NotFound: the partition has no record. Not applied: all errors.
func (v *Volume) Lookup(ctx context.Context, partition uint32, option ...ReadOption) (VolumeState, error) {
	return v.run(ctx, "volume.lookup", cell.LookupTxn(partition), only(option))
}

// Attach creates the record of a partition, with generation 1; replica may be empty. Conflict (not applied): there is
// one already; errors.As finds it as a *cell.VolumeConflict. Linearizable. Unknown: *UnknownError, or, when the change
// was applied but the record as it was then is forgotten, another UnknownResult: look the record up.
func (v *Volume) Attach(ctx context.Context, partition uint32, primary, replica string) (VolumeState, error) {
	txn, err := cell.AttachTxn(partition, primary, replica)
	return v.change(ctx, "volume.attach", txn, err)
}

// Promote makes the replica the primary, if the generation is still the expected one and newPrimary is its replica.
// Conflict (not applied): it is not, and errors.As finds the actual record as a *cell.VolumeConflict. Linearizable.
// Unknown: as Attach.
func (v *Volume) Promote(ctx context.Context, partition uint32, expected cell.Generation, newPrimary string) (VolumeState, error) {
	txn, err := cell.PromoteTxn(partition, expected, newPrimary)
	return v.change(ctx, "volume.promote", txn, err)
}

// Replace gives a partition another replica, or none when newReplica is empty, if the generation is still the expected
// one. Conflict and the unknown errors: as Promote. Linearizable.
func (v *Volume) Replace(ctx context.Context, partition uint32, expected cell.Generation, newReplica string) (VolumeState, error) {
	txn, err := cell.ReplaceTxn(partition, expected, newReplica)
	return v.change(ctx, "volume.replace", txn, err)
}

// change runs a transaction that may already have been refused.
func (v *Volume) change(ctx context.Context, op string, txn cell.Txn, err error) (VolumeState, error) {
	if err != nil {
		return VolumeState{}, v.cell.named(op, err)
	}
	return v.run(ctx, op, txn, Linearizable)
}

// run runs a volume's transaction and reads the record from its result.
func (v *Volume) run(ctx context.Context, op string, txn cell.Txn, option ReadOption) (VolumeState, error) {
	result, inc, err := v.cell.txn(ctx, op, txn, option)
	if err != nil {
		return VolumeState{}, err
	}
	record, err := cell.ParseRecord(result)
	if err != nil {
		return VolumeState{}, v.cell.named(op, err)
	}
	return VolumeState{VolumeRecord: record, Fence: record.Fence(inc)}, nil
}
