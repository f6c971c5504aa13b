package sim

import (
	"fmt"
	"time"

	"physalia/health"
	"physalia/internal/wire"
	"physalia/lifecycle"
	"physalia/node/core"
)

// What a control process hears of servers: registrations, pongs, pushed routes; and the repairs that follow.

// beatEvery is between two looks at the connections; every other one of them pings.
const beatEvery = 40 * time.Millisecond

// trackerConfig and repairConfig are the rules of package health in small.
func (c *control) trackerConfig() health.Config {
	return health.Config{DisconnectedMax: 200 * time.Millisecond, SilentMax: 400 * time.Millisecond, ReturnMin: 200 * time.Millisecond,
		UnreachableMax: 2 * time.Second, ServersMax: siteMax}
}

func (c *control) repairConfig() health.RepairConfig {
	r := health.DefaultRepairConfig()
	r.Patience, r.Settle, r.ReturnMin = c.plan.Patience, c.plan.Patience/3, c.plan.Patience/4
	r.HoldWindow, r.HoldMax = c.plan.Patience/2, 2*c.plan.Patience
	r.Colony = health.Budget{Repairs: 4, Bytes: 1 << 20}
	r.Brick, r.Server = r.Colony, r.Colony
	r.Pause = health.Pauses{Refused: 50 * time.Millisecond, Most: time.Second, UnderWay: 2 * time.Second}
	r.CellsMax, r.ServersMax, r.Seed = 100, siteMax, 1
	return r
}

// watchHealth makes the tracker and the repairer of a process.
func (p *process) watchHealth() {
	var err error
	if p.tracker, err = health.NewTracker(p.control.trackerConfig()); err == nil {
		p.repairer, err = health.NewRepairer(p.control.repairConfig())
	}
	if err != nil {
		p.control.world.fail("health", place{}, "%s: %v", p.name, err)
	}
}

// registration is how a server introduces itself. Without a site there is one brick and one color, racks and power domains crosswise.
func (s *server) registration() wire.Registration {
	nodes, _, _ := s.core.Counts()
	id, at := string(s.id), s.world.plan.spot(s.at)
	return wire.Registration{Server: s.id, Name: id, Colony: "sim", Brick: fmt.Sprintf("b%d", at.brick+1), Rack: fmt.Sprintf("r%d", at.rack), Power: fmt.Sprintf("p%d", at.power),
		Color: [...]string{"red", "green"}[at.color], PeerAddr: id, ClientAddr: id, GossipAddr: id, Boot: s.boot, Nodes: uint64(nodes), Capacity: 100}
}

// recall makes a server known that only the store remembers.
func (p *process) recall(g wire.Registration) {
	if err := p.tracker.Recall(p.now(), g); err != nil {
		p.control.world.fail("health", place{}, "%s: %v", p.name, err)
	}
	p.repairer.Server(p.now(), &g)
}

// beat looks after every connection, pings, and lets the repairer take a turn. A process that stands still does none of it, so
// silence that it caused itself is never held against a server; that rule is the tracker's, and is tried here.
func (p *process) beat() {
	p.rounds++
	p.after(beatEvery, p.beat)
	if p.paused > 0 {
		return
	}
	for _, s := range p.control.world.servers {
		p.attend(s)
	}
	p.post(func(now time.Duration) {
		p.judge(p.tracker.Tick(now))
		p.inquire(now)
		p.repair(now)
	})
}

// attend opens a connection that can be there, closes one that cannot, and pings over one that is. Servers open connections in
// truth, with jitter: hence the dice. A server that stands still keeps its connection and answers no ping.
func (p *process) attend(s *server) {
	l := &p.links[s.at]
	alive := s.core != nil && s.paused == 0 && p.reaches(s)
	switch {
	case l.up && (s.core == nil || s.life != l.life || !p.reaches(s)):
		p.unlink(s)
	case !l.up && alive && s.core.Ready() && p.dice.IntN(2) == 0:
		p.register(s)
	case l.up && p.rounds%2 == 0:
		p.ping(s)
	}
}

// unlink takes the end of a connection, and of the calls over it.
func (p *process) unlink(s *server) {
	l := &p.links[s.at]
	pending := l.pending
	*l = link{}
	for _, lost := range pending {
		lost()
	}
	p.post(func(now time.Duration) {
		p.tracker.Disconnected(now, s.id)
		p.manager.ServerDown(now, s.id)
	})
}

// register takes a server's first message, with what it hosts. Health is asked first, as in the control process: a server whose boot
// number went back is refused there, and the manager never hears of it.
func (p *process) register(s *server) {
	p.links[s.at] = link{up: true, life: s.life}
	g, nodes := s.registration(), s.core.Census(&wire.Census{})
	p.post(func(now time.Duration) {
		verdicts, err := p.tracker.ServerSeen(now, g)
		if err != nil { // the door is closed to it, as in package control
			p.links[s.at] = link{}
			p.refused |= 1 << s.at
			p.control.world.trace.note(p.control.world.now, "%s does not take %s: %v", p.name, s.id, err)
			return
		}
		p.refused &^= 1 << s.at
		p.repairer.Server(now, &g)
		p.judge(verdicts)
		if err := p.manager.ServerUp(now, g); err != nil {
			p.control.world.fail("health", place{s: s}, "%s does not take it: %v", p.name, err)
		}
		for i := range nodes.Nodes {
			p.learn(now, &nodes.Nodes[i])
		}
	})
}

// learn takes a route that a server pushed.
func (p *process) learn(now time.Duration, n *wire.CensusNode) {
	if n.Sealed || n.Learner {
		return
	}
	r := wire.Route{Cell: n.Cell, Incarnation: n.Incarnation, Configuration: n.Configuration}
	for _, m := range n.Members {
		r.Members = append(r.Members, wire.Founder{Node: m.Node, Server: m.Server, ClientAddr: string(m.Server)})
	}
	p.repairer.Route(now, &r)
}

// push tells the control plane what has changed at a server; what is lost, a later registration tells.
func (s *server) push(info *wire.NodeInfo, gone bool) {
	c := s.world.control
	if gone || info.Sealed {
		return
	}
	r := wire.Route{Cell: info.Cell, Incarnation: info.Incarnation, Configuration: info.Configuration, Members: info.Members}
	for _, p := range c.living() {
		if p.links[s.at].up && p.reaches(s) {
			p.after(between(p.dice, wayMax), func() {
				p.post(func(now time.Duration) { p.repairer.Route(now, &r) })
			})
		}
	}
}

// know takes routes from the manager: for repairs, and for discovery. The discovery copies of this world are simple: what they
// know only rises, and they forget nothing when the control process dies.
func (p *process) know(now time.Duration, routes []wire.Route) {
	w := p.control.world
	for i := range routes {
		r := &routes[i]
		p.repairer.Route(now, r)
		if v := w.volumeOf(r.Cell, r.Incarnation); !r.Deleted && (v.routed.Incarnation == 0 || r.Configuration > v.routed.Configuration) {
			v.routed = *r
		}
	}
}

// ping asks a server for a sign of life, through its loop: one whose loop hangs must not look well. A pong that comes over a
// connection which has been replaced since proves nothing.
func (p *process) ping(s *server) {
	l := &p.links[s.at]
	life := l.life
	p.post(func(now time.Duration) { p.tracker.PingSent(now, s.id) })
	w := p.control.world
	w.after(between(p.dice, wayMax), func() {
		if s.core == nil || s.life != life || !p.reaches(s) {
			return
		}
		s.inbox.calls = append(s.inbox.calls, func(c *core.Core) {
			nodes, _, _ := c.Counts()
			boot := s.boot
			if !p.reaches(s) {
				return
			}
			p.after(between(p.dice, wayMax), func() {
				p.post(func(now time.Duration) {
					if !l.up || l.life != life {
						return
					}
					p.judge(p.tracker.PongHeard(now, s.id, boot, uint64(nodes)))
				})
			})
		})
		s.wake()
	})
}

// judge hands verdicts on.
func (p *process) judge(verdicts []health.Verdict) {
	for _, v := range verdicts {
		p.control.world.trace.note(p.control.world.now, "%s: %v", p.name, v)
		p.control.checks.judged(p, v)
		p.repairer.Verdict(v)
	}
}

// inquire asks servers what they hear of those that are missed.
func (p *process) inquire(now time.Duration) {
	w := p.control.world
	for _, q := range p.tracker.Questions(now, p.rounds) {
		s := w.serverNamed(q.Ask)
		if s.core == nil || !p.reaches(s) {
			continue
		}
		about := &wire.ReportRequest{Peers: q.About}
		s.inbox.calls = append(s.inbox.calls, func(c *core.Core) {
			report := c.Report(about)
			p.after(between(p.dice, wayMax), func() {
				p.post(func(later time.Duration) {
					for i, id := range about.Peers {
						p.tracker.PeersHear(later, now, id, []wire.PeerHeard{report.Peers[i]})
					}
				})
			})
		})
		s.wake()
	}
}

// repair lets the repairer take its turns; what it proposes, the manager disposes of at once, and the repairer hears of it when
// what the manager decided is durable. If the process dies in between, both are gone, and the next one begins with neither.
func (p *process) repair(now time.Duration) {
	for more := true; more; {
		turn := p.repairer.Turn(now)
		more = turn.More
		for _, x := range turn.Withdraw {
			given := p.manager.Withdraw(now, x.Cell, x.Remove)
			p.control.checks.withdrawn(p, x, given)
			p.outcomes = append(p.outcomes, func(now time.Duration) { p.repairer.Withdrawn(now, x.Cell, x.Remove, given) })
		}
		for _, x := range turn.Propose {
			cause := lifecycle.ByRepair
			if x.Raise {
				cause = lifecycle.ByRaise
			}
			err := p.manager.Propose(now, lifecycle.Proposal{Cell: x.Cell, Incarnation: x.Incarnation, Remove: x.Remove, Cause: cause, Why: x.Why})
			p.control.checks.proposed(p, now, x, err)
			p.outcomes = append(p.outcomes, func(now time.Duration) { p.repairer.Outcome(now, x.Cell, x.Remove, err) })
			p.control.world.trace.note(p.control.world.now, "%s proposes: %v: %v", p.name, x, err)
			if err == nil {
				p.control.world.report.Repairs++
			}
		}
	}
}

// stands reports whether a server is there for good: it lives, and was never damaged.
func (s *server) stands() bool { return s.core != nil && s.damaged == "" }
