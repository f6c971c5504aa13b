package storage

import (
	"bytes"
	"maps"
	"slices"
)

// table is a naive ordered map, the model's memory: simple enough to be believed without proof. Values are immutable
// and shared between copies of a table.
type table struct {
	keys   []string // sorted
	values map[string][]byte
}

func newTable() *table { return &table{values: map[string][]byte{}} }

func (t *table) clone() *table {
	return &table{keys: slices.Clone(t.keys), values: maps.Clone(t.values)}
}

// apply does one write of a batch.
func (t *table) apply(kind opKind, key string, value []byte) {
	switch kind {
	case opSet:
		t.set(key, value)
	case opDelete:
		t.delete(key, key+"\x00")
	case opDeleteRange:
		t.delete(key, string(value))
	}
}

func (t *table) set(key string, value []byte) {
	if _, ok := t.values[key]; !ok {
		at, _ := slices.BinarySearch(t.keys, key)
		t.keys = slices.Insert(t.keys, at, key)
	}
	t.values[key] = value
}

// delete removes the keys in [start, end).
func (t *table) delete(start, end string) {
	if start >= end {
		return
	}
	from, _ := slices.BinarySearch(t.keys, start)
	to, _ := slices.BinarySearch(t.keys, end)
	for _, key := range t.keys[from:to] {
		delete(t.values, key)
	}
	t.keys = slices.Delete(t.keys, from, to)
}

// appendRange appends copies of the pairs in r; a nil End means to the last key.
func (t *table) appendRange(pairs []Pair, r Range) []Pair {
	from, _ := slices.BinarySearch(t.keys, string(r.Start))
	for _, key := range t.keys[from:] {
		if r.End != nil && key >= string(r.End) {
			break
		}
		pairs = append(pairs, Pair{Key: []byte(key), Value: bytes.Clone(t.values[key])})
	}
	return pairs
}
