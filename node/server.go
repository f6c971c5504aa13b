package node

import (
	"cmp"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	mathrand "math/rand/v2"
	"net"
	"net/http"
	"slices"
	"sync"
	"time"

	"physalia/cell"
	"physalia/internal/access"
	"physalia/internal/pki"
	"physalia/internal/rpc"
	"physalia/internal/wire"
	"physalia/node/core"
	"physalia/node/datadir"
	"physalia/node/mesh"
	"physalia/node/storage"
)

// Server is one storage server of a colony: it hosts the nodes of many cells. Its methods are safe for concurrent use.
//
// The fields of the first group are set by Start, step by step, before the goroutine that reads them is started, and never
// change. A step that fails leaves the later ones nil, which close respects.
type Server struct {
	cfg      Config
	identity datadir.Identity
	boot     uint64

	guard     *pki.Guard
	gate      *access.Gate
	dir       *datadir.Dir
	storage   *storage.Pebble
	inbox     *inbox
	loop      *loop
	mesh      *mesh.Mesh
	clients   *rpc.Server
	gossip    *gossip
	agent     *controlAgent
	addresses *addressBook
	metrics   *metrics
	suspicion suspicion
	ops       *http.Server
	gates     *gates
	room      room // keepRoom owns it, once the loop runs

	peerAddr, clientAddr, gossipAddr, opsAddr string // as others reach them

	vitals vitals

	ctx    context.Context
	cancel context.CancelFunc
	wg     sync.WaitGroup // the goroutines of goRun

	failOnce sync.Once
	failure  error         // written once, before failed is closed
	failed   chan struct{} // closed when the server cannot go on

	closeOnce sync.Once
	closeErr  error
}

// Start opens the data directory and serves until Close. It returns once the server listens; its nodes serve as soon as
// the restart scan is done (/readyz), and requests that come earlier are told Unavailable. Errors say what is wrong and
// what to do: a foreign data directory, a port in use. After an error nothing is left running or locked.
func Start(cfg Config) (*Server, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	s := &Server{cfg: cfg, inbox: newInbox(cfg.InboxMax), failed: make(chan struct{})}
	s.vitals.began = time.Now()
	s.ctx, s.cancel = context.WithCancel(context.Background())
	s.agent = newControlAgent(s)
	// The order matters: what a step uses was made by an earlier one. The mesh has to listen before gossip can tell where.
	for _, step := range []func() error{s.openGuard, s.openDir, s.openStorage, s.openLoop, s.listenPeers, s.listenClients, s.joinGossip, s.listenOps} {
		if err := step(); err != nil {
			return nil, errors.Join(err, s.Close())
		}
	}
	s.addresses.learn(s.identity.Server, address{Boot: s.boot, Peer: s.peerAddr, Client: s.clientAddr, Gossip: s.gossipAddr})
	s.goRun(func() {
		if err := s.loop.run(); err != nil {
			s.fail(err)
		}
	})
	if len(cfg.Control) > 0 {
		s.goRun(func() { s.agent.run(s.ctx) })
	}
	s.gossip.seeds(slices.Concat(s.addresses.gossip(hopeMax, func(id cell.ServerID) bool { return id != s.identity.Server }), cfg.Join))
	s.goRun(func() { s.gossip.run(s.ctx) })
	s.goRun(func() { s.gossip.keep(s.ctx, s.guard) })
	s.goRun(func() { s.guard.Run(s.ctx) })
	s.goRun(s.keepAddresses)
	s.goRun(s.keepSmall)
	s.goRun(s.keepRoom)
	return s, nil
}

// goRun starts a goroutine that ends when ctx or the loop's stop does; Close waits for it.
func (s *Server) goRun(f func()) {
	s.wg.Add(1)
	go func() {
		defer s.wg.Done()
		f()
	}()
}

// openDir locks the data directory and learns who this server is.
func (s *Server) openDir() error {
	dir, err := datadir.Open(datadir.Config{Path: s.cfg.DataDir, Random: rand.Reader, Now: time.Now(), Logger: s.cfg.Logger,
		Want: datadir.Identity{Colony: s.cfg.Colony, Name: s.cfg.Name, Brick: s.cfg.Brick, Rack: s.cfg.Rack, Power: s.cfg.Power, Color: s.cfg.Color}})
	if err != nil {
		return err
	}
	s.dir, s.identity, s.boot = dir, dir.Identity(), dir.Boot()
	s.metrics = newMetrics(s.identity.Brick, s.identity.Color)
	s.metrics.certificates(s.guard)
	s.inbox.refused = s.metrics.refusal
	s.gates = newGates(s.cfg.Identity, s.vitals.now, s.metrics.refusal)
	s.metrics.bounds(&s.cfg, s.gates.identities)
	s.exportAccess()
	s.addresses, err = openAddressBook(dir, s.cfg.Logger, s.moved)
	return err
}

// moved passes on where another server is now: the loop names it to clients, and the mesh need not wait to dial.
func (s *Server) moved(id cell.ServerID, a address) {
	if a.Client != "" {
		s.inbox.address(id, a.Client)
	}
	if s.mesh != nil {
		s.mesh.Retry(id)
	}
}

// openStorage opens Pebble; an error of the disk later stops the server for good.
func (s *Server) openStorage() error {
	store, err := storage.OpenPebble(storage.PebbleConfig{Dir: s.dir.StorePath(), Logger: s.cfg.Logger, MustExist: s.dir.Stored(),
		MemTableBytes: uint64(s.cfg.MemTableBytes),
		OnSlow:        func(op string, d time.Duration) { s.cfg.Logger.Warn("slow disk", "op", op, "took", d) },
	}, &storageSink{s.inbox, s.fail})
	if err != nil {
		return err
	}
	s.storage = store
	if s.dir.Stored() {
		return nil
	}
	return s.dir.MarkStored()
}

func (s *Server) openLoop() error {
	cfg := core.Default()
	cfg.Server, cfg.Boot, cfg.Capacity = s.identity.Server, s.boot, s.cfg.Capacity
	cfg.Recovered = s.storage.Recovered()
	cfg.ProposeSet, cfg.Unpacked = cmp.Or(s.cfg.CommandSet, wire.CommandSet), s.cfg.CommandSet != 0
	s.metrics.commandSet.Set(float64(cfg.ProposeSet))
	if path, err := memoryFor(string(s.identity.Server)); err != nil {
		s.cfg.Logger.Info("a node over which this process dies will not be found out", "err", err)
	} else {
		cfg.Working, cfg.Suspect = s.suspicion.open(path, s.cfg.Logger)
	}
	cfg.SupportPeriod, cfg.LivenessPeriod, cfg.HeartbeatEvery = s.cfg.SupportPeriod, s.cfg.SupportPeriod, s.cfg.SupportPeriod*3/20
	switch {
	case s.cfg.BalancePerSecond < 0:
		cfg.BalancePerSecond = 0
	case s.cfg.BalancePerSecond > 0:
		cfg.BalancePerSecond = s.cfg.BalancePerSecond
	}
	if s.cfg.NoSweep {
		cfg.SweepPerTick = 0
	}
	var seed [32]byte
	if _, err := rand.Read(seed[:]); err != nil {
		return err
	}
	cfg.Dice = mathrand.New(mathrand.NewChaCha8(seed))
	cfg.NamesKey = cfg.Dice.Uint64()
	cfg.Events = s.metrics.events(s)
	s.loop = &loop{server: s, inbox: s.inbox, storage: s.storage, vitals: &s.vitals, stop: make(chan struct{}), beats: cfg.HeartbeatEvery, spare: newIntake(), clock: s.vitals.now,
		turns: newTurns(s.cfg.Admission),
		core:  core.New(cfg, s.vitals.now(), storage.GetBatch)}
	if err := s.openRoom(s.loop.core); err != nil {
		return err
	}
	s.vitals.turn.Store(int64(s.vitals.now())) // opening the disk may have taken long, and is not the loop's fault
	return nil
}

// listenPeers starts the mesh. From here on peers may be heard, and wait in the inbox for the loop.
func (s *Server) listenPeers() error {
	ln, err := s.listen(pki.PeerPort, s.cfg.ListenPeer)
	if err != nil {
		return err
	}
	s.peerAddr = s.advertised(ln.Addr())
	s.mesh = mesh.New(mesh.Config{Hello: s.hello(), Listener: ln, Resolve: s.addresses.peer, Logger: s.cfg.Logger,
		Beat: s.inbox.beat, Gone: s.inbox.gone, Messages: s.peerMessages, Dial: s.guard.Dialer(pki.PeerPort, s.cfg.dialPeer),
		Refused: func(err error) { s.refused(pki.PeerPort, err) }, Limits: s.cfg.peerLimits, FrameTimeout: s.cfg.stall})
	s.metrics.meshStats(&s.mesh.Stats)
	return nil
}

// peerMessages queues one frame of a peer for the loop, on the goroutine of its lane.
func (s *Server) peerMessages(batch *mesh.Batch) {
	if !s.inbox.peerMessages(batch) {
		s.metrics.dropped.WithLabelValues("inbox is full").Add(float64(len(batch.Messages)))
		batch.Recycle()
	}
}

func (s *Server) listenClients() error {
	ln, err := s.listen(pki.ClientPort, s.cfg.ListenClient)
	if err != nil {
		return err
	}
	s.clientAddr = s.advertised(ln.Addr())
	s.clients = rpc.NewServer(ln, rpc.Config{Hello: s.hello(), FrameMax: wire.ClientFrameMax, Handler: clientFace{s}, Meter: s.gates.open,
		FrameTimeout: s.cfg.stall, WriteTimeout: s.cfg.stall,
		Limits: s.cfg.Connections, Check: s.checkClient, Switch: s.agent.knocks.answered, OnReject: s.rejected,
		OnClose: func(_ *rpc.Conn, err error) { s.refused(pki.ClientPort, err) }})
	return nil
}

func (s *Server) joinGossip() error {
	meta := gossipMeta{Boot: s.boot, Peer: s.peerAddr, Client: s.clientAddr}
	g, err := newGossip(s.addresses, s.identity.Server, meta, s.vitals.silentPeers, s.cfg.Logger)
	if err == nil {
		err = g.start(&s.cfg, s.guard)
	}
	if err != nil {
		return err
	}
	s.gossip, s.gossipAddr = g, g.addr()
	s.metrics.gossipPool(g.members)
	return nil
}

func (s *Server) listenOps() error {
	if s.cfg.ListenOps == "" {
		return nil
	}
	ln, err := s.listen(pki.OpsPort, s.cfg.ListenOps)
	if err != nil {
		return err
	}
	ln = rpc.GatedListener(ln, rpc.NewGate(rpc.Limits{Connections: opsConnections}), func(err error) { s.refused(pki.OpsPort, err) })
	s.opsAddr = ln.Addr().String()
	s.ops = s.opsServer()
	s.goRun(func() {
		if err := s.ops.Serve(ln); !errors.Is(err, http.ErrServerClosed) {
			s.cfg.Logger.Error("ops listener ended", "err", err)
		}
	})
	return nil
}

// listen opens a port; beyond loopback it is a secure one, or none.
func (s *Server) listen(port pki.Port, addr string) (net.Listener, error) {
	ln, err := net.Listen("tcp", addr)
	if err != nil {
		return nil, &cell.Error{Op: "node.start", Kind: cell.Refused, Detail: fmt.Sprintf("cannot listen for %s connections on %s", port, addr),
			Err: err, Hint: fmt.Sprintf("is the port in use? set --listen-%s", port)}
	}
	return s.guard.Listener(ln, port)
}

// advertised is the address that others reach a listener at.
func (s *Server) advertised(addr net.Addr) string {
	_, port, err := net.SplitHostPort(addr.String())
	if err != nil || s.cfg.Advertise == "" {
		return addr.String()
	}
	return net.JoinHostPort(s.cfg.Advertise, port)
}

func (s *Server) hello() wire.Hello {
	h := wire.Hello{Min: wire.ProtocolMin, Max: wire.ProtocolMax, Colony: s.identity.Colony, Brick: s.identity.Brick,
		Color: s.identity.Color, Server: s.identity.Server, Boot: s.boot}
	h.SetCommands(wire.CommandSet)
	return h
}

func (s *Server) registration() *wire.Registration {
	return &wire.Registration{Server: s.identity.Server, Name: s.identity.Name, Colony: s.identity.Colony, Brick: s.identity.Brick,
		Rack: s.identity.Rack, Power: s.identity.Power, Color: s.identity.Color, PeerAddr: s.peerAddr, ClientAddr: s.clientAddr,
		GossipAddr: s.gossipAddr, Boot: s.boot, Nodes: uint64(s.vitals.nodes.Load()), Capacity: uint64(s.cfg.Capacity)}
}

// keepAddresses writes the address book when it changed, at most once a second.
func (s *Server) keepAddresses() {
	ticker := time.NewTicker(time.Second)
	defer ticker.Stop()
	for {
		select {
		case <-s.ctx.Done():
			return
		case <-ticker.C:
			if err := s.addresses.save(); err != nil {
				s.cfg.Logger.Warn("address book was not written", "err", err)
			}
		}
	}
}

// Identity tells who this server is.
func (s *Server) Identity() datadir.Identity { return s.identity }

// PeerAddr, ClientAddr, GossipAddr and OpsAddr are where this server is reached; OpsAddr is empty without an ops listener.
func (s *Server) PeerAddr() string { return s.peerAddr }

// ClientAddr is where clients reach this server.
func (s *Server) ClientAddr() string { return s.clientAddr }

// GossipAddr is where other servers' gossip reaches this server.
func (s *Server) GossipAddr() string { return s.gossipAddr }

// OpsAddr is where /metrics, /livez and /readyz are, or empty.
func (s *Server) OpsAddr() string { return s.opsAddr }

// Failed is closed when the server cannot go on, for example after a disk error; Err then says why. The process should
// exit: nothing that was acknowledged is lost.
func (s *Server) Failed() <-chan struct{} { return s.failed }

// Err says why the server failed, or nil.
func (s *Server) Err() error {
	select {
	case <-s.failed:
		return s.failure
	default:
		return nil
	}
}

// fail notes why the server cannot go on. It takes no more requests and sends no more heartbeats, so that others take over
// what it led, and leaves the rest to whoever watches Failed. From any goroutine.
func (s *Server) fail(err error) {
	s.failOnce.Do(func() {
		s.failure = err
		s.cfg.Logger.Error("the server stops", "err", err)
		close(s.failed)
		s.inbox.close()
	})
}

// Close stops serving, waits for all goroutines, and releases the data directory. It may be called more than once. It
// waits for the disk, and up to a few seconds for an attempt to join gossip that is under way. Only memberlist may keep a
// goroutine for another second, which touches nothing of this server.
func (s *Server) Close() error {
	s.closeOnce.Do(func() { s.closeErr = s.close() })
	return s.closeErr
}

// close undoes the steps of Start, as far as they came. First nothing new comes in, then the loop ends, then what the loop
// uses: the mesh and storage must not be closed under it, while the inbox takes what is late and forgets it.
func (s *Server) close() error {
	var errs []error
	s.cancel()
	s.inbox.close()
	if s.clients != nil {
		errs = append(errs, s.clients.Close())
	}
	if s.ops != nil {
		errs = append(errs, closeOps(s.ops))
	}
	if s.loop != nil {
		close(s.loop.stop)
	}
	s.wg.Wait()
	if s.gossip != nil {
		errs = append(errs, s.gossip.stop())
	}
	if s.mesh != nil {
		s.mesh.Close()
	}
	if s.storage != nil {
		errs = append(errs, s.storage.Close())
	}
	if s.addresses != nil {
		errs = append(errs, s.addresses.save())
	}
	errs = append(errs, s.suspicion.close())
	if s.dir != nil {
		errs = append(errs, s.dir.Close())
	}
	return errors.Join(errs...)
}
