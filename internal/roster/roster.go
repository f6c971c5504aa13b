// Package roster tells which control instances are alive, where they are reached, and which of them is the active one. It
// is what the instances divide their duties by; it is a view, a little late, and fences nothing: what must not be done
// twice is fenced where it is stored.
package roster

import (
	"slices"
	"strings"
	"sync"
)

// Instance is one live control process.
type Instance struct {
	Name   string // unique within the colony
	Addr   string // host:port for servers and clients
	Active bool   // holds the lifecycle election
}

// Roster is the view that one instance has of all of them. It is safe for concurrent use.
type Roster interface {
	// Instances lists the live instances, sorted by name, this one included. The slice is the caller's.
	Instances() []Instance
	// Changed receives after each change; several changes in a row may be told once. Every call returns the same channel,
	// so it has one reader. It is never closed.
	Changed() <-chan struct{}
	// Self is the name of this instance.
	Self() string
}

// Board is a Roster whose content is set from outside: by the watcher of a shared store, or by a test.
type Board struct {
	self    string
	changed chan struct{} // capacity 1

	mu   sync.Mutex
	list []Instance // sorted by name
}

// NewBoard makes the board of the instance that self names, with these instances on it.
func NewBoard(self string, list ...Instance) *Board {
	b := &Board{self: self, changed: make(chan struct{}, 1)}
	b.list = sorted(list)
	return b
}

// Alone is the roster of an instance that shares its store with nobody: it is alone, and active.
func Alone(name, addr string) Roster {
	return NewBoard(name, Instance{Name: name, Addr: addr, Active: true})
}

// Set replaces the content. A content that is the same is no change.
func (b *Board) Set(list []Instance) {
	list = sorted(list)
	b.mu.Lock()
	defer b.mu.Unlock()
	if slices.Equal(b.list, list) {
		return
	}
	b.list = list
	select {
	case b.changed <- struct{}{}:
	default: // a change that nobody has read yet
	}
}

// Instances lists the live instances, sorted by name.
func (b *Board) Instances() []Instance {
	b.mu.Lock()
	defer b.mu.Unlock()
	return slices.Clone(b.list)
}

// Changed receives after each change.
func (b *Board) Changed() <-chan struct{} { return b.changed }

// Self is the name of this instance.
func (b *Board) Self() string { return b.self }

// sorted is a copy in the order of names.
func sorted(list []Instance) []Instance {
	list = slices.Clone(list)
	slices.SortFunc(list, func(a, b Instance) int { return strings.Compare(a.Name, b.Name) })
	return list
}
