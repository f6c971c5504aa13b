package client

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"fmt"
	"io"
	"sync"
	"sync/atomic"
	"time"

	"physalia/cell"
	"physalia/client/route"
	"physalia/internal/pki"
	"physalia/internal/rpc"
	"physalia/internal/wire"
)

// Client is one user of a colony: an identity for exactly-once results, a session for monotonic reads, and the routes
// and connections of all cells it has used. All methods are safe for concurrent use. It keeps about 1 KB per cell
// used, for as long as it lives.
type Client struct {
	cfg    Config
	guard  *pki.Guard
	token  atomic.Pointer[string] // as last read; nil: there is none
	rules  route.Rules
	dial   rpc.Config
	id     cell.ClientID
	seed   uint64
	origin time.Time // of the durations that package route counts in
	system bool      // cfg.Clock is the system's

	ctx    context.Context // ends with Close
	cancel context.CancelFunc

	shards   [shardCount]shard
	links    sync.Map     // address -> *link
	inFlight atomic.Int64 // calls

	spender    route.Spender
	budgetFull atomic.Bool // so that success costs no lock while nothing is wrong
	budgetMu   sync.Mutex
	budget     route.Budget

	finder  finder
	learner chan question

	exchanges, attempts sync.Pool

	stopMu  sync.Mutex // orders starts of goroutines before Close's wait
	stopped bool
	wg      sync.WaitGroup
}

// shardCount divides the cells, so that looking one up does not wait for others.
const shardCount = 64

// shard holds some of the cells.
type shard struct {
	mu    sync.RWMutex
	cells map[cell.ID]*Cell
}

// New makes a Client. It does not connect to anybody, so it does not block, and it fails only for a bad Config. When
// ctx ends, the Client is closed as far as its users see; Close must be called all the same, to wait for its goroutines.
func New(ctx context.Context, cfg Config) (*Client, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	cfg = cfg.withDefaults()
	guard, err := pki.Open(pki.Settings{Dir: cfg.CertsDir, PlainText: cfg.PlainText}, cfg.belongs, cfg.Logger)
	if err != nil {
		return nil, err
	}
	c := &Client{cfg: cfg, guard: guard, origin: cfg.Clock.Now(), budget: route.NewBudget(cfg.RetryBudget), learner: make(chan question, questionsMax)}
	_, c.system = cfg.Clock.(systemClock)
	if err := c.draw(cfg.Rand); err != nil {
		return nil, err
	}
	if err := c.readToken(); err != nil {
		return nil, err
	}
	c.rules = route.Rules{
		Servers: cfg.Servers, Preference: uint32(c.seed), Discovery: len(cfg.Control) > 0 || cfg.Snapshots != nil, AttemptTimeout: cfg.AttemptTimeout,
		BackoffMin: cfg.BackoffMin, BackoffMax: cfg.BackoffMax, FindTimeout: 2 * cfg.AttemptTimeout,
	}
	c.dial = rpc.Config{
		Hello: wire.Hello{Purpose: wire.ForClient, Colony: cfg.Colony}, FrameMax: wire.ClientFrameMax,
		HandshakeTimeout: cfg.DialTimeout, DialContext: guard.Dialer(pki.AnyPort, cfg.DialContext),
	}
	for i := range c.shards {
		c.shards[i].cells = map[cell.ID]*Cell{}
	}
	c.exchanges.New = func() any { return c.newExchange() }
	c.attempts.New = func() any { return newAttempt() }
	c.spender = spender{c}
	c.budgetFull.Store(true)
	c.finder.init(c)
	c.ctx, c.cancel = context.WithCancel(ctx)
	c.start(c.runFinder)
	c.start(c.runLearner)
	c.start(func() { guard.Run(c.ctx) })
	c.start(c.watchToken)
	return c, nil
}

// draw reads the identity and the seed.
func (c *Client) draw(from io.Reader) error {
	if from == nil {
		from = rand.Reader
	}
	var b [24]byte
	if _, err := io.ReadFull(from, b[:]); err != nil {
		return &cell.Error{Op: "client.new", Kind: cell.Invalid, Detail: "Rand has not enough bytes", Err: err, Hint: "leave Rand empty"}
	}
	copy(c.id[:], b[:16])
	c.seed = binary.BigEndian.Uint64(b[16:])
	return nil
}

// Close ends all calls (a transaction under way ends as UnknownResult), closes all connections, and waits for every
// goroutine of the Client. It may be called more than once.
func (c *Client) Close() {
	c.stopMu.Lock()
	c.stopped = true
	c.stopMu.Unlock()
	c.cancel()
	c.links.Range(func(_, l any) bool { l.(*link).close(); return true })
	c.wg.Wait()
}

// start runs f in a goroutine that Close waits for, unless the Client is closed.
func (c *Client) start(f func()) bool {
	c.stopMu.Lock()
	defer c.stopMu.Unlock()
	if c.stopped {
		return false
	}
	c.wg.Go(f)
	return true
}

// ReloadCertificates reads Config.CertsDir now rather than within seconds, for whoever has just changed it. When the new files cannot
// be used, the old ones go on, and the error says why. Without CertsDir it does nothing.
func (c *Client) ReloadCertificates() error { return c.guard.Reload() }

// ID is the Client's identity in the cells' memory of results, drawn at random by New.
func (c *Client) ID() cell.ClientID { return c.id }

// Cell returns the handle of a cell. It is cheap, it asks nobody, and it returns the same handle for the same name; a
// name that is not allowed makes every method of the handle fail as Invalid.
func (c *Client) Cell(id cell.ID) *Cell {
	s := c.shard(id)
	s.mu.RLock()
	h := s.cells[id]
	s.mu.RUnlock()
	if h != nil {
		return h
	}
	if err := id.Check(); err != nil {
		return &Cell{client: c, invalid: err}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if h = s.cells[id]; h == nil {
		h = newCell(c, id)
		s.cells[id] = h
	}
	return h
}

// known returns the handle of a cell that was used before, or nil.
func (c *Client) known(id cell.ID) *Cell {
	s := c.shard(id)
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.cells[id]
}

func (c *Client) shard(id cell.ID) *shard { return &c.shards[hash(string(id))%shardCount] }

// hash is FNV-1a.
func hash(s string) uint64 {
	h := uint64(14695981039346656037)
	for i := 0; i < len(s); i++ {
		h = (h ^ uint64(s[i])) * 1099511628211
	}
	return h
}

// now is the time as package route counts it.
func (c *Client) now() time.Duration {
	if c.system {
		return time.Since(c.origin) // half the cost of time.Now: it does not look at the date
	}
	return c.cfg.Clock.Now().Sub(c.origin)
}

// spend takes a retry from the budget that all calls share.
func (c *Client) spend() bool {
	c.budgetMu.Lock()
	defer c.budgetMu.Unlock()
	ok := c.budget.Spend(c.now())
	c.budgetFull.Store(c.budget.Full())
	return ok
}

// earn credits a call.
func (c *Client) earn() {
	if c.budgetFull.Load() {
		return
	}
	c.budgetMu.Lock()
	defer c.budgetMu.Unlock()
	c.budget.Earn()
	c.budgetFull.Store(c.budget.Full())
}

// spender shows the shared budget to package route.
type spender struct{ c *Client }

// Spend takes one retry, as route.Budget does; the time is the Client's own.
func (s spender) Spend(time.Duration) bool { return s.c.spend() }

// admit counts a call in, or refuses it; put counts it out.
func (c *Client) admit(op string, id cell.ID) error {
	if n := c.inFlight.Add(1); n > int64(c.cfg.MaxInFlight) {
		c.inFlight.Add(-1)
		return &cell.Error{Op: op, Kind: cell.Overloaded, Cell: id, RetryAfter: c.cfg.BackoffMin,
			Detail: fmt.Sprintf("%d calls of this client are in flight, allowed are %d", n-1, c.cfg.MaxInFlight),
			Hint:   "wait for some of them, or raise MaxInFlight"}
	}
	c.earn()
	return nil
}
