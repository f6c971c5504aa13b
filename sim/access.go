package sim

import (
	"slices"

	"physalia/cell"
	"physalia/internal/wire"
)

// The network between clients and everybody else: servers, and the copies of discovery.

// sessionsMax bounds the clients that a fault can name; those that come later (audits) meet no faults.
const sessionsMax = 32

// reaches reports whether packets pass between a client and a server, whichever way.
func (w *World) reaches(s *session, to *server) bool {
	return s.at >= sessionsMax || w.net.clientCut[s.at][to.at] == 0
}

// ask carries a request to a server and its answer back. A dead server refuses the connection; behind a cut nothing is ever
// heard. The answer may get lost on its way.
func (s *session) ask(addr, method string, params []byte, answer func(result []byte, err *cell.Error, sent bool)) {
	w := s.world
	to := w.serverNamed(cell.ServerID(addr))
	w.after(between(s.dice, wayMax), func() {
		switch {
		case !w.reaches(s, to):
		case to.core == nil:
			s.after(between(s.dice, wayMax), func() { answer(nil, &cell.Error{Op: method, Kind: cell.Unavailable}, false) })
		default:
			to.submit(&call{method, func(result []byte, err *cell.Error) {
				if percent(s.dice, w.lostReplies) || !w.reaches(s, to) {
					return
				}
				s.after(between(s.dice, wayMax), func() { answer(result, err, true) })
			}}, params)
		}
	})
}

// lookUp asks a discovery copy for routes; without the control plane nobody listens.
func (w *World) lookUp(s *session, addr string, cells []cell.ID, answer func(*wire.Routes)) {
	w.report.Lookups++
	s.after(2*between(s.dice, wayMax), func() {
		if w.noControl > 0 {
			w.trace.note(w.now, "client %d finds nobody at %s", s.at, addr)
			answer(nil)
			return
		}
		routes := &wire.Routes{}
		for _, id := range cells {
			if v := w.discovered(id); v != nil && v.routed.Incarnation > 0 {
				routes.Routes = append(routes.Routes, v.route())
			}
		}
		answer(routes)
	})
}

// discovered is the incarnation of a cell that discovery knows: of a scratch cell the one that it was told to know.
func (w *World) discovered(id cell.ID) *volume {
	if w.control == nil || !isScratch(id) {
		return w.cellNamed(id)
	}
	return w.control.lives[life{id, w.control.found}]
}

// route is what discovery knows of a cell. It is a hint: whoever moves nodes may leave it behind.
func (v *volume) route() wire.Route {
	r := v.routed
	r.Members = slices.Clone(r.Members)
	return r
}
