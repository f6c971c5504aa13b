// Package knock is how a server of a very large fleet asks the control plane to call it: one small authenticated datagram, and
// the control plane dials back, at its own pace, only to the address that is registered for that identity. A million servers
// that knock at once cost a million datagrams; they open no connection.
//
// Datagram is the format, Book decides which knocks are worth a connection. Both are pure; packages fleet and node send,
// receive and dial.
//
// What a knock cannot do:
//
//   - make the control plane send anything: nothing is ever answered to the sender, whose address is not even looked at;
//   - make it dial somewhere: the address is the one registered, over a connection that a server opened before;
//   - be replayed: an identity's knocks are ordered by (boot, time), and one that is not newer than the last is dropped. After
//     a restart of the control plane, which forgets them, a replay within the window makes it dial a registered address once;
//   - take memory: identities without a registered address leave no trace but a count.
//
// The connection that comes of a knock proves that its opener knows the key and the nonce of a knock of this very server;
// otherwise anybody who reaches a server could play the control plane.
package knock
