package lifecycle

import (
	"fmt"
	"time"

	"physalia/cell"
)

// Limit is a token bucket: PerSecond on average, Burst at once after a calm.
type Limit struct {
	PerSecond float64 // above 0, at most 1,000,000
	Burst     int     // at least 1, at most 10,000,000
}

// String shows a limit as flags take it.
func (l Limit) String() string { return fmt.Sprintf("%g:%d", l.PerSecond, l.Burst) }

// check reports what is wrong with a limit, or "".
func (l Limit) check() string {
	if !(l.PerSecond >= 1e-6 && l.PerSecond <= 1e6) || l.Burst < 1 || l.Burst > 10_000_000 {
		return fmt.Sprintf("%s is not within 0.000001 to 1000000 per second, 1 to 10000000 at once", l)
	}
	return ""
}

// interval is the time in which one token comes.
func (l Limit) interval() time.Duration {
	return max(1, time.Duration(float64(time.Second)/l.PerSecond))
}

// LimitsOf are the limits of one kind of work: in the whole colony, in each brick, and at each server. A server counts for what
// is added to it and for what is removed from it.
type LimitsOf struct{ Colony, Brick, Server Limit }

// Limits are never faster than the change that is expected: what exceeds them waits, in order. They hold for beginnings; what
// has begun goes on.
type Limits struct {
	// Create counts cells, at each server nodes. The defaults let 20,000 cells come at once on fourteen servers.
	Create LimitsOf
	// Move counts replacements ByOperator, ByDrain, ByNear and ByBalance, together.
	Move LimitsOf
	// Repair counts replacements ByRepair and ByRaise. The last token of each bucket is kept for cells at the brink.
	Repair LimitsOf
}

// DefaultLimits are generous for what somebody asked for and waits for, and slow for what nobody would miss for a minute.
func DefaultLimits() Limits {
	return Limits{
		Create: LimitsOf{Colony: Limit{5000, 20000}, Brick: Limit{5000, 20000}, Server: Limit{2500, 20000}},
		Move:   LimitsOf{Colony: Limit{50, 100}, Brick: Limit{20, 40}, Server: Limit{5, 10}},
		Repair: LimitsOf{Colony: Limit{200, 200}, Brick: Limit{50, 100}, Server: Limit{25, 50}},
	}
}

// work classes, the rows of every table of buckets.
type class uint8

const (
	creations class = iota
	moves
	repairs
	classes
)

var classNames = [classes]string{"create", "move", "repair"}

func (c class) String() string { return classNames[c] }

// class is which limits a cause answers to.
func (c Cause) class() class {
	if c.isRepair() {
		return repairs
	}
	return moves
}

// of is the row of a class.
func (l *Limits) of(c class) *LimitsOf { return [classes]*LimitsOf{&l.Create, &l.Move, &l.Repair}[c] }

// withDefaults replaces zero values.
func (l Limits) withDefaults() Limits {
	d := DefaultLimits()
	for c := range classes {
		row, def := l.of(c), d.of(c)
		for _, p := range [][2]*Limit{{&row.Colony, &def.Colony}, {&row.Brick, &def.Brick}, {&row.Server, &def.Server}} {
			if *p[0] == (Limit{}) {
				*p[0] = *p[1]
			}
		}
	}
	return l
}

// check reports the first limit that is wrong, or nil.
func (l *Limits) check() error {
	for c := range classes {
		row := l.of(c)
		// Which of several wrong ones is named does not matter.
		for scope, x := range map[string]Limit{"colony": row.Colony, "brick": row.Brick, "server": row.Server} {
			if text := x.check(); text != "" {
				return invalidConfig("limit of %ss per %s: %s", c, scope, text)
			}
		}
	}
	return nil
}

// bucket is a token bucket in eight bytes: the time at which it will be full. A token costs one interval of that, so nothing has
// to be done while time passes. Its zero value is full.
type bucket struct{ full time.Duration }

// buckets has one bucket for each class.
type buckets [classes]bucket

// room tells how long it is until n tokens are there, zero when they are, and how many whole ones are there now.
func (b bucket) room(now time.Duration, l Limit, n int) (wait time.Duration, left int) {
	every := l.interval()
	owing := max(0, b.full-now)
	left = l.Burst - int((owing+every-1)/every)
	return max(0, owing-time.Duration(l.Burst-n)*every), left
}

// take spends a token that is there.
func (b *bucket) take(now time.Duration, l Limit) { b.full = max(b.full, now) + l.interval() }

// guard holds every bucket. Its memory is bounded by the bricks and servers that exist, and a decision costs a look at those
// that it names.
type guard struct {
	limits Limits
	colony buckets
	bricks map[string]*buckets

	// A bucket of moves or repairs has one token when the manager starts, so that nobody who keeps dying, and being started
	// again, can do more than one who lives.
	born  time.Duration
	awake bool // born is set
}

// start sets the time from which tokens gather.
func (g *guard) start(now time.Duration) {
	if !g.awake {
		g.born, g.awake = now, true
	}
}

// brick finds or makes the buckets of a brick.
func (g *guard) brick(name string) *buckets {
	b := g.bricks[name]
	if b == nil {
		b = &buckets{}
		g.bricks[name] = b
	}
	return b
}

// scoped is one bucket that a decision has to pass.
type scoped struct {
	bucket *bucket
	limit  Limit
	scope  string // "colony", "brick" or "server"
	name   string
}

// String names the scope for people.
func (s *scoped) String() string {
	if s.name == "" {
		return "the colony"
	}
	return s.scope + " " + s.name
}

// settle makes a bucket of moves or repairs begin with one token.
func (g *guard) settle(c class, s *scoped) {
	if c != creations {
		s.bucket.full = max(s.bucket.full, g.born+time.Duration(s.limit.Burst-1)*s.limit.interval())
	}
}

// colonyBucket is the bucket of the whole colony as it is now.
func (g *guard) colonyBucket(c class) bucket {
	s := scoped{&g.colony[c], g.limits.of(c).Colony, "colony", ""}
	g.settle(c, &s)
	return *s.bucket
}

// scopes lists the buckets of a decision: the colony's, the brick's unless it is not known yet, and the servers'.
func (g *guard) scopes(c class, brick string, servers ...*server) []scoped {
	row := g.limits.of(c)
	list := make([]scoped, 0, 2+len(servers))
	list = append(list, scoped{&g.colony[c], row.Colony, "colony", ""})
	if brick != "" {
		list = append(list, scoped{&g.brick(brick)[c], row.Brick, "brick", brick})
	}
	for _, s := range servers {
		list = append(list, scoped{&s.limits[c], row.Server, "server", string(s.id)})
	}
	for i := range list {
		g.settle(c, &list[i])
	}
	return list
}

// check tells whether every bucket has a token to spare, or which has none and for how long. Keep is how many tokens stay
// behind for others; of a bucket of one token, none can.
func (g *guard) check(now time.Duration, c class, keep int, list []scoped) *cell.Error {
	g.start(now)
	var worst *scoped
	var longest time.Duration
	for i := range list {
		if wait, _ := list[i].bucket.room(now, list[i].limit, min(1+keep, list[i].limit.Burst)); wait > longest {
			worst, longest = &list[i], wait
		}
	}
	if worst == nil {
		return nil
	}
	return &cell.Error{Kind: cell.Overloaded, RetryAfter: longest, Hint: "it waits for its turn; physalia control status shows the limits",
		Detail: fmt.Sprintf("the limit of %ss of %s, %s, is reached", c, worst, worst.limit)}
}

// take spends a token of each bucket; they were checked.
func (g *guard) take(now time.Duration, list []scoped) {
	for i := range list {
		list[i].bucket.take(now, list[i].limit)
	}
}

// brinkReserve is how many tokens of each bucket of repairs are kept for cells that cannot lose another member.
const brinkReserve = 1

// keepBack is how many tokens a replacement must leave for more urgent ones.
func (m *Manager) keepBack(in *incarnation, c Cause) int {
	if c == ByRepair && m.live(in) > in.majority() {
		return brinkReserve
	}
	return 0
}

// allowMove checks, for a replacement that may begin, the pause, the bounds of what is under way, and the limits, as far as the
// servers are known; add may be nil. With take it spends the tokens.
func (m *Manager) allowMove(in *incarnation, p *Proposal, add *server, take bool) *cell.Error {
	if err := m.paused(p.Cause.action()); err != nil {
		return err
	}
	servers := []*server{m.server(p.Remove)}
	if add != nil {
		servers = append(servers, add)
	}
	// Replacements that get nowhere are in nobody's way, or a few cells without a majority would hold up all others.
	for _, s := range servers {
		if n := s.replacing - s.stuck; n >= m.config.MovesPerServer {
			return &cell.Error{Kind: cell.Overloaded, RetryAfter: min(time.Second, m.config.RetryMax),
				Detail: fmt.Sprintf("%d replacements are under way at server %s", n, s.id), Hint: "it waits for its turn"}
		}
	}
	list := m.guard.scopes(p.Cause.class(), in.Brick.String(), servers...)
	if err := m.guard.check(m.now, p.Cause.class(), m.keepBack(in, p.Cause), list); err != nil || !take {
		return err
	}
	m.guard.take(m.now, list)
	return nil
}

// allowMoves checks the pause and the limits of a kind of replacement without regard to servers, and without regard to bricks when
// brick is empty.
func (m *Manager) allowMoves(brick string, c Cause) *cell.Error {
	if err := m.paused(c.action()); err != nil {
		return err
	}
	return m.guard.check(m.now, c.class(), 0, m.guard.scopes(c.class(), brick))
}

// allowCreation checks the limits of a creation and, once its jury is known, spends the tokens.
func (m *Manager) allowCreation(brick string, jury []cell.ServerID) *cell.Error {
	servers := make([]*server, len(jury))
	for i, id := range jury {
		servers[i] = m.server(id)
	}
	list := m.guard.scopes(creations, brick, servers...)
	err := m.guard.check(m.now, creations, 0, list)
	if err == nil && jury != nil {
		m.guard.take(m.now, list)
	}
	return err
}
