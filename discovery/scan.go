package discovery

import (
	"fmt"
	"slices"
	"time"

	"physalia/cell"
	"physalia/internal/wire"
)

// Pace bounds what a copy asks of others; the zero value of a field means its default. The load on this copy, and on
// everybody whom it asks, follows from these numbers and not from how much there is to learn, nor from how many connect.
type Pace struct {
	ScanEvery    time.Duration // between two comparisons with one source; default 30 s
	ChangesEvery time.Duration // between two questions to another copy for what changed; default 1 s
	PagesPerSec  int           // requests per second, of all kinds, to all sources together; default 400
	InFlight     int           // requests unanswered at any moment, one per source; default 8
	PageRoutes   int           // routes per page; default 256
}

func (p Pace) withDefaults() Pace {
	if p.ScanEvery <= 0 {
		p.ScanEvery = 30 * time.Second
	}
	if p.ChangesEvery <= 0 {
		p.ChangesEvery = time.Second
	}
	for _, d := range []struct {
		field *int
		value int
	}{{&p.PagesPerSec, 400}, {&p.InFlight, 8}, {&p.PageRoutes, 256}} {
		if *d.field <= 0 {
			*d.field = d.value
		}
	}
	p.PageRoutes = min(p.PageRoutes, wire.PullRoutesMax)
	return p
}

// Source names whom to ask: a server with a session here, or another copy by its address.
type Source struct {
	Server cell.ServerID
	Copy   string
}

// Ask is one request to be sent to a source; its answer goes to Answered. Exactly one of the requests is set.
type Ask struct {
	To       Source
	Digest   *wire.DigestRequest
	Pull     *wire.PullRequest
	Changes  *wire.ChangesRequest
	Contacts *wire.ContactsRequest

	session uint64 // of the source when it was asked
}

// Answer is what came of an Ask: the message that belongs to the request, or the error.
type Answer struct {
	Err      error
	Digests  *wire.Digests
	Pulled   *wire.Pulled
	Changes  *wire.RoutePush
	Contacts *wire.Contacts
}

// Scanner feeds a Cache: it decides whom to ask for what, and when. Each source is compared on a fixed schedule, whether or
// not anything is believed to have changed, and what differs is pulled, a page at a time. It is a plain value machine with the
// owner of its Cache, which is its own too while there are sources.
type Scanner struct {
	pace    Pace
	cache   *Cache
	sources map[Source]*source
	order   []*source // in order of arrival, for turns
	turn    int       // who is looked at first
	tokens  float64   // requests that may be sent now
	refill  time.Duration
	busy    int
	session uint64 // given out last
	stats   ScanStats
}

// ScanStats counts what a Scanner did.
type ScanStats struct {
	Sources   int // now
	Behind    int // sources now that have not been compared since their session began, or have buckets left to pull
	Asked     uint64
	Failed    uint64
	Compared  uint64 // digests answered
	Differing uint64 // buckets that differed
	Routes    uint64 // routes that came in pages
	Missed    uint64 // pushes that showed a gap
}

// source is one source with its place in the schedule.
type source struct {
	of       Source
	session  uint64
	share    *share
	busy     bool
	compared bool          // since the session began
	due      time.Duration // of the next comparison
	again    time.Duration // after a failure, not before this
	failures int

	left   []uint32 // buckets to pull
	cursor []byte   // where the first of them goes on
	sum    uint64   // of the first, when its first page was read
	at     uint64   // position at that time

	// Other copies only.
	changesDue time.Duration
	asking     bool // for contacts
	contacts   cell.ServerID
}

// NewScanner feeds a cache.
func NewScanner(p Pace, c *Cache) *Scanner {
	p = p.withDefaults()
	return &Scanner{pace: p, cache: c, sources: map[Source]*source{}, tokens: float64(p.InFlight)}
}

// Begin takes a source whose session begins, or begins anew; it is compared soon.
func (s *Scanner) Begin(now time.Duration, of Source) {
	s.End(of)
	x := &source{of: of, due: now, changesDue: now, asking: of.Copy != ""}
	if of.Copy != "" {
		x.share = newShare(wire.TableBuckets)
	} else {
		n, ok := s.cache.number[of.Server]
		if !ok {
			return // there was no room for it; the cache has counted that
		}
		if known := &s.cache.servers[n]; known.share == nil {
			known.share = newShare(wire.ShareBuckets)
		}
		x.share = s.cache.servers[n].share
		x.share.begin()
	}
	s.session++
	x.session = s.session
	s.sources[of] = x
	s.order = append(s.order, x)
}

// End forgets a source whose session is over. What was taken from a server is remembered.
func (s *Scanner) End(of Source) {
	x := s.sources[of]
	if x == nil {
		return
	}
	if x.busy {
		s.busy--
	}
	delete(s.sources, of)
	s.order = slices.DeleteFunc(s.order, func(y *source) bool { return y == x })
}

// Copies tells which other copies there are now: sessions begin with those that are new and end with those that are gone.
func (s *Scanner) Copies(now time.Duration, addresses []string) {
	for _, x := range slices.Clone(s.order) {
		if x.of.Copy != "" && !slices.Contains(addresses, x.of.Copy) {
			s.End(x.of)
		}
	}
	for _, addr := range addresses {
		if of := (Source{Copy: addr}); s.sources[of] == nil {
			s.Begin(now, of)
		}
	}
}

// Next returns what to ask now, and when to come back if nothing happens before.
func (s *Scanner) Next(now time.Duration) (asks []Ask, wake time.Duration) {
	s.tokens = min(s.tokens+(now-s.refill).Seconds()*float64(s.pace.PagesPerSec), float64(s.pace.InFlight))
	s.refill = now
	wake = now + s.pace.ScanEvery
	for i := range s.order {
		x := s.order[(s.turn+i)%len(s.order)]
		at := x.next()
		if x.busy {
			continue // its answer comes
		}
		if at > now {
			wake = min(wake, at)
			continue
		}
		if s.busy >= s.pace.InFlight {
			break // an answer comes
		}
		if s.tokens < 1 {
			wake = min(wake, now+time.Duration((1-s.tokens)/float64(s.pace.PagesPerSec)*float64(time.Second))+1)
			break
		}
		s.tokens--
		s.busy++
		s.stats.Asked++
		x.busy = true
		asks = append(asks, x.ask(now, s))
	}
	if len(s.order) > 0 {
		s.turn = (s.turn + 1) % len(s.order) // so that nobody is always behind the others
	}
	return asks, wake
}

// next is when a source is to be asked something.
func (x *source) next() time.Duration {
	at := x.due
	switch {
	case len(x.left) > 0 || x.asking:
		at = 0
	case x.of.Copy != "":
		at = min(at, x.changesDue)
	}
	return max(at, x.again)
}

// ask decides what to ask a source whose time has come. The changes of another copy come first: they are few, and whoever
// waits to pull everything must not make them wait.
func (x *source) ask(now time.Duration, s *Scanner) Ask {
	a := Ask{To: x.of, session: x.session}
	limit := uint32(s.pace.PageRoutes)
	switch {
	case x.of.Copy != "" && now >= x.changesDue && x.compared:
		a.Changes = &wire.ChangesRequest{After: x.share.end, Limit: limit}
	case x.asking:
		a.Contacts = &wire.ContactsRequest{After: x.contacts, Limit: limit}
	case len(x.left) > 0:
		a.Pull = &wire.PullRequest{Buckets: x.left, Cursor: x.cursor, Limit: limit}
	default:
		x.changesDue = max(x.changesDue, now) // without a comparison there is no position to ask from
		a.Digest = &wire.DigestRequest{Known: x.share.total()}
	}
	return a
}

// failuresMax bounds the growth of the pause after failures: about half a minute.
const failuresMax = 6

// Answered takes what came of an Ask. Routes that are refused by the cache are counted there; the first error is returned,
// as something for the log. After it, Next has new things to ask.
func (s *Scanner) Answered(now time.Duration, a *Ask, r *Answer) error {
	x := s.sources[a.To]
	if x == nil || x.session != a.session {
		return nil // of a session that is over; it was counted out when it ended
	}
	x.busy = false
	s.busy--
	if d := r.Digests; r.Err == nil && d != nil && !d.Same && len(d.Sums) != len(x.share.sums) {
		r.Err = &cell.Error{Op: wire.MethodDigest, Kind: cell.Invalid, Detail: fmt.Sprintf("%d sums, expected are %d", len(d.Sums), len(x.share.sums)),
			Hint: "compare the versions of both sides"}
	}
	if r.Err != nil {
		s.stats.Failed++
		x.failures++
		x.again = now + max(500*time.Millisecond<<min(x.failures-1, failuresMax), retryAfter(r.Err))
		return r.Err
	}
	x.failures, x.again = 0, 0
	switch {
	case a.Digest != nil && r.Digests != nil:
		s.compared(now, x, r.Digests)
	case a.Pull != nil && r.Pulled != nil:
		return s.pulled(x, a.Pull, r.Pulled)
	case a.Changes != nil && r.Changes != nil:
		return s.changed(now, x, r.Changes)
	case a.Contacts != nil && r.Contacts != nil:
		return s.contacts(now, x, r.Contacts)
	}
	return nil
}

// retryAfter is how long an error asks to be left alone.
func retryAfter(err error) time.Duration {
	if e := cell.AsError("", cell.Internal, err); e != nil {
		return min(e.RetryAfter, 30*time.Second)
	}
	return 0
}

// compared takes a source's sums; the next comparison is a full period after this one was due, or now if that is past.
func (s *Scanner) compared(now time.Duration, x *source, d *wire.Digests) {
	s.stats.Compared++
	x.due = max(x.due+s.pace.ScanEvery, now)
	var own []uint64
	if x.of.Copy != "" {
		own = s.cache.sums[:]
		x.asking, x.contacts = true, "" // constant work: whether or not anything changed
		if !x.compared {
			x.share.chained, x.share.chain, x.share.end = true, d.Position, d.Position
		}
	}
	x.compared = true
	x.left, x.cursor = x.share.compare(d, own), nil
	s.stats.Differing += uint64(len(x.left))
}

// pulled takes a page of routes.
func (s *Scanner) pulled(x *source, q *wire.PullRequest, p *wire.Pulled) error {
	err := s.take(p.Routes)
	s.stats.Routes += uint64(len(p.Routes))
	done := min(len(p.Sums), len(q.Buckets))
	for i := range done {
		sum, at := p.Sums[i], p.Position
		if i == 0 && q.Cursor != nil {
			sum, at = x.sum, x.at // what changed since its first page is in no page
		}
		if i == done-1 && p.Cursor != nil {
			x.sum, x.at, x.cursor, x.left = sum, at, p.Cursor, q.Buckets[i:]
			return err
		}
		x.share.took(q.Buckets[i], sum, at)
	}
	if x.cursor, x.left = nil, q.Buckets[done:]; done == 0 {
		x.left = nil // a source that answers nothing must not be asked for ever
	}
	return err
}

// changed takes what another copy says has changed.
func (s *Scanner) changed(now time.Duration, x *source, p *wire.RoutePush) error {
	err := s.take(p.Routes)
	if x.share.push(p) {
		s.stats.Missed++
		x.compared, x.due = false, now
	}
	if p.To == p.From || p.Lost {
		x.changesDue = now + s.pace.ChangesEvery
	}
	return err
}

// contacts takes a page of servers from another copy.
func (s *Scanner) contacts(now time.Duration, x *source, page *wire.Contacts) (first error) {
	for i := range page.Contacts {
		if err := s.cache.Contact(now, &page.Contacts[i]); err != nil && first == nil {
			first = err
		}
	}
	if x.asking = page.More && len(page.Contacts) > 0; x.asking {
		x.contacts = page.Contacts[len(page.Contacts)-1].Server
	}
	return first
}

// take puts routes into the cache and returns the first error.
func (s *Scanner) take(routes []wire.Route) (first error) {
	for i := range routes {
		if _, err := s.cache.Put(&routes[i]); err != nil && first == nil {
			first = err
		}
	}
	return first
}

// Push takes what a server says has changed. The error is that of the first route that was refused.
func (s *Scanner) Push(now time.Duration, from cell.ServerID, p *wire.RoutePush) error {
	err := s.take(p.Routes)
	x := s.sources[Source{Server: from}]
	if x != nil && x.share.push(p) {
		s.stats.Missed++
		x.due = now
	}
	return err
}

// Stats counts what the scanner did.
func (s *Scanner) Stats() ScanStats {
	st := s.stats
	st.Sources = len(s.order)
	for _, x := range s.order {
		if !x.compared || len(x.left) > 0 {
			st.Behind++
		}
	}
	return st
}
