package pki

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"physalia/cell"
)

// Settings say how a process secures its connections. The zero value is plain text on loopback, and nothing beyond.
type Settings struct {
	Dir       string // directory of certificates; empty: plain text
	PlainText bool   // without certificates, speak plain text beyond loopback, too: anybody who reaches a port is believed
}

// Guard secures the connections of one process. Its methods are safe for concurrent use. A nil Guard is that of the zero Settings.
type Guard struct {
	settings Settings
	want     func(Identity) error
	log      *slog.Logger
	now      func() time.Time
	stats    Stats

	material atomic.Pointer[Material] // nil: plain text
	changed  chan struct{}            // capacity 1: other material is in use; see Changed

	mu       sync.Mutex
	open     map[*conn]struct{} // past their handshake
	rejected *Files             // the files that were last found to be bad, so that they are reported once
}

// Bounds and paces.
const (
	reloadEvery    = 5 * time.Second    // how soon new files are noticed
	settleTime     = time.Second        // a pair of files that do not fit may be half written: they are looked at again
	handshakeMax   = 5 * time.Second    // when whoever dials has no deadline
	lingerTime     = time.Second        // for the other side to hear why it was refused
	lingerBytesMax = 64 << 10           // and what it may still send meanwhile
	warnFrom       = 3 * 24 * time.Hour // before the end of a certificate: it is logged every warnEvery
	warnEvery      = time.Hour
)

// Open reads the certificates, if there are any. want says whether an identity is the one that this process should have; nil
// takes any. It is asked about every later one, too. The error is a *cell.Error of kind Invalid.
func Open(s Settings, want func(Identity) error, log *slog.Logger) (*Guard, error) {
	return open(s, want, log, time.Now)
}

func open(s Settings, want func(Identity) error, log *slog.Logger, now func() time.Time) (*Guard, error) {
	g := &Guard{settings: s, want: want, log: log, now: now, open: map[*conn]struct{}{}, changed: make(chan struct{}, 1)}
	if g.log == nil {
		g.log = slog.New(slog.DiscardHandler)
	}
	if s.Dir == "" {
		if s.PlainText {
			g.log.Warn("plain text is allowed beyond loopback: nothing is encrypted, and nobody proves who he is")
		}
		return g, nil
	}
	if s.PlainText {
		return nil, &cell.Error{Op: "pki.open", Kind: cell.Invalid, Detail: "both certificates and plain text are asked for",
			Hint: "drop --certs, or --plain-text-beyond-loopback"}
	}
	m, err := g.load()
	if err != nil {
		return nil, err
	}
	g.use(m)
	g.log.Info("certificates", "identity", m.Identity.String(), "until", m.Leaf.NotAfter, "authorities", len(m.Authorities))
	return g, nil
}

// load reads and checks the directory.
func (g *Guard) load() (*Material, error) {
	files, err := ReadFiles(g.settings.Dir)
	if err != nil {
		return nil, err
	}
	return g.check(files)
}

// check parses files and asks whether they are this process's.
func (g *Guard) check(files Files) (*Material, error) {
	m, err := Parse(files, g.now())
	if err == nil && g.want != nil {
		err = g.want(m.Identity)
	}
	if err != nil {
		return nil, &cell.Error{Op: "pki.load", Kind: cell.Invalid, Detail: "the certificates in " + g.settings.Dir + " cannot be used", Err: err,
			Hint: "see `physalia cert status " + g.settings.Dir + "`"}
	}
	return m, nil
}

func (g *Guard) use(m *Material) {
	g.material.Store(m)
	g.stats.note(m)
	select {
	case g.changed <- struct{}{}:
	default: // whoever listens has not looked yet
	}
}

// Secure tells whether connections are TLS.
func (g *Guard) Secure() bool { return g != nil && g.material.Load() != nil }

// Material is what is in use now, or nil without certificates.
func (g *Guard) Material() *Material {
	if g == nil {
		return nil
	}
	return g.material.Load()
}

// Changed receives when other material may be in use than at the last receive, the first included. It is for one reader.
func (g *Guard) Changed() <-chan struct{} { return g.changed }

// Run reads the certificates again and again until ctx ends. Without any it returns at once.
func (g *Guard) Run(ctx context.Context) {
	if !g.Secure() {
		return
	}
	ticker := time.NewTicker(reloadEvery)
	defer ticker.Stop()
	var warned time.Time
	for wait := ticker.C; ; {
		select {
		case <-ctx.Done():
			return
		case <-wait:
		}
		if err := g.Reload(); err != nil && !g.known() {
			// Files are written one after the other. What is still wrong in a moment is wrong.
			select {
			case <-ctx.Done():
				return
			case <-time.After(settleTime):
			}
			g.alarm(g.Reload())
		}
		g.sweep(false)
		if leaf := g.material.Load().Leaf; g.now().After(leaf.NotAfter.Add(-warnFrom)) && g.now().Sub(warned) > warnEvery {
			warned = g.now()
			g.log.Warn("the certificate expires soon", "until", leaf.NotAfter, "dir", g.settings.Dir, "hint", "physalia cert renew")
		}
	}
}

// Reload reads the directory, and takes what is there if it is good and new. If it is not good, what was in use stays, and the
// error says why. Without certificates it does nothing.
func (g *Guard) Reload() error {
	old := g.Material()
	if old == nil {
		return nil
	}
	files, err := ReadFiles(g.settings.Dir)
	if err == nil && files.equal(&old.files) {
		g.settle(nil)
		return nil
	}
	var m *Material
	if err == nil {
		m, err = g.check(files)
	}
	if err == nil && m.Identity != old.Identity {
		err = &cell.Error{Op: "pki.load", Kind: cell.Invalid, Detail: fmt.Sprintf("the certificates in %s are for %s, this process is %s", g.settings.Dir, m.Identity, old.Identity),
			Hint: "a process keeps its identity; put the right files back"}
	}
	if err != nil {
		g.settle(&files)
		return err
	}
	g.use(m)
	g.stats.reloads.Add(1)
	g.settle(nil)
	g.log.Info("certificates were read again", "identity", m.Identity.String(), "until", m.Leaf.NotAfter, "authorities", len(m.Authorities))
	if string(m.files.Authorities) != string(old.files.Authorities) {
		g.sweep(true)
	}
	return nil
}

// settle notes whether the directory's files are those in use; the first time that bad ones are seen counts as a failure.
func (g *Guard) settle(bad *Files) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if bad == nil {
		g.rejected = nil
		g.stats.failing.Store(false)
		return
	}
	if g.rejected == nil || !g.rejected.equal(bad) {
		g.stats.failures.Add(1)
		g.rejected = bad
	}
}

// known tells whether what is wrong in the directory was reported already.
func (g *Guard) known() bool { return g.stats.failing.Load() }

// alarm reports files that stay bad.
func (g *Guard) alarm(err error) {
	if err == nil {
		return
	}
	g.stats.failing.Store(true)
	g.log.Error("new certificates cannot be used, the old ones go on", "err", err, "until", g.material.Load().Leaf.NotAfter)
}

// sweep closes the connections whose proof does not hold any more: always those that have expired, and after a change of the
// authorities those that nobody vouches for. Whoever is still welcome connects again with what it has by then.
func (g *Guard) sweep(authorities bool) {
	m, now := g.material.Load(), g.now()
	g.mu.Lock()
	all := make([]*conn, 0, len(g.open))
	for c := range g.open {
		all = append(all, c)
	}
	g.mu.Unlock()
	for _, c := range all {
		why := (*Refusal)(nil)
		if authorities || now.After(c.shown[0].NotAfter) {
			_, why = verify(c.shown, m.roots, c.side, now)
		}
		if why != nil {
			g.stats.dropped.Add(1)
			g.log.Info("connection closed: its certificate does not hold any more", "remote", c.RemoteAddr(), "why", why.String())
			c.Close() // whoever uses it finds out
		}
	}
}

// Listener puts TLS on a listener, which it closes if it must not be used: plain text beyond loopback. The handshake is made by
// whoever first reads from a connection, within its deadlines, never by Accept.
func (g *Guard) Listener(ln net.Listener, port Port) (net.Listener, error) {
	local := isLoopback(ln.Addr())
	switch {
	case g.Secure() && (port != OpsPort || !local):
		return &listener{ln, g, port, g.config(port, Accepting)}, nil
	case local || g != nil && g.settings.PlainText:
		return ln, nil
	}
	err := &cell.Error{Op: "pki.listen", Kind: cell.Refused, Detail: fmt.Sprintf("%s listens beyond loopback (%s port) without certificates", ln.Addr(), port),
		Hint: "set --certs to a directory that `physalia cert issue` made; or listen on 127.0.0.1; or accept with --plain-text-beyond-loopback that anybody who reaches the port is believed"}
	if failed := ln.Close(); failed != nil {
		err.Err = failed
	}
	return nil, err
}

// Dial opens raw connections; nil stands for TCP.
type Dial = func(ctx context.Context, network, addr string) (net.Conn, error)

// Dialer puts TLS on what raw opens, to ports of a kind. A raw that is not nil is trusted with plain text, if there are no certificates.
// The errors of the handshake are *cell.Errors of kind Refused.
func (g *Guard) Dialer(port Port, raw Dial) Dial {
	given := raw != nil
	if !given {
		raw = new(net.Dialer).DialContext
	}
	if g.Secure() {
		config := g.config(port, Dialling)
		return func(ctx context.Context, network, addr string) (net.Conn, error) {
			nc, err := raw(ctx, network, addr)
			if err != nil {
				return nil, err
			}
			return g.greet(ctx, nc, config, port)
		}
	}
	if given || g != nil && g.settings.PlainText {
		return raw
	}
	return loopbackOnly(raw)
}

// loopbackOnly opens connections that do not leave this machine.
func loopbackOnly(raw Dial) Dial {
	return func(ctx context.Context, network, addr string) (net.Conn, error) {
		nc, err := raw(ctx, network, addr)
		if err == nil && !isLoopback(nc.RemoteAddr()) {
			nc.Close() // not a byte was sent
			return nil, &cell.Error{Op: "pki.dial", Kind: cell.Refused, Detail: addr + " is beyond loopback, and this side has no certificates",
				Hint: "set --certs to a directory that `physalia cert issue` made, or accept with --plain-text-beyond-loopback that nothing is encrypted and nobody proves who he is"}
		}
		return nc, err
	}
}

// greet shakes hands on a connection that this side has opened, and closes it when that fails.
func (g *Guard) greet(ctx context.Context, nc net.Conn, config *tls.Config, port Port) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, handshakeMax)
	defer cancel()
	c := &conn{Conn: tls.Client(nc, config), raw: nc, guard: g, port: port, side: Dialling}
	if err := c.HandshakeContext(ctx); err != nil {
		nc.Close() // the reason is known
		return nil, err
	}
	return c, nil
}

// config is how this process does TLS at a port, on one side. It looks the material up for every connection. The standard
// library's own verification is off because it insists on host names, and because it would go on with the authorities of the
// start; VerifyConnection does all of it.
func (g *Guard) config(port Port, side Side) *tls.Config {
	return &tls.Config{
		MinVersion:             tls.VersionTLS13,
		SessionTicketsDisabled: true, // every connection proves itself anew
		ClientAuth:             tls.RequestClientCert,
		InsecureSkipVerify:     true,
		GetCertificate:         func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return &g.material.Load().pair, nil },
		GetClientCertificate:   func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return &g.material.Load().pair, nil },
		VerifyConnection: func(s tls.ConnectionState) error {
			m := g.material.Load()
			chain, why := verify(s.PeerCertificates, m.roots, side, g.now())
			if why == nil {
				_, why = Judge(m.Identity, port, side, chain)
			}
			if why != nil {
				return why // not assigned to an error before, in which a nil pointer would not be nil
			}
			return nil
		},
	}
}

// isLoopback tells whether an address cannot be reached from elsewhere.
func isLoopback(a net.Addr) bool {
	switch a := a.(type) {
	case *net.TCPAddr:
		return a.IP.IsLoopback()
	case *net.UDPAddr:
		return a.IP.IsLoopback()
	}
	return false
}

// CheckGossip says whether gossip may run at an address with or without a key, as an error of kind Refused.
func (g *Guard) CheckGossip(at net.IP, keyed bool) error {
	if keyed || at != nil && at.IsLoopback() || g != nil && g.settings.PlainText {
		return nil
	}
	return &cell.Error{Op: "pki.gossip", Kind: cell.Refused, Detail: "gossip beyond loopback without a key: anybody who reaches the port could spread wrong addresses",
		Hint: "`physalia cert issue` writes gossip.keys beside a server's certificate; or accept that with --plain-text-beyond-loopback"}
}

// classify finds the reason of a failed handshake.
func classify(err error) *Refusal {
	var known *Refusal
	var header tls.RecordHeaderError
	var remote *net.OpError
	var late net.Error
	switch {
	case errors.As(err, &known):
		return known
	case errors.As(err, &header):
		return because(PlainText, "the other side does not speak TLS")
	case errors.As(err, &remote) && remote.Op == "remote error":
		return because(RefusedThere, "%v", err)
	case errors.As(err, &late) && late.Timeout():
		return because(SlowStart, "%v", err)
	}
	return because(Broken, "%v", err)
}
