package paxos

// Effects is what the host must do for the steps since the last call of Replica.Effects, in this order:
//
//  1. apply Deliver in slot order, each slot once, or put it off while nobody can tell: it has to be applied before the state is
//     asked for, by State below or by anybody else, and the list that holds it is the host's own;
//  2. hand Persist to storage, as part of one atomic, ordered batch;
//  3. send SendNow; losing, repeating or reordering messages is allowed;
//  4. send SendDurable once every batch handed to storage up to and including this one is durable, even if Persist is
//     empty: the step may rely on an earlier batch that is not durable yet (rule 1, hazard H8).
//
// Messages addressed to the replica itself (the own promise, vote and confirmation) come in SendDurable too; the host
// steps them when they are released. A host that crashes in between may lose any suffix of this list.
type Effects struct {
	Deliver     []Delivery
	Install     *Snapshot // replace the host's state by this snapshot before applying Deliver
	Persist     Persist
	SendNow     []Message
	SendDurable []Message
	ReadsReady  []ReadToken // reads that may now be answered from the applied state
	ReadsFailed []ReadToken // reads that this replica cannot confirm any more; not the proposer
	Lost        bool        // this replica stopped being the proposer: proposals not yet delivered have an unknown outcome
	Dropped     []Proposal  // proposals that were never sent to anyone: not applied, for certain
	Released    bool        // this node is no member any more and nobody needs it: only a pointer has to stay (rule 11)
}

// Delivery is one chosen slot.
type Delivery struct {
	Slot    Slot
	Entry   Entry
	Outcome ChangeOutcome // what came of Entry.Change
}

// Proposal is the host's name for a command handed to Propose; the replica never looks at it.
type Proposal uint64

// ReadToken is the host's name for a read handed to Read.
type ReadToken uint64

// Persist is what must become durable, atomically.
type Persist struct {
	// Promised is set when the hard state changed: the highest ballot promised.
	Promised *Ballot
	// Records overwrite the ring positions of their slots. Every record is stored together with the replica's promised
	// ballot and Applied (rule 5: records carry applied-through, never chosen-through).
	Records []Record
	Applied Slot
	// State asks the host to store a snapshot of its state as of Applied (after Deliver) in the same batch. It is set
	// when Records overwrite ring positions whose slots were until now held only in the ring, and with every change of the
	// configuration.
	State bool
}

// IsEmpty reports whether there is nothing to store.
func (p *Persist) IsEmpty() bool { return p.Promised == nil && len(p.Records) == 0 && !p.State }

// tellsApplied reports whether Applied becomes durable with this batch: it has no place of its own.
func (p *Persist) tellsApplied() bool { return len(p.Records) > 0 || p.State }

// IsEmpty reports whether there is nothing to do at all.
func (e *Effects) IsEmpty() bool {
	return len(e.Deliver) == 0 && e.Install == nil && e.Persist.IsEmpty() && len(e.SendNow) == 0 &&
		len(e.SendDurable) == 0 && len(e.ReadsReady) == 0 && len(e.ReadsFailed) == 0 && !e.Lost && len(e.Dropped) == 0 && !e.Released
}
