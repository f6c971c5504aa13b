package sim

import (
	"physalia/cell"
	"physalia/internal/wire"
	"physalia/paxos"
)

// history is what the log of a cell came to, by a deliberately naive twin of the state machine: integers only, and every
// request remembered for ever.
type history struct {
	revision cell.Revision
	effects  map[identity]*effect
	values   [len(keys)]int64
	past     [][len(keys)]int64 // past[r] is the state at revision r
	foreign  string             // a command that no client sent
}

// identity names a request.
type identity struct {
	client   cell.ClientID
	sequence uint64
}

func (o *op) identity() identity { return identity{o.client.id, o.request.Sequence} }

// effect is what the first copy of a request did.
type effect struct {
	revision  cell.Revision
	void      bool
	succeeded bool
	value     int64 // of the operation that ran
}

// replay makes the history of a log.
func replay(log []paxos.Entry) *history {
	h := &history{effects: make(map[identity]*effect), past: make([][len(keys)]int64, 1)}
	for _, e := range log {
		for _, c := range e.Commands {
			command, err := wire.DecodeCommand(c)
			if err != nil {
				h.foreign = err.Error()
				return h
			}
			h.apply(&command)
		}
	}
	return h
}

// apply does a command, unless a copy of its request came before. The first copy takes one revision, as in the state machine;
// nothing expires here, and opsMax sees to it that nothing does there.
func (h *history) apply(c *wire.Command) {
	id := identity{c.Request.Client, c.Request.Sequence}
	if h.effects[id] != nil {
		return
	}
	h.revision++
	e := &effect{revision: h.revision, void: c.Txn.IsResolve()}
	h.effects[id] = e
	if !e.void {
		e.succeeded = h.holds(c.Txn.If)
		for _, op := range c.Txn.Branch(e.succeeded) {
			e.value = h.run(&op)
		}
	}
	h.past = append(h.past, h.values)
}

// holds reports whether all conditions are true; there are two kinds, as function is makes them.
func (h *history) holds(conditions []cell.Condition) bool {
	for _, c := range conditions {
		want, _ := c.Value.AsInt64() // zero, the absent value, for a condition that wants the key absent
		if h.values[keyIndex(c.Key)] != want {
			return false
		}
	}
	return true
}

// run does one operation and returns the value that its key has then.
func (h *history) run(o *cell.Op) int64 {
	value, n := &h.values[keyIndex(o.Key)], int64(0)
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

// keyIndex is the position of a key in keys.
func keyIndex(key string) int {
	for i, k := range keys {
		if k == key {
			return i
		}
	}
	panic("no client knows the key " + key)
}

// seen is the value that an operation was told: of the operation that ran, the last one if there are several.
func (o *op) seen() (value int64, told bool) {
	if n := len(o.result.Results); n > 0 {
		value, told = o.result.Results[n-1].Entry.Value.AsInt64()
		return value, told || !o.result.Results[n-1].Found
	}
	return 0, false
}
