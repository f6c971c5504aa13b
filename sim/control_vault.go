package sim

import (
	"bytes"
	"maps"
	"slices"

	"physalia/lifecycle"
)

// vault is the store of the control plane: durable, shared by whoever believes to be active, and fenced by a term, as package
// lifecycle's stores are: who opens it later shuts out who opened it before.
type vault struct {
	pairs    map[string][]byte
	term     uint64
	copies   []map[string][]byte // backups, oldest first
	lost     bool                // it was at any time
	restored bool                // it was lost, or put back to a copy, and was not rebuilt since
}

func newVault() vault { return vault{pairs: map[string][]byte{}} }

// open begins a term. There is no term without an owner: who opens the vault may write until the next one opens it.
func (v *vault) open() uint64 {
	v.term++
	return v.term
}

// put makes a batch durable as a whole, unless somebody opened the vault since the given term.
func (v *vault) put(term uint64, batch []lifecycle.Write) bool {
	if term != v.term {
		return false
	}
	for _, x := range batch {
		if x.Value == nil {
			delete(v.pairs, string(x.Key))
		} else {
			v.pairs[string(x.Key)] = bytes.Clone(x.Value)
		}
	}
	return true
}

// scan visits the pairs in the order of their keys.
func (v *vault) scan(visit func(key, value []byte) error) error {
	for _, k := range slices.Sorted(maps.Keys(v.pairs)) {
		if err := visit([]byte(k), v.pairs[k]); err != nil {
			return err
		}
	}
	return nil
}

// copy keeps a backup.
func (v *vault) copy() { v.copies = append(v.copies, maps.Clone(v.pairs)) }

// lose empties the vault, or puts it back to a backup: so many before the newest. Below zero there is no backup, as where none
// was made yet. Batches that are on their way to what was lost are lost, too: the term has changed.
func (v *vault) lose(back int) {
	v.term++
	v.restored, v.lost = true, true
	if back < 0 || len(v.copies) == 0 {
		v.pairs = map[string][]byte{}
		return
	}
	v.pairs = maps.Clone(v.copies[max(0, len(v.copies)-1-back)])
}
