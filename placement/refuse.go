package placement

import (
	"fmt"
	"strings"

	"physalia/cell"
)

// refusal says why one pool cannot hold a cell.
type refusal struct {
	detail string // the constraint and the numbers
	hint   string // what would change it
}

// refusalsMax bounds how many pools a refusal describes.
const refusalsMax = 4

// texts lists the details of refusals, at most refusalsMax of them.
func texts(rs []*refusal) []string {
	var ts []string
	for i, r := range rs {
		if i == refusalsMax {
			return append(ts, fmt.Sprintf("and %d more pools", len(rs)-i))
		}
		ts = append(ts, r.detail)
	}
	return ts
}

// invalidInput refuses an input that no colony could satisfy.
func invalidInput(in *Input) error {
	e := &cell.Error{Op: "placement.place", Kind: cell.Invalid, Hint: fmt.Sprintf("use 1 to %d", JuryMax),
		Detail: fmt.Sprintf("jury size is %d", in.JurySize)}
	if in.View == nil {
		e.Detail, e.Hint = "there is no view of the servers", "register servers first"
	}
	return e
}

// noPool refuses a brick and color that no server has.
func noPool(in *Input) error {
	what := "the colony"
	switch {
	case in.Brick != "" && in.Color != "":
		what = fmt.Sprintf("brick %s color %s", in.Brick, in.Color)
	case in.Brick != "":
		what = fmt.Sprintf("brick %s", in.Brick)
	case in.Color != "":
		what = fmt.Sprintf("color %s", in.Color)
	}
	return &cell.Error{Op: "placement.place", Kind: cell.NoRoom,
		Detail: fmt.Sprintf("%s has 0 servers; a cell needs %d", what, in.JurySize),
		Hint:   "start servers there, or ask for another brick and color"}
}

// noRoom combines the refusals of all pools that were tried.
func noRoom(in *Input, rs []*refusal) error {
	e := &cell.Error{Op: "placement.place", Kind: cell.NoRoom, Detail: rs[0].detail, Hint: rs[0].hint}
	if len(rs) > 1 {
		e.Detail = fmt.Sprintf("none of %d pools can hold a cell of %d: %s", len(rs), in.JurySize, strings.Join(texts(rs), "; "))
		e.Hint = "in any one of them: " + rs[0].hint
	}
	return e
}

// tooFew refuses a pool without enough live servers with room.
func tooFew(rep *Report, size int) *refusal {
	if rep.Live < size {
		r := &refusal{detail: fmt.Sprintf("%s has %d live servers; a cell needs %d", rep.Pool, rep.Live, size),
			hint: fmt.Sprintf("start %d more servers there", size-rep.Live)}
		if down := rep.Servers - rep.Live; down > 0 {
			r.detail += fmt.Sprintf(" (%d more are down)", down)
			r.hint = fmt.Sprintf("bring back or start %d servers there", size-rep.Live)
		}
		return r
	}
	return &refusal{
		detail: fmt.Sprintf("%s has %d live servers, of which %d have room; a cell needs %d", rep.Pool, rep.Live, rep.Room, size),
		hint:   "raise the servers' capacity, start more servers there, or delete cells",
	}
}

// explain finds the constraint that left no jury among enough candidates. It asks in the order in which people can act
// on the answer: racks alone, power domains alone, both together, and what remains is the overlap.
func (s *search) explain(rep *Report) *refusal {
	s.enforce = false
	s.restart()
	racks, powers := make([]int, len(s.pool.Racks)), make([]int, len(s.pool.Powers))
	for i := range s.cands {
		racks[s.cands[i].rack]++
		powers[s.cands[i].power]++
	}
	if r := domainRefusal(rep, "rack", s.pool.Racks, racks, s.size); r != nil {
		return r
	}
	if r := domainRefusal(rep, "power domain", s.pool.Powers, powers, s.size); r != nil {
		return r
	}
	if got := s.flow(s.size); got < s.size {
		return &refusal{
			detail: fmt.Sprintf("%s: with at most %d of %d in one rack and in one power domain, at most %d of its %d live servers with room can serve together",
				rep.Pool, domainMax(s.size), s.size, got, rep.Room),
			hint: "add servers in racks and power domains that have few",
		}
	}
	return s.crowded(rep)
}

// crowded refuses because of the overlap constraint; only that is left.
func (s *search) crowded(rep *Report) *refusal {
	r := &refusal{
		detail: fmt.Sprintf("%s: every jury would share more than %d servers with one of its %d cells (a constraint up to %d cells)",
			rep.Pool, shareMax(s.size), rep.Cells, rep.OverlapLimit),
		hint: "add servers, racks or power domains there, or bring back those that are down",
	}
	if s.tired {
		r.detail = fmt.Sprintf("%s: no jury found in %d steps that shares at most %d servers with each of its %d cells (a constraint up to %d cells)",
			rep.Pool, s.limit, shareMax(s.size), rep.Cells, rep.OverlapLimit)
	}
	return r
}

// domainRefusal refuses when one kind of domain alone rules out every jury: whichever servers are taken, the fullest
// domain holds too many, because all others together offer too few. (Domains within the bound offer all their servers,
// the others as many as are allowed; when that is less than the jury, at least one domain is beyond the bound.)
func domainRefusal[N ~string](rep *Report, what string, names []N, servers []int, size int) *refusal {
	most, offered, fullest := domainMax(size), 0, 0
	for i, n := range servers {
		offered += min(n, most)
		if n > servers[fullest] {
			fullest = i
		}
	}
	if offered >= size {
		return nil
	}
	others := offered - min(servers[fullest], most)
	return &refusal{
		detail: fmt.Sprintf("%s: %s %s would hold %d of %d, allowed are %d (%s)",
			rep.Pool, what, names[fullest], size-others, size, most, tally(names, servers)),
		hint: fmt.Sprintf("add servers in another %s", what),
	}
}

// tally shows how many live servers with room each domain has, at most eight of them.
func tally[N ~string](names []N, servers []int) string {
	var b strings.Builder
	b.WriteString("live servers with room: ")
	shown := 0
	for i, n := range servers {
		if n == 0 {
			continue
		}
		if shown == 8 {
			b.WriteString(", ...")
			break
		}
		if shown > 0 {
			b.WriteString(", ")
		}
		fmt.Fprintf(&b, "%s %d", names[i], n)
		shown++
	}
	return b.String()
}
