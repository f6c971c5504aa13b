// Package placement chooses the servers of a new cell, and judges juries whoever chose them.
//
// Place is a pure function: the same Input, the same Book and the same state of the dice give the same Placement and
// the same Report. The caller
//
//  1. keeps one Book of all cells that exist or are planned, with Add before anything hears of a placement and Remove
//     when the cell's nodes are gone,
//  2. describes servers by an immutable topology.View, and names in Input.Down those that may take no new node,
//  3. treats a refusal (a *cell.Error of kind NoRoom) as final until the view, the book or Down changes.
//
// Hard constraints of a jury of n servers, counting all of them, the dead included:
//
//   - pool: one brick, one color (NSDI 2020, sections 2.2 and 3.4);
//   - distinct: n different servers, each live and with room for one more node;
//   - domains: no rack and no power domain holds more than (n-1)/2 of them, so that a majority survives its loss. For
//     n >= 3 it follows that a jury stands in at least three racks and three power domains. (A jury of one or two
//     survives no loss at all; there the bound is one per domain.)
//   - capacity: what a server says it hosts, or what the book says if that is more, is below what it is willing to host;
//   - overlap: two cells share at most (n-1)/2 servers, so that a command that stops every node of one cell leaves all
//     others a majority. It is hard while the pool has at most OverlapLimit cells, beyond it is scored and reported.
//
// Scored, in millionths of a server's capacity, less is better: the distance to the volume's client, primary and
// replica; how full the server is; beyond the overlap limit, how many cells it would share too much with. Equal scores
// are decided in favour of racks and power domains that hold fewer nodes of this jury, then by dice. The owner of
// ballot 1 is the member that owns the fewest, then the closest.
//
// # How the score reads
//
// One step of distance to a hint of weight one is as bad as a server that is 2.5 % of its capacity fuller; the primary
// weighs 3, client and replica 2 each. So a node in the primary's rack instead of elsewhere in the brick is worth up to
// 15 % of a server's capacity, and beyond that the emptier server wins: proximity yields before it makes a hot spot.
// Without hints servers are filled evenly relative to their capacity: in a pool of equal servers the node counts stay
// within one or two of each other, and so do the counts of owned cells.
//
// # How the search works
//
// Members are chosen one by one, the best score first, among the candidates that no hard constraint excludes yet. That
// succeeds at once in all but the tightest pools. When it ends in a dead end, it is repeated with look-ahead and
// backtracking. The constraints on domains are decided exactly: Place refuses if and only if no jury exists, by a flow
// from racks to power domains. With the overlap constraint the search is complete up to searchStepsMax steps and says
// so when it gives up.
//
// The overlap constraint counts all servers of the pool when it asks whether it is hard, also those that are down. When
// it cannot be kept, and the live servers with room alone would be beyond their limit, the cell is placed nevertheless
// with the overlap scored: a half dark pool still takes cells. Report.OverlapHard says which it was.
//
// # Existing juries
//
// Substitute chooses who takes the place of one member, Improve which one swap helps a jury most; both by the same score
// and the same hard constraints as a new placement, the dead members counted, and neither makes a cell share too much with
// more cells while the overlap constraint is hard. A jury that breaks a constraint is mended before anything is improved.
//
// # What a refusal says
//
// Detail names the pool, the constraint and the numbers; Hint says what would change it. When the caller left the pool
// open, every pool that was tried is named, up to refusalsMax. For example:
//
//	brick b1 color red has 5 live servers; a cell needs 7
//	brick b1 color red has 8 live servers, of which 1 have room; a cell needs 7
//	brick b1 color red: power domain p1 would hold 5 of 7, allowed are 3 (live servers with room: p1 6, p2 1, p3 1)
//	brick b1 color red: every jury would share more than 3 servers with one of its 9 cells (a constraint up to 13 cells)
//
// # What is deterministic
//
// Place reads the book as sets, with one exception: beyond the overlap limit it looks at the newest cells of each
// server, so there a book that was built in another order may score a candidate differently. No hard constraint depends
// on order. The dice are one number per call, spread over the servers by their position in the pool.
//
// # Costs
//
// For N servers in the pool, C cells in it and L = 7C/N cells per server, Place takes O(7N + 7L) time, beyond
// the overlap limit O(7N + 7*min(L, softWindow)); measured are 15,000 a second at N = 2,000 and L = 350, and 9,000 at
// L = 3,500. Add takes O(7) (and the next Place O(N) once more after a server's first cell, or with another View),
// Remove O(7L). A Book holds about 170 bytes per cell of seven, the cell's name apart.
package placement
