package member

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"strconv"
	"sync"
	"time"

	"github.com/hashicorp/go-msgpack/v2/codec"
	"github.com/hashicorp/raft"
)

// The library's own transport has connections for each group, and one for each direction of replication; a thousand groups would have
// twelve thousand. This one has all calls of all groups share the mesh, in the library's own encoding.
//
// A call is: 'c', group (4 bytes), number (8), kind (1), request. An answer is: 'a', group, number, 1 if it failed, and response or text.
const (
	callMark, answerMark = 'c', 'a'
	callHead             = 14
)

// The kinds of calls.
const (
	callAppend = iota
	callVote
	callPreVote
	callTimeoutNow
)

// Limits of calls.
const (
	callTimeout  = 5 * time.Second
	pipelineMax  = 64  // appends under way from a leader to a follower of a group
	consumerMost = 256 // calls that wait for a group; more are dropped
)

// calls are the calls of this process that wait for their answers.
type calls struct {
	mesh    *mesh
	mu      sync.Mutex
	last    uint64           // number of the last call
	waiting map[uint64]*call // by number; a call is taken out by whoever ends it
}

// call is one that waits.
type call struct {
	to       int           // index of the process that answers
	response any           // pointer to what the answer is decoded into
	err      error         // why there is no response
	done     chan struct{} // closed with response or err filled in
}

// errLost says that a process is gone.
var errLost = errors.New("the connection is lost")

// handle is the library's own encoding. Encoders and decoders are costly to make and used again, as its own transport does.
var (
	handle   = &codec.MsgpackHandle{}
	encoders = sync.Pool{New: func() any { return codec.NewEncoderBytes(nil, handle) }}
	decoders = sync.Pool{New: func() any { return codec.NewDecoderBytes(nil, handle) }}
)

// encode makes the bytes of a request or a response.
func encode(v any) (body []byte, err error) {
	e := encoders.Get().(*codec.Encoder)
	defer encoders.Put(e)
	e.ResetBytes(&body)
	err = e.Encode(v)
	return body, err
}

// decode fills v in.
func decode(body []byte, v any) error {
	d := decoders.Get().(*codec.Decoder)
	defer decoders.Put(d)
	d.ResetBytes(body)
	return d.Decode(v)
}

// start sends a call.
func (c *calls) start(group, to int, kind byte, request, response any) (*call, error) {
	body, err := encode(request)
	if err != nil {
		return nil, err
	}
	k := &call{to: to, response: response, done: make(chan struct{})}
	// It waits before it is sent: the answer may be faster than we are.
	c.mu.Lock()
	c.last++
	number := c.last
	c.waiting[number] = k
	c.mu.Unlock()
	err = c.mesh.send(to, func(b []byte) []byte {
		b = binary.LittleEndian.AppendUint32(append(b, callMark), uint32(group))
		return append(append(binary.LittleEndian.AppendUint64(b, number), kind), body...)
	})
	if err != nil {
		c.mu.Lock()
		delete(c.waiting, number)
		c.mu.Unlock()
		return nil, err
	}
	return k, nil
}

// answered takes an answer.
func (c *calls) answered(number uint64, failed bool, body []byte) {
	c.mu.Lock()
	k := c.waiting[number]
	delete(c.waiting, number) // whoever takes it out closes it
	c.mu.Unlock()
	if k == nil {
		return // its process was lost meanwhile
	}
	if failed {
		k.err = errors.New(string(body))
	} else {
		k.err = decode(body, k.response)
	}
	close(k.done)
}

// lost ends all calls to a process.
func (c *calls) lost(to int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for number, k := range c.waiting {
		if k.to == to {
			delete(c.waiting, number)
			k.err = errLost
			close(k.done)
		}
	}
}

// wait waits for the answer of a call.
func (k *call) wait() error {
	timer := time.NewTimer(callTimeout)
	defer timer.Stop()
	select {
	case <-k.done:
		return k.err
	case <-timer.C:
		return fmt.Errorf("process %d did not answer in %v", k.to, callTimeout)
	}
}

// hashiTransport is the transport of one group.
type hashiTransport struct {
	calls     *calls
	group, me int
	consumer  chan raft.RPC
	heartbeat func(raft.RPC) // set before the group runs
}

// peer is the index of a process.
func peer(a raft.ServerAddress) (int, error) { return strconv.Atoi(string(a)) }

// call sends a request and waits for its response.
func (t *hashiTransport) call(to raft.ServerAddress, kind byte, request, response any) error {
	at, err := peer(to)
	if err != nil {
		return err
	}
	k, err := t.calls.start(t.group, at, kind, request, response)
	if err != nil {
		return err
	}
	return k.wait()
}

// Consumer implements raft.Transport.
func (t *hashiTransport) Consumer() <-chan raft.RPC { return t.consumer }

// LocalAddr implements raft.Transport.
func (t *hashiTransport) LocalAddr() raft.ServerAddress { return address(t.me) }

// address is where a process is.
func address(i int) raft.ServerAddress { return raft.ServerAddress(strconv.Itoa(i)) }

// AppendEntries implements raft.Transport.
func (t *hashiTransport) AppendEntries(_ raft.ServerID, to raft.ServerAddress, a *raft.AppendEntriesRequest, r *raft.AppendEntriesResponse) error {
	return t.call(to, callAppend, a, r)
}

// RequestVote implements raft.Transport.
func (t *hashiTransport) RequestVote(_ raft.ServerID, to raft.ServerAddress, a *raft.RequestVoteRequest, r *raft.RequestVoteResponse) error {
	return t.call(to, callVote, a, r)
}

// RequestPreVote implements raft.WithPreVote.
func (t *hashiTransport) RequestPreVote(_ raft.ServerID, to raft.ServerAddress, a *raft.RequestPreVoteRequest, r *raft.RequestPreVoteResponse) error {
	return t.call(to, callPreVote, a, r)
}

// TimeoutNow implements raft.Transport.
func (t *hashiTransport) TimeoutNow(_ raft.ServerID, to raft.ServerAddress, a *raft.TimeoutNowRequest, r *raft.TimeoutNowResponse) error {
	return t.call(to, callTimeoutNow, a, r)
}

// InstallSnapshot implements raft.Transport; there are no snapshots here, since no log is compacted.
func (t *hashiTransport) InstallSnapshot(raft.ServerID, raft.ServerAddress, *raft.InstallSnapshotRequest, *raft.InstallSnapshotResponse, io.Reader) error {
	return errors.New("this harness has no snapshots")
}

// EncodePeer implements raft.Transport.
func (t *hashiTransport) EncodePeer(_ raft.ServerID, a raft.ServerAddress) []byte { return []byte(a) }

// DecodePeer implements raft.Transport.
func (t *hashiTransport) DecodePeer(b []byte) raft.ServerAddress { return raft.ServerAddress(b) }

// SetHeartbeatHandler implements raft.Transport.
func (t *hashiTransport) SetHeartbeatHandler(f func(raft.RPC)) { t.heartbeat = f }

// AppendEntriesPipeline implements raft.Transport.
func (t *hashiTransport) AppendEntriesPipeline(_ raft.ServerID, to raft.ServerAddress) (raft.AppendPipeline, error) {
	at, err := peer(to)
	if err != nil {
		return nil, err
	}
	p := &pipeline{t: t, to: at, going: make(chan *appending, pipelineMax), done: make(chan raft.AppendFuture, pipelineMax), closed: make(chan struct{})}
	go p.run()
	return p, nil
}

// pipeline has several appends under way, and hands their ends over in order.
type pipeline struct {
	t      *hashiTransport
	to     int                    // index of the follower
	going  chan *appending        // under way, in order
	done   chan raft.AppendFuture // ended, in order; the library takes them
	once   sync.Once
	closed chan struct{}
}

// appending is one append; its error and its response may be read once ended is closed.
type appending struct {
	began    time.Time
	request  *raft.AppendEntriesRequest
	response *raft.AppendEntriesResponse
	call     *call
	err      error
	ended    chan struct{}
}

// AppendEntries implements raft.AppendPipeline.
func (p *pipeline) AppendEntries(a *raft.AppendEntriesRequest, r *raft.AppendEntriesResponse) (raft.AppendFuture, error) {
	k, err := p.t.calls.start(p.t.group, p.to, callAppend, a, r)
	if err != nil {
		return nil, err
	}
	f := &appending{began: time.Now(), request: a, response: r, call: k, ended: make(chan struct{})}
	select {
	case p.going <- f:
		return f, nil
	case <-p.closed:
		return nil, raft.ErrPipelineShutdown
	}
}

// run waits for the ends in order.
func (p *pipeline) run() {
	for {
		select {
		case f := <-p.going:
			f.err = f.call.wait()
			close(f.ended)
			select {
			case p.done <- f:
			case <-p.closed:
				return
			}
		case <-p.closed:
			return
		}
	}
}

// Consumer implements raft.AppendPipeline.
func (p *pipeline) Consumer() <-chan raft.AppendFuture { return p.done }

// Close implements raft.AppendPipeline.
func (p *pipeline) Close() error { p.once.Do(func() { close(p.closed) }); return nil }

// Error implements raft.AppendFuture.
func (f *appending) Error() error { <-f.ended; return f.err }

// Start implements raft.AppendFuture.
func (f *appending) Start() time.Time { return f.began }

// Request implements raft.AppendFuture.
func (f *appending) Request() *raft.AppendEntriesRequest { return f.request }

// Response implements raft.AppendFuture.
func (f *appending) Response() *raft.AppendEntriesResponse { return f.response }

// requestOf is an empty request of a kind of calls, nil when there is no such kind.
func requestOf(kind byte) any {
	switch kind {
	case callAppend:
		return &raft.AppendEntriesRequest{}
	case callVote:
		return &raft.RequestVoteRequest{}
	case callPreVote:
		return &raft.RequestPreVoteRequest{}
	case callTimeoutNow:
		return &raft.TimeoutNowRequest{}
	}
	return nil
}

// serve hands a call of another process to its group, and sends the answer when there is one. It does not block.
func (t *hashiTransport) serve(from int, number uint64, kind byte, body []byte) {
	request := requestOf(kind)
	if request == nil || decode(body, request) != nil {
		return // dropped as a network would drop it
	}
	answer := make(chan raft.RPCResponse, 1)
	rpc := raft.RPC{Command: request, RespChan: answer}
	// What the library's own transport takes for a heartbeat, and answers past the queue.
	a, ok := request.(*raft.AppendEntriesRequest)
	if ok && t.heartbeat != nil && a.PrevLogEntry == 0 && a.PrevLogTerm == 0 && len(a.Entries) == 0 && a.LeaderCommitIndex == 0 {
		t.heartbeat(rpc)
		t.answer(from, number, <-answer)
		return
	}
	select {
	case t.consumer <- rpc:
		go func() { t.answer(from, number, <-answer) }()
	default: // its caller will wait in vain, and try again
	}
}

// answer sends the response to a call.
func (t *hashiTransport) answer(to int, number uint64, r raft.RPCResponse) {
	var body []byte
	err := r.Error
	if err == nil {
		body, err = encode(r.Response)
	}
	failed := byte(0)
	if err != nil {
		failed, body = 1, []byte(err.Error())
	}
	// Who is gone needs no answer.
	_ = t.calls.mesh.send(to, func(b []byte) []byte {
		b = binary.LittleEndian.AppendUint32(append(b, answerMark), uint32(t.group))
		return append(append(binary.LittleEndian.AppendUint64(b, number), failed), body...)
	})
}

var _ raft.WithPreVote = (*hashiTransport)(nil)
