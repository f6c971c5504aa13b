package client

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"time"

	"physalia/cell"
	"physalia/internal/pki"
	"physalia/internal/wire"
)

// Config says how a Client behaves. Only an address is required: Control or Servers. Every zero field has the default
// that it names. It is copied by New.
type Config struct {
	// Colony is the name of the colony; servers of another one refuse the connection. Empty: whichever answers.
	Colony string

	// Control are addresses (host:port) of discovery copies. Any of them will do; more are asked when one does not answer
	// or does not know a cell.
	Control []string

	// Servers are client addresses of storage servers, asked when no discovery copy helps: any server that hosts a
	// member of a cell can tell the others. With Control empty, it should list every server.
	Servers []string

	// Snapshots is where discovery keeps its snapshots, read when no discovery copy answers: old news, from which pointers
	// lead on. Nil: none. Package client/snapshots opens it by URL.
	Snapshots Files

	// CallTimeout bounds a call whose ctx has no deadline; default 10 s.
	CallTimeout time.Duration

	// AttemptTimeout is the patience with one server before another member is asked; it doubles with every answer that
	// did not come within one call. Default 1 s, about the time in which a dead proposer is noticed. Shorter ones send
	// more requests twice, longer ones make a silent server more expensive: one AttemptTimeout per cell and failure, and half as much
	// again until the connection is given up.
	AttemptTimeout time.Duration

	// DialTimeout bounds one attempt to connect; default 2 s.
	DialTimeout time.Duration

	// BackoffMin is the shortest pause before an overloaded or unavailable cell is asked again, and the first window
	// of the exponential backoff; default 5 ms. BackoffMax bounds the windows; default 250 ms, so
	// that a cell whose proposer died is found soon after its successor is ready.
	BackoffMin, BackoffMax time.Duration

	// RetryBudget is how many retries may run ahead of calls, over all calls of this Client: a retry takes one from the budget,
	// unless the request before it did not leave, a call brings a fifth, a second brings a tenth of a full budget, and not less than ten. While it is empty, calls that
	// would retry wait, for a late answer or for their deadline at most: so a colony in trouble gets at most a fifth more requests than there are
	// calls, plus that trickle. Default 1000.
	RetryBudget int

	// MaxInFlight bounds the calls of this Client at any moment; those beyond end as Overloaded at once (not applied).
	// Default 65,536. Each costs about 2 KB.
	MaxInFlight int

	// CertsDir is a directory with ca.crt, tls.crt and tls.key, as `physalia cert issue` writes it. It is read again every few
	// seconds, so certificates and authorities are rotated under a running Client. Empty: plain text, with addresses on loopback
	// only unless PlainText is set, which means that nothing is encrypted and nobody proves who he is.
	CertsDir  string
	PlainText bool

	// TokenFile is a file with a token, as `physalia token issue` writes it: what this Client may do, when its certificate is a client's.
	// It is read again every few seconds. It needs CertsDir. Empty: none.
	TokenFile string

	// DialContext opens raw connections, under TLS if there are certificates; the default is TCP.
	DialContext func(ctx context.Context, network, addr string) (net.Conn, error)

	// Rand is where the Client's identity (16 bytes) and the seed of its jitter (8 bytes) are read from, in New;
	// default crypto/rand. Two clients with the same identity take each other's results for their own.
	Rand io.Reader

	// Clock tells the time; the default is the system's monotonic clock. Deadlines of a ctx are compared with it.
	Clock Clock

	// Logger takes what operators may want to know: servers that are lost or found, lookups that fail. Default: nothing.
	Logger *slog.Logger
}

// Files is an object store that can be read; its errors are *cell.Error, NotFound for a name without a value.
type Files interface {
	List(ctx context.Context, prefix string) ([]string, error) // names that begin with prefix, sorted
	Get(ctx context.Context, name string) ([]byte, error)
}

// Clock is where a Client's time comes from.
type Clock interface {
	Now() time.Time
	NewTimer(d time.Duration) Timer
}

// Timer is what a Client uses of time.Timer. After Stop or Reset, no earlier expiry is received from C.
type Timer interface {
	C() <-chan time.Time
	Reset(d time.Duration)
	Stop()
}

// systemClock is the default Clock.
type systemClock struct{}

type systemTimer struct{ *time.Timer }

func (systemClock) Now() time.Time                 { return time.Now() }
func (systemClock) NewTimer(d time.Duration) Timer { return systemTimer{time.NewTimer(d)} }
func (t systemTimer) C() <-chan time.Time          { return t.Timer.C }
func (t systemTimer) Reset(d time.Duration)        { t.Timer.Reset(d) }
func (t systemTimer) Stop()                        { t.Timer.Stop() }

// The defaults of Config.
const (
	callTimeoutDefault    = 10 * time.Second
	attemptTimeoutDefault = time.Second
	dialTimeoutDefault    = 2 * time.Second
	backoffMinDefault     = 5 * time.Millisecond
	backoffMaxDefault     = 250 * time.Millisecond
	retryBudgetDefault    = 1000
	maxInFlightDefault    = 65_536
	addressesMax          = 4096 // of Control, and of Servers
)

// Validate reports the first thing that is wrong with a Config, as a *cell.Error of kind Invalid. New calls it.
func (cfg *Config) Validate() error {
	if len(cfg.Control) == 0 && len(cfg.Servers) == 0 && cfg.Snapshots == nil {
		return bad("no address is given", "set Control to the discovery copies, or Servers to the storage servers, or Snapshots")
	}
	if len(cfg.Colony) > wire.NameBytesMax {
		return bad(fmt.Sprintf("Colony has %d bytes, allowed are %d", len(cfg.Colony), wire.NameBytesMax), "use the colony's name")
	}
	for name, list := range map[string][]string{"Control": cfg.Control, "Servers": cfg.Servers} {
		if len(list) > addressesMax {
			return bad(fmt.Sprintf("%s has %d addresses, allowed are %d", name, len(list), addressesMax), "name a part of them")
		}
		for i, addr := range list {
			if err := checkAddr(addr); err != nil {
				return bad(fmt.Sprintf("%s[%d]: %q is not an address: %v", name, i, addr, err), "write host:port")
			}
		}
	}
	for name, d := range map[string]time.Duration{"CallTimeout": cfg.CallTimeout, "AttemptTimeout": cfg.AttemptTimeout,
		"DialTimeout": cfg.DialTimeout, "BackoffMin": cfg.BackoffMin, "BackoffMax": cfg.BackoffMax} {
		if d < 0 || d > 0 && d < time.Millisecond && name != "BackoffMin" {
			return bad(fmt.Sprintf("%s is %v", name, d), "use at least 1ms, or 0 for the default")
		}
	}
	if full := cfg.withDefaults(); full.BackoffMin > full.BackoffMax {
		return bad(fmt.Sprintf("BackoffMin %v exceeds BackoffMax %v", full.BackoffMin, full.BackoffMax), "exchange them")
	}
	if cfg.RetryBudget < 0 || cfg.MaxInFlight < 0 {
		return bad(fmt.Sprintf("RetryBudget is %d, MaxInFlight %d", cfg.RetryBudget, cfg.MaxInFlight), "use positive numbers, or 0 for the default")
	}
	if cfg.TokenFile != "" && cfg.CertsDir == "" {
		return bad("TokenFile is set and CertsDir is not: the token would cross in plain text", "set CertsDir, or drop TokenFile: nobody asks for it in plain text")
	}
	return nil
}

// belongs reports certificates of another colony than the one that is wanted.
func (cfg *Config) belongs(id pki.Identity) error {
	if cfg.Colony != "" && id.Colony != cfg.Colony {
		return bad(fmt.Sprintf("the certificates are for %s, Colony is %q", id, cfg.Colony), "correct one of them")
	}
	return nil
}

func checkAddr(addr string) error {
	if len(addr) > wire.AddrBytesMax {
		return fmt.Errorf("it has %d bytes, allowed are %d", len(addr), wire.AddrBytesMax)
	}
	_, _, err := net.SplitHostPort(addr)
	return err
}

func bad(detail, hint string) error {
	return &cell.Error{Op: "client.config", Kind: cell.Invalid, Detail: detail, Hint: hint}
}

// withDefaults returns a complete configuration.
func (cfg Config) withDefaults() Config {
	orDefault(&cfg.CallTimeout, callTimeoutDefault)
	orDefault(&cfg.AttemptTimeout, attemptTimeoutDefault)
	orDefault(&cfg.DialTimeout, dialTimeoutDefault)
	orDefault(&cfg.BackoffMin, backoffMinDefault)
	orDefault(&cfg.BackoffMax, backoffMaxDefault)
	orDefault(&cfg.RetryBudget, retryBudgetDefault)
	orDefault(&cfg.MaxInFlight, maxInFlightDefault)
	if cfg.Clock == nil {
		cfg.Clock = systemClock{}
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	return cfg
}

func orDefault[T int | time.Duration](v *T, def T) {
	if *v == 0 {
		*v = def
	}
}
