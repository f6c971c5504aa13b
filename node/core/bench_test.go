package core

import (
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"physalia/cell"
	"physalia/internal/wire"
	"physalia/internal/wire/peer"
	"physalia/node/storage"
)

// press is seven cores whose frames and batches arrive at once: what deciding costs, without sockets, disks and scheduling.
type press struct {
	now   time.Duration
	cores [7]*Core
	inbox [7][]pressFrame
	spare [][]byte
	blank []*storage.Batch
	read  [7]struct {
		decoder  peer.Decoder
		messages []PeerMessage
		names    map[string]*Name
		name     *Name
	}
	durable  [7]storage.BatchNumber
	answered int
}

// pressFrame is one frame on its way.
type pressFrame struct {
	from, count int
	lane        Lane
	body        []byte
}

// newPress founds cells on all seven; cell i is led by server i modulo seven.
func newPress(b *testing.B, cells int) *press {
	p := &press{now: time.Second}
	for i := range p.cores {
		cfg := Default()
		cfg.Server, cfg.Boot, cfg.Dice = serverID(i), 1, rand.New(rand.NewPCG(1, uint64(i)))
		p.cores[i] = New(cfg, p.now, p.batch)
		r := &p.read[i]
		r.names = map[string]*Name{}
		r.decoder.Intern = func(b []byte) cell.ID {
			if r.name = r.names[string(b)]; r.name == nil {
				r.name = &Name{ID: cell.ID(b)}
				r.names[string(b)] = r.name
			}
			return r.name.ID
		}
		p.cores[i].Flush()
		p.cores[i].Recycle()
		for !p.cores[i].Ready() { // an empty disk answers every question of the restart scan with nothing
			if err := p.cores[i].OnLoaded(bootLoad, nil, nil); err != nil {
				b.Fatal(err)
			}
			p.cores[i].Flush()
			p.cores[i].Recycle()
		}
	}
	p.settle()
	for n := range cells {
		f := foundingOf(pressCell(n), 1, 0, 1, 2, 3, 4, 5, 6)
		f.Owner = uint64(n%7 + 1)
		for _, c := range p.cores {
			c.CreateNodes(Origin{}, &wire.CreateNodes{Foundings: []wire.Founding{f}})
		}
		p.settle()
	}
	for range 20 {
		p.now += 50 * time.Millisecond
		for _, c := range p.cores {
			c.Tick(p.now)
		}
		p.settle()
	}
	return p
}

// batch is storage's pool.
func (p *press) batch() *storage.Batch {
	last := len(p.blank) - 1
	if last < 0 {
		return new(storage.Batch)
	}
	b := p.blank[last]
	p.blank = p.blank[:last]
	return b
}

func pressCell(n int) cell.ID { return cell.ID(fmt.Sprintf("bench-%d", n)) }

// settle runs turns of all cores until nothing moves.
func (p *press) settle() {
	for busy := true; busy; {
		busy = false
		for i := range p.cores {
			busy = p.turn(i) || busy
		}
	}
}

// turn gives a core everything that waits for it, and passes on what it decided.
func (p *press) turn(i int) bool {
	c, in := p.cores[i], p.inbox[i]
	p.inbox[i] = nil
	c.Now(p.now)
	if p.durable[i] > c.durable {
		c.OnDurable(p.durable[i])
	}
	for k := range in {
		p.take(i, &in[k])
	}
	out := c.Flush()
	busy := len(in) > 0 || out.Batch != nil || len(out.Peers)+len(out.Replies)+len(out.Beats) > 0
	if out.Batch != nil {
		p.durable[i] = out.Batch.Number
		out.Batch.Reset()
		p.blank = append(p.blank, out.Batch)
	}
	for k := range out.Peers {
		p.pass(i, &out.Peers[k])
	}
	for k := range out.Beats {
		h := out.Beats[k].Heartbeat
		if err := p.cores[out.Beats[k].To[1]-'1'].OnHeartbeat(serverID(i), &h); err != nil {
			panic(err)
		}
	}
	for k := range out.Replies {
		if out.Replies[k].Err != nil {
			panic(out.Replies[k].Err)
		}
		p.answered++
	}
	c.Recycle()
	return busy
}

func (p *press) take(i int, f *pressFrame) {
	c, r := p.cores[i], &p.read[i]
	c.OnFrame(serverID(f.from), 1, f.lane, p.durable[f.from])
	reader := wire.NewReader(f.body)
	r.messages = r.messages[:0]
	for range f.count {
		r.messages = append(r.messages, PeerMessage{From: c.servers[serverID(f.from)].id})
		m := &r.messages[len(r.messages)-1]
		r.decoder.DecodeMessage(&reader, &m.Envelope, &m.Message)
		m.Name = r.name
	}
	if err := reader.Done(); err != nil {
		panic(err)
	}
	for k := range r.messages {
		c.OnPeer(&r.messages[k])
	}
	clear(r.messages)
	p.spare = append(p.spare, f.body[:0])
}

func (p *press) pass(from int, out *PeerOut) {
	var body []byte
	if n := len(p.spare); n > 0 {
		body, p.spare = p.spare[n-1], p.spare[:n-1]
	}
	to := out.To[1] - '1'
	p.inbox[to] = append(p.inbox[to], pressFrame{from, out.Count, out.Lane, append(body, out.Body...)})
}

// BenchmarkCommit measures one write of 64 bytes on all seven members together: deciding, encoding, decoding and applying.
func BenchmarkCommit(b *testing.B) {
	for _, load := range []struct{ cells, together int }{{1, 1}, {1000, 32}, {1000, 224}} {
		b.Run(fmt.Sprintf("cells=%d/together=%d", load.cells, load.together), func(b *testing.B) {
			p := newPress(b, load.cells)
			value := cell.Bytes(make([]byte, 64))
			params := &wire.TxnRequest{Txn: cell.Txn{Then: []cell.Op{{Kind: cell.OpPut, Key: "c1/k1", Value: value}}}}
			var body []byte
			next, sequence := 0, make([]uint64, load.cells)
			b.ReportAllocs()
			p.answered = 0
			b.ResetTimer()
			for done := 0; done < b.N; done += load.together {
				p.now += time.Millisecond
				for range load.together {
					n := next % load.cells
					next++
					sequence[n]++
					params.Header = wire.Header{Cell: pressCell(n), Timeout: 1000}
					params.Request = cell.Request{Client: cell.ClientID{byte(n), byte(n >> 8)}, Sequence: sequence[n], Since: 1 << 40}
					body = params.Append(body[:0])
					r, err := ParseRequest(wire.MethodTxn, body)
					if err != nil {
						b.Fatal(err)
					}
					p.cores[n%7].OnRequest(r)
				}
				p.settle()
				if p.answered != done+load.together {
					b.Fatalf("%d of %d writes are answered", p.answered, done+load.together)
				}
			}
		})
	}
}

// commonRequests are a put of 64 bytes and a get, by their methods.
func commonRequests() map[string]wire.Message {
	h := wire.Header{Cell: "vol-123", Incarnation: 1, Timeout: 1000, Trace: 1 << 60}
	return map[string]wire.Message{
		wire.MethodTxn: &wire.TxnRequest{Header: h, Request: cell.Request{Sequence: 5000, Since: 4000},
			Txn: cell.Txn{Then: []cell.Op{{Kind: cell.OpPut, Key: "key", Value: cell.Bytes(make([]byte, 64))}}}},
		wire.MethodRead: &wire.ReadRequest{Header: h, Txn: cell.Txn{Then: []cell.Op{{Kind: cell.OpGet, Key: "key"}}}},
	}
}

// BenchmarkParseRequest measures the gate for the commonest requests.
func BenchmarkParseRequest(b *testing.B) {
	for method, m := range commonRequests() {
		b.Run(method, func(b *testing.B) {
			params := m.Append(nil)
			b.ReportAllocs()
			for b.Loop() {
				if _, err := ParseRequest(method, params); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// TestParseRequestAllocates no more than what the core keeps: the request, the cell's name, the operations, their keys and values, and
// for what is logged the command.
func TestParseRequestAllocates(t *testing.T) {
	budget := map[string]float64{wire.MethodTxn: 5, wire.MethodRead: 4}
	for method, m := range commonRequests() {
		params := m.Append(nil)
		if n := testing.AllocsPerRun(100, func() { _, _ = ParseRequest(method, params) }); n > budget[method] {
			t.Errorf("%s: %v allocations, want at most %v", method, n, budget[method])
		}
	}
}
