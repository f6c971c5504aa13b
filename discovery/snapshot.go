package discovery

import (
	"slices"
	"time"

	"physalia/cell"
	"physalia/internal/snapshot"
	"physalia/internal/wire"
)

// partCells is how many cells a part of a snapshot has, before the bucket that exceeds it: about 60 KB.
const partCells = 1024

// cut returns the cells of one part of a snapshot: whole buckets from first on. The next part begins at next; beyond the
// last bucket the snapshot has all.
func (c *Cache) cut(first int) (part []wire.SnapshotCell, next int) {
	for next = first; next < wire.TableBuckets && (len(part) == 0 || len(part)+len(c.buckets[next]) <= partCells); next++ {
		for _, id := range c.names(next, "") {
			e := c.buckets[next][id]
			stored := wire.SnapshotCell{Cell: id, Incarnation: e.incarnation, Configuration: e.configuration}
			for _, m := range e.members {
				stored.Members = append(stored.Members, wire.SnapshotMember{Node: m.node, Server: m.server})
			}
			part = append(part, stored)
		}
	}
	return part, next
}

// shares copies what was taken from each server. In a snapshot it must be older than the routes: routes only rise, so what
// had been taken then is in them.
func (c *Cache) shares() (list []wire.SnapshotShare) {
	for i := range c.servers {
		if s := c.servers[i].share; s != nil && s.total() != wire.TotalOf(make([]uint64, wire.ShareBuckets)) {
			list = append(list, wire.SnapshotShare{Server: uint32(i), Sums: slices.Clone(s.sums)})
		}
	}
	return list
}

// contactsByNumber copies the servers from one number on. In a snapshot they must be younger than the routes, which name
// servers by numbers.
func (c *Cache) contactsByNumber(now time.Duration, first, most int) (list []wire.Contact) {
	for i := first; i < min(first+most, len(c.servers)); i++ {
		list = append(list, c.servers[i].contactOf(now))
	}
	return list
}

// restore takes the routes of one part. Those that the cache refuses it counts; the error is that of the first one, or says
// that the part contradicts itself.
func (c *Cache) restore(part []wire.SnapshotCell, servers []wire.Contact) (first error) {
	for i := range part {
		r, err := snapshot.Route(&part[i], servers)
		if err == nil {
			_, err = c.Put(&r)
		}
		if err != nil && first == nil {
			first = err
		}
	}
	return first
}

// restoreServers takes the servers of a snapshot that was written so long ago.
func (c *Cache) restoreServers(now, since time.Duration, servers []wire.Contact) (first error) {
	for _, k := range servers {
		if k.Age != wire.AgeNever {
			k.Age = uint32(min(uint64(k.Age)+uint64(max(since, 0)/time.Second), wire.AgeNever-1))
		}
		if err := c.Contact(now, &k); err != nil && first == nil {
			first = err
		}
	}
	return first
}

// restoreShares takes what the writer of a snapshot had taken from each server, once all of its routes are here. It
// comes before anybody is asked, so nothing that was taken in this life can be lost by it.
func (c *Cache) restoreShares(list []wire.SnapshotShare, servers []wire.Contact) error {
	for _, k := range list {
		if int(k.Server) >= len(servers) || len(k.Sums) != wire.ShareBuckets {
			return &cell.Error{Op: "discovery.restore", Kind: cell.Invalid, Detail: "a share is of no server, or has another number of buckets"}
		}
		n, ok := c.number[servers[k.Server].Server]
		if !ok {
			continue // there was no room for it
		}
		if c.servers[n].share == nil { // else it has registered meanwhile
			c.servers[n].share = newShare(wire.ShareBuckets)
		}
		copy(c.servers[n].share.sums, k.Sums)
	}
	return nil
}
