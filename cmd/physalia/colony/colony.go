package colony

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"physalia/cell"
)

// Spec says what colony to run.
type Spec struct {
	// Binary is the program that every child executes.
	Binary string
	// Dir holds data directories and logs, one pair per process.
	Dir string
	// Bricks and Colors span the pools; Servers is the number of servers in each pool.
	Bricks, Colors, Servers int
	// Racks and Powers are the failure domains of each brick, over which its servers are dealt in turn.
	Racks, Powers int
	// Capacity is how many nodes each server is willing to host, and MemTableBytes the size of its disk's write buffer; zero
	// takes the server's default.
	Capacity, MemTableBytes int
	// Crowded has one process host all servers, by the hidden command `bench servers`: for questions about many servers on a
	// machine with few processors. They have a process, a log and a way to be killed in common, and Colony.Servers is empty.
	Crowded bool
	// Instances is how many control processes there are, which share the store that the URL Store names; zero: one, with a store
	// of its own.
	Instances int
	Store     string
	// ControlArgs is added to the command line of the control plane, for trials that need other limits than users do.
	ControlArgs []string
	// ServerArgs is added to the command line of every server.
	ServerArgs []string
	// Copies is how many control processes there are beside the one that servers know: copies of discovery and nothing else, which
	// learn what they know from each other.
	Copies int
	// Secure gives every process a certificate, below Dir: all connections are TLS. See Spec.User for the trial's own.
	Secure bool
	// Host says where the process of a name runs; nil: all of them on loopback.
	Host func(name string) Host
}

// Host is a place for processes.
type Host struct {
	Addr  string   // IP address of its ports
	Enter []string // what stands before the binary to run it there, for example to enter a network namespace
}

// host is where a process runs.
func (s Spec) host(name string) Host {
	if s.Host == nil {
		return Host{Addr: loopback}
	}
	return s.Host(name)
}

// Check reports what is wrong with a Spec, as a *cell.Error of kind Invalid, or nil.
func (s Spec) Check() error {
	for _, n := range []struct {
		name  string
		value int
		most  int
	}{{"bricks", s.Bricks, 16}, {"colors", s.Colors, 8}, {"servers", s.Servers, 64}, {"racks", s.Racks, 64}, {"powers", s.Powers, 64}, {"copies", 1 + s.Copies, 16}} {
		if n.value < 1 || n.value > n.most {
			return &cell.Error{Op: "colony", Kind: cell.Invalid, Detail: fmt.Sprintf("%s is %d", n.name, n.value), Hint: fmt.Sprintf("use 1 to %d", n.most)}
		}
	}
	return nil
}

// Server is one server process and where it is. Its addresses stay the same across restarts.
type Server struct {
	*Process
	Place
	Peer, Client, Gossip, Ops string // addresses
}

// Place is where a server stands.
type Place struct{ Brick, Color, Rack, Power string }

// Place is where the i-th server stands: pools are filled one after the other, and each deals its servers over racks and power
// domains in turn.
func (s Spec) Place(i int) Place {
	pool, place := i/s.Servers, i%s.Servers
	return Place{Brick: fmt.Sprintf("b%d", pool/s.Colors+1), Color: colors[pool%s.Colors],
		Rack: fmt.Sprintf("r%d", place%s.Racks+1), Power: fmt.Sprintf("p%d", place%s.Powers+1)}
}

// Count is the number of servers.
func (s Spec) Count() int { return s.Bricks * s.Colors * s.Servers }

// ServerName is what the i-th server is called.
func ServerName(i int) string { return fmt.Sprintf("s%d", i+1) }

// Name is what every colony started here is called.
const Name = "local"

const loopback = "127.0.0.1"

// storeTTL is short, so that a trial sees an instance take over within seconds.
const storeTTL = 3 * time.Second

// Colony is a running colony.
type Colony struct {
	Control     *Process
	ControlAddr string
	ControlOps  string
	Instances   []*Instance // all control processes that share the store, that one first
	Copies      []*Instance // further copies of discovery
	Servers     []*Server
	Crowd       *Process // hosts all servers of a crowded colony; else nil
}

// Instance is one control process and where it is.
type Instance struct {
	*Process
	Addr, Ops string
}

// colors are the names that colors get, in order.
var colors = []string{"red", "blue", "green", "amber", "violet", "teal", "pink", "brown"}

// Start starts the control plane and all servers; it does not wait until they serve. When one cannot be started, it
// ends the others and says why.
func Start(s Spec) (*Colony, error) {
	if err := s.Check(); err != nil {
		return nil, err
	}
	c, err := plan(s)
	if err != nil {
		return nil, err
	}
	for _, p := range c.processes() {
		if err := p.Start(); err != nil {
			return nil, errors.Join(err, c.Close(context.Background()))
		}
	}
	return c, nil
}

// plan lays the colony out: names, places, ports and command lines. Servers are dealt over racks and power domains in turn,
// so that any seven consecutive ones of a pool satisfy placement where the numbers allow it at all. Every process gets a
// directory named after it, and a log beside it.
func plan(s Spec) (*Colony, error) {
	count := s.Count()
	instances := max(1, s.Instances)
	if s.Crowded {
		count = 0 // its servers choose ports of their own
	}
	ports, err := freePorts(2*instances + 2*s.Copies + 4*count)
	if err != nil {
		return nil, err
	}
	next := func(name string) string {
		addr := net.JoinHostPort(s.host(name).Addr, strconv.Itoa(ports[0]))
		ports = ports[1:]
		return addr
	}
	c := &Colony{}
	for i := range instances {
		name := "control"
		if i > 0 {
			name = fmt.Sprintf("control%d", i+1)
		}
		c.Instances = append(c.Instances, &Instance{Addr: next(name), Ops: next(name), Process: &Process{Name: name}})
	}
	for i := range s.Copies {
		name := fmt.Sprintf("copy%d", i+1)
		c.Copies = append(c.Copies, &Instance{Addr: next(name), Ops: next(name), Process: &Process{Name: name}})
	}
	c.ControlAddr, c.ControlOps = c.Instances[0].Addr, c.Instances[0].Ops
	for _, v := range c.Instances {
		v.Process = s.control(v.Name, v.Addr, v.Ops, c.DiscoveryAddrs())
		if s.Store != "" {
			v.Args = append(v.Args, "--store", s.Store, "--store-ttl", storeTTL.String())
		}
	}
	c.Control = c.Instances[0].Process
	for _, v := range c.Copies {
		v.Process = s.control(v.Name, v.Addr, v.Ops, c.DiscoveryAddrs())
	}
	if s.Crowded {
		c.Crowd = s.process("servers", "bench", "servers", "--bricks", strconv.Itoa(s.Bricks), "--colors", strconv.Itoa(s.Colors),
			"--servers", strconv.Itoa(s.Servers), "--racks", strconv.Itoa(s.Racks), "--powers", strconv.Itoa(s.Powers),
			"--control-plane", strings.Join(c.ControlAddresses(), ","), "--capacity", strconv.Itoa(s.Capacity), "--memtable-bytes", strconv.Itoa(s.MemTableBytes))
	}
	for i := range count {
		at, name := s.Place(i), ServerName(i)
		v := &Server{Place: at,
			Peer: next(name), Client: next(name), Gossip: next(name), Ops: next(name),
		}
		v.Process = s.process(name, "server", "--name", name,
			"--brick", v.Brick, "--color", v.Color, "--rack", v.Rack, "--power", v.Power,
			"--listen-peer", v.Peer, "--listen-client", v.Client, "--listen-gossip", v.Gossip, "--listen-ops", v.Ops,
			"--control-plane", strings.Join(c.ControlAddresses(), ","), "--capacity", strconv.Itoa(s.Capacity), "--memtable-bytes", strconv.Itoa(s.MemTableBytes))
		v.Args = append(v.Args, s.ServerArgs...)
		c.Servers = append(c.Servers, v)
	}
	for _, p := range c.processes() {
		if err := os.MkdirAll(filepath.Join(s.Dir, p.Name), 0o755); err != nil {
			return nil, err
		}
		// What the caller's environment says of certificates is for the caller; an empty variable counts as unset.
		p.Env = append(p.Env, "PHYSALIA_CERTS=", "PHYSALIA_PLAIN_TEXT_BEYOND_LOOPBACK=")
	}
	return c, s.certify(c)
}

// control makes a control process, which is told of all copies of discovery but itself.
func (s Spec) control(name, addr, ops string, all []string) *Process {
	args := []string{"--name", name, "--listen", addr, "--listen-ops", ops}
	if others := slices.DeleteFunc(all, func(a string) bool { return a == addr }); len(others) > 0 {
		args = append(args, "--discovery-copies", strings.Join(others, ","))
	}
	return s.process(name, "control", append(args, s.ControlArgs...)...)
}

// DiscoveryAddrs are where clients may look cells up: every control process, the one that servers know first.
func (c *Colony) DiscoveryAddrs() []string {
	all := []string{c.ControlAddr}
	for _, v := range c.Copies {
		all = append(all, v.Addr)
	}
	return all
}

// process makes a child with its own directory and log.
func (s Spec) process(name, command string, args ...string) *Process {
	line := append([]string{command, "--data-dir", filepath.Join(s.Dir, name), "--colony", Name}, args...)
	return &Process{Name: name, Args: line, Env: s.environment(), Log: filepath.Join(s.Dir, name+".log"), binary: append(s.host(name).Enter, s.Binary)}
}

// environment gives each child its share of the processors.
func (s Spec) environment() []string {
	if !s.shares() {
		return nil
	}
	return []string{fmt.Sprintf("GOMAXPROCS=%d", s.Share())}
}

// shares reports whether each process gets a share of the processors, and nobody decided otherwise already.
func (s Spec) shares() bool { return os.Getenv("GOMAXPROCS") == "" && !s.Crowded }

// Share is how many processors a process of the colony, or one with clients, uses at once: at least one. More processes than processors would
// otherwise have each runtime schedule for all of them, and spend a tenth of the time on looking for work that is not there.
func (s Spec) Share() int {
	if !s.shares() {
		return runtime.GOMAXPROCS(0)
	}
	return max(1, runtime.NumCPU()/s.Count())
}

// ControlAddresses are where the control plane is reached.
func (c *Colony) ControlAddresses() (all []string) {
	for _, i := range c.Instances {
		all = append(all, i.Addr)
	}
	return all
}

// processes lists all children, the control plane first.
func (c *Colony) processes() []*Process {
	var all []*Process
	for _, v := range slices.Concat(c.Instances, c.Copies) {
		all = append(all, v.Process)
	}
	for _, s := range c.Servers {
		all = append(all, s.Process)
	}
	if c.Crowd != nil {
		all = append(all, c.Crowd)
	}
	return all
}

// Failed describes the first child that ended although nobody asked it to, or returns nil.
func (c *Colony) Failed() error {
	for _, p := range c.processes() {
		if err := p.Failed(); err != nil {
			return err
		}
	}
	return nil
}

// The children end at the same time; one after the other, a colony of 32 would take half a minute.
//
// Close ends every child, politely until ctx ends, and waits for all of them.
func (c *Colony) Close(ctx context.Context) error {
	all := c.processes()
	errs := make([]error, len(all))
	var wait sync.WaitGroup
	for i, p := range all {
		wait.Go(func() { errs[i] = p.Stop(ctx) })
	}
	wait.Wait()
	return errors.Join(errs...)
}

// CPU is the processor time of all servers together, without the control plane; false when it cannot be read.
func (c *Colony) CPU() (time.Duration, bool) {
	var sum time.Duration
	for _, s := range c.processes()[len(c.Instances):] {
		d, ok := s.CPU()
		if !ok {
			return 0, false
		}
		sum += d
	}
	return sum, true
}

// Written is how many bytes all servers together have caused to be written to disks; false when it cannot be read.
func (c *Colony) Written() (int64, bool) {
	var sum int64
	for _, s := range c.processes()[len(c.Instances):] {
		n, ok := s.Written()
		if !ok {
			return 0, false
		}
		sum += n
	}
	return sum, true
}

// freePorts finds n ports that are free for TCP and UDP on loopback. They lie below the range from which the kernel
// takes the near ends of outgoing connections, so that nothing takes the port of a server that is being restarted.
func freePorts(n int) ([]int, error) {
	const lowest, highest = 12000, 32000
	if n > (highest-lowest)/2 {
		return nil, fmt.Errorf("%d ports wanted, that is too many", n)
	}
	var ports []int
	port := lowest + rand.IntN(highest-lowest)
	for range highest - lowest {
		if port++; port >= highest {
			port = lowest
		}
		if isFree(port) {
			if ports = append(ports, port); len(ports) == n {
				return ports, nil
			}
		}
	}
	return nil, fmt.Errorf("only %d of %d ports between %d and %d are free on %s", len(ports), n, lowest, highest, loopback)
}

// isFree reports whether both protocols can be listened on now. Whoever takes the port in between makes its server fail to
// start, which Failed reports.
func isFree(port int) bool {
	addr := net.JoinHostPort(loopback, strconv.Itoa(port))
	tcp, err := net.Listen("tcp", addr)
	if err != nil {
		return false
	}
	udp, err := net.ListenPacket("udp", addr)
	if err != nil {
		return tcp.Close() != nil
	}
	return tcp.Close() == nil && udp.Close() == nil
}
