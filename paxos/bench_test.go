package paxos

import (
	"fmt"
	"testing"
)

// bench is a cell whose hosts do nothing but pass messages on: every disk is instantly durable.
type bench struct {
	members []*Replica
	queue   []Message
	chosen  int
}

func newBench(b *testing.B, n int, alpha uint32) *bench {
	x := &bench{}
	for i := range n {
		r, err := New(Config{Self: NodeNumber(i + 1), Configuration: jury(n, alpha), Window: WindowMax, BatchCommands: 256, BatchBytes: BatchBytesMax})
		if err != nil {
			b.Fatal(err)
		}
		x.members = append(x.members, r)
	}
	return x
}

// turn obeys a member's effects.
func (x *bench) turn(r *Replica) {
	e := r.Effects()
	if r.Role() == Proposer {
		x.chosen += len(e.Deliver)
	}
	x.queue = append(append(x.queue, e.SendNow...), e.SendDurable...)
}

// settle delivers until nothing is under way; every member takes one turn per round, as a server does.
func (x *bench) settle() {
	for len(x.queue) > 0 {
		round := x.queue
		x.queue = nil
		for _, r := range x.members {
			for i := range round {
				if m := &round[i]; m.To == r.Self() || (m.To == 0 && m.From != r.Self()) {
					r.Step(m)
				}
			}
			x.turn(r)
		}
		x.queue = append(round[:0], x.queue...)
	}
}

// BenchmarkSlot is one slot of one 64-byte command over seven replicas, all turns included: proposal, accepts, votes,
// delivery, and the applied-through that the next slot carries.
func BenchmarkSlot(b *testing.B) {
	for _, n := range []int{3, 7} {
		b.Run(fmt.Sprintf("jury=%d", n), func(b *testing.B) {
			x := newBench(b, n, AlphaDefault)
			command := make([]byte, 64)
			b.ReportAllocs()
			for b.Loop() {
				x.members[0].Propose(command, 1)
				x.turn(x.members[0])
				x.settle()
			}
			b.ReportMetric(float64(x.chosen)/float64(b.N), "slots/op")
		})
	}
}

// BenchmarkPipeline is a full pipeline of full batches: 8 slots of 32 commands each.
func BenchmarkPipeline(b *testing.B) {
	x := newBench(b, 7, AlphaDefault)
	command := make([]byte, 64)
	commands := 0
	b.ReportAllocs()
	for b.Loop() {
		for range AlphaDefault {
			for range 32 {
				if x.members[0].Propose(command, 1) == Accepted {
					commands++
				}
			}
			x.turn(x.members[0])
		}
		x.settle()
	}
	b.ReportMetric(float64(commands)/float64(b.N), "commands/op")
}

// BenchmarkRead is one confirmation round of eight reads over seven replicas.
func BenchmarkRead(b *testing.B) {
	x := newBench(b, 7, AlphaDefault)
	b.ReportAllocs()
	for b.Loop() {
		for t := range ReadToken(8) {
			x.members[0].Read(t)
		}
		x.turn(x.members[0])
		x.settle()
	}
}

// BenchmarkElection is a campaign over seven replicas with full rings.
func BenchmarkElection(b *testing.B) {
	x := newBench(b, 7, AlphaDefault)
	for range WindowMax {
		x.members[0].Propose(make([]byte, 64), 1)
		x.turn(x.members[0])
		x.settle()
	}
	leader := 0
	b.ReportAllocs()
	for b.Loop() {
		leader = (leader + 1) % 7
		x.members[leader].Campaign()
		x.turn(x.members[leader])
		x.settle()
		if x.members[leader].Role() != Proposer {
			b.Fatal(x.members[leader].Describe())
		}
	}
}
