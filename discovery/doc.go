// Package discovery answers one question: where does a cell live? It is a cache of hints. It is never authoritative, it
// may be wrong, and wrong is never unsafe: servers refuse what is not theirs, members that were removed point to where
// the cell went, and clients follow pointers only upwards.
//
// Cache decides: a table that keeps, per cell, the newest route it has heard of. Newer means a higher pair (incarnation,
// configuration number), and within one incarnation "sealed" is newer than everything. Routes may come from anybody, in
// any order, any number of times; the table ends the same. Service is the thin shell: a lock and two methods.
//
// # Who feeds it
//
// Every server pushes the routes of all its nodes when it connects, and each change as soon as its node has applied it.
// The lifecycle manager's knowledge (cells that came to life, seals) is handed in by the composing program. A copy that
// starts empty is therefore complete once the servers have connected again; nobody is asked for anything.
//
// # How stale it may be
//
// While at least one server that hosts a current member of a cell is connected to this copy, the route lags behind the
// cell's own log by at most the time in which that member learns of the change, plus one push (queued at once, at most
// one page in flight per server). When no current member's server is connected the lag has no bound: the answer is then
// the newest route that was ever heard of here, and the pointers of its members lead on. Addresses are those of the
// server's own last registration with this process; for servers that never registered here, those that came with routes.
//
// # Memory
//
// About 250 bytes per cell of seven members, beside its name: members are references to servers, whose identities and
// addresses are held once. A deleted cell keeps its incarnation, so that a late push cannot bring it back. Beyond
// Config.CellsMax new cells are not taken in.
package discovery
