// Package objects is the control plane's object store: whole values under names, for snapshots and backups that must
// outlive the process and its disk. It is one small interface with two implementations: a directory, and a bucket of
// anything that speaks S3.
//
// A Store promises:
//
//   - Put is atomic: a reader finds all of the old value or all of the new, whenever the writer dies;
//   - once Put has returned nil, the value is durable (as durable as the directory's disk or the bucket is);
//   - List is sorted by bytes and complete as of some moment during the call.
//
// It promises no order between different names and no locks: a writer puts what a name refers to before the name.
//
// Names are paths of one or more elements, divided by '/'; each element has 1 to 128 of the characters a-z A-Z 0-9 '.' '_' '-' and
// does not begin with '.'. At most NameBytesMax bytes in all. Every error is a *cell.Error: Invalid for a bad name or URL, NotFound
// for a name without a value, TooLarge beyond ObjectBytesMax, Refused where credentials do not suffice, Unavailable for
// everything that may pass. All methods are safe for concurrent use.
package objects
