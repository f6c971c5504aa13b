// Package etcdstore lets several control instances share one lifecycle store in etcd: it elects the active one, fences what
// the others write, and tells each who is there.
//
// Keys, all under one prefix:
//
//	live/instance/<name>   address of a live instance; bound to its lease
//	live/election/<lease>  name of a candidate; bound to its lease. The oldest is the active instance.
//	head                   "<term>.<n>": the last transaction on the data
//	data/<key>             what the lifecycle manager stores
//	journal/<n>, commit    a batch that is larger than one transaction, see Store.Put
//
// An instance is present as long as its lease is kept alive. A term is the time from winning the election to the end of the
// lease; its number is the revision that created the election key, so it is unique and rises.
//
// Invariants, by name:
//
//   - E1 (one writer). Every transaction on the data, every page that is read included, compares that the election key of its
//     term still exists. So once a later term has begun, which needs that key to be gone, nothing of an earlier one has any
//     effect, however late it arrives. The pages of a scan are of one revision, between two batches.
//   - E2 (at most once). Every write moves head from the value that it was planned for. A transaction whose answer was lost is
//     sent again as it was; if both arrive, one of them changes nothing. A copy that was delayed on its way cannot put an
//     older value over a newer one.
//   - E3 (all or nothing). What is larger than one transaction is written to the journal first, and is there when commit is.
//     A new term carries out a committed journal, and drops one that is not, before it reads anything.
//
// An instance whose transaction was fenced, or whose lease is lost, stops its lifecycle manager and stands by; it does not
// wait to be told. What calls to servers it may still have sent is discussed in docs/decisions/0020-shared-store.md.
package etcdstore
