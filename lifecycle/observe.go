package lifecycle

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"physalia/cell"
	"physalia/internal/wire"
)

// The census closes the loop: in rounds, every connected server is asked what it hosts, and the answers are compared with what is
// wanted. First all tombstones are read, then all nodes: a deleted cell of which a few nodes are left shall not be taken for a
// living one. At the end of a round whoever was heard completely is missed where he did not show (compare).
//
// The pace is in pages per second over the whole fleet. It depends on nothing else: servers that connect all at once wait in the
// queue. A server that is lost while it is asked is asked again from its first page when it returns, in this round or the next.

// observer paces the census. Its states: idle, until the next round is due; reading, while a server is queued or asked;
// comparing, while records are gone through.
type observer struct {
	round   uint32        // counts from 1 in each life; 0: none has begun
	began   time.Duration // when this round did
	state   observing
	alarmed bool // a timer will begin the next round

	graves, nodes []*scan       // to be asked for their next page
	asking        int           // pages in flight
	scans, graved int           // servers that are asked, and those of them whose tombstones are not all read
	notBefore     time.Duration // when the next page may be asked for
	ticking       bool          // a timer will look at the queues again

	after    cell.ID // compared are all names up to this one
	claims   []cell.ID
	whole    bool   // tombstones are read from the first one on
	reported uint64 // nodes, in this round
	heard    uint64 // servers, in this round
	found    []wire.Finding
	dropped  uint64 // findings beyond findingsMax

	last      []wire.Finding // of the last complete round
	lastFound uint64
	ended     uint32 // the last round that ended since the rebuild began, or since the start; 0: none
}

type observing uint8

const (
	idle observing = iota
	reading
	comparing
)

// scan is one server that is asked, from its registration to its loss or to its last page.
type scan struct {
	server *server
	boot   uint64
	nodes  bool   // the tombstones are done
	after  uint64 // cursor of the kind that is read
	tries  int    // pages that failed in a row
	ended  bool   // nobody waits for its pages any more
}

// Bounds of the census.
const (
	rebuildEvery  = time.Second // least pause between rounds of a rebuild
	comparePerRun = 4096        // records compared in one turn
	findingsMax   = 100_000     // kept in memory; more are counted
	scanTriesMax  = 10          // failures in a row after which a server is left out of the round
)

// busy reports whether the observer has something to do at once.
func (o *observer) busy() bool { return o.state == comparing }

// scanPause is the least pause between rounds, or zero for no rounds.
func (m *Manager) scanPause() time.Duration {
	switch {
	case m.mode.rebuilding && m.config.ScanEvery > 0:
		return min(rebuildEvery, m.config.ScanEvery)
	case m.mode.rebuilding:
		return rebuildEvery
	}
	return m.config.ScanEvery
}

// observe does what the census needs now: begin a round, ask for pages within the pace, or compare some records.
func (m *Manager) observe() {
	o := &m.observer
	if o.state == idle {
		m.maybeBegin()
	}
	if o.state == reading {
		m.askPages()
		if o.scans == 0 {
			o.state, o.after, o.claims = comparing, "", nil
		}
	}
	if o.state == comparing {
		m.compareSome()
	}
}

// maybeBegin begins a round when it is due and anybody is connected.
func (m *Manager) maybeBegin() {
	o := &m.observer
	pause := m.scanPause()
	if pause == 0 {
		return
	}
	if due := o.began + pause; o.round > 0 && m.now < due {
		if !o.alarmed {
			o.alarmed = true
			m.after(due-m.now, func() { o.alarmed = false })
		}
		return
	}
	var connected []*server
	for _, s := range m.servers {
		if s.up {
			connected = append(connected, s)
		}
	}
	if len(connected) == 0 {
		return // the first that connects begins it
	}
	slices.SortFunc(connected, func(a, b *server) int { return strings.Compare(string(a.id), string(b.id)) })
	o.round++
	o.began, o.state = m.now, reading
	o.reported, o.heard, o.found, o.dropped = 0, 0, nil, 0
	o.whole = o.whole || m.mode.rebuilding
	for _, s := range connected {
		m.scanServer(s)
	}
}

// scanServer queues a server for the round under way, unless it was heard completely in it.
func (m *Manager) scanServer(s *server) {
	o := &m.observer
	if o.state != reading || !s.up || s.scanned == o.round {
		return
	}
	if s.scan != nil && s.scan.boot == s.reg.Boot {
		return
	}
	m.leaveScan(s)
	if s.buried != s.reg.Boot || o.whole {
		s.graves, s.buried = 0, s.reg.Boot
	}
	s.scan = &scan{server: s, boot: s.reg.Boot, after: s.graves}
	o.scans++
	o.graved++
	o.graves = append(o.graves, s.scan)
}

// leaveScan ends what is asked of a server that is lost, or that has given up.
func (m *Manager) leaveScan(s *server) {
	if s.scan == nil {
		return
	}
	m.observer.scans--
	if !s.scan.nodes {
		m.observer.graved--
	}
	s.scan.ended = true
	s.scan = nil
}

// askPages asks for as many pages as the pace allows. Nodes are asked for when no tombstones are left to be.
func (m *Manager) askPages() {
	o := &m.observer
	pace := m.config.ScanPace
	if m.mode.rebuilding {
		pace = m.config.RebuildPace
	}
	for o.asking < m.config.Scans {
		s := o.next()
		switch {
		case s == nil:
			return
		case m.now < o.notBefore:
			o.back(s)
			if !o.ticking {
				o.ticking = true
				m.after(o.notBefore-m.now, func() { o.ticking = false })
			}
			return
		}
		o.notBefore = max(o.notBefore, m.now) + time.Second/time.Duration(pace)
		o.asking++
		method := wire.MethodGraves
		if s.nodes {
			method = wire.MethodCensus
		}
		m.call(&call{server: s.server, scan: s}, method, &wire.Census{After: s.after, Limit: uint32(m.config.ScanPage)}, m.config.CallTimeout)
	}
}

// next takes the next scan to be asked for a page, or nil.
func (o *observer) next() *scan {
	for _, q := range []*[]*scan{&o.graves, &o.nodes} {
		for len(*q) > 0 && (q == &o.graves || o.graved == 0) {
			s := (*q)[0]
			(*q)[0] = nil
			*q = (*q)[1:]
			if !s.ended {
				return s
			}
		}
	}
	return nil
}

// back puts a scan first in its queue again.
func (o *observer) back(s *scan) {
	if s.nodes {
		o.nodes = append([]*scan{s}, o.nodes...)
	} else {
		o.graves = append([]*scan{s}, o.graves...)
	}
}

// Heard takes the answer to a page of the census; one of nodes, graves and err is set.
func (m *Manager) Heard(now time.Duration, id CallID, nodes *wire.CensusPage, graves *wire.GravePage, err *cell.Error) {
	m.now = now
	c := m.calls[id]
	if c == nil || c.scan == nil {
		return
	}
	delete(m.calls, id)
	m.observer.asking--
	s := c.scan
	switch {
	case s.ended:
	case err != nil:
		m.pageFailed(s, err)
	case graves != nil:
		m.readGraves(s, graves)
	case nodes != nil:
		m.readNodes(s, nodes)
	}
}

// pageFailed asks for the page again later; after too many failures the server does not count as heard in this round.
func (m *Manager) pageFailed(s *scan, err *cell.Error) {
	if s.tries++; s.tries >= scanTriesMax {
		m.leaveScan(s.server)
		return
	}
	m.after(m.backoff(s.tries, err), func() {
		if !s.ended {
			m.observer.back(s)
		}
	})
}

// endlessPages leaves a server out of the round whose cursor does not move: its pages would never end.
func (m *Manager) endlessPages(s *scan) {
	m.find("conflict", "", 0, fmt.Sprintf("%s does not get on with telling what it hosts: stuck behind %d", s.server.id, s.after))
	m.leaveScan(s.server)
}

// readGraves takes a page of tombstones.
func (m *Manager) readGraves(s *scan, page *wire.GravePage) {
	s.tries = 0
	if page.More && page.Next <= s.after {
		m.endlessPages(s)
		return
	}
	for i := range page.Graves {
		m.grave(s.server, &page.Graves[i])
	}
	s.after = page.Next
	s.server.graves = page.Next
	if page.More && len(page.Graves) > 0 {
		m.observer.graves = append(m.observer.graves, s)
		return
	}
	s.nodes, s.after = true, 0
	m.observer.graved--
	m.observer.nodes = append(m.observer.nodes, s)
}

// readNodes takes a page of nodes.
func (m *Manager) readNodes(s *scan, page *wire.CensusPage) {
	s.tries = 0
	if n := len(page.Nodes); page.More && n > 0 && page.Nodes[n-1].Handle <= s.after {
		m.endlessPages(s)
		return
	}
	m.observer.reported += uint64(len(page.Nodes))
	for i := range page.Nodes {
		m.sight(s.server, &page.Nodes[i])
		s.after = page.Nodes[i].Handle
	}
	if page.More && len(page.Nodes) > 0 {
		m.observer.nodes = append(m.observer.nodes, s)
		return
	}
	s.server.scanned = m.observer.round
	if s.server.first == 0 {
		s.server.first = m.observer.round
	}
	m.observer.heard++
	m.leaveScan(s.server)
}

// complete reports whether everybody who is connected was heard in a round that has ended since the rebuild began.
func (m *Manager) complete() bool {
	for _, s := range m.servers {
		if s.up && (s.first == 0 || s.first > m.observer.ended) {
			return false
		}
	}
	return m.observer.ended > 0
}

// find notes something for the operator.
func (m *Manager) find(kind string, id cell.ID, inc cell.Incarnation, detail string) {
	o := &m.observer
	if len(o.found) >= findingsMax {
		o.dropped++
		return
	}
	o.found = append(o.found, wire.Finding{Kind: kind, Cell: id, Incarnation: inc, Detail: detail})
}

// compareSome goes through some records and, behind the last, through what no record explains; then the round is over.
func (m *Manager) compareSome() {
	o := &m.observer
	left := comparePerRun
	if o.claims == nil {
		done := true
		m.order.scan(o.after, o.after, func(name cell.ID) bool {
			if left == 0 {
				done = false
				return false
			}
			left--
			o.after = name
			for in := m.names[name]; in != nil; in = in.older {
				m.compare(in)
			}
			return true
		})
		if !done {
			return
		}
		o.claims = make([]cell.ID, 0, len(m.claims))
		for name := range m.claims {
			o.claims = append(o.claims, name)
		}
		slices.Sort(o.claims)
	}
	for ; left > 0 && len(o.claims) > 0; left-- {
		m.conclude(o.claims[0])
		o.claims = o.claims[1:]
	}
	if len(o.claims) == 0 {
		m.endRound()
	}
}

// endRound makes what was found what is told. Claims that want a proof have all tombstones read once more.
func (m *Manager) endRound() {
	o := &m.observer
	slices.SortStableFunc(o.found, func(a, b wire.Finding) int { return strings.Compare(string(a.Cell), string(b.Cell)) })
	o.found = slices.Compact(o.found)
	o.last, o.lastFound, o.found = o.found, uint64(len(o.found))+o.dropped, nil
	o.state, o.ended, o.claims = idle, o.round, nil
	o.whole = len(m.claims) > 0
}
