package lifecycle

import (
	"slices"
	"strings"

	"physalia/internal/wire"
)

// KnownServers lists every server that the store remembers, connected or not, ordered by identity.
func (m *Manager) KnownServers() []wire.Registration {
	var list []wire.Registration
	for _, s := range m.servers {
		if s.known {
			list = append(list, s.reg)
		}
	}
	slices.SortFunc(list, func(a, b wire.Registration) int { return strings.Compare(string(a.Server), string(b.Server)) })
	return list
}
