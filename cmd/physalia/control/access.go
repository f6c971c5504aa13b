package control

import (
	"fmt"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"physalia/cell"
	"physalia/internal/audit"
	"physalia/internal/fleet"
	"physalia/internal/grant"
	"physalia/internal/rpc"
	"physalia/internal/wire"
)

// Every request of a client, an operator or another control process comes by here before its handler, and every answer on its way back.
// The rules are internal/grant's, the record is internal/audit's; what is written here is only which of the two concerns what.

// before decides whether the user of a connection may do what it asks, and has the answer recorded if it is an action, or denied.
func (p *Control) before(c *rpc.Conn, method string, params []byte) (fleet.Ended, *cell.Error) {
	// Both are cheap beside a request to the control plane; servers, which are many and ask often, do not come by here.
	session := p.gate.Session(c)
	refusal := p.gate.Control(session, method, params)
	denied := refusal != nil && refusal.Kind == cell.Denied
	if p.audit == nil {
		return nil, refusal
	}
	// Looking is not recorded, and somebody who is denied a thousand times a second must not push the record out of its files.
	entry, action := audit.Describe(method, params)
	if !action && !denied {
		return nil, refusal
	}
	if denied {
		ok, skipped := p.denials.take(time.Now())
		if !ok {
			return nil, refusal
		}
		entry.Skipped = skipped
	}
	// What an order itself says of its reason is what the lifecycle manager stores, so it goes first.
	entry.Who, entry.From = session.Name(), c.RemoteAddr().String()
	if entry.Why == "" {
		entry.Why = session.Reason
	}
	// The parameters are gone when the answer comes; what the entry says of them was copied.
	began := time.Now()
	return func(result wire.Message, err *cell.Error) {
		if err != nil && err.Kind == cell.NotProposer {
			return // whoever asks goes on to the active instance, which records it
		}
		entry.Answer(result, err)
		entry.Took = time.Since(began).Milliseconds()
		p.audit.Record(entry)
	}, refusal
}

// pace lets a few through per second, and counts those between.
type pace struct {
	mu      sync.Mutex
	left    float64
	at      time.Time
	skipped uint64
}

// The pace of refusals in the record: a mistake in a program's token is seen with all its requests of the first moments, and a flood
// of them takes years to push a month of orders out of eight files.
const (
	denialsBurst     = 100
	denialsPerSecond = 1
)

// take reports whether another one may pass, and how many did not since the last that did.
func (l *pace) take(now time.Time) (ok bool, skipped uint64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.at.IsZero() {
		l.left = denialsBurst
	} else {
		l.left = min(denialsBurst, l.left+now.Sub(l.at).Seconds()*denialsPerSecond)
	}
	// Whoever comes through next tells how many did not.
	l.at = now
	if l.left < 1 {
		l.skipped++
		return false, 0
	}
	skipped, l.skipped = l.skipped, 0
	l.left--
	return true, skipped
}

// openAudit opens the record of what is asked, and notes with which limits this process works.
func (p *Control) openAudit() (err error) {
	dir := p.cfg.auditDir()
	if dir == "" {
		return nil
	}
	p.audit, err = audit.Open(audit.Config{Dir: dir, FileBytes: p.cfg.AuditFileBytes, Control: p.cfg.Name, Log: p.cfg.Logger})
	if err != nil {
		return err
	}
	// Limits are flags, so the only moment at which they change is a start.
	p.note("control.start", fmt.Sprintf("limits %+v, moves per server %d, repair %+v", p.cfg.Limits, p.cfg.MovesPerServer, p.cfg.Repair))
	return nil
}

// note records what this process does of itself.
func (p *Control) note(action string, what ...string) {
	// A nil record takes entries, too, and keeps none.
	p.audit.Record(audit.Entry{Who: p.self(), Action: action, What: what, Result: "ok"})
}

// self names this process in its record.
func (p *Control) self() string {
	if m := p.guard.Material(); m != nil {
		return m.Identity.String()
	}
	return "this process"
}

// recorded is reply, with an entry for what nobody asked for: repair proposes by itself, and says why.
func (p *Control) recorded(action string, what []string, why string, reply func(*cell.Error)) func(*cell.Error) {
	began := time.Now()
	return func(err *cell.Error) {
		entry := audit.Entry{Who: p.self(), Action: action, What: what, Why: why}
		entry.Answer(nil, err)
		entry.Took = time.Since(began).Milliseconds()
		p.audit.Record(entry)
		reply(err)
	}
}

// accessHandlers take what users show of themselves, and tell operators what others have asked.
func (p *Control) accessHandlers() map[string]fleet.Handler {
	// Showing a token is allowed to everybody, and allows by itself nothing; what the others need is said in internal/grant.
	return map[string]fleet.Handler{
		wire.MethodPresent: func(r fleet.Request) { r.Reply(nil, p.gate.Present(r.Conn(), r.Params)) },
		wire.MethodAudit:   p.readAudit,
		wire.MethodInvite:  p.invite,
	}
}

// A record is told to whoever may give orders: it names cells, servers and people.
//
// readAudit answers control.audit. Files are read on a goroutine of their own, since a handler must not wait for a disk.
func (p *Control) readAudit(r fleet.Request) {
	var req wire.AuditRequest
	if !r.Decode(&req) {
		return
	}
	if req.Limit < 1 || req.Limit > wire.AuditLinesMax {
		r.Reply(nil, &cell.Error{Op: r.Method, Kind: cell.Invalid, Detail: fmt.Sprintf("limit is %d, allowed are 1 to %d", req.Limit, wire.AuditLinesMax)})
		return
	}
	// One more entry may be queued for the file than is told here: a record is written in the order of answers, not at once.
	p.wait.Go(func() {
		lines, err := p.audit.Tail(int(req.Limit), wire.AuditPageBytesMax)
		if err != nil {
			r.Reply(nil, cell.AsError(r.Method, cell.Internal, err))
			return
		}
		r.Reply(&wire.AuditPage{Lines: lines, Lost: p.audit.Lost(), Off: p.audit == nil}, nil)
	})
}

// accessMetrics exports who was denied what, who joined, and how the record does.
func (p *Control) accessMetrics(r *prometheus.Registry) {
	counter := func(name, help string, labels prometheus.Labels, value func() uint64) {
		r.MustRegister(prometheus.NewCounterFunc(prometheus.CounterOpts{Namespace: "physalia", Name: name, Help: help, ConstLabels: labels},
			func() float64 { return float64(value()) }))
	}
	// The same names as a storage server's, so that one panel shows where somebody is denied.
	for why := grant.Allowed + 1; int(why) < grant.Reasons; why++ {
		counter("requests_denied_total", "Requests of clients that had no right to them.", prometheus.Labels{"reason": why.String()},
			func() uint64 { return p.gate.Denied(why) })
	}
	counter("tokens_shown_total", "Tokens of clients that counted when they were shown.", nil, p.gate.Shown)
	counter("audit_entries_total", "Entries written to the record of what is asked.", prometheus.Labels{"result": "written"}, p.audit.Written)
	counter("audit_entries_total", "Entries written to the record of what is asked.", prometheus.Labels{"result": "lost"}, p.audit.Lost)
	// Anything but "signed" deserves a look, and "used" an alarm: somebody has seen a token that was not meant for him.
	for result := range joinResults {
		counter("joins_total", "Attempts to redeem join tokens.", prometheus.Labels{"result": joinResult(result).String()}, p.join.counts[result].Load)
	}
}
