package health

import (
	"slices"
	"strings"
	"time"

	"physalia/internal/wire"
)

// Report tells operators how repair stands: the holds, the queues, the budgets, the cells without a majority and those on the
// brink with what is known of every member, at most limit of them, and the servers in trouble. It costs O(pools + servers in
// trouble + limit), and changes nothing.
func (r *Repairer) Report(now time.Duration, limit int) wire.HealthReport {
	r.advance(now)
	if limit <= 0 || limit > wire.ListLimitMax {
		limit = wire.ListLimitMax
	}
	out := wire.HealthReport{Pools: r.poolReport(), Budgets: r.budgetReport(), Counts: r.countReport()}
	for _, at := range r.holds {
		d := &r.domains[at]
		out.Holds = append(out.Holds, wire.HoldInfo{Domain: d.name, Died: uint64(d.hold.died), Size: uint64(d.hold.size), Away: uint64(r.away(d)),
			Since: millis(r.now - d.hold.since), Left: millis(d.hold.until - r.now)})
	}
	out.Holds = out.Holds[:min(len(out.Holds), wire.BatchMax)]
	for _, ref := range r.troubled[:min(len(r.troubled), wire.ListLimitMax)] {
		h := &r.hosts[ref]
		out.Dead = append(out.Dead, wire.ServerSince{Server: h.id, State: h.state.String(), For: millis(r.now - h.died)})
	}
	for _, c := range [...]class{classLost, classBrink} {
		for i := range r.pools {
			for ref := r.pools[i].queues[c].head; ref != 0; ref = r.row(ref).next {
				if len(out.Cells) == limit {
					out.Cut = true
					return out
				}
				out.Cells = append(out.Cells, r.cellReport(ref, c))
			}
		}
	}
	// Those that something is being done about stand in no queue; there are few.
	for _, ref := range r.busy() {
		if v := r.see(ref); v.class == classLost || v.class == classBrink {
			if len(out.Cells) == limit {
				out.Cut = true
				break
			}
			out.Cells = append(out.Cells, r.cellReport(ref, v.class))
		}
	}
	return out
}

func millis(d time.Duration) uint64 { return uint64(max(d, 0).Milliseconds()) }

// busy lists the cells with a proposal, by name.
func (r *Repairer) busy() []cellRef {
	refs := make([]cellRef, 0, len(r.active))
	for ref := range r.active {
		refs = append(refs, ref)
	}
	slices.SortFunc(refs, func(a, b cellRef) int { return strings.Compare(string(r.row(a).id), string(r.row(b).id)) })
	return refs
}

// cellReport tells what is known of one cell.
func (r *Repairer) cellReport(ref cellRef, c class) wire.CellHealth {
	w := r.row(ref)
	out := wire.CellHealth{Cell: w.id, Incarnation: w.incarnation, Class: c.String()}
	for i := range int(w.size) {
		h := &r.hosts[r.seat(ref, i).host]
		m := wire.MemberHealth{Server: h.id, State: h.state.String(), Held: h.held}
		if h.state == hostDead || h.state == hostReturning {
			m.For = millis(r.now - h.died)
		} else if since, _, sick := r.gone(ref, r.seat(ref, i).host); sick {
			m.State, m.For = "quarantined", millis(r.now-since)
		}
		out.Members = append(out.Members, m)
	}
	switch a := r.active[ref]; {
	case c == classLost:
		out.Doing = "nothing: bring members back, or see physalia cell recover " + string(w.id)
	case a != nil:
		out.Doing = a.describe(r.now) + " without " + string(r.hosts[a.remove].id)
	default:
		out.Doing = "waits for the budget"
	}
	return out
}

// String names a state as reports show it.
func (s hostState) String() string { return [...]string{"unknown", "up", "dead", "returning"}[s] }

// poolReport counts cells by pool, those pools left out of which nothing is to be said.
func (r *Repairer) poolReport() (out []wire.PoolHealth) {
	for i := range r.pools {
		p := &r.pools[i]
		h := wire.PoolHealth{Brick: r.bricks[p.brick].name, Color: p.color, Owned: r.owns(r.bricks[p.brick].name), Refused: p.why}
		n := 0
		for c, to := range [classes]*uint64{classWaiting: &h.Waiting, classHeld: &h.Held, classLost: &h.Lost, classAged: &h.Aged, classUrgent: &h.Urgent, classBrink: &h.Brink} {
			if to != nil {
				*to = uint64(p.queues[c].len)
				n += p.queues[c].len
			}
		}
		if n+p.refusals > 0 && len(out) < wire.BatchMax {
			out = append(out, h)
		}
	}
	return out
}

// budgetReport shows the colony's budget, what each brick may spend, and what is left of those that were used.
func (r *Repairer) budgetReport() (out []wire.BudgetInfo) {
	add := func(of string, b bucket, budget Budget) {
		b.fill(r.now, budget) // a copy: looking changes nothing
		out = append(out, wire.BudgetInfo{Of: of, Repairs: uint64(budget.Repairs * 1000), Bytes: uint64(budget.Bytes),
			RepairsLeft: uint64(max(b.repairs, 0) * 1000), BytesLeft: uint64(max(b.bytes, 0))})
	}
	add("colony", r.colony, r.config.Colony)
	add("each brick", bucket{}, r.config.Brick)
	for i := range r.bricks {
		if b := &r.bricks[i]; b.bucket.used && len(out) < wire.BatchMax {
			add("brick "+b.name, b.bucket, r.config.Brick)
		}
	}
	return out
}

// countReport lists what was done since the start.
func (r *Repairer) countReport() []wire.HealthCount {
	s := r.Stats()
	return []wire.HealthCount{{Name: "cells", Value: uint64(s.Cells)}, {Name: "proposed", Value: s.Proposed}, {Name: "raised", Value: s.Raised},
		{Name: "begun", Value: s.Begun}, {Name: "done", Value: s.Done}, {Name: "refused", Value: s.Refused}, {Name: "withdrawn", Value: s.Withdrawn},
		{Name: "bytes-proposed", Value: s.BytesProposed}, {Name: "holds", Value: s.Holds}, {Name: "in-flight", Value: uint64(s.InFlight)},
		{Name: "resting", Value: uint64(s.Resting)}, {Name: "quarantined", Value: uint64(s.Sick)}}
}
