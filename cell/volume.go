package cell

import (
	"fmt"
	"strconv"
)

// The volume record is what a block store asks a cell for: for each partition of the volume (partition 0 is the default)
// who is primary, who is its replica, and under which generation (NSDI 2020, section 1.1). It is three ordinary keys,
//
//	p/<partition>/primary     string
//	p/<partition>/replica     string, absent while the partition has no replica
//	p/<partition>/generation  integer, 1 at first, one more with every change of the other two
//
// written only by the transactions built here. Each of them ends by reading the record in both branches, so one round
// tells either the new record or, when a condition did not hold, the actual one. Every I/O of the block store carries the
// Fence; a storage server that has seen a higher one refuses a lower one. That is what makes an old primary harmless.

// VolumeNameBytesMax bounds the name of a primary or replica in bytes. A name is printable ASCII without spaces: the
// identity of a storage server as the block store knows it, perhaps with its address.
const VolumeNameBytesMax = 128

// VolumeRecord is the configuration of one partition of a volume.
type VolumeRecord struct {
	Partition  uint32
	Primary    string
	Replica    string // empty: the partition has none now
	Generation Generation
}

// Fence orders the record among all that a volume ever has, through deletions and lossy recoveries too. The incarnation
// is that of the cell that answered.
func (r VolumeRecord) Fence(i Incarnation) Fence {
	return Fence{Incarnation: i, Number: uint64(r.Generation)}
}

// String shows a record as "0: primary a, replica b, generation 7".
func (r VolumeRecord) String() string {
	replica := r.Replica
	if replica == "" {
		replica = "none"
	}
	return fmt.Sprintf("%d: primary %s, replica %s, generation %d", r.Partition, r.Primary, replica, r.Generation)
}

// VolumeConflict is the cause in an Error of kind Conflict from ParseRecord: what stood in the cell when the conditions
// of an AttachTxn, PromoteTxn or ReplaceTxn did not hold. Reach it with errors.As.
type VolumeConflict struct {
	Found  bool         // a record exists; an absent one conflicts with promote and replace
	Actual VolumeRecord // the zero record when not Found
}

// Error describes what stood in the cell.
func (c *VolumeConflict) Error() string {
	if !c.Found {
		return "the partition has no record"
	}
	return "the record is " + c.Actual.String()
}

// The positions of the three reads at the end of both branches.
const (
	readPrimary = iota
	readReplica
	readGeneration
	recordReads
)

// VolumeKeys returns the keys of one partition's record.
func VolumeKeys(partition uint32) (primary, replica, generation string) {
	p := "p/" + strconv.FormatUint(uint64(partition), 10)
	return p + "/primary", p + "/replica", p + "/generation"
}

// LookupTxn reads the record of a partition. It is a pure read; ParseRecord of its result says NotFound when there is
// no record.
func LookupTxn(partition uint32) Txn { return recordTxn(partition, nil, nil) }

// AttachTxn creates the record of a partition with generation 1; it conflicts with any record that exists, an equal one
// too. The replica may be empty.
func AttachTxn(partition uint32, primary, replica string) (Txn, error) {
	if err := checkPair("volume.attach", primary, replica); err != nil {
		return Txn{}, err
	}
	kp, kr, kg := VolumeKeys(partition)
	var conditions []Condition
	for _, k := range [...]string{kp, kr, kg} {
		conditions = append(conditions, Condition{Key: k, Target: OnExistence, Compare: NotEqual})
	}
	return recordTxn(partition, conditions, []Op{
		putString(kp, primary), putReplica(kr, replica), {Kind: OpPut, Key: kg, Value: Int(1)},
	}), nil
}

// PromoteTxn makes the replica the primary. It conflicts unless the generation is the expected one and newPrimary is the
// replica of that generation: nobody else is known to hold all acknowledged data. Afterwards the partition has no
// replica until ReplaceTxn names one, because the old primary may miss what the new one acknowledges from now on.
func PromoteTxn(partition uint32, expected Generation, newPrimary string) (Txn, error) {
	if err := checkName("volume.promote", "primary", newPrimary); err != nil {
		return Txn{}, err
	}
	g, err := generationCondition("volume.promote", partition, expected)
	if err != nil {
		return Txn{}, err
	}
	kp, kr, kg := VolumeKeys(partition)
	return recordTxn(partition, []Condition{
		g,
		{Key: kr, Target: OnValue, Compare: Equal, Value: String(newPrimary)},
	}, []Op{
		putString(kp, newPrimary), {Kind: OpDelete, Key: kr}, {Kind: OpIncrement, Key: kg, Value: Int(1)},
	}), nil
}

// ReplaceTxn gives the partition another replica, or none when newReplica is empty (the primary goes on alone). It
// conflicts unless the generation is the expected one and newReplica is not the primary. The caller names a replica only
// once that holds all acknowledged data.
func ReplaceTxn(partition uint32, expected Generation, newReplica string) (Txn, error) {
	if newReplica != "" {
		if err := checkName("volume.replace", "replica", newReplica); err != nil {
			return Txn{}, err
		}
	}
	g, err := generationCondition("volume.replace", partition, expected)
	if err != nil {
		return Txn{}, err
	}
	kp, kr, kg := VolumeKeys(partition)
	return recordTxn(partition, []Condition{
		g,
		{Key: kp, Target: OnValue, Compare: Greater, Value: String("")}, // a primary exists, and is a name
		{Key: kp, Target: OnValue, Compare: NotEqual, Value: String(newReplica)},
	}, []Op{
		putReplica(kr, newReplica), {Kind: OpIncrement, Key: kg, Value: Int(1)},
	}), nil
}

// ParseRecord reads the record from the result of one of the transactions above. Errors: Conflict, with a
// *VolumeConflict that carries the actual record, when the conditions did not hold (final: nothing was changed); NotFound
// when a lookup met no record; WrongType when the keys hold something else than a record. A result that carries no reads
// (a retry so late that the cell kept only its fate, see TxnResult.Complete) is a Conflict without cause when it failed,
// else an UnknownResult that says so: look the record up.
func ParseRecord(r TxnResult) (VolumeRecord, error) {
	if len(r.Results) < recordReads {
		e := &Error{Op: "volume", Kind: UnknownResult, Hint: "look the record up",
			Detail: fmt.Sprintf("applied at revision %d, but the record as it was then is not kept", r.Revision)}
		if !r.Succeeded {
			e.Kind, e.Detail = Conflict, fmt.Sprintf("condition %d did not hold", r.Failed)
		}
		return VolumeRecord{}, e
	}
	record, found, err := parseReads(r.Results[len(r.Results)-recordReads:])
	if err != nil {
		return VolumeRecord{}, err
	}
	switch {
	case !r.Succeeded:
		return VolumeRecord{}, &Error{Op: "volume", Kind: Conflict, Hint: "look at the record and decide again",
			Detail: fmt.Sprintf("condition %d did not hold", r.Failed), Err: &VolumeConflict{Found: found, Actual: record}}
	case !found:
		return VolumeRecord{}, &Error{Op: "volume", Kind: NotFound, Detail: "the partition has no record", Hint: "attach it first"}
	}
	return record, nil
}

// parseReads reads a record from the three reads that end both branches.
func parseReads(reads []OpResult) (VolumeRecord, bool, error) {
	if !reads[readPrimary].Found && !reads[readReplica].Found && !reads[readGeneration].Found {
		return VolumeRecord{}, false, nil
	}
	var r VolumeRecord
	primary, okPrimary := reads[readPrimary].Entry.Value.AsString()
	replica, okReplica := reads[readReplica].Entry.Value.AsString()
	generation, okGeneration := reads[readGeneration].Entry.Value.AsInt64()
	_, err := fmt.Sscanf(reads[readGeneration].Entry.Key, "p/%d/generation", &r.Partition)
	if err != nil || !okPrimary || primary == "" || (reads[readReplica].Found && !okReplica) || !okGeneration || generation < 1 {
		return VolumeRecord{}, false, &Error{Op: "volume", Kind: WrongType, Hint: "only volume operations may write keys below p/",
			Detail: fmt.Sprintf("primary %s, replica %s and generation %s are not a record",
				reads[readPrimary].Entry.Value, reads[readReplica].Entry.Value, reads[readGeneration].Entry.Value)}
	}
	r.Primary, r.Replica, r.Generation = primary, replica, Generation(generation)
	return r, true, nil
}

// recordTxn ends both branches by reading the record.
func recordTxn(partition uint32, conditions []Condition, writes []Op) Txn {
	kp, kr, kg := VolumeKeys(partition)
	reads := []Op{{Kind: OpGet, Key: kp}, {Kind: OpGet, Key: kr}, {Kind: OpGet, Key: kg}}
	return Txn{If: conditions, Then: append(writes, reads...), Else: reads}
}

func putString(key, value string) Op { return Op{Kind: OpPut, Key: key, Value: String(value)} }

// putReplica writes the replica, or removes it: an absent key is how a record says "none".
func putReplica(key, replica string) Op {
	if replica == "" {
		return Op{Kind: OpDelete, Key: key}
	}
	return putString(key, replica)
}

func generationCondition(op string, partition uint32, expected Generation) (Condition, error) {
	if expected == 0 || expected > 1<<62 {
		return Condition{}, &Error{Op: op, Kind: Invalid, Detail: fmt.Sprintf("generation %d was never given out", expected),
			Hint: "look the record up and pass its generation"}
	}
	_, _, kg := VolumeKeys(partition)
	return Condition{Key: kg, Target: OnValue, Compare: Equal, Value: Int(int64(expected))}, nil
}

func checkPair(op, primary, replica string) error {
	if err := checkName(op, "primary", primary); err != nil || replica == "" {
		return err
	}
	if err := checkName(op, "replica", replica); err != nil {
		return err
	}
	if primary == replica {
		return &Error{Op: op, Kind: Invalid, Detail: fmt.Sprintf("primary and replica are both %q", primary),
			Hint: "name two servers, or no replica"}
	}
	return nil
}

func checkName(op, role, name string) error {
	hint := fmt.Sprintf("use 1 to %d printable ASCII characters without spaces", VolumeNameBytesMax)
	if len(name) == 0 || len(name) > VolumeNameBytesMax {
		return &Error{Op: op, Kind: Invalid, Detail: fmt.Sprintf("name of the %s has %d bytes", role, len(name)), Hint: hint}
	}
	for i := 0; i < len(name); i++ {
		if name[i] <= ' ' || name[i] > '~' {
			return &Error{Op: op, Kind: Invalid, Detail: fmt.Sprintf("name of the %s: byte %d of %q is not allowed", role, i, name), Hint: hint}
		}
	}
	return nil
}
