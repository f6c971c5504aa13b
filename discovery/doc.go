// Package discovery answers one question: where does a cell live? It is a cache of hints. It is never authoritative, it
// may be wrong, and wrong is never unsafe: servers refuse what is not theirs, members that were removed point to where
// the cell went, and clients follow pointers only upwards.
//
// Cache decides what is known: per cell, the newest route that was heard of. Newer means a higher pair (incarnation,
// configuration number), and within one incarnation "sealed" is newer than everything. Routes may come from anybody, in
// any order, any number of times; the table ends the same. Scanner decides who is asked for what, and when. Service is the
// thin shell around both: a lock, goroutines, the object store.
//
// # Who feeds it
//
// There are several copies, and each holds all routes. A server is asked by the copy that it has a session with; copies ask
// each other for the rest. Whoever is asked, a server or a copy, is a source, and a source's routes are divided into buckets:
//
//   - Sums. A copy asks for the sums of all buckets and pulls those that differ from what it took before, a page at a time,
//     at its own pace (Pace). Equal totals cost eight bytes. This happens on a fixed schedule, whether or not anything is
//     believed to have changed, and so finds whatever was missed.
//   - Changes. Servers push what changes, acknowledged; copies ask each other once a second. A push carries the new sums of
//     its buckets, so that the next comparison finds nothing to do. Gaps are noticed by positions (share).
//   - Snapshots. What a copy knows, with the sums of what it took from each server, is written to an object store on a fixed
//     period. A copy that starts reads the newest that is whole, and pulls only what has changed since.
//
// The lifecycle manager's knowledge (cells that came to life, seals) is handed in by the composing program. It is never
// asked for anything, so copies that all start empty cannot stampede it.
//
// # How stale it may be
//
// While a server that hosts a current member of a cell has a session with any copy, the route lags behind the cell's own log
// by at most the time in which that member learns of the change, plus one push, plus Pace.ChangesEvery per copy on the
// way; plus Pace.ScanEvery if the push was lost. Otherwise the lag has no bound: the answer is then the newest route that was
// ever heard of here, and the pointers of its members lead on. Every answer tells how long ago a server of the route was
// last heard of (wire.Routes.Ages). For a while after its start a copy says that what it does not know may well exist
// (wire.Routes.Filling). Addresses are those of the server's own last registration with any copy; for servers that never
// registered, those that came with routes.
//
// # Memory
//
// About 210 bytes per cell of seven members, the name included: members are eight bytes, servers are held once. What was taken
// from a server costs 8 KB, what was taken from another copy 64 KB. A deleted cell keeps its incarnation, so that a late
// push cannot bring it back. Beyond Config.CellsMax new cells are not taken in.
package discovery
