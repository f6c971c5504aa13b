package health

import (
	"context"
	"sync"
	"time"

	"physalia/cell"
	"physalia/internal/wire"
)

// inquire asks servers what they hear of those that are missed, and now and then how large their nodes are: twice per
// interval, a few questions at a time, InFlight of them at once. It costs nothing while nobody is missed but one small
// question to each server in LoadEvery.
func (o *Observer) inquire(ctx context.Context) {
	every := max(o.config.Interval/2, time.Millisecond)
	tick := time.NewTicker(every)
	defer tick.Stop()
	var next cell.ServerID
	for round := uint64(0); ; round++ {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		var questions []Question
		o.step(func(now time.Duration) []Verdict {
			questions = o.tracker.Questions(now, round)
			return nil
		})
		if len(questions) == 0 {
			questions, next = o.loads(next, every)
		}
		o.ask(ctx, questions)
	}
}

// loads picks the servers whose turn it is to tell of their nodes, so that each is asked once in LoadEvery.
func (o *Observer) loads(next cell.ServerID, every time.Duration) ([]Question, cell.ServerID) {
	o.mu.Lock()
	defer o.mu.Unlock()
	n := (len(o.tracker.order)*int(every) + int(o.config.LoadEvery) - 1) / int(o.config.LoadEvery)
	page := o.tracker.List(wire.ListServers{After: next, Limit: uint32(min(n, wire.ListLimitMax))}, time.Since(o.start))
	var out []Question
	for i := range page.Servers {
		if n == 0 {
			break
		}
		next = page.Servers[i].Registration.Server
		out = append(out, Question{Ask: next})
	}
	if !page.More {
		next = ""
	}
	return out, next
}

// ask asks and tells the tracker, about every server at once, when the last has answered or is given up.
func (o *Observer) ask(ctx context.Context, questions []Question) {
	asking, cancel := context.WithTimeout(ctx, o.config.Timeout)
	defer cancel()
	asked := o.Now()
	var mu sync.Mutex
	answers := map[cell.ServerID][]wire.PeerHeard{}
	var running sync.WaitGroup
	slots := make(chan struct{}, o.config.InFlight)
	for _, q := range questions {
		slots <- struct{}{}
		running.Go(func() {
			defer func() { <-slots }()
			report, err := o.config.Report(asking, q.Ask, &wire.ReportRequest{Peers: q.About})
			if err != nil || len(report.Peers) != len(q.About) {
				return // a witness who says nothing is none; whether he is well, his pings tell
			}
			o.config.Load(q.Ask, report.Sampled, report.Bytes)
			if len(q.About) == 0 {
				o.askSick(asking, q.Ask)
			}
			mu.Lock()
			defer mu.Unlock()
			for i, id := range q.About {
				answers[id] = append(answers[id], report.Peers[i])
			}
		})
	}
	running.Wait()
	o.mu.Lock()
	defer o.mu.Unlock()
	for id, said := range answers {
		o.tracker.PeersHear(o.Now(), asked, id, said)
	}
}

// sickPagesMax bounds the list of one server; beyond, its nodes are taken for well until the first are repaired.
const sickPagesMax = 100

// askSick asks one server for its nodes that are out of service. One that does not answer, or is of a version that knows no such
// question, has said nothing, and nothing changes.
func (o *Observer) askSick(ctx context.Context, id cell.ServerID) {
	if o.config.Sick == nil {
		return
	}
	var all []wire.CensusNode
	req := wire.Census{Limit: wire.ListLimitMax}
	for range sickPagesMax {
		page, err := o.config.Sick(ctx, id, &req)
		if err != nil {
			return
		}
		all = append(all, page.Nodes...)
		if !page.More || len(page.Nodes) == 0 {
			break
		}
		req.After = page.Nodes[len(page.Nodes)-1].Handle
	}
	o.config.SickNodes(id, all)
}

// Unreachable lists the servers that are up only because their peers hear them; see Tracker.Unreachable.
func (o *Observer) Unreachable() []wire.ServerSince {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.tracker.Unreachable(o.Now())
}
