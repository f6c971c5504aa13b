package topology

import (
	"fmt"
	"strings"

	"physalia/cell"
)

// Brick names a group of racks behind one pair of brick routers.
type Brick string

// Rack names a failure domain inside a brick: what shares a rack switch.
type Rack string

// PowerDomain names a failure domain inside a brick: what shares a power feed.
type PowerDomain string

// Color names a deployment group; servers of different colors never exchange a byte.
type Color string

// NameBytesMax bounds a brick, rack, power domain, color or server name, in bytes.
const NameBytesMax = 64

// Location is a place in the data centre, as precisely as it is known: empty fields are unknown and equal nothing.
// A client, or a server of a block store, has a location without being a server of the colony.
type Location struct {
	Server cell.ServerID
	Brick  Brick
	Rack   Rack
	Power  PowerDomain
}

// Server describes one storage server.
type Server struct {
	ID       cell.ServerID
	Name     string // for people; may repeat: a server with a new data directory has a new ID and its old name
	Brick    Brick
	Rack     Rack
	Power    PowerDomain
	Color    Color
	Capacity uint64 // nodes it is willing to host
	Load     uint64 // nodes it hosts, by its own count
}

// Pool returns the pool that the server belongs to.
func (s *Server) Pool() PoolKey { return PoolKey{Brick: s.Brick, Color: s.Color} }

// Location returns where the server stands.
func (s *Server) Location() Location {
	return Location{Server: s.ID, Brick: s.Brick, Rack: s.Rack, Power: s.Power}
}

// String shows a server in one line, for example "s1-k3v9 (s1) brick b1 rack r2 power p1 color red 17/1000".
func (s *Server) String() string {
	return fmt.Sprintf("%s (%s) brick %s rack %s power %s color %s %d/%d",
		s.ID, s.Name, s.Brick, s.Rack, s.Power, s.Color, s.Load, s.Capacity)
}

// Check reports what is wrong with a description from outside, or nil: the identity must be well formed, and brick,
// rack, power domain and color must each be named with at most NameBytesMax bytes of printable ASCII without spaces.
// The error is a *cell.Error of kind Invalid.
func (s *Server) Check() error {
	if err := s.ID.Check(); err != nil {
		return err
	}
	for _, f := range s.places() {
		if !placeName(f.value) {
			return &cell.Error{Op: "topology.server", Kind: cell.Invalid,
				Detail: fmt.Sprintf("server %s has %s %q", s.ID, f.what, clip(f.value)),
				Hint:   fmt.Sprintf("name its %s with 1 to %d printable characters without spaces", f.what, NameBytesMax)}
		}
	}
	if len(s.Name) > NameBytesMax {
		return &cell.Error{Op: "topology.server", Kind: cell.Invalid,
			Detail: fmt.Sprintf("server %s has a name of %d bytes", s.ID, len(s.Name)),
			Hint:   fmt.Sprintf("use at most %d bytes", NameBytesMax)}
	}
	return nil
}

// Contradiction reports how a newer description of the same identity moves the server to another brick, rack, power
// domain or color, or nil. Juries were chosen by the older description, so the newer one must not be believed. The
// error is a *cell.Error of kind Refused that names every changed field with both values.
func (s *Server) Contradiction(newer *Server) error {
	if s.ID != newer.ID {
		return nil
	}
	var changed []string
	was, is := s.places(), newer.places()
	for i := range was {
		if was[i].value != is[i].value {
			changed = append(changed, fmt.Sprintf("%s was %q, now %q", was[i].what, was[i].value, clip(is[i].value)))
		}
	}
	if len(changed) == 0 {
		return nil
	}
	return &cell.Error{Op: "topology.server", Kind: cell.Refused,
		Detail: fmt.Sprintf("server %s changed its place: %s", s.ID, strings.Join(changed, "; ")),
		Hint:   "start it with its old place, or with an empty data directory to give it a new identity"}
}

type place struct{ what, value string }

// places lists the fields that never change under one identity.
func (s *Server) places() [4]place {
	return [4]place{{"brick", string(s.Brick)}, {"rack", string(s.Rack)}, {"power domain", string(s.Power)}, {"color", string(s.Color)}}
}

func placeName(name string) bool {
	if len(name) == 0 || len(name) > NameBytesMax {
		return false
	}
	for i := range len(name) {
		if name[i] <= ' ' || name[i] > '~' {
			return false
		}
	}
	return true
}

// clip bounds what an error repeats of an untrusted name.
func clip(name string) string {
	if len(name) > NameBytesMax {
		return name[:NameBytesMax]
	}
	return name
}
