// Package client is the library with which programs use the cells of a colony.
//
// A Client is made once, without blocking, and shared by everybody in the process:
//
//	c, err := client.New(ctx, client.Config{Colony: "eu1", Control: []string{"control:7300"}})
//	res, err := c.Cell("vol-17").
//		If(client.Compare("owner", cell.Equal, cell.String("s1"))).
//		Then(client.Put("owner", cell.String("s2")), client.Increment("moves", 1)).
//		Commit(ctx)
//
// It finds cells by discovery, remembers where they are for as long as it lives, repairs its routes with what servers
// say, and so goes on while the control plane is down. It sends each request to the cell's proposer, in one hop when
// nothing has changed, and repeats it within the caller's patience: the ctx's deadline, or Config.CallTimeout without
// one.
//
// # Guarantees
//
// Transactions are strictly serializable within one cell, and never span two. Reads are linearizable unless Stale is
// given; a stale read is a consistent prefix and never older than anything that this Client has seen of the cell.
//
// Every transaction takes effect at most once, however often it is sent (rule 14). Errors say whether it did: all of
// them are *cell.Error or wrap one, and cell.MaybeApplied(err) tells "not applied" from "unknown". What is unknown is
// also an *UnknownError, which names the request, and Cell.Resolve learns its fate. A method that says nothing else ends
// with one of
//
//   - not applied: Invalid, TooLarge (bounds), WrongType, UnknownHere (nobody knows the cell), Deleted, Stale (the cell was
//     deleted and created again since it was last used; the next call uses the new one), Overloaded, Unavailable (not
//     reached in time, or the Client is closed), Refused, Denied (Config.TokenFile does not allow it; Detail says what is
//     missing); and whatever names a lease that is not held, NoLease;
//   - unknown: UnknownResult. Reads have no effect and never end so.
//
// # Leases
//
// Cell.Grant makes a Lease, a time-bounded lock that is kept alive in the background; keys attached to it go with it:
//
//	l, err := c.Cell("vol-17").Grant(ctx, 10*time.Second, "host-1")
//	res, err := c.Cell("vol-17").If(client.Absent("lock")).
//		Then(client.PutLeased("lock", cell.String("host-1"), l.ID())).Commit(ctx)
//	defer l.Revoke(ctx)
//	work(l.Token(), l.Done()) // the token goes with whatever is done outside of the cell
//
// The deciding half (routes, retries, backoff, sessions) is package client/route; what is here are sockets and
// goroutines: three per connection, two per Client, and one per Lease. Calls start none.
package client
