package sim

import (
	"fmt"
	"strings"

	"physalia/internal/wire"
	"physalia/paxos"
)

// agreement: whoever applies a slot, now or again after a restart, applies the same entry; slots are applied without
// gaps; and nothing follows a seal (P2, P4, P7). The first to apply a slot writes it into the volume's log.
func agreement(w *World) *checker {
	return &checker{name: "agreement", bare: true, applied: func(s *server, v *volume, d *paxos.Delivery) {
		i, at := int(d.Slot)-1, place{s, v, int(d.Slot)}
		switch {
		case i > len(v.log):
			w.fail("agreement", at, "it applies the slot, but nobody applied slot %d", len(v.log)+1)
		case i < len(v.log):
			if !v.log[i].Equal(d.Entry) {
				w.fail("agreement", at, "it applies %s, somebody else applied %s", who(d.Entry), who(v.log[i]))
			}
		case i > 0 && v.log[i-1].Kind == paxos.Seal:
			w.fail("agreement", at, "it applies the slot behind the seal")
		default:
			v.log = append(v.log, d.Entry)
		}
	}}
}

// who tells whose requests an entry holds.
func who(e paxos.Entry) string {
	if e.Kind != paxos.Commands {
		return e.Describe()
	}
	var requests []string
	for _, c := range e.Commands {
		command, err := wire.DecodeCommand(c)
		if err != nil {
			return fmt.Sprintf("%q", c)
		}
		requests = append(requests, command.Request.String())
	}
	return strings.Join(requests, "+")
}
