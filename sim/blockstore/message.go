package blockstore

import (
	"fmt"
	"slices"
	"time"

	"physalia/cell"
)

// The bounds of what is accepted from outside.
const (
	BlocksMax     = 1 << 12 // blocks of a partition; whole copies are walked through, as a toy may
	BlockBytesMax = 4 << 10 // data of a block
	WritersMax    = 64      // clients whose last write a block remembers; others are not allowed to write it
	waitingMax    = 1024    // requests that wait for the peer; others are dropped, and their clients repeat them
)

// Version orders all acknowledged writes of a partition: those of a higher fence are later. The zero Version is a block that
// was never written.
type Version struct {
	Fence  cell.Fence
	Number uint64
}

// Less orders versions by fence, then number.
func (v Version) Less(w Version) bool {
	if v.Fence != w.Fence {
		return v.Fence.Less(w.Fence)
	}
	return v.Number < w.Number
}

// String shows a version as "incarnation.generation/number".
func (v Version) String() string { return fmt.Sprintf("%v/%d", v.Fence, v.Number) }

// Block is what a copy holds of one block. Data and Writers are never changed in place.
type Block struct {
	Synced  cell.Fence // under which a primary last said that this is the block's content
	Version Version
	Data    []byte
	Writers []Writer
}

// Writer is the last write of one client to a block (B7).
type Writer struct {
	Client  string
	Number  uint64
	Version Version
}

// writer finds a client's last write.
func (b *Block) writer(client string) (Writer, bool) {
	for _, w := range b.Writers {
		if w.Client == client {
			return w, true
		}
	}
	return Writer{}, false
}

// with returns the writers after another write.
func (b *Block) with(w Writer) []Writer {
	all := slices.DeleteFunc(slices.Clone(b.Writers), func(old Writer) bool { return old.Client == w.Client })
	return append(all, w)
}

// Kind says what a Message is about.
type Kind uint8

// The kinds. Requests of a client go to the primary that it read of; Store and Probe go from a primary to its peer.
const (
	Write     Kind = iota + 1 // Number, Block, Data
	WriteDone                 // Number, Block, Version
	Read                      // Number, Block
	ReadDone                  // Number, Block, Version, Data
	Store                     // Block, Version, Data, Writers: this is what the block holds
	Stored                    // Block, Version: the sender durably holds this version, or one of the same fence above it
	Probe                     // Number: are you still in my fence?
	Probed                    // Number, Whole: yes
	Refused                   // Number, Fence of the sender: not under your fence, read the record
)

var kindNames = [...]string{"", "write", "write done", "read", "read done", "store", "stored", "probe", "probed", "refused"}

// String names the kind.
func (k Kind) String() string {
	if int(k) < len(kindNames) {
		return kindNames[k]
	}
	return fmt.Sprintf("kind %d", uint8(k))
}

// Message is what copies and clients of one partition say to each other. Receivers own nothing of it: slices are shared.
type Message struct {
	Kind     Kind
	From, To string     // names as in the volume record, or of clients
	Fence    cell.Fence // under which it is said
	Number   uint64
	Block    int
	Version  Version
	Data     []byte
	Writers  []Writer
	Whole    bool
}

// Describe shows a message in one line.
func (m Message) Describe() string {
	return fmt.Sprintf("%s to %s under %v: %v number %d block %d version %v data %q",
		m.From, m.To, m.Fence, m.Kind, m.Number, m.Block, m.Version, m.Data)
}

// sound is the one gate for what comes from outside; a partition has so many blocks.
func (m *Message) sound(blocks int) bool {
	return m.Kind >= Write && m.Kind <= Refused && m.Block >= 0 && m.Block < blocks &&
		len(m.Data) <= BlockBytesMax && len(m.Writers) <= WritersMax && m.From != ""
}

// Input is one thing that happens to a Copy or a Client: a Tick, a Message, an Answer, a Readmit (copies), an Op (clients).
type Input interface{ input() }

// Tick says that time has passed.
type Tick struct{}

// Readmit is an operator's word, after a lossy recovery, that this copy is the one to go on with.
type Readmit struct{}

// Op is what the user of a Client wants: to read or write a block. Numbers rise, and no block is written again before its
// last write is done.
type Op struct {
	Number uint64
	Write  bool
	Block  int
	Data   []byte
}

// AskKind is what to ask the cell.
type AskKind uint8

// The questions.
const (
	Lookup  AskKind = iota // read the record
	Promote                // make Name, the replica, the primary
	Replace                // make Name the replica, or nobody if it is empty
)

// Ask is a transaction on the volume record. Lookups must be linearizable only to be useful, not to be safe.
type Ask struct {
	Kind     AskKind
	Expected cell.Generation
	Name     string
}

// Txn is the transaction, for a host that speaks to the cell itself.
func (a Ask) Txn(partition uint32) (cell.Txn, error) {
	switch a.Kind {
	case Promote:
		return cell.PromoteTxn(partition, a.Expected, a.Name)
	case Replace:
		return cell.ReplaceTxn(partition, a.Expected, a.Name)
	}
	return cell.LookupTxn(partition), nil
}

// Answer is the outcome of an Ask. Failed is zero for a success, and otherwise need not be exact: the record is read again.
type Answer struct {
	Ask    Ask
	Record cell.VolumeRecord
	Fence  cell.Fence // of Record, with the incarnation that answered
	Failed cell.Kind
}

// Answered makes the Answer from the result of Ask.Txn in a cell of this incarnation.
func Answered(a Ask, result cell.TxnResult, i cell.Incarnation, err error) Answer {
	var record cell.VolumeRecord
	if err == nil {
		record, err = cell.ParseRecord(result)
	}
	return Answer{Ask: a, Record: record, Fence: record.Fence(i), Failed: cell.KindOf(err)}
}

func (Tick) input()    {}
func (Readmit) input() {}
func (Op) input()      {}
func (Message) input() {}
func (Answer) input()  {}

// Effects is what the host must do after a Step, in this order. Everything waits until Persist is durable.
type Effects struct {
	Persist *Change // nil: nothing changed
	Send    []Message
	Ask     *Ask
	Done    []Done // of a Client's operations
}

// Done is the end of an Op. An operation never fails: it waits until somebody can serve it.
type Done struct {
	Op      Op
	Fence   cell.Fence // under which it was acknowledged
	Version Version    // written or read
	Data    []byte     // read
}

// State is what a copy has on its disk.
type State struct {
	Fence  cell.Fence // highest that it has acted under (B5)
	Whole  bool       // it has been filled, and may be trusted when a record names it (B4)
	Blocks []Block
}

// Change is what a step changed in the State.
type Change struct {
	Fence  cell.Fence
	Whole  bool
	Blocks []Placed
}

// Placed is one block of a Change.
type Placed struct {
	Index int
	Block Block
}

// Apply changes the state on a disk. A State that was never written may be the zero State.
func (s *State) Apply(c *Change, blocks int) {
	if len(s.Blocks) == 0 {
		s.Blocks = make([]Block, blocks)
	}
	s.Fence, s.Whole = c.Fence, c.Whole
	for _, p := range c.Blocks {
		s.Blocks[p.Index] = p.Block
	}
}

// Timing is how patient copies and clients are. Safety depends on none of it.
type Timing struct {
	Resend  time.Duration // until something unanswered is sent again; also how often a primary shows that it is alive
	Silence time.Duration // until a primary removes a silent replica; a replica waits half as long again, so that the primary wins
	Lookup  time.Duration // how often a copy that lacks nothing reads the record, to notice a new incarnation
}
