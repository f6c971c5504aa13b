package blocks

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"physalia/cell"
	"physalia/sim/blockstore"
)

// Config says what to run. Every field is required.
type Config struct {
	Volumes   []cell.ID
	Partition uint32                              // of each volume; nobody else writes its record
	Open      func(server int, id cell.ID) Volume // the volume as a storage server reaches it; users share server 0's
	Servers   int                                 // storage servers; each may hold a copy of every volume
	Users     int                                 // of each volume
	Pause     time.Duration                       // between two operations of a user
	Timing    blockstore.Timing
}

// blockCount is how many blocks a partition has.
const blockCount = 8

// Trial is a block store at work.
type Trial struct {
	cfg     Config
	origin  time.Time
	volumes []*volume
	servers []*server
	users   sync.WaitGroup
	life    context.Context    // of everything here
	endLoad context.CancelFunc // users stop after their operation
	endAll  context.CancelFunc
}

// server is a storage server: a copy of each volume, dead or alive.
type server struct {
	name  string
	disks []*blockstore.State // one for each volume, owned by the copy while it lives
	kill  context.CancelFunc  // nil: dead
	wait  *sync.WaitGroup
}

// volume is a volume's network, and what is known of it.
type volume struct {
	id  cell.ID
	net network

	mu        sync.Mutex
	split     blockstore.SplitBrain
	splits    uint64
	history   []blockstore.Operation // of all users, in the order of calls
	acked     uint64                 // writes
	last      string                 // who acknowledged last, and under which fence
	lastFence cell.Fence
	lastAt    time.Duration
	handed    int           // times that somebody else acknowledged next
	longest   time.Duration // between two acknowledgements by different servers
}

// serverName is how volume records know a storage server.
func serverName(i int) string { return fmt.Sprintf("blocks-%d", i) }

// Start attaches the partitions, each to another pair of servers, and starts servers and users. The users' operations wait
// until somebody serves them; Stop ends everything.
func Start(ctx context.Context, cfg Config) (*Trial, error) {
	t := &Trial{cfg: cfg, origin: time.Now()}
	for i, id := range cfg.Volumes {
		first, second := i%cfg.Servers, (i+1)%cfg.Servers
		_, err := cfg.Open(first, id).Attach(ctx, cfg.Partition, serverName(first), serverName(second))
		var conflict *cell.VolumeConflict
		if err != nil && !errors.As(err, &conflict) { // a conflict is what a retry of a lost answer looks like
			return nil, fmt.Errorf("attach partition %d of %s: %w", cfg.Partition, id, err)
		}
		t.volumes = append(t.volumes, &volume{id: id, net: network{inbox: map[string]chan blockstore.Input{}}})
	}
	t.life, t.endAll = context.WithCancel(context.WithoutCancel(ctx))
	load, endLoad := context.WithCancel(t.life)
	t.endLoad = endLoad
	for i := range cfg.Servers {
		s := &server{name: serverName(i)}
		for range t.volumes {
			s.disks = append(s.disks, new(blockstore.State))
		}
		t.servers = append(t.servers, s)
		t.startServer(i)
	}
	for _, v := range t.volumes {
		for i := range cfg.Users {
			t.users.Go(func() { t.use(load, v, fmt.Sprintf("user-%d", i)) })
		}
	}
	return t, nil
}

// now is the time since the origin that users and copies share.
func (t *Trial) now() time.Duration { return time.Since(t.origin) }

// startServer begins a life of a storage server, with what its disks hold.
func (t *Trial) startServer(i int) {
	s := t.servers[i]
	ctx, kill := context.WithCancel(t.life)
	s.kill = kill
	s.wait = new(sync.WaitGroup)
	for n, v := range t.volumes {
		cfg := blockstore.Config{Name: s.name, Partition: t.cfg.Partition, Blocks: blockCount, Timing: t.cfg.Timing}
		for other := 1; other < t.cfg.Servers; other++ {
			cfg.Peers = append(cfg.Peers, serverName((i+other)%t.cfg.Servers))
		}
		disk := s.disks[n]
		inbox, end := v.net.listen(s.name)
		r := &runner{now: t.now, step: blockstore.New(cfg, t.now(), *disk).Step, volume: t.cfg.Open(i, v.id), inbox: inbox, partition: t.cfg.Partition}
		// The disk is written at once, so whatever is sent is durable.
		r.obey = func(e blockstore.Effects) {
			if e.Persist != nil {
				disk.Apply(e.Persist, blockCount)
			}
			for _, m := range e.Send {
				v.sent(m)
				v.net.send(m)
			}
		}
		s.wait.Go(func() { defer end(); r.run(ctx) })
	}
}

// Primary names the server that acknowledged an operation of a volume last, or nobody.
func (t *Trial) Primary(n int) string {
	v := t.volumes[n]
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.last
}

// Kill ends a storage server in the middle of whatever it does; only its disks stay.
func (t *Trial) Kill(name string) {
	for _, s := range t.servers {
		if s.name == name && s.kill != nil {
			s.kill()
			s.wait.Wait()
			s.kill = nil
		}
	}
}

// Restart starts every server that is dead. What it finds on its disks may be of a past in which it was primary.
func (t *Trial) Restart() {
	for i, s := range t.servers {
		if s.kill == nil {
			t.startServer(i)
		}
	}
}

// End ends users and servers, wherever they are. Nothing of the Trial runs afterwards; it may be called more than once.
func (t *Trial) End() {
	t.endLoad()
	t.endAll()
	t.users.Wait()
	for _, s := range t.servers {
		t.Kill(s.name)
	}
}
