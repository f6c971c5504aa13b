package fleet

import (
	"physalia/cell"
	"physalia/internal/rpc"
)

// Release ends every server's session with a reason, so that the servers register where they are wanted now. Clients stay, and
// a server that registers meanwhile is judged by Admit. It does not wait for the ends, which Left tells. It is safe for
// concurrent use.
func (f *Fleet) Release(why *cell.Error) {
	f.mu.RLock()
	var conns []*rpc.Conn
	for _, m := range f.members {
		if m.conn != nil {
			conns = append(conns, m.conn)
		}
	}
	f.mu.RUnlock()
	for _, c := range conns {
		c.Close(why)
	}
}
