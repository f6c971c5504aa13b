package lifecycle

import (
	"fmt"
	"math"
	"slices"

	"physalia/cell"
	"physalia/internal/wire"
)

// What servers report is compared here with what is wanted, report by report, and at the end of a round record by record.
//
//   - What a record explains confirms it, or tells it a newer configuration, or that its seal was chosen.
//   - What no record explains becomes a claim, and a claim that judgeClaim decides becomes a record. Nothing is ever dropped
//     for being unknown (rule 16): a node is dropped only when its incarnation is proven to have ended (L2).
//   - Incarnations that were heard of are never planned again (rule 4): see nextIncarnation.

// sight takes one server's word about one of its nodes.
func (m *Manager) sight(s *server, n *wire.CensusNode) {
	if n.Quarantined != "" && n.Configuration == 0 {
		m.sightDamaged(s, n)
		return
	}
	if why := impossible(n); why != "" {
		m.find("conflict", n.Cell, n.Incarnation, fmt.Sprintf("%s reports a node that cannot be: %s", s.id, why))
		return
	}
	m.highest = max(m.highest, n.Incarnation)
	if n.Quarantined != "" {
		m.find("quarantined", n.Cell, n.Incarnation, fmt.Sprintf("node %d on %s: %s", n.Node, s.id, n.Quarantined))
	}
	for in := m.names[n.Cell]; in != nil; in = in.older {
		if in.Incarnation == n.Incarnation && in.State != Deleted && m.explained(in, s, n) {
			return
		}
	}
	if plantedDropUnknown && m.names[n.Cell] == nil {
		m.strays.add(stray{s.id, n.Cell, n.Incarnation}, s)
		return
	}
	c := m.claims[n.Cell]
	if in := m.names[n.Cell]; c == nil && in != nil && in.since == m.observer.round && n.Incarnation <= in.Incarnation {
		return // the page may be older than what was decided in this round
	}
	if c == nil {
		c = &claim{}
		m.claims[n.Cell] = c
	}
	c.add(report{server: s, node: uint32(n.Node), round: m.observer.round, sealed: n.Sealed, learner: n.Learner}, viewOf(n))
	m.decide(n.Cell, c, false)
}

// sightDamaged takes a server's word about a node whose stored row is damaged: it knows the node's number, and nothing of its cell.
// Such a node is there, and confirms the record that has it as a member; where none does, there is nothing to learn from it.
func (m *Manager) sightDamaged(s *server, n *wire.CensusNode) {
	m.find("quarantined", n.Cell, n.Incarnation, fmt.Sprintf("node %d on %s: %s", n.Node, s.id, n.Quarantined))
	for in := m.names[n.Cell]; in != nil; in = in.older {
		if in.Incarnation != n.Incarnation || in.State == Deleted {
			continue
		}
		if i := slices.IndexFunc(in.Members, func(x Member) bool { return x.Node() == n.Node && x.Server() == s.id }); i >= 0 {
			m.confirm(in, i)
			in.unended.add(i)
		}
	}
}

// incarnationMax is higher than any incarnation that comes about by counting: what is reported above it is damaged, and to begin
// behind it would leave no numbers.
const incarnationMax cell.Incarnation = 1 << 62

// impossible says why there is no such node, or "". What passes can be made a record of, stored, and read again.
func impossible(n *wire.CensusNode) string {
	rec := Record{Cell: n.Cell, Incarnation: n.Incarnation, Plan: 1, State: Sealing, Configuration: n.Configuration, Alpha: n.Alpha, Owner: n.Owner}
	if n.Learner {
		rec.Configuration = max(rec.Configuration, 2) // it is not told who owns ballot 1
	}
	for _, mem := range n.Members {
		if mem.Node > math.MaxUint32 {
			return fmt.Sprintf("a member is node %d", mem.Node)
		}
		rec.Members = append(rec.Members, NewMember(uint32(mem.Node), mem.Server))
	}
	switch err := rec.check(); {
	case err != nil:
		return err.Error()
	case len(rec.Members) == 0 || n.Configuration == 0:
		return fmt.Sprintf("configuration %d has %d members", n.Configuration, len(rec.Members))
	case n.Incarnation > incarnationMax || n.Alpha > alphaMax || n.Node > math.MaxUint32:
		return fmt.Sprintf("incarnation %d, alpha %d, node %d", n.Incarnation, n.Alpha, n.Node)
	}
	return ""
}

// viewOf is the configuration that a node knows.
func viewOf(n *wire.CensusNode) view {
	v := view{incarnation: n.Incarnation, configuration: n.Configuration, alpha: n.Alpha, owner: n.Owner, members: make([]Member, len(n.Members))}
	for i, mem := range n.Members {
		v.members[i] = NewMember(uint32(mem.Node), mem.Server)
	}
	return v
}

// explained compares a node with the record of its incarnation; false means that the record does not explain it.
func (m *Manager) explained(in *incarnation, s *server, n *wire.CensusNode) bool {
	v := viewOf(n)
	switch {
	case n.Learner: // it knows what it was told
	case !in.fits(&v):
		return false
	case in.is(Live, Sealing) && v.configuration > in.Configuration:
		m.adopt(in, configured(n))
	}
	i := slices.IndexFunc(in.Members, func(x Member) bool { return x.Node() == n.Node && x.Server() == s.id })
	switch {
	case i < 0 && in.State == Wiping:
		return false // a learner, or a member that had left: nobody else would drop it
	case i < 0:
		return true // a learner, or a member that left and is still needed
	}
	m.confirm(in, i)
	if !n.Sealed {
		in.unended.add(i)
	} else if in.is(Creating, Live, Sealing) {
		m.endOutdated(in) // its deletion was asked for, and the seal is chosen
	}
	return true
}

// configured is a node's configuration in the form that a proposer tells.
func configured(n *wire.CensusNode) *wire.Configured {
	c := &wire.Configured{Incarnation: n.Incarnation, Number: n.Configuration, Alpha: n.Alpha, Members: make([]wire.Founder, len(n.Members))}
	for i, mem := range n.Members {
		c.Members[i] = wire.Founder{Node: mem.Node, Server: mem.Server}
	}
	return c
}

// confirm takes a sight of a member for what it is: it hosts its node.
func (m *Manager) confirm(in *incarnation, i int) {
	in.seen.add(i)
	changed := in.Absent.has(i) || in.State == Wiping && in.Dropped.has(i)
	in.Absent.remove(i)
	in.Dropped.remove(i)
	if !in.settled().has(i) {
		in.Founded.add(i)
		changed = true
	}
	if changed {
		m.save(in)
		m.advance(in)
	}
}

// grave takes one tombstone.
func (m *Manager) grave(s *server, g *wire.Grave) {
	if g.Cell.Check() != nil || g.Incarnation == 0 || g.Incarnation > incarnationMax {
		m.find("conflict", g.Cell, g.Incarnation, fmt.Sprintf("%s reports a tombstone that cannot be", s.id))
		return
	}
	m.highest = max(m.highest, g.Incarnation)
	in, c := m.names[g.Cell], m.claims[g.Cell]
	if c == nil && in != nil && (in.Incarnation > g.Incarnation || in.Incarnation == g.Incarnation && in.State == Deleted) {
		return
	}
	if in != nil && in.State == Wiping && in.Incarnation == g.Incarnation {
		for i, mem := range in.Members {
			if mem.Server() == s.id && !in.Dropped.has(i) {
				in.Dropped.add(i)
				m.save(in)
				m.advance(in)
			}
		}
		if c == nil { // else it may prove the end of an earlier life, of which nodes are left
			return
		}
	}
	if c == nil {
		c = &claim{}
		m.claims[g.Cell] = c
	}
	c.bury(grave{s, g.Incarnation})
}

// decide acts on a claim as far as it is decided. It is called with every new report, so that little of what is decided
// is kept, and at the end of the round, when also those are heard who may contradict.
func (m *Manager) decide(name cell.ID, c *claim, final bool) {
	for _, inc := range c.incarnations() {
		j := judgeClaim(c, inc)
		in := m.names[name]
		switch {
		case in != nil && !in.is(Wiping, Deleted) && !final:
		case final && in != nil && c.onlyLearners(inc) && (in.Incarnation > inc || in.Incarnation == inc && in.is(Wiping, Deleted)):
			m.dropClaimed(name, c, inc) // it has no vote, and this store knows that its incarnation has ended
		case j.finding == isEnded && (in == nil || in.Incarnation < inc && m.givesWay(in)):
			m.adoptClaim(name, c, &j, Wiping)
		case j.finding == isEnded && in.Incarnation >= inc:
			m.dropClaimed(name, c, inc)
		case j.finding == isLive && in != nil && in.Incarnation == inc && in.State == Creating && in.related(j.view):
			m.adoptFounded(in, c, &j)
		case j.finding == isLive && (in == nil || in.Incarnation < inc && m.givesWay(in)):
			m.adoptClaim(name, c, &j, Live)
		}
	}
	if len(c.reports) == 0 && len(c.graves) == 0 {
		delete(m.claims, name)
	}
}

// givesWay reports whether an incarnation has ended, now that a majority runs a later one, and ends it. While a majority of its
// own members hosts it without a seal there is a contradiction, which an operator must resolve.
func (m *Manager) givesWay(in *incarnation) bool {
	switch {
	case in.is(Wiping, Deleted):
		return true
	case (in.unended | in.hosting).size() >= in.majority():
		return false
	}
	m.endOutdated(in)
	return true
}

// endOutdated ends an incarnation that this store had for alive, while others have deleted it.
func (m *Manager) endOutdated(in *incarnation) {
	in.Plan++
	m.settle(in, toCreate, &cell.Error{Op: "lifecycle.create", Kind: cell.Deleted, Cell: in.Cell,
		Detail: fmt.Sprintf("incarnation %d was deleted, as the servers say", in.Incarnation)})
	m.end(in, BySeal)
	m.settle(in, toDelete, nil)
	m.advance(in)
}

// fits reports whether a view is of this record's cell: the same configuration, or an earlier or later one. While it is not
// known that the founding came about, only the founding itself fits.
func (in *incarnation) fits(v *view) bool {
	switch {
	case v.configuration != in.Configuration:
		return in.State != Creating && in.related(v)
	case in.Configuration == 1 && (v.owner != in.Owner || v.alpha != in.Alpha):
		return false
	case in.is(Sealing, Wiping) && len(v.members) != len(in.Members): // learners are among the members of what ends
		return in.related(v)
	}
	return slices.Equal(v.members, in.Members)
}

// related reports whether a view may be another configuration of the same incarnation. Node numbers are issued once, so one
// that is in both is of the same server; founders have the lowest.
func (in *incarnation) related(v *view) bool {
	for _, mem := range v.members {
		k := slices.IndexFunc(in.Members, func(x Member) bool { return x.node == mem.node })
		if k >= 0 && in.Members[k] != mem || k < 0 && in.Configuration == 1 && v.configuration > 1 && int(mem.node) <= len(in.Members) {
			return false
		}
	}
	return in.Configuration != v.configuration || in.is(Sealing, Wiping)
}

// adoptFounded takes the configuration that a majority runs for an incarnation of which this store knew the founding only.
func (m *Manager) adoptFounded(in *incarnation, c *claim, j *judgement) {
	m.planner.forget(&in.Record)
	v := j.view
	in.reseat(v.members)
	in.Configuration, in.Founding = v.configuration, nil
	in.Founded, in.Void, in.Absent = j.hosts|j.others, 0, allMembers(len(v.members))&^(j.hosts|j.others)
	in.seen, in.unended, in.hosting, in.since = j.hosts|j.others, j.hosts, j.hosts, m.observer.round
	if in.work != nil {
		in.work.foreign, in.work.refused = 0, 0
	}
	if err := m.account(in); err != nil {
		in.begin().note(v.members[0].Server(), asError(err))
	}
	in.Plan++
	in.Adopted = true
	m.adopted++
	c.forget(func(r *report) bool { return c.views[r.view].incarnation == in.Incarnation })
	m.becomeLive(in)
	m.pursue(in)
}

// adoptClaim makes a record of what is decided: of a living cell, or of one that has ended and of which nodes are left.
func (m *Manager) adoptClaim(name cell.ID, c *claim, j *judgement, s State) {
	v := j.view
	by := m.witness(c, v.incarnation)
	rec := Record{Cell: name, Incarnation: v.incarnation, State: s, Plan: 1, Brick: labelOf(by.reg.Brick), Color: labelOf(by.reg.Color), Configuration: v.configuration,
		Alpha: v.alpha, Owner: v.owner, Members: slices.Clone(v.members), Founded: j.hosts | j.others, Adopted: true}
	if s == Wiping {
		rec.Ending = BySeal
		if !j.sealed {
			rec.Ending = ByVoid
		}
		m.addStrangers(&rec, c)
		m.find("half-deleted", name, v.incarnation, fmt.Sprintf("it was deleted, and %d nodes are left, which will be dropped", rec.Founded.size()))
	}
	rec.Absent = rec.all() &^ rec.Founded
	if last := m.names[name]; last != nil {
		rec.Plan = last.Plan + 1
	}
	for _, mem := range rec.Members {
		m.server(mem.Server()) // so that a server that never came is listed
	}
	c.forget(func(r *report) bool { return c.views[r.view].incarnation == rec.Incarnation })
	in := &incarnation{Record: rec}
	m.save(in)
	if err := m.insert(in); err != nil {
		in.begin().note(by.id, asError(err)) // placement does not count it; it is a cell all the same
		m.pursue(in)
	}
	in.seen, in.unended, in.hosting = j.hosts|j.others, j.hosts, j.hosts
	m.adopted++
	if s == Live {
		m.route(in)
		m.releaseOlder(in)
	}
	m.advance(in)
}

// addStrangers adds reporters that are no members of the view, learners or members that left, so that they are dropped, too.
func (m *Manager) addStrangers(rec *Record, c *claim) {
	for i := range c.reports {
		r := &c.reports[i]
		known := slices.ContainsFunc(rec.Members, func(x Member) bool { return x.Server() == r.server.id || x.node == r.node })
		if c.views[r.view].incarnation != rec.Incarnation || known || len(rec.Members) >= wire.MembersMax {
			continue
		}
		at, _ := slices.BinarySearchFunc(rec.Members, r.node, func(x Member, node uint32) int { return int(int64(x.node) - int64(node)) })
		rec.Members = slices.Insert(rec.Members, at, NewMember(r.node, r.server.id))
		low := rec.Founded & (1<<at - 1)
		rec.Founded = low | (rec.Founded&^low)<<1 | 1<<at
	}
	if !slices.ContainsFunc(rec.Members, func(x Member) bool { return x.Node() == rec.Owner }) {
		rec.Owner = rec.Members[0].Node()
	}
}

// witness is one of those who report an incarnation: a cell lives in one brick and one color.
func (m *Manager) witness(c *claim, inc cell.Incarnation) *server {
	for i := range c.reports {
		if c.views[c.reports[i].view].incarnation == inc {
			return c.reports[i].server
		}
	}
	return &server{}
}

// compare looks, at the end of a round, for members of a record that did not show. Such a member is as good as dead: it is
// reported, it does not count as alive, and its node is never created again under its number (rule 4).
func (m *Manager) compare(in *incarnation) {
	o := &m.observer
	seen, unended := in.seen, in.unended
	in.seen, in.unended, in.hosting = 0, 0, unended
	if in.is(Deleted) || in.since == o.round && o.round > 0 {
		return
	}
	for i, mem := range in.Members {
		s := m.servers[mem.Server()]
		if s == nil || !s.up || s.scanned != o.round || seen.has(i) || in.Moving().Remove == mem.Server() {
			continue
		}
		switch {
		case in.is(Creating, Live) && in.work != nil && in.work.foreign.has(i): // what was in its way may be gone: it is asked again
			in.work.foreign.remove(i)
			m.pursue(in)
		case in.State == Wiping && in.Absent.has(i) && !in.begin().heard.has(i):
			in.begin().heard.add(i)
			m.pursue(in)
		case in.is(Live, Sealing) && (in.Founded | in.Absent).has(i):
			if !in.Absent.has(i) {
				in.Absent.add(i)
				m.save(in)
			}
		}
	}
	if c := m.claims[in.Cell]; c != nil { // why they are missing may show when it is concluded
		if in.is(Live, Sealing) || in.State == Creating && m.mode.rebuilding {
			m.compareGraves(in, c, seen, unended)
		}
		return
	}
	if gone := in.Absent & m.notHosting(in, seen); gone != 0 && in.is(Live, Sealing) {
		m.replaceMissing(in, gone)
		m.find("missing", in.Cell, in.Incarnation, fmt.Sprintf("%d of %d members are not there: %s", gone.size(), len(in.Members), m.listed(in, gone)))
	}
}

// replaceMissing proposes that one of the members that are not there be replaced, as a repair: its server is well and says that it
// hosts no such node, so there is nothing to be patient for. What a limit or a pause refuses now is proposed again after the
// next round; the finding tells the operator either way.
func (m *Manager) replaceMissing(in *incarnation, gone memberSet) {
	if m.mode.rebuilding || in.State != Live || !in.Moving().isZero() && m.server(in.Moving().Add).up {
		return
	}
	for i, mem := range in.Members {
		if gone.has(i) {
			err := m.Propose(m.now, Proposal{Cell: in.Cell, Incarnation: in.Incarnation, Remove: mem.Server(), Cause: ByRepair,
				Why: "its server does not host it any more"})
			if err != nil {
				in.begin().note(mem.Server(), err)
			}
			return
		}
	}
}

// compareGraves looks whether the tombstones of a name prove the end of an incarnation that this store has for alive.
func (m *Manager) compareGraves(in *incarnation, c *claim, seen, unended memberSet) {
	var buried memberSet
	deepest := c.deepest()
	for i, mem := range in.Members {
		if slices.ContainsFunc(c.graves, func(g grave) bool { return g.server.id == mem.Server() && g.incarnation >= in.Incarnation }) {
			buried.add(i)
		}
	}
	gone := m.notHosting(in, seen)
	switch {
	case deepest < in.Incarnation:
	case len(in.Members)-buried.size() < in.majority(), unended == 0 && len(in.Members)-gone.size() < in.majority():
		// A majority refuses to host it for ever, or it was deleted where it had moved to, and nobody here has it any more.
		m.endOutdated(in)
	case in.State == Sealing && buried&in.Founded != 0 && unended.size() < in.majority():
		// Its deletion was asked for, and a manager before this one had the proof of its end: the wiping has begun. Those that are
		// left, and those that are away, need not come to a majority again.
		m.endOutdated(in)
	case buried&in.Founded != 0 && in.State == Live:
		// Who confirmed to host it has a tombstone: its deletion was asked for. Its own log tells whether the seal was chosen.
		m.find("half-deleted", in.Cell, in.Incarnation, "a member has a tombstone; the deletion goes on: "+m.listed(in, in.all()))
		in.Plan++
		m.become(in, Sealing)
		m.advance(in)
	default:
		m.find("half-deleted", in.Cell, in.Incarnation, fmt.Sprintf("a server has a tombstone up to incarnation %d, and nothing proves the end; physalia cell delete would go on with it", deepest))
	}
}

// notHosting are the members that were heard completely in this round and do not host their node.
func (m *Manager) notHosting(in *incarnation, seen memberSet) (gone memberSet) {
	for i, mem := range in.Members {
		if s := m.servers[mem.Server()]; s != nil && s.up && s.scanned == m.observer.round && !seen.has(i) {
			gone.add(i)
		}
	}
	return gone
}

// conclude closes a round for one name: what was said in earlier rounds by servers that were heard again is forgotten, and what
// is left is decided or told to the operator.
func (m *Manager) conclude(name cell.ID) {
	c := m.claims[name]
	if c == nil {
		return
	}
	round := m.observer.round
	c.forget(func(r *report) bool { return r.round != round && r.server.scanned == round })
	m.decide(name, c, true)
	in := m.names[name]
	for _, inc := range c.incarnations() {
		j := judgeClaim(c, inc)
		kind, text := j.finding, j.describe()
		switch {
		case kind == isLive && in != nil:
			kind, text = conflicting, fmt.Sprintf("%v is here, too; %s", &in.Record, text)
		case kind == isEnded:
			continue // its nodes are being dropped
		case in != nil && in.Incarnation >= inc && in.is(Wiping, Deleted):
			kind = halfDeleted
		}
		m.find(kind.String(), name, inc, text)
	}
	deepest := c.deepest()
	if len(c.reports) == 0 && in != nil && deepest < in.Incarnation {
		delete(m.claims, name) // tombstones of earlier incarnations say nothing about one that lives
		return
	}
	if len(c.reports) == 0 && (in == nil || in.is(Wiping, Deleted)) {
		delete(m.claims, name)
		if in == nil || in.Incarnation < deepest {
			m.remember(name, deepest)
		}
	}
}

// remember keeps a tombstone of an incarnation that only servers remember, so that its number is not used again.
func (m *Manager) remember(name cell.ID, inc cell.Incarnation) {
	rec := Record{Cell: name, Incarnation: inc, State: Deleted, Plan: 1, Ending: BySeal, Adopted: true}
	if last := m.names[name]; last != nil {
		rec.Plan = last.Plan + 1
	}
	in := &incarnation{Record: rec}
	m.save(in)
	m.insert(in) // a tombstone is in no book: there is no error
	m.route(in)
}

// claimed says why a name cannot be had although no record says so; empty when it can.
func (m *Manager) claimed(name cell.ID) string {
	c := m.claims[name]
	if c == nil || len(c.reports) == 0 {
		return ""
	}
	inc := c.incarnations()[0]
	j := judgeClaim(c, inc)
	return fmt.Sprintf("servers host incarnation %d of it, which this store does not know (%s): %s", inc, j.finding, j.describe())
}

// nextIncarnation is the number of the next incarnation of a name: above all that this store or any server knows, and above all
// that was heard of any name before a rebuild ended, since a server that kept silent may host what the store never knew or, if it
// is an old one, a later life of what it has for deleted.
func (m *Manager) nextIncarnation(name cell.ID) cell.Incarnation {
	last := m.mode.floor
	if in := m.names[name]; in != nil {
		last = max(last, in.Incarnation)
	}
	if c := m.claims[name]; c != nil {
		last = max(last, c.deepest())
		for _, inc := range c.incarnations() {
			last = max(last, inc)
		}
	}
	return last + 1
}

// takeClaimed takes up what servers report under a name that an operator wants deleted although nobody could decide about it: he
// says what it is. What follows is an ordinary deletion, which the cell itself must agree to. Only where no majority is left that
// could, and a tombstone tells that a manager once had the proof, the rest is dropped.
func (m *Manager) takeClaimed(d wire.Drop) {
	c := m.claims[d.Cell]
	if c == nil || m.mode.rebuilding {
		return
	}
	for _, inc := range c.incarnations() {
		in, j := m.names[d.Cell], judgeClaim(c, inc)
		if d.Incarnation != 0 && d.Incarnation != inc || j.view == nil || j.finding == conflicting {
			continue
		}
		remains := j.finding == halfDeleted && (j.hosts|j.others).size() <= len(j.view.members)/2
		switch {
		case in != nil && in.Incarnation >= inc:
			if remains && (in.Incarnation > inc || in.is(Wiping, Deleted)) {
				m.dropClaimed(d.Cell, c, inc)
			}
		case in != nil && !in.is(Wiping, Deleted):
		case remains:
			m.adoptClaim(d.Cell, c, &j, Wiping)
		default:
			m.adoptClaim(d.Cell, c, &j, Sealing)
		}
	}
}
