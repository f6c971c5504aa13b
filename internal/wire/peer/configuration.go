package peer

import (
	"slices"

	"physalia/internal/must"
	"physalia/internal/wire"
	"physalia/paxos"
)

// AppendConfiguration adds a configuration: [number, since, alpha, owner, next, [[node, server], ...], [[node, server,
// request], ...], left node, left server, unsettled].
func AppendConfiguration(b []byte, c *paxos.Configuration) []byte {
	must.That(len(c.Members) <= MembersMax && len(c.Learners) <= paxos.LearnersMax, "wire: configuration has too many nodes")
	b = wire.AppendArray(b, 10)
	b = wire.AppendUint(b, uint64(c.Number))
	b = wire.AppendUint(b, uint64(c.Since))
	b = wire.AppendUint(b, uint64(c.Alpha))
	b = wire.AppendUint(b, uint64(c.Owner))
	b = wire.AppendUint(b, uint64(c.Next))
	b = wire.AppendArray(b, len(c.Members))
	for _, m := range c.Members {
		b = appendMember(wire.AppendArray(b, 2), m)
	}
	b = wire.AppendArray(b, len(c.Learners))
	for _, l := range c.Learners {
		b = wire.AppendUint(appendMember(wire.AppendArray(b, 3), l.Member), l.Request)
	}
	return wire.AppendBool(appendMember(b, c.Left), c.Unsettled)
}

// appendMember adds two elements. The zero Member is legal where nobody left yet, and is refused among members by Check.
func appendMember(b []byte, m paxos.Member) []byte {
	return appendServer(wire.AppendUint(b, uint64(m.Node)), m.Server)
}

// appendServer adds a server identity; the log refuses longer ones before they get here.
func appendServer(b []byte, s paxos.ServerID) []byte {
	if len(s) > ServerBytesMax {
		must.That(false, "wire: server identity has %d bytes", len(s))
	}
	return wire.AppendString(b, string(s))
}

// DecodeConfiguration consumes a configuration with a zero Decoder; see Decoder.DecodeConfiguration.
func DecodeConfiguration(r *wire.Reader, c *paxos.Configuration) {
	new(Decoder).DecodeConfiguration(r, c)
}

// DecodeConfiguration consumes a configuration and fails the reader unless paxos.Configuration.Check accepts it.
func (d *Decoder) DecodeConfiguration(r *wire.Reader, c *paxos.Configuration) {
	*c = paxos.Configuration{}
	d.configuration(r, c)
}

// configuration is DecodeConfiguration, but uses the memory of the members and learners in c again.
func (d *Decoder) configuration(r *wire.Reader, c *paxos.Configuration) {
	members, learners := c.Members[:0], c.Learners[:0]
	*c = paxos.Configuration{}
	r.Struct(10, "configuration")
	c.Number = paxos.ConfigurationNumber(r.Uint())
	c.Since = paxos.Slot(r.Uint())
	c.Alpha = uint32(r.UintMax(paxos.AlphaMax, "alpha"))
	c.Owner = node(r)
	c.Next = node(r)
	n := r.Array(MembersMax, "members")
	if r.Err() != nil {
		return
	}
	c.Members = slices.Grow(members, n)[:n]
	for i := range c.Members {
		r.Struct(2, "member")
		c.Members[i] = d.member(r)
	}
	if n = r.Array(paxos.LearnersMax, "learners"); n > 0 && r.Err() == nil {
		c.Learners = slices.Grow(learners, n)[:n]
	}
	for i := range c.Learners {
		r.Struct(3, "learner")
		c.Learners[i].Member = d.member(r)
		c.Learners[i].Request = r.Uint()
	}
	c.Left = d.member(r)
	c.Unsettled = r.Bool()
	if r.Err() != nil {
		return
	}
	if err := c.Check(); err != nil {
		r.Fail("%v", err)
	}
}

// member consumes two elements.
func (d *Decoder) member(r *wire.Reader) paxos.Member {
	n := node(r)
	return paxos.Member{Node: n, Server: d.server(r)}
}

// appendChange adds a change: [kind, request, number, old, new, server].
func appendChange(b []byte, c *paxos.Change) []byte {
	b = append(wire.AppendArray(b, 6), byte(c.Kind))
	b = wire.AppendUint(b, c.Request)
	b = wire.AppendUint(b, uint64(c.Number))
	b = wire.AppendUint(b, uint64(c.Old))
	b = wire.AppendUint(b, uint64(c.New))
	return appendServer(b, c.Server)
}

// decodeReform consumes what follows the kind of a Reform entry, which has n more elements. A kind of change that this version
// does not know is not understood, rather than malformed: the node stops until a newer build runs, and skips nothing (rule 9).
func decodeReform(r *wire.Reader, n int, e *paxos.Entry) {
	if n != 1 {
		r.Fail("change of configuration with %d elements, want 1", n)
		return
	}
	c := &paxos.Change{}
	r.Struct(6, "change")
	c.Kind = paxos.ChangeKind(r.Enum(uint8(paxos.Settle), "kind of change"))
	c.Request = r.Uint()
	c.Number = paxos.ConfigurationNumber(r.Uint())
	c.Old = node(r)
	c.New = node(r)
	c.Server = new(Decoder).server(r)
	if r.Err() == nil {
		*e = paxos.Entry{Kind: paxos.Reform, Change: c}
	}
}
