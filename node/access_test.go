package node

import (
	"errors"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"physalia/cell"
	"physalia/client"
	"physalia/internal/grant"
	"physalia/internal/pki"
	"physalia/internal/rpc"
	"physalia/internal/wire"
)

// token writes a file with a token for a holder, over the one that was there.
func (a *authority) token(name, holder string, grants ...string) {
	a.t.Helper()
	keys, err := a.TokenKeys()
	if err != nil {
		a.t.Fatal(err)
	}
	now := time.Now().Unix()
	t := &grant.Token{Number: 7, Colony: a.Signer.Colony(), Name: "test", Holder: holder, Issued: now, Expires: now + 3600}
	for _, text := range grants {
		more, err := grant.Parse(text)
		if err != nil {
			a.t.Fatal(err)
		}
		t.Grants = append(t.Grants, more...)
	}
	text, err := grant.Sign(t, keys[0])
	if err != nil {
		a.t.Fatal(err)
	}
	if err := os.WriteFile(name, []byte(text+"\n"), 0o600); err != nil {
		a.t.Fatal(err)
	}
}

// denied are the refusals of all servers of the colony for a reason.
func (c *secureColony) denied(why grant.Reason) (n uint64) {
	for _, s := range c.servers {
		n += s.gate.Denied(why)
	}
	return n
}

// TestAccess: through the client library, each kind of user may do what he was granted and nothing else, in transactions, reads, scans
// and with leases; what is denied has left no trace.
func TestAccess(t *testing.T) {
	c := newSecureColony(t, 7)
	c.create("vol-1")
	c.create("db-1")
	ctx := t.Context()
	boss := c.userWith(c.home.issue(pki.Identity{Role: pki.Operator, Name: "boss"}, 0), "")
	for _, id := range []cell.ID{"vol-1", "db-1"} {
		for _, key := range []string{"a/1", "b/1"} {
			if _, err := boss.Cell(id).Put(ctx, key, cell.Int(1)); err != nil {
				t.Fatal(err)
			}
		}
	}
	file := filepath.Join(t.TempDir(), "token")
	c.home.token(file, "app", "read,write vol-* a/", "lease vol-1")
	certs := c.home.issue(pki.Identity{Role: pki.Client, Name: "app"}, 0)
	app := c.userWith(certs, file)
	vol, db := app.Cell("vol-1"), app.Cell("db-1")
	lease, err := vol.Grant(ctx, time.Minute, "mine")
	if err != nil {
		t.Fatal(err)
	}
	allowedThings(t, vol, lease.ID())
	for name, test := range map[string]struct {
		why grant.Reason
		do  func() error
	}{
		"another cell":       {grant.NoCell, func() error { _, err := db.Get(ctx, "a/1"); return err }},
		"a cell that is not": {grant.NoCell, func() error { _, err := app.Cell("none").Get(ctx, "a/1"); return err }},
		"another key":        {grant.NoKey, func() error { _, err := vol.Get(ctx, "b/1"); return err }},
		"a stale read": {grant.NoKey, func() error {
			_, err := vol.Read(ctx, cell.Txn{Then: []cell.Op{client.Get("b/1")}}, client.Stale)
			return err
		}},
		"a wider scan": {grant.NoKey, func() error { _, err := vol.Scan(ctx, "", client.ScanOptions{}); return err }},
		"a condition": {grant.NoKey, func() error {
			_, err := vol.Txn(ctx, cell.Txn{If: []cell.Condition{client.Exists("b/1")}, Then: []cell.Op{client.Put("a/9", cell.Int(9))}})
			return err
		}},
		"the other branch": {grant.NoKey, func() error {
			_, err := vol.Txn(ctx, cell.Txn{If: []cell.Condition{client.Exists("a/1")}, Then: []cell.Op{client.Put("a/9", cell.Int(9))}, Else: []cell.Op{client.Delete("b/1")}})
			return err
		}},
		"one op of many": {grant.NoKey, func() error {
			_, err := vol.Txn(ctx, cell.Txn{Then: []cell.Op{client.Put("a/9", cell.Int(9)), client.Put("b/9", cell.Int(9))}})
			return err
		}},
		"the other's leases": {grant.NoCell, func() error { _, _, err := db.Leases(ctx); return err }},
	} {
		before := c.denied(test.why)
		err := test.do()
		if !errors.Is(err, cell.Denied) {
			t.Errorf("%s: %v", name, err)
		}
		if c.denied(test.why) == before {
			t.Errorf("%s: %q is not counted, %v", name, test.why, err)
		}
	}
	if _, err := boss.Cell("vol-1").Get(ctx, "a/9"); !errors.Is(err, cell.NotFound) {
		t.Errorf("a denied transaction has left a key: %v", err)
	}
}

// allowedThings does what a token for the keys a/ and for leases allows.
func allowedThings(t *testing.T, vol *client.Cell, lease cell.LeaseID) {
	t.Helper()
	ctx := t.Context()
	for name, do := range map[string]func() error{
		"get":  func() error { _, err := vol.Get(ctx, "a/1"); return err },
		"put":  func() error { _, err := vol.Put(ctx, "a/2", cell.Int(2)); return err },
		"scan": func() error { _, err := vol.Scan(ctx, "a/", client.ScanOptions{}); return err },
		"stale scan": func() error {
			_, err := vol.Scan(ctx, "a/", client.ScanOptions{Read: client.Stale})
			return err
		},
		"txn": func() error {
			_, err := vol.Txn(ctx, cell.Txn{If: []cell.Condition{client.Exists("a/1")}, Then: []cell.Op{client.PutLeased("a/3", cell.Int(3), lease)}})
			return err
		},
		"leases": func() error { _, _, err := vol.Leases(ctx); return err },
	} {
		if err := do(); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestNewTokens: a new token counts on connections that are open, for more and for less, and one that is no good counts for nothing.
func TestNewTokens(t *testing.T) {
	c := newSecureColony(t, 7)
	c.create("vol-1")
	c.create("db-1")
	ctx := t.Context()
	file := filepath.Join(t.TempDir(), "token")
	c.home.token(file, "app", "read,write vol-1")
	certs := c.home.issue(pki.Identity{Role: pki.Client, Name: "app"}, 0)
	app := c.userWith(certs, file)
	vol, db := app.Cell("vol-1"), app.Cell("db-1")
	if _, err := vol.Put(ctx, "a/1", cell.Int(1)); err != nil {
		t.Fatal(err)
	}
	if _, err := db.Scan(ctx, "", client.ScanOptions{}); !errors.Is(err, cell.Denied) {
		t.Errorf("a scan of a cell that no grant is about: %v", err)
	}
	c.home.token(file, "app", "read *")
	if err := app.ReloadToken(); err != nil {
		t.Fatal(err)
	}
	if _, err := db.Scan(ctx, "", client.ScanOptions{}); err != nil {
		t.Error(err)
	}
	if _, err := vol.Put(ctx, "a/1", cell.Int(5)); !errors.Is(err, cell.Denied) {
		t.Errorf("a put with a token for reading: %v", err)
	}
	for name, test := range map[string]struct {
		why   grant.Reason
		certs string
		write func(name string)
	}{
		"no token":     {grant.NoToken, certs, nil},
		"other holder": {grant.OtherHolder, c.home.issue(pki.Identity{Role: pki.Client, Name: "thief"}, 0), func(name string) { c.home.token(name, "app", "read *") }},
		"nonsense":     {grant.BadToken, certs, func(name string) { rewrite(t, name, "phy1.AAAA") }},
		"another key":  {grant.UnknownKey, certs, func(name string) { newAuthority(t, "test").token(name, "app", "read *") }},
	} {
		own := ""
		if test.write != nil {
			own = filepath.Join(t.TempDir(), "token")
			test.write(own)
		}
		before := c.denied(test.why)
		_, err := c.userWith(test.certs, own).Cell("vol-1").Get(ctx, "a/1")
		if !errors.Is(err, cell.Denied) || c.denied(test.why) == before {
			t.Errorf("%s: %v", name, err)
		}
	}
	r, err := http.Get("http://" + c.servers[0].OpsAddr() + "/metrics")
	if err != nil {
		t.Fatal(err)
	}
	defer r.Body.Close()
	if text, err := io.ReadAll(r.Body); err != nil || !strings.Contains(string(text), `physalia_requests_denied_total{brick="b1",color="red",reason="no key"}`) {
		t.Errorf("the metrics lack denials: %v", err)
	}
}

func rewrite(t *testing.T, name, text string) {
	t.Helper()
	if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

// TestAccessOfEveryMethod: whatever method somebody without a token sends to a server, it does nothing.
func TestAccessOfEveryMethod(t *testing.T) {
	home := newAuthority(t, "test")
	s := startAlone(t, func(c *Config) { c.Certs.Dir = home.issue(serverIdentity("s1", "b1", "red"), 0) })
	g := home.guard(pki.Identity{Role: pki.Client, Name: "nobody"})
	conn, err := rpc.Dial(t.Context(), s.ClientAddr(), rpc.Config{Hello: wire.Hello{Purpose: wire.ForClient}, DialContext: g.Dialer(pki.ClientPort, nil)})
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(nil)
	header := wire.Header{Cell: "vol-1", Timeout: 1000}
	txn := cell.Txn{Then: []cell.Op{client.Get("k")}}
	request := cell.Request{Client: cell.ClientID{1}, Sequence: 1}
	about := func(op cell.LeaseOp) wire.Message {
		return &wire.LeaseRequest{Header: header, Request: request, Lease: op}
	}
	for method, params := range map[string]wire.Message{
		wire.MethodTxn:       &wire.TxnRequest{Header: header, Request: request, Txn: cell.Txn{Then: []cell.Op{client.Put("k", cell.Int(1))}}},
		wire.MethodRead:      &wire.ReadRequest{Header: header, Txn: txn},
		wire.MethodExplain:   &wire.ExplainRequest{Header: header},
		wire.MethodGrant:     about(cell.LeaseOp{TTL: time.Minute}),
		wire.MethodKeepAlive: about(cell.LeaseOp{ID: 7}),
		wire.MethodRevoke:    about(cell.LeaseOp{ID: 7}),
		wire.MethodLeases:    &wire.LeasesRequest{Header: header},
	} {
		if err := conn.Call(t.Context(), method, params, nil); !errors.Is(err, cell.Denied) {
			t.Errorf("%s: %v", method, err)
		}
	}
	for _, method := range []string{wire.MethodSeal, wire.MethodChange, wire.MethodExport, wire.MethodCreateNodes, wire.MethodDropNodes, "nonsense"} {
		if err := conn.Call(t.Context(), method, nil, nil); !errors.Is(err, cell.Invalid) {
			t.Errorf("%s: %v", method, err)
		}
	}
	if n := s.gate.Denied(grant.NoToken); n != 7 {
		t.Errorf("%d denials are counted, want 7", n)
	}
}
