// Package topology describes where the servers of a colony stand: bricks, racks, power domains and colors, how far two
// places are from each other, and which servers form a pool.
//
// A pool is all servers of one brick and one color; a cell never leaves its pool. Rack and power domain names belong to
// their brick: "r1" of brick b1 and "r1" of brick b2 are two racks, and neither contradicts the other. Inside a brick,
// racks and power domains are independent: a rack may draw from several power domains, and a power domain may feed
// several racks.
//
// A server's place never changes under one identity: juries were chosen by it, and a rack that moved under them could
// hold a majority unnoticed. A description that contradicts an older one is refused with both values named (see
// Server.Contradiction); a machine that really moves gets a new identity with an empty data directory.
//
// Everything here is a plain value without clock, disk, socket or goroutine. A View is immutable once built and safe
// for concurrent use.
package topology
