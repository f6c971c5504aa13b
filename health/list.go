package health

import (
	"slices"
	"time"

	"physalia/cell"
	"physalia/internal/wire"
)

// Len is the number of servers known.
func (t *Tracker) Len() int { return len(t.servers) }

// Knows reports whether a server was seen or recalled.
func (t *Tracker) Knows(id cell.ServerID) bool { return t.servers[id] != nil }

// Up reports whether a server is up; one that is unknown, or has no verdict yet, is not.
func (t *Tracker) Up(id cell.ServerID) bool {
	s := t.servers[id]
	return s != nil && s.up
}

// Margin counts the members of a jury whose servers are up, and how many more of them the cell can lose and keep its
// majority: zero on the brink, negative when the majority is lost. An empty jury has margin -1.
func (t *Tracker) Margin(jury []cell.ServerID) (live, margin int) {
	for _, id := range jury {
		if t.Up(id) {
			live++
		}
	}
	return live, live - (len(jury)/2 + 1)
}

// List answers one page of health.servers, in order of identity. A limit of zero, or above wire.ListLimitMax, means
// wire.ListLimitMax. It changes nothing.
func (t *Tracker) List(req wire.ListServers, now time.Duration) wire.ServerList {
	limit := int(min(req.Limit, wire.ListLimitMax))
	if limit == 0 {
		limit = wire.ListLimitMax
	}
	at, found := slices.BinarySearch(t.order, req.After)
	if found {
		at++
	}
	page := t.order[at:]
	list := wire.ServerList{More: len(page) > limit}
	for _, id := range page[:min(limit, len(page))] {
		s := t.servers[id]
		list.Servers = append(list.Servers, wire.ServerState{Registration: s.registration, Up: s.up,
			Since: uint64(max(0, now-s.since).Milliseconds())})
	}
	return list
}
