package sim

import (
	"physalia/cell"
	"physalia/internal/wire"
	"physalia/paxos"
)

// history is what the log of a cell came to, by a deliberately naive twin of the state machine: every request is remembered
// for ever, with the revision at which it ran. Locks and records are in a file of their own.
type history struct {
	revision cell.Revision
	effects  map[identity]*effect
	values   [len(keys)]int64
	past     [][len(keys)]int64 // past[r] is the state at revision r
	foreign  string             // a command that no client sent
	others   map[string]other   // all other keys: locks, volume records
	leases   map[cell.LeaseID]*tenure
}

// identity names a request.
type identity struct {
	client   cell.ClientID
	sequence uint64
}

func (o *op) identity() identity { return identity{o.client.session.id, o.request.Sequence} }

func (o *op) volume() *volume { return o.client.session.volume }

// effect is what the first copy of a request did.
type effect struct {
	revision  cell.Revision
	void      bool
	succeeded bool
	value     int64 // of the operation that ran
}

// replay makes the history of a log.
func replay(log []paxos.Entry) *history {
	h := &history{effects: make(map[identity]*effect), past: make([][len(keys)]int64, 1), others: make(map[string]other),
		leases: make(map[cell.LeaseID]*tenure)}
	for _, e := range log {
		h.follow(e)
	}
	return h
}

// follow goes on by one entry, unless it met a foreign one.
func (h *history) follow(e paxos.Entry) {
	for _, c := range e.Commands {
		command, err := wire.DecodeCommand(c)
		if err != nil && h.foreign == "" {
			h.foreign = err.Error()
		}
		if h.foreign != "" {
			return
		}
		h.apply(&command)
	}
}

// apply does a command, unless a copy of its request came before, or the request is from before what the cell remembers.
// The first copy takes one revision, as in the state machine.
func (h *history) apply(c *wire.Command) {
	if c.Kind == wire.CommandKeepAlive || c.Kind == wire.CommandExpire {
		h.tend(c)
		return
	}
	id := identity{c.Request.Client, c.Request.Sequence}
	if h.effects[id] != nil || h.revision > cell.WindowMax && c.Request.Since < h.revision-cell.WindowMax {
		return
	}
	h.revision++
	e := &effect{revision: h.revision}
	h.effects[id] = e
	switch {
	case c.Kind != wire.CommandTxn:
		h.lease(c, e)
	case c.Txn.IsResolve():
		e.void = true
	default:
		e.succeeded = h.holds(c.Txn.If)
		branch := c.Txn.Branch(e.succeeded)
		if e.void = !h.attachable(branch); e.void {
			e.succeeded = false
			break
		}
		for _, op := range branch {
			e.value = h.run(&op)
		}
	}
	h.past = append(h.past, h.values)
}

// holds reports whether all conditions are true. Those on the keys of clients are of two kinds, as function is makes them.
func (h *history) holds(conditions []cell.Condition) bool {
	for i, c := range conditions {
		at, ours := keyIndex(c.Key)
		if !ours {
			if !h.otherHolds(&conditions[i]) {
				return false
			}
			continue
		}
		want, _ := c.Value.AsInt64() // zero, the absent value, for a condition that wants the key absent
		if h.values[at] != want {
			return false
		}
	}
	return true
}

// run does one operation and returns the value that its key has then.
func (h *history) run(o *cell.Op) int64 {
	at, ours := keyIndex(o.Key)
	if !ours {
		return h.runOther(o)
	}
	value, n := &h.values[at], int64(0)
	if o.Kind != cell.OpGet {
		n, _ = o.Value.AsInt64()
	}
	switch o.Kind {
	case cell.OpPut:
		*value = n
	case cell.OpIncrement:
		*value += n
	}
	return *value
}

// keyIndex is the position of a key in keys; it reports false for the keys of others than plain clients.
func keyIndex(key string) (int, bool) {
	for i, k := range keys {
		if k == key {
			return i, true
		}
	}
	return 0, false
}

// seen is the value that an operation was told: of the operation that ran, the last one if there are several.
func (o *op) seen() (value int64, told bool) {
	if n := len(o.result.Results); n > 0 {
		value, told = o.result.Results[n-1].Entry.Value.AsInt64()
		return value, told || !o.result.Results[n-1].Found
	}
	return 0, false
}
