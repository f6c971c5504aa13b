// Package wire holds every message, record, snapshot and command of a colony that concerns cells, clients and control,
// with its codec; the Paxos half lives in wire/peer, so that a client's binary does not link Paxos.
//
// The format is positional MessagePack: arrays of fixed length, no maps, no floats, no extension types. Encoders append
// to a caller's buffer; decoders are hand-written over a bounded Reader that checks every declared length against the
// bytes that are left before anything is allocated, never recurse, and never look at a type they did not ask for. What
// is stored or logged starts with a format byte and a version byte. Golden bytes are committed under testdata.
//
// Three layers, each usable alone: a frame (length, checksum, body), in a client's or control frame one MessagePack-RPC
// message (ParseRPC), and in that the params or result, a Message. Everything is built in one buffer without copies:
//
//	b := BeginFrame(b[:0])
//	b = request.Append(BeginRequest(b, id, MethodTxn))
//	b = EndFrame(b, 0)
//
// Numbers and lengths from other programs may come in any width. A Command and a CellState may not: nodes compare and
// hash them as bytes, so their decoders accept exactly the bytes that Append writes.
package wire
