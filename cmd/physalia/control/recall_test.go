package control

import (
	"fmt"
	"testing"

	"physalia/cell"
	"physalia/internal/wire"
)

// Whoever watches a brick asks the active instance for the servers that its store remembers, page by page and also over the wire,
// and misses those that nobody has heard.
func TestServersAreRecalledFromTheActiveInstance(t *testing.T) {
	p := start(t, config(t))
	const servers = wire.ListLimitMax + 3 // more than a page
	for i := range servers {
		id := fmt.Sprintf("s%04d", i)
		p.seat.service.ServerUp(wire.Registration{Server: cell.ServerID(id), Name: id, Colony: "test", Brick: "b1", Rack: "r1", Power: "p1", Color: "red",
			PeerAddr: id + ":1", ClientAddr: id + ":2", GossipAddr: id + ":3", Boot: 1, Capacity: 10})
	}
	var all []cell.ServerID
	for more := true; more; {
		req := wire.ListServers{Limit: 1000}
		if len(all) > 0 {
			req.After = all[len(all)-1]
		}
		var page wire.ServerList
		done := make(chan *cell.Error, 1)
		p.forward(&cell.Error{LeaderAddr: p.Addr()}, wire.MethodKnown, &req, &page, func(err *cell.Error) { done <- err })
		if err := <-done; err != nil {
			t.Fatal(err)
		}
		for _, s := range page.Servers {
			all = append(all, s.Registration.Server)
		}
		more = page.More
	}
	if len(all) != servers || all[0] != "s0000" || all[servers-1] != cell.ServerID(fmt.Sprintf("s%04d", servers-1)) {
		t.Fatalf("%d servers from %s on", len(all), all[0])
	}
	if err := p.recallAll(); err != nil {
		t.Fatal(err)
	}
	if list := p.observer.List(wire.ListServers{}); len(list.Servers) != wire.ListLimitMax || !list.More || list.Servers[0].Up {
		t.Errorf("%d servers are missed, more %v", len(list.Servers), list.More)
	}
	if n := p.repairs.Stats().Servers; n != servers {
		t.Errorf("%d servers are known to the repairer", n)
	}
}
