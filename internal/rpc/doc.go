// Package rpc runs symmetric MessagePack-RPC over one connection with the frames of package wire: the face between
// clients and servers, and between servers and the control plane. Either side calls, either side answers, answers come
// in any order, and thousands of calls share one connection.
//
// A connection opens with a Hello in each direction; the side that accepted either answers with its own or says why it
// refuses. Then two goroutines serve it: the reader, which parses frames, hands requests to the Handler and answers to
// the callers, and the writer, which sends whatever has been queued since its last write in one system call. There is
// no timer and no goroutine per call; an idle connection costs its two goroutines and their buffers.
//
// What holds, whatever the other side does:
//
//  1. Every call ends exactly once: with its result, with the other side's error, or with UnknownResult (it may have
//     been sent) or Unavailable (it certainly was not).
//  2. Memory is bounded: by FrameMax per frame, by InFlightMax requests that await their answer, and by WriteBytesMax
//     bytes that the other side does not take. Lengths are checked before anything is allocated for them.
//  3. A side that breaks the protocol loses the connection, and the error names the frame, its place in the stream, and
//     the byte.
//  4. An answer that comes for a call whose context has ended is dropped; it is not an error.
//
// The package decides nothing about cells: who may call what is the business of Config.Check and of the Handler.
package rpc
