package node

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"physalia/cell"
	"physalia/internal/rpc"
	"physalia/internal/wire"
)

// attempt sends one transaction, and the very same again to whoever is named, until it is answered with a result or refused
// for a reason that another server, or another moment, does not mend. It begins at server first.
func (c *testColony) attempt(id cell.ID, r cell.Request, t cell.Txn, first int) (reply wire.TxnReply, err error) {
	c.t.Helper()
	conns := make(map[int]*rpc.Conn)
	at, n := first, uint32(0)
	var said trail
	eventually(c.t, fmt.Sprintf("an answer to a transaction on %s", id), func() bool {
		if conns[at] == nil || conns[at].Err() != nil {
			conns[at] = c.connect(at)
		}
		began := time.Now()
		reply, err = txn(conns[at], id, r, t, n)
		said.note("attempt %d at server %d: %v after %v", n, at+1, err, time.Since(began))
		var e *cell.Error
		if !errors.As(err, &e) || (e.Kind != cell.NotProposer && e.Kind != cell.Unavailable && e.Kind != cell.UnknownResult) {
			return true
		}
		at = c.next(at, e.Leader)
		n++
		return false
	}, said.String, func() string { return c.explain(id) })
	return reply, err
}

// follow is attempt for what must not be refused.
func (c *testColony) follow(id cell.ID, r cell.Request, t cell.Txn, first int) wire.TxnReply {
	c.t.Helper()
	reply, err := c.attempt(id, r, t, first)
	if err != nil {
		c.t.Fatalf("txn on %s: %v", id, err)
	}
	return reply
}

// next is the server named as leader if it runs, else the next one that runs.
func (c *testColony) next(at int, leader cell.ServerID) int {
	for i, s := range c.servers {
		if s != nil && s.Identity().Server == leader && c.session(s) != nil {
			return i
		}
	}
	for {
		if at = (at + 1) % len(c.servers); c.session(c.servers[at]) != nil {
			return at
		}
	}
}

func request(n uint64) cell.Request { return cell.Request{Client: cell.ClientID{1}, Sequence: n} }

func (c *testColony) mustRead(id cell.ID, key string, want int64, at int) {
	c.t.Helper()
	reply := c.follow(id, cell.Request{}, getTxn(key), at)
	if got, ok := reply.Result.Results[0].Entry.Value.AsInt64(); !ok || got != want {
		c.t.Fatalf("%s of %s is %v, want %d", key, id, reply.Result.Results[0].Entry.Value, want)
	}
}

func TestCellSurvivesStopsAndRestarts(t *testing.T) {
	c := newTestColony(t, 7)
	c.create("vol-1")
	for i := range uint64(200) { // more slots than the ring has
		c.follow("vol-1", request(i+1), putTxn("k", cell.Int(int64(i))), 0)
	}
	for i := range 3 { // the proposer's server is the first to go
		c.stop(i)
	}
	c.follow("vol-1", request(1000), putTxn("k", cell.Int(1000)), 3)
	c.mustRead("vol-1", "k", 1000, 4)
	for i := range 3 {
		c.start(i)
	}
	for i := 3; i < 6; i++ {
		c.stop(i)
	}
	c.mustRead("vol-1", "k", 1000, 0)
	c.follow("vol-1", request(1001), putTxn("k", cell.Int(1001)), 1)
	for i := 3; i < 6; i++ {
		c.start(i)
	}
	for i := range c.servers { // everything off and on again
		c.stop(i)
	}
	for i := range c.servers {
		c.start(i)
	}
	c.mustRead("vol-1", "k", 1001, 2)
}

func TestRetryAfterLostReplyTakesEffectOnce(t *testing.T) {
	c := newTestColony(t, 7)
	c.create("vol-1")
	increment := cell.Txn{Then: []cell.Op{{Kind: cell.OpIncrement, Key: "n", Value: cell.Int(1)}}}
	r := request(7)
	lost := c.connect(0)
	sent := make(chan struct{})
	lost.Go(wire.MethodTxn, &wire.TxnRequest{Header: wire.Header{Cell: "vol-1", Timeout: 5000}, Request: r, Txn: increment},
		func([]byte, error) { close(sent) })
	<-sent // applied; whatever it answered is lost with the connection
	lost.Close(nil)
	reply := c.follow("vol-1", r, increment, 3)
	if reply.Result.Revision != 1 {
		t.Fatalf("the retry was applied again: revision %d", reply.Result.Revision)
	}
	c.mustRead("vol-1", "n", 1, 0)
}

func TestRetryOutsideTheWindowIsExpired(t *testing.T) {
	c := newTestColony(t, 7)
	c.create("vol-1")
	old := request(1)
	c.follow("vol-1", old, putTxn("a", cell.Int(1)), 0)
	for i := range uint64(600) { // other clients push the result out of the window
		r := cell.Request{Client: cell.ClientID{2}, Sequence: i + 1, Since: cell.Revision(i + 1)}
		c.follow("vol-1", r, putTxn("b", cell.Int(int64(i))), 0)
	}
	if _, err := c.attempt("vol-1", old, putTxn("a", cell.Int(1)), 0); !errors.Is(err, cell.Expired) {
		t.Fatalf("retry from outside the window: %v, want expired", err)
	}
	reply := c.follow("vol-1", cell.Request{}, getTxn("a"), 0)
	if v := reply.Result.Results[0].Entry.Version; v != 1 {
		t.Fatalf("a was written %d times", v)
	}
}

func TestBadRequestsAreRefusedAndChangeNothing(t *testing.T) {
	c := newTestColony(t, 7)
	c.create("vol-1")
	long := strings.Repeat("x", cell.KeyBytesMax+1)
	big := cell.Bytes(make([]byte, cell.ValueBytesMax))
	many := make([]cell.Op, cell.TxnOpsMax+1)
	for i := range many {
		many[i] = cell.Op{Kind: cell.OpGet, Key: "k"}
	}
	sequence := uint64(0)
	for name, test := range map[string]struct {
		id   cell.ID
		txn  cell.Txn
		want cell.Kind
	}{
		"unknown cell":    {"vol-2", putTxn("k", cell.Int(1)), cell.UnknownHere},
		"key too large":   {"vol-1", putTxn(long, cell.Int(1)), cell.Invalid},
		"value too big":   {"vol-1", putTxn("k", big), cell.TooLarge},
		"no value":        {"vol-1", putTxn("k", cell.Value{}), cell.Invalid},
		"wrong type":      {"vol-1", cell.Txn{Then: []cell.Op{{Kind: cell.OpPut, Key: "s", Value: cell.String("x")}, {Kind: cell.OpIncrement, Key: "s", Value: cell.Int(1)}}}, cell.WrongType},
		"unknown op":      {"vol-1", cell.Txn{Then: []cell.Op{{Kind: 99, Key: "k"}}}, cell.Invalid},
		"bad cell name":   {"../etc", putTxn("k", cell.Int(1)), cell.Invalid},
		"too many ops":    {"vol-1", cell.Txn{Then: many}, cell.Invalid},
		"float increment": {"vol-1", cell.Txn{Then: []cell.Op{{Kind: cell.OpIncrement, Key: "n", Value: cell.String("1.5")}}}, cell.Invalid},
	} {
		sequence++
		t.Run(name, func(t *testing.T) {
			_, err := c.attempt(test.id, cell.Request{Client: cell.ClientID{9}, Sequence: sequence}, test.txn, 0)
			if kind := cell.KindOf(err); kind != test.want {
				t.Fatalf("got %v, want %v", err, test.want)
			}
		})
	}
	scan := cell.Txn{Then: []cell.Op{{Kind: cell.OpScan}}}
	reply := c.follow("vol-1", cell.Request{}, scan, 0)
	if n := len(reply.Result.Results[0].Entries); n != 0 {
		t.Fatalf("refused requests left %d keys", n)
	}
}

func TestHostileBytesLeaveTheServerServing(t *testing.T) {
	c := newTestColony(t, 7)
	c.create("vol-1")
	for name, bytes := range map[string][]byte{
		"http":          []byte("GET / HTTP/1.1\r\nHost: x\r\n\r\n"),
		"4 GiB frame":   {0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0, 1, 2, 3},
		"nested arrays": wire.EndFrame(append(wire.BeginFrame(nil), strings.Repeat("\x91", 8000)...), 0),
		"array bomb":    wire.EndFrame(append(wire.BeginFrame(nil), 0xdd, 0xff, 0xff, 0xff, 0xff), 0),
		"wrong sum":     {0, 0, 0, 1, 9, 9, 9, 9, 0x90},
	} {
		for _, addr := range []string{c.servers[0].ClientAddr(), c.servers[0].PeerAddr(), c.servers[0].GossipAddr()} {
			nc, err := net.Dial("tcp", addr)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := nc.Write(bytes); err != nil {
				t.Fatalf("%s: %v", name, err)
			}
			if err := nc.(*net.TCPConn).CloseWrite(); err != nil {
				t.Logf("%s at %s: the server has closed already: %v", name, addr, err)
			}
			if _, err := io.Copy(io.Discard, nc); err != nil {
				t.Logf("%s at %s: connection ended with %v", name, addr, err) // a reset is as good as a close
			}
			nc.Close()
		}
	}
	c.follow("vol-1", request(1), putTxn("k", cell.Int(1)), 0)
}

func TestStartRefusals(t *testing.T) {
	c := newTestColony(t, 1)
	s := c.servers[0]
	base := s.cfg
	base.DataDir, base.ListenOps, base.Control = t.TempDir(), "", nil
	taken := base
	taken.ListenClient = s.ClientAddr()
	inUse := base
	inUse.DataDir = c.dirs[0]
	for name, test := range map[string]struct {
		cfg  Config
		says string
	}{
		"port in use":           {taken, "--listen-client"},
		"data directory in use": {inUse, "in use"},
	} {
		t.Run(name, func(t *testing.T) {
			refused, err := Start(test.cfg)
			if err == nil {
				refused.Close()
				t.Fatal("it started")
			}
			if !strings.Contains(err.Error(), test.says) {
				t.Fatalf("%v does not say %q", err, test.says)
			}
		})
	}
	c.stop(0)
	other := inUse
	other.Name = "somebody-else"
	if foreign, err := Start(other); err == nil {
		foreign.Close()
		t.Error("a server started on another server's data directory")
	} else if !strings.Contains(err.Error(), "somebody-else") || !strings.Contains(err.Error(), s.Identity().Name) {
		t.Errorf("%v does not name both servers", err)
	}
}

func TestProbesAndMetrics(t *testing.T) {
	c := newTestColony(t, 7)
	c.create("vol-1")
	c.follow("vol-1", request(1), putTxn("k", cell.Int(1)), 0)
	for path, want := range map[string]string{"/livez": "ok", "/readyz": "ok", "/metrics": "physalia_nodes{"} {
		var said string
		eventually(t, path+" answers that all is well", func() bool { // a loop that found no processor for a second is not ready
			resp, err := http.Get("http://" + c.servers[0].OpsAddr() + path)
			if err != nil {
				t.Fatal(err)
			}
			body, err := io.ReadAll(resp.Body)
			resp.Body.Close()
			said = fmt.Sprintf("%d %v %.200s", resp.StatusCode, err, body)
			return err == nil && resp.StatusCode == http.StatusOK && strings.Contains(string(body), want)
		}, func() string { return said })
	}
	http.DefaultClient.CloseIdleConnections()
}
