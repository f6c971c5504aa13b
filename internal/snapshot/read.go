package snapshot

import (
	"context"
	"fmt"
	"hash/crc32"
	"slices"
	"strconv"
	"strings"

	"physalia/cell"
	"physalia/internal/wire"
)

// Files is what reading needs of an object store; errors are those of package objects.
type Files interface {
	List(ctx context.Context, prefix string) ([]string, error)
	Get(ctx context.Context, name string) ([]byte, error)
}

// Where objects are. Times have so many digits that names sort like them.
const (
	headPrefix = "discovery/heads/"
	partPrefix = "discovery/parts/"
	timeDigits = 16
)

// Ref names a snapshot.
type Ref struct {
	Written uint64 // milliseconds since 1970
	Copy    string
}

func (r Ref) base() string { return fmt.Sprintf("%0*x-%s", timeDigits, r.Written, r.Copy) }
func (r Ref) head() string { return headPrefix + r.base() }
func (r Ref) part(k kind, n int) string {
	return fmt.Sprintf("%s%s/%c-%05d", partPrefix, r.base(), k, n)
}

// String names the snapshot for people.
func (r Ref) String() string { return r.base() }

// parseRef reads TIME-COPY.
func parseRef(base string) (Ref, bool) {
	if len(base) < timeDigits+2 || base[timeDigits] != '-' {
		return Ref{}, false
	}
	written, err := strconv.ParseUint(base[:timeDigits], 16, 64)
	return Ref{Written: written, Copy: base[timeDigits+1:]}, err == nil
}

// List returns the snapshots that have a head, the newest first.
func List(ctx context.Context, f Files) ([]Ref, error) {
	names, err := f.List(ctx, headPrefix)
	if err != nil {
		return nil, err
	}
	var refs []Ref
	for _, name := range names {
		if r, ok := parseRef(strings.TrimPrefix(name, headPrefix)); ok {
			refs = append(refs, r)
		}
	}
	slices.Reverse(refs)
	return refs, nil
}

// Snapshot is one whose head was read. It keeps nothing else; it may be used by many at once.
type Snapshot struct {
	Ref  Ref
	Head wire.SnapshotHead
	from Files
}

// Open reads the head of a snapshot.
func Open(ctx context.Context, f Files, ref Ref) (*Snapshot, error) {
	data, err := f.Get(ctx, ref.head())
	if err != nil {
		return nil, err
	}
	s := &Snapshot{Ref: ref, from: f}
	if err := unseal(ref.head(), data, kindHead, &s.Head); err != nil {
		return nil, err
	}
	if s.Head.Written != ref.Written || s.Head.Copy != ref.Copy {
		return nil, damaged(ref.head(), "it is the head of another snapshot", nil)
	}
	return s, nil
}

// part reads one part and compares it with what the head says.
func (s *Snapshot) part(ctx context.Context, k kind, n int, want wire.SnapshotPart, m wire.Message) error {
	name := s.Ref.part(k, n)
	data, err := s.from.Get(ctx, name)
	switch {
	case cell.KindOf(err) == cell.NotFound:
		return damaged(name, "it is missing", err)
	case err != nil:
		return err
	// The head's own sum tells a part of this snapshot from a whole part of another one under the same name.
	case uint64(len(data)) != want.Bytes || crc32.Checksum(data, castagnoli) != want.Sum:
		return damaged(name, fmt.Sprintf("it has %d bytes and another checksum than its head says, which names %d bytes", len(data), want.Bytes), nil)
	}
	return unseal(name, data, k, m)
}

// Servers reads all servers, by their numbers.
func (s *Snapshot) Servers(ctx context.Context) ([]wire.Contact, error) {
	var all []wire.Contact
	for i, want := range s.Head.Servers {
		var p wire.SnapshotServers
		if err := s.part(ctx, kindServers, i, want, &p); err != nil {
			return nil, err
		}
		all = append(all, p.Contacts...)
	}
	return all, nil
}

// Shares reads what had been taken from each server.
func (s *Snapshot) Shares(ctx context.Context) ([]wire.SnapshotShare, error) {
	var all []wire.SnapshotShare
	for i, want := range s.Head.Shares {
		var p wire.SnapshotShares
		if err := s.part(ctx, kindShares, i, want, &p); err != nil {
			return nil, err
		}
		all = append(all, p.Shares...)
	}
	return all, nil
}

// Cells reads the routes of one part.
func (s *Snapshot) Cells(ctx context.Context, part int) ([]wire.SnapshotCell, error) {
	var p wire.SnapshotCells
	if err := s.part(ctx, kindRoutes, part, s.Head.Routes[part], &p); err != nil {
		return nil, err
	}
	return p.Cells, nil
}

// PartOf is the part that a cell is in if it is in the snapshot; false when there is no such part.
func (s *Snapshot) PartOf(id cell.ID) (int, bool) {
	bucket := uint32(wire.BucketOf(id))
	i, found := slices.BinarySearchFunc(s.Head.Routes, bucket, func(p wire.SnapshotPart, b uint32) int { return int(p.First) - int(b) })
	if !found {
		i--
	}
	return i, i >= 0
}

// Route gives a cell of the snapshot its servers. The error says that the snapshot contradicts itself.
func Route(c *wire.SnapshotCell, servers []wire.Contact) (wire.Route, error) {
	r := wire.Route{Cell: c.Cell, Incarnation: c.Incarnation, Configuration: c.Configuration, Deleted: len(c.Members) == 0}
	for _, m := range c.Members {
		if int(m.Server) >= len(servers) {
			return wire.Route{}, damaged(string(c.Cell), fmt.Sprintf("a member is on server number %d of %d", m.Server, len(servers)), nil)
		}
		s := &servers[m.Server]
		r.Members = append(r.Members, wire.Founder{Node: uint64(m.Node), Server: s.Server, PeerAddr: s.PeerAddr, ClientAddr: s.ClientAddr})
	}
	return r, nil
}
