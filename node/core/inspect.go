package core

import (
	"physalia/cell"
	"physalia/cell/machine"
	"physalia/node/storage"
	"physalia/paxos"
)

// Inspect shows the hot part of a node to whoever checks a core from outside; it makes nothing hot. Both are nil when the
// node is cold, loading, quarantined or not hosted here. They must not be changed, nor kept beyond the next input. The machine may
// lag behind the replica by what was delivered and waits to be applied (lag.go).
func (c *Core) Inspect(id cell.ID) (*paxos.Replica, *machine.Machine) {
	if h := c.warm[id]; h != nil && h.hot != nil {
		return h.hot.replica, h.hot.state.machine
	}
	return nil, nil
}

// MemoryRange is where a disk holds what its server remembers of another one (peer.Memory), for whoever looks at a disk from
// outside.
func MemoryRange(id cell.ServerID) storage.Range {
	key := append([]byte{keyMemory}, id...)
	return storage.Range{Start: key, End: append(key[:len(key):len(key)], 0)}
}
