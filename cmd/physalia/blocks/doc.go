// Package blocks runs the toy block store of sim/blockstore as a user of a colony: storage servers and the users of volumes
// are goroutines of this process, links between them are in memory, and a server's disk is a variable that survives when
// the server is killed. What is real is the record: each copy asks the volume's cell through the client library, while the
// demo takes parts of the colony away.
//
// Everything is decided in blockstore; here are only clocks, inboxes and calls. One goroutine owns each copy and each user.
// A Trial keeps what users saw, and its Report says whether the block store kept its word.
package blocks
