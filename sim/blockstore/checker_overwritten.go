package blockstore

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"
)

// Operation is what a client saw of one operation. Data of writes is unique in a history.
type Operation struct {
	Client  string
	Write   bool
	Block   int
	Data    string
	Version Version
	Called  time.Duration
	Ended   time.Duration
	Done    bool // otherwise it never ended, and may have taken effect or not; Version and Ended mean nothing
}

// String shows an operation in one line.
func (o *Operation) String() string {
	what := "read"
	if o.Write {
		what = "write"
	}
	return fmt.Sprintf("%s of block %d by %s [%v, %v] %q at %v", what, o.Block, o.Client, o.Called, o.Ended, o.Data, o.Version)
}

// Overwritten hunts B3 and B5 to B7: every block is a linearizable register. The versions that copies report must order the
// operations as real time does, where it says anything; then that order is the proof. What has one version has one
// content, and what was written has one version. An error names the first operation that does not fit. Linear but for the sorting.
func Overwritten(history []Operation) error {
	byBlock := map[int][]*Operation{}
	for i := range history {
		o := &history[i]
		byBlock[o.Block] = append(byBlock[o.Block], o)
	}
	for block := range BlocksMax {
		if len(byBlock) == 0 {
			break
		}
		if err := register(byBlock[block]); err != nil {
			return fmt.Errorf("overwritten: %w", err)
		}
		delete(byBlock, block)
	}
	return nil
}

// register judges the operations on one block.
func register(ops []*Operation) error {
	written := map[string]*Operation{"": {}}
	for _, o := range ops {
		if o.Write {
			written[o.Data] = o
		}
	}
	ended := slices.DeleteFunc(slices.Clone(ops), func(o *Operation) bool { return !o.Done })
	if err := contents(ended, written); err != nil {
		return err
	}
	called := slices.Clone(ended)
	slices.SortStableFunc(called, func(a, b *Operation) int { return cmp.Compare(a.Called, b.Called) })
	slices.SortStableFunc(ended, func(a, b *Operation) int { return cmp.Compare(a.Ended, b.Ended) })
	var newest *Operation // with the highest version among those that ended before
	for _, o := range called {
		for ; len(ended) > 0 && ended[0].Ended < o.Called; ended = ended[1:] {
			if newest == nil || newest.Version.Less(ended[0].Version) {
				newest = ended[0]
			}
		}
		switch {
		case newest == nil:
		case o.Version.Less(newest.Version), o.Write && o.Version == newest.Version:
			return fmt.Errorf("%v, after %v", o, newest)
		}
	}
	return nil
}

// contents checks that versions and contents belong together, and that nobody has read what nobody had written yet.
func contents(ended []*Operation, written map[string]*Operation) error {
	byVersion, byData := map[Version]*Operation{}, map[string]*Operation{}
	for _, o := range ended {
		by, known := written[o.Data]
		if !known || by.Called > o.Ended {
			return fmt.Errorf("%v, which nobody had written", o)
		}
		if p := byVersion[o.Version]; p != nil && p.Data != o.Data {
			return fmt.Errorf("%v, but %v", o, p)
		}
		if p := byData[o.Data]; p != nil && p.Version != o.Version {
			return fmt.Errorf("%v, written twice: %v", o, p)
		}
		byVersion[o.Version], byData[o.Data] = o, o
	}
	return nil
}

// Describe lists a history of one block in the order of calls, for people.
func Describe(history []Operation, block int) string {
	var lines []string
	for i := range history {
		if o := &history[i]; o.Block == block {
			lines = append(lines, o.String())
		}
	}
	return strings.Join(lines, "\n")
}
