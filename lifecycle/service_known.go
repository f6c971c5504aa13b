package lifecycle

import (
	"time"

	"physalia/cell"
	"physalia/internal/wire"
)

// Known tells the servers that the store remembers, connected or not, in no order; reply is called as that of Propose. It is for
// those who watch servers: one that died while the control plane was down is missed only by who remembers it.
func (s *Service) Known(reply func(servers []wire.Registration, err *cell.Error)) {
	var servers []wire.Registration // written and read by the loop
	s.request("lifecycle.known", func(r Reply) { reply(servers, r.Err) }, func(_ time.Duration, id RequestID) {
		for _, v := range s.m.servers {
			if v.known && !s.m.retired[v.id] {
				servers = append(servers, v.reg)
			}
		}
		s.m.out.Replies = append(s.m.out.Replies, Reply{Request: id})
	})
}
