// Package admission decides which requests of clients a server takes on, in which order, and which it refuses at once. It is
// the part of a server that keeps a burst from becoming an outage: what cannot be served in time is refused while refusing is
// still cheap, and one cell or one client never takes the place of the others.
//
// Two step machines, without a clock of their own:
//
//   - Queue holds the requests that wait for the server's loop. The loop owns it. A turn takes a bounded number of them, one
//     of each cell in turn, so that a cell with ten thousand waiting requests delays another cell's only one by at most one
//     request per waiting cell.
//   - Account is what one identity has in flight, over all its connections, and how fast it may ask.
//
// # Why time and not only number
//
// A bound on the number of waiting requests says nothing about how long they wait: a hundred thousand are a second for a
// server that is well, and half a minute for one that is not. By then their clients have given up and ask again, and the
// server works for nobody. So what would wait for more than half of Limits.DelayMax, at the pace of the newest turns, is refused
// when it comes, and what has waited for DelayMax all the same is refused when its turn comes: whoever is served is served in
// time, and when a burst is over, the queue is empty within DelayMax (compare CoDel, Nichols and Jacobson, ACM Queue 2012;
// here per cell, and refusing instead of dropping).
package admission
