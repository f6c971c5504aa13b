//go:build privileged && linux

package faults_test

import (
	"context"
	"sync"
	"time"

	"physalia/cell"
	"physalia/client"
	"physalia/cmd/physalia/crowd"
	"physalia/cmd/physalia/judge"
	"physalia/internal/rpc"
	"physalia/internal/wire"
)

// Witnesses read from one server only, the one that is hurt, over and over and past the client library, which would soon ask
// somebody else. Whatever that server answers, with whatever authority it believes to have, goes into the histories. A read
// that it does not answer is given up after a while, so that there are always some that were sent late. Each has a connection
// of its own: when a server goes on after a pause, some of them are read before what its peers have sent.
const (
	witnessesEach   = 5 // per cell
	witnessPatience = 700 * time.Millisecond
	witnessPause    = 25 * time.Millisecond
	witnessClient   = 1000 // the index of the first one within its cell
)

// watch has witnesses read the given cells, which the server proposes for, until the returned function is called. To hurt a server that
// proposes for none would prove nothing.
func (w *world) watch(name string, cells []cell.ID) (stop func()) {
	w.Helper()
	if len(cells) == 0 {
		w.Fatalf("server %s proposes for no cell", name)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var wait sync.WaitGroup
	end := sync.OnceFunc(func() {
		cancel()
		wait.Wait()
	})
	w.Cleanup(end)
	for _, id := range cells {
		for i := range witnessesEach {
			conn, err := w.op.Dial(ctx, w.server(name).Client)
			w.must(err)
			l := &judge.Log{Cell: id, Client: witnessClient + i}
			w.witnesses = append(w.witnesses, l)
			wait.Go(func() {
				defer conn.Close(nil)
				w.witness(ctx, conn, l)
			})
		}
	}
	return end
}

// witness reads until ctx ends.
func (w *world) witness(ctx context.Context, conn *rpc.Conn, l *judge.Log) {
	request := wire.ReadRequest{Header: wire.Header{Cell: l.Cell, Timeout: uint32(witnessPatience / time.Millisecond)},
		Txn: cell.Txn{Then: []cell.Op{client.Get(crowd.RegisterKey)}}}
	pause := time.NewTicker(witnessPause)
	defer pause.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-pause.C:
		}
		called, reply := w.now(), wire.ReadReply{}
		limited, cancel := context.WithTimeout(ctx, witnessPatience)
		err := conn.Call(limited, wire.MethodRead, &request, &reply)
		cancel()
		var n int64
		if err == nil {
			n, _ = reply.Result.Results[0].Entry.Value.AsInt64()
		}
		l.Read(uint64(n), called, w.now(), cell.KindOf(err))
	}
}
