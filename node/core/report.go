package core

import "physalia/internal/wire"

// sampledNodes bounds how many nodes in memory a report looks at.
const sampledNodes = 64

// neverHeard is the age of a peer that was not heard since this server started, or that refuses connections: in
// milliseconds, some thirty years.
const neverHeard = 1 << 40

// Report tells the control plane when this server last heard of some others, and how large its nodes are. What the rumour
// says is added by the shell. It costs O(peers asked about), and changes nothing.
func (c *Core) Report(m *wire.ReportRequest) *wire.ServerReport {
	out := &wire.ServerReport{Peers: make([]wire.PeerHeard, len(m.Peers))}
	for i, id := range m.Peers {
		s := c.servers[id]
		if s == nil || s.shared == 0 || id == c.cfg.Server {
			continue
		}
		out.Peers[i] = wire.PeerHeard{Lane: true, Age: neverHeard}
		if s.proven != 0 && !s.gone {
			out.Peers[i].Age = uint64((c.now - s.proven).Milliseconds())
		}
	}
	// The nodes that Tick looks at next: others in each report, since Tick goes around.
	for i := range min(sampledNodes, len(c.hotList)) {
		h := c.hotList[(c.hotAt+i)%len(c.hotList)]
		if !c.makeCurrent(h) {
			continue // wiped or quarantined; Tick has not come by yet
		}
		out.Sampled++
		out.Bytes += uint64(h.hot.state.machine.Bytes())
	}
	return out
}
