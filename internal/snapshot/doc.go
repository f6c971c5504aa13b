// Package snapshot keeps what a discovery copy knows in an object store, in a form that a copy reads whole when it starts,
// and that a client reads in parts when no copy answers.
//
// A snapshot is a head and parts. The head is written last and names every part with its length and checksum, so a snapshot
// whose writer died is none, and one that lost a part or a bit is recognised. Objects are
//
//	discovery/heads/TIME-COPY
//	discovery/parts/TIME-COPY/KIND-NUMBER
//
// with TIME in milliseconds since 1970, as 16 hexadecimal digits, so that names sort by age whoever wrote them. Parts with
// routes are in order of the buckets of wire.BucketOf, so the part that has a cell is found from its name alone.
//
// Each object begins with an envelope: four bytes of magic, the format version, the kind, and the CRC-32C of all that
// follows. A version that this program does not know is an error like a damage: an older snapshot may be one that it knows.
//
// Routes are hints, and those of a snapshot are old hints: whoever reads one goes on with what servers say.
package snapshot
