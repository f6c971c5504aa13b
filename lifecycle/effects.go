package lifecycle

import (
	"fmt"
	"time"

	"physalia/cell"
	"physalia/internal/wire"
)

// RequestID is the caller's name for a request; it comes back with the reply.
type RequestID uint64

// CallID names a call to a server; the caller returns it with the outcome.
type CallID uint64

// Effects is what the caller must do for the inputs since the last call of Manager.Effects, in this order:
//
//  1. make Persist durable, as one atomic batch (if that fails: stop, and start again from the store);
//  2. start the Calls, in parallel, and report the end of each, once, with Manager.Done;
//  3. send the Replies and hand on the Routes.
//
// A crash in between may lose any suffix of this list.
type Effects struct {
	Persist []Write
	Calls   []Call
	Replies []Reply
	Routes  []wire.Route
}

// IsEmpty reports whether there is nothing to do.
func (e *Effects) IsEmpty() bool {
	return len(e.Persist) == 0 && len(e.Calls) == 0 && len(e.Replies) == 0 && len(e.Routes) == 0
}

// Call is one request to a server: node.create with *wire.CreateNodes, node.recover with *wire.RecoverNodes or node.drop with
// *wire.DropNodes, answered by wire.Outcomes; cell.seal with *wire.SealCell and node.learner with *wire.CreateLearner, answered
// by nothing; cell.change with *wire.ChangeCell, answered by wire.Configured and reported with Manager.Configured; or
// cell.export with *wire.ExportNode, answered by wire.NodeExport and reported with Manager.Exported; or node.census and
// node.graves with *wire.Census, answered by wire.CensusPage and wire.GravePage and reported with Manager.Heard.
type Call struct {
	ID      CallID
	Server  cell.ServerID
	Method  string
	Params  wire.Message
	Timeout time.Duration // after this much the caller gives up and reports UnknownResult
}

// Reply answers a request with Outcomes, List, Plan, Rebuild, Status or Err; at most one is set, and none when an order or a proposal
// succeeded.
type Reply struct {
	Request  RequestID
	Outcomes *wire.Outcomes
	List     *wire.CellList
	Plan     *wire.RecoveryPlan
	Rebuild  *wire.RebuildState
	Status   *wire.ControlStatus
	Identity string // of an invitation that was redeemed
	Err      *cell.Error
}

// Config holds the manager's parameters; the zero value of a field means its default.
type Config struct {
	Jury  int    // members of a founding jury; default 7. Tests use 3 and 5.
	Alpha uint32 // slots in flight of new cells; default 4
	Seed  uint64 // of the jitter in every backoff

	// Batch bounds the foundings or drops of one call; default 256, at most wire.BatchMax. One founding of seven members
	// is about 500 bytes, so a full batch stays near 128 KB.
	Batch int
	// CallsPerServer and Calls bound the batches in flight, to one server (default 4) and to all (default 256).
	CallsPerServer, Calls int
	// SealsPerServer and Seals bound the seals in flight, at one server (default 32) and at all (default 512).
	SealsPerServer, Seals int
	// Moves bounds the calls in flight about members that are replaced; default 64. MovesPerServer bounds the replacements under
	// way that take a member from one server, or bring one there; default 16.
	Moves, MovesPerServer int
	Limits                Limits // zero fields: those of DefaultLimits
	// BalanceEvery is the pause between two looks at how full servers are, while some need to be levelled; default 5 s. Below
	// zero nothing is levelled.
	BalanceEvery time.Duration
	// PlansPerTurn bounds the juries that one turn plans, so that a large request does not delay its own first cells;
	// default 256.
	PlansPerTurn int
	// BacklogMax bounds the cells asked for and not planned yet; default 100,000. RequestsMax bounds the requests that
	// wait for an answer; default 10,000. Beyond them the answer is Overloaded.
	BacklogMax, RequestsMax int

	// Surveys bounds the lost cells whose survivors are being asked at the same time, and with it the states held in memory
	// before they are stored; default 32.
	Surveys int

	// ScanEvery is the least pause between the beginnings of two rounds in which all connected servers are asked what they
	// host. Zero: they are asked only while the store is being rebuilt.
	ScanEvery time.Duration
	// ScanPace is how many pages are asked for per second, over all servers, whatever their number and however many connect
	// at once; RebuildPace the same while the store is being rebuilt. Defaults 20 and 200. ScanPage is the nodes of a page,
	// about 200 bytes each; default 512, at most wire.ListLimitMax. Scans bounds the pages in flight; default 8.
	ScanPace, RebuildPace, ScanPage, Scans int

	RetryMin, RetryMax time.Duration // first and longest pause before something is asked again; defaults 100 ms and 10 s
	CallTimeout        time.Duration // of a batch; default 10 s
	SealTimeout        time.Duration // that a member may take to have the seal chosen; default 3 s
	WaitMax            time.Duration // longest time that a request may wait for its answer; default 5 min
}

// withDefaults replaces zero values.
func (c Config) withDefaults() Config {
	for _, d := range []struct {
		field *int
		value int
	}{{&c.Jury, 7}, {&c.Batch, 256}, {&c.CallsPerServer, 4}, {&c.Calls, 256}, {&c.SealsPerServer, 32}, {&c.Seals, 512}, {&c.Moves, 64}, {&c.MovesPerServer, 16},
		{&c.PlansPerTurn, 256}, {&c.Surveys, 32}, {&c.ScanPace, 20}, {&c.RebuildPace, 200}, {&c.ScanPage, 512}, {&c.Scans, 8},
		{&c.BacklogMax, 100_000}, {&c.RequestsMax, 10_000}} {
		if *d.field == 0 {
			*d.field = d.value
		}
	}
	for _, d := range []struct {
		field *time.Duration
		value time.Duration
	}{{&c.RetryMin, 100 * time.Millisecond}, {&c.RetryMax, 10 * time.Second}, {&c.CallTimeout, 10 * time.Second},
		{&c.SealTimeout, 3 * time.Second}, {&c.WaitMax, 5 * time.Minute}, {&c.BalanceEvery, 5 * time.Second}} {
		if *d.field == 0 {
			*d.field = d.value
		}
	}
	if c.Alpha == 0 {
		c.Alpha = 4
	}
	c.Limits = c.Limits.withDefaults()
	return c
}

// Check reports what is wrong with a configuration, or nil.
func (c Config) Check() error {
	c = c.withDefaults()
	switch {
	case c.Jury < 1 || c.Jury > wire.MembersMax:
		return invalidConfig("jury has %d members, allowed are 1 to %d", c.Jury, wire.MembersMax)
	case c.Batch < 1 || c.Batch > wire.BatchMax:
		return invalidConfig("batch is %d, allowed are 1 to %d", c.Batch, wire.BatchMax)
	case c.CallsPerServer < 1 || c.Calls < 1 || c.SealsPerServer < 1 || c.Seals < 1 || c.Moves < 1 || c.MovesPerServer < 1 || c.PlansPerTurn < 1 || c.Surveys < 1:
		return invalidConfig("bounds of calls, seals, moves, plans and surveys must be at least 1")
	case c.ScanPace < 1 || c.RebuildPace < 1 || c.Scans < 1 || c.ScanPage < 1 || c.ScanPage > wire.ListLimitMax || c.ScanEvery < 0:
		return invalidConfig("scans: %d and %d pages per second of %d nodes, %d in flight, every %v", c.ScanPace, c.RebuildPace, c.ScanPage, c.Scans, c.ScanEvery)
	case c.RetryMin <= 0 || c.RetryMax < c.RetryMin || c.CallTimeout <= 0 || c.SealTimeout < time.Millisecond:
		return invalidConfig("pauses %v to %v, timeouts %v and %v", c.RetryMin, c.RetryMax, c.CallTimeout, c.SealTimeout)
	}
	return c.Limits.check()
}

func invalidConfig(format string, args ...any) error {
	return &cell.Error{Op: "lifecycle.config", Kind: cell.Invalid, Detail: fmt.Sprintf(format, args...)}
}
