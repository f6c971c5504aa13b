// Package audit keeps the record of what was asked of a control process: one JSON object per line, in files that are only ever
// appended to, each of which ends at a bound and of which the oldest go.
//
// What an entry says of a request is decided in describe.go, a function of the request's bytes; log.go is the shell with the files. An
// entry never holds a secret: of messages that carry one, only what names the thing asked for is taken.
//
// Writing never holds up a control plane: entries go through a bounded queue to one goroutine, which syncs once for whatever has
// come together. When the disk fails, or is slower than the requests, entries are lost, and counted: a red button that does not work
// because its record cannot be written would be worse.
package audit
