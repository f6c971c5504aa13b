//go:build privileged && linux

package faults_test

import (
	"testing"

	"physalia/cmd/physalia/faults"
)

// Every way to cut the network around the server that proposes for most cells. In each of them every client reaches a member
// that reaches four, so every cell must soon be writable, and what the old proposer still answers must not be stale.
func TestPartition(t *testing.T) {
	for _, c := range []struct {
		name  string
		seen  bool // its clients still reach the victim
		moves bool // the victim cannot go on
		cut   func(w *world, victim string) error
	}{
		{"isolated", true, true, func(w *world, victim string) error { return w.net.Sever([]string{victim}, w.others(victim)) }},
		// R3: one way only. Its heartbeats arrive, the answers do not; and the reverse.
		{"deaf", true, true, func(w *world, victim string) error { return w.net.Cut(w.others(victim), []string{victim}) }},
		{"mute", true, true, func(w *world, victim string) error { return w.net.Cut([]string{victim}, w.others(victim)) }},
		// R4: two halves of three that only one server, the bridge, sees both of.
		{"bridge", true, false, func(w *world, victim string) error { o := w.others(victim); return w.net.Sever(o[:3], o[3:]) }},
		{"minority", true, true, func(w *world, victim string) error {
			o := w.others(victim)
			return w.net.Sever(append([]string{victim}, o[:2]...), o[2:])
		}},
		// The proposer is well, and only its clients do not reach it.
		{"client", false, false, func(w *world, victim string) error { return w.net.Sever([]string{victim}, []string{faults.Client}) }},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := small()
			s.within = promised
			w := begin(t, s)
			victim, cells := w.busiest()
			stop := func() {}
			if c.seen {
				stop = w.watch(victim, cells)
			}
			w.hurts(func() error { return c.cut(w, victim) })
			w.mustWrite()
			if c.moves {
				w.mustMove(cells, victim)
			}
			w.heals(w.net.Heal)
			stop()
			w.verdict()
		})
	}
}
