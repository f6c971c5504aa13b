// Package datadir owns the data directory of one server: who the server is, how often it has started, and that nobody
// else uses the directory meanwhile.
//
//	<path>/lock         held while the server runs
//	<path>/superblock   identity and boot number, checksummed, replaced as a whole
//	<path>/store/       the storage; made by package storage
//	<path>/<name>       small files of the server (the address book), checksummed, replaced as a whole
//
// A server's identity is what its promises in Paxos are bound to. So the directory decides, never the flags: a flag that
// says otherwise is refused with both values, and a directory that is damaged, foreign, or has lost its superblock or its
// store is refused and never taken for a new one. An empty directory is a new server, with a new identity, always.
package datadir

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"strings"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"physalia/cell"
)

// Names inside the directory.
const (
	lockName       = "lock"
	superblockName = "superblock"
	storeName      = "store"
	tempSuffix     = ".new"
)

// Identity says who a server is and where it stands. Colony, Name, Brick and Color never change for a data directory;
// Rack and Power do when the machine is carried elsewhere.
type Identity struct {
	Colony string
	Name   string // chosen by the operator, part of Server
	Brick  string
	Rack   string
	Power  string // power domain
	Color  string
	Server cell.ServerID // issued on the first start
}

// Config says which directory to open and what the operator believes about it.
type Config struct {
	FS   vfs.FS // default: the operating system's file system
	Path string

	// Want holds what flags and configuration say; an empty field says nothing. A new directory needs Colony, Name, Brick
	// and Color, and takes no Server: identities are issued, never chosen.
	Want Identity

	Random io.Reader    // source of the new identity's random part, for example crypto/rand.Reader
	Now    time.Time    // recorded as the time of creation
	Logger *slog.Logger // default: slog.Default
}

// Dir is an open data directory. Identity, Boot and StorePath are safe for concurrent use, the other methods are for one
// goroutine at a time.
type Dir struct {
	fs    vfs.FS
	path  string
	lock  io.Closer
	block superblock
}

// Open locks the directory, creating it if it is missing, and raises its boot number. It returns only after both are
// durable. A crash in between leaves a directory that the next Open takes as it is, or, before the superblock was
// durable, as new: no identity was in use yet.
//
// Every error is a *cell.Error: Refused for a directory that is in use, damaged or not the one that Want describes,
// Invalid for names out of bounds, Internal for an error of the disk.
func Open(cfg Config) (*Dir, error) {
	if cfg.FS == nil {
		cfg.FS = vfs.Default
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.Default()
	}
	if err := cfg.Want.check(); err != nil {
		return nil, err
	}
	if cfg.Path == "" {
		return nil, invalid("no data directory given", "set the data directory")
	}
	d := &Dir{fs: cfg.FS, path: cfg.Path}
	if err := makeDir(d.fs, d.path); err != nil {
		return nil, d.diskError("make the directory", err)
	}
	lock, err := d.fs.Lock(d.file(lockName))
	if err != nil {
		return nil, d.lockError(err)
	}
	d.lock = lock
	if err := d.start(cfg); err != nil {
		return nil, errors.Join(err, lock.Close())
	}
	return d, nil
}

// start reads or creates the superblock and makes this boot durable.
func (d *Dir) start(cfg Config) error {
	old, err := d.readSuperblock()
	switch {
	case errors.Is(err, os.ErrNotExist):
		err = d.create(cfg)
	case err == nil:
		d.block = *old
		err = d.adopt(cfg)
	}
	if err != nil {
		return err
	}
	d.block.Boot++
	return d.writeSuperblock()
}

// create prepares the superblock of a new server, in a directory without any trace of an older one.
func (d *Dir) create(cfg Config) error {
	if err := d.mustBeEmpty(); err != nil {
		return err
	}
	want := cfg.Want
	if want.Server != "" {
		return d.refused(fmt.Sprintf("is empty, but this server is said to be %s", want.Server),
			"bring its data directory back, or start without an identity: the server gets a new one and its old nodes are replaced")
	}
	for _, f := range want.fixed() {
		if f.value == "" {
			return invalid(fmt.Sprintf("data directory %s is new, and no %s is given", d.path, f.name), "set the "+f.name)
		}
	}
	id, err := issue(want.Name, cfg.Random)
	if err != nil {
		return err
	}
	want.Server = id
	d.block = superblock{Identity: want, Created: cfg.Now.UTC().Format(time.RFC3339)}
	cfg.Logger.Info("new data directory", "path", d.path, "server", id, "colony", want.Colony, "brick", want.Brick, "color", want.Color)
	return nil
}

// adopt compares an existing superblock with what the operator believes, and takes over a new place.
func (d *Dir) adopt(cfg Config) error {
	if err := d.compare(cfg.Want); err != nil {
		return err
	}
	if d.block.Stored {
		names, err := d.fs.List(d.StorePath())
		if err != nil && !errors.Is(err, os.ErrNotExist) {
			return d.diskError("list the store", err)
		}
		if len(names) == 0 {
			return d.refused(fmt.Sprintf("belongs to server %s, but its store is gone", d.block.Server),
				"bring the store back, or start this server as a new one on an empty data directory; its nodes are then replaced")
		}
	}
	for _, place := range []struct {
		name string
		have *string
		want string
	}{{"rack", &d.block.Rack, cfg.Want.Rack}, {"power domain", &d.block.Power, cfg.Want.Power}} {
		if place.want != "" && place.want != *place.have {
			cfg.Logger.Info("server has moved", "path", d.path, "server", d.block.Server, "what", place.name, "from", *place.have, "to", place.want)
			*place.have = place.want
		}
	}
	return nil
}

// compare refuses a directory that is not the one the operator means.
func (d *Dir) compare(want Identity) error {
	have := d.block.Identity.fixed()
	for i, f := range append(want.fixed(), field{"server identity", string(want.Server)}) {
		value := string(d.block.Server)
		if i < len(have) {
			value = have[i].value
		}
		if f.value != "" && f.value != value {
			return d.refused(fmt.Sprintf("belongs to server %s with %s %q, but %q was given", d.block.Server, f.name, value, f.value),
				fmt.Sprintf("correct the %s, or the path of the data directory; to begin as a new server, use an empty directory", f.name))
		}
	}
	return nil
}

// mustBeEmpty refuses to take a directory with unknown content for a new one: it may be a server whose superblock was
// lost. What an interrupted first start leaves is fine, and so is what mkfs puts into a new file system.
func (d *Dir) mustBeEmpty() error {
	names, err := d.fs.List(d.path)
	if err != nil {
		return d.diskError("list the directory", err)
	}
	for _, name := range names {
		switch name {
		case lockName, superblockName + tempSuffix, "lost+found":
		default:
			return d.refused(fmt.Sprintf("has no superblock but holds %q: it is no data directory, or has lost its superblock", name),
				"give an empty directory, or bring the superblock back from where the directory came from")
		}
	}
	return nil
}

// Identity returns who this server is.
func (d *Dir) Identity() Identity { return d.block.Identity }

// Boot counts the starts of this data directory, from 1 on; no two starts ever see the same number.
func (d *Dir) Boot() uint64 { return d.block.Boot }

// StorePath is the directory for package storage.
func (d *Dir) StorePath() string { return d.file(storeName) }

// Stored reports whether MarkStored was ever called: from then on the store must exist (storage.PebbleConfig.MustExist).
func (d *Dir) Stored() bool { return d.block.Stored }

// MarkStored makes durable that a store exists from now on. It is called once the store was created, before anything is
// acknowledged; later starts then refuse a directory whose store has vanished. Repeating it does nothing.
func (d *Dir) MarkStored() error {
	if d.block.Stored {
		return nil
	}
	d.block.Stored = true
	return d.writeSuperblock()
}

// Space tells how many bytes this process may still write to the directory's file system, and how many it has in all. It is
// safe for concurrent use.
func (d *Dir) Space() (free, total uint64, err error) {
	usage, err := d.fs.GetDiskUsage(d.path)
	if err != nil {
		return 0, 0, d.diskError("ask for its free space", err)
	}
	return usage.AvailBytes, usage.TotalBytes, nil
}

// Close releases the directory for another process. The Dir must not be used any more.
func (d *Dir) Close() error {
	if err := d.lock.Close(); err != nil {
		return d.diskError("unlock", err)
	}
	return nil
}

// file is the path of something inside the directory.
func (d *Dir) file(name string) string { return d.fs.PathJoin(d.path, name) }

// lockError tells a directory in use from one that cannot be written.
func (d *Dir) lockError(err error) error {
	if lockHeld(err) {
		return d.refused("is in use by another process", "stop the other server, or give this one a directory of its own")
	}
	return d.diskError("lock the directory", err)
}

// refused describes a directory that must not be used; what continues the sentence "data directory <path> ...".
func (d *Dir) refused(what, hint string) error {
	return &cell.Error{Op: "datadir.open", Kind: cell.Refused, Detail: "data directory " + d.path + " " + what, Hint: hint}
}

// diskError describes a failed operation of the file system.
func (d *Dir) diskError(what string, err error) error {
	return &cell.Error{Op: "datadir", Kind: cell.Internal, Detail: fmt.Sprintf("data directory %s: cannot %s", d.path, what), Err: err,
		Hint: "check the disk, its free space and the permissions, then start again"}
}

func invalid(what, hint string) error {
	return &cell.Error{Op: "datadir.open", Kind: cell.Invalid, Detail: what, Hint: hint}
}

// field is one named part of an identity.
type field struct{ name, value string }

// fixed lists what never changes for a data directory.
func (id Identity) fixed() []field {
	return []field{{"colony", id.Colony}, {"name", id.Name}, {"brick", id.Brick}, {"color", id.Color}}
}

// The bounds of what an operator may choose, in bytes. The name leaves room for the random part of the identity.
const (
	nameBytesMax  = cell.ServerIDBytesMax - 1 - randomChars
	otherBytesMax = 64
)

// check bounds names from outside: what can be part of a cell.ServerID, without '/' and ':', which have a meaning in
// paths and addresses.
func (id Identity) check() error {
	for _, f := range append(id.fixed(), field{"rack", id.Rack}, field{"power domain", id.Power}, field{"server identity", string(id.Server)}) {
		longest := otherBytesMax
		if f.name == "name" {
			longest = nameBytesMax
		}
		if f.value == "" {
			continue
		}
		if len(f.value) > longest {
			return invalid(fmt.Sprintf("%s has %d bytes", f.name, len(f.value)), fmt.Sprintf("use at most %d", longest))
		}
		if err := cell.ServerID(f.value).Check(); err != nil || strings.ContainsAny(f.value, ":/") {
			return invalid(fmt.Sprintf("%s %q has characters that are not allowed", f.name, f.value),
				"use letters, digits, '.', '_' and '-'; start with a letter or digit")
		}
	}
	return nil
}
