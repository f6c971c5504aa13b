package client

import (
	"context"
	"fmt"
	"iter"

	"physalia/cell"
)

// Get reads one key. Linearizable unless Stale is given. An absent key is NotFound. Not applied: all errors.
func (h *Cell) Get(ctx context.Context, key string, option ...ReadOption) (cell.Entry, error) {
	const op = "client.get"
	result, _, err := h.txn(ctx, op, cell.Txn{Then: []cell.Op{{Kind: cell.OpGet, Key: key}}}, only(option))
	if err != nil {
		return cell.Entry{}, err
	}
	if r, ok := first(&result); ok && r.Found {
		return r.Entry, nil
	}
	return cell.Entry{}, &cell.Error{Op: op, Kind: cell.NotFound, Cell: h.id, Detail: fmt.Sprintf("key %q does not exist", key)}
}

// Put sets a key to a value, creating it if it is absent, and returns the revision of that change. Linearizable.
// Not applied: TooLarge, Invalid and the general ones. Unknown: *UnknownError.
func (h *Cell) Put(ctx context.Context, key string, value cell.Value) (cell.Revision, error) {
	op := [1]cell.Op{Put(key, value)}
	x, err := h.openFor(ctx, "client.put", &cell.Txn{Then: op[:]})
	if err != nil {
		return 0, err
	}
	defer h.client.put(x)
	x.put, x.brief = op, true
	if err := h.write(ctx, x, &logged{txn: cell.Txn{Then: x.put[:]}}); err != nil {
		return 0, err
	}
	return x.result.Revision, nil
}

// Delete removes a key and reports whether it existed. Linearizable. Not applied: the general errors. Unknown:
// *UnknownError.
func (h *Cell) Delete(ctx context.Context, key string) (bool, error) {
	// The condition is there for retries: Succeeded is remembered longer than results are.
	return h.outcome(ctx, "client.delete", cell.Txn{If: []cell.Condition{Exists(key)}, Then: []cell.Op{Delete(key)}})
}

// Increment adds delta to the integer at a key, which counts as 0 when it is absent, and returns the sum. Linearizable,
// and exactly once. Not applied: WrongType, TooLarge and the general errors. Unknown: *UnknownError. An UnknownResult
// that is no *UnknownError says that the increment was applied, once, but its sum is no longer remembered.
func (h *Cell) Increment(ctx context.Context, key string, delta int64) (cell.Value, error) {
	const op = "client.increment"
	result, _, err := h.txn(ctx, op, cell.Txn{Then: []cell.Op{Increment(key, delta)}}, Linearizable)
	if err != nil {
		return cell.Value{}, err
	}
	if r, ok := first(&result); ok {
		return r.Entry.Value, nil
	}
	return cell.Value{}, forgotten(op, h.id)
}

// CompareAndSwap sets a key to next if it holds exactly old, and reports whether it did. Linearizable. Not applied: the
// general errors, TooLarge. Unknown: *UnknownError.
func (h *Cell) CompareAndSwap(ctx context.Context, key string, old, next cell.Value) (bool, error) {
	return h.outcome(ctx, "client.swap", cell.Txn{If: []cell.Condition{Compare(key, cell.Equal, old)}, Then: []cell.Op{Put(key, next)}})
}

// ScanOptions say which part of a prefix is read, and how. The zero value reads from the start, linearizably.
type ScanOptions struct {
	After string     // continue behind this key
	Limit uint32     // 1 to cell.ScanLimitMax entries; zero means cell.ScanLimitMax
	Read  ReadOption // Linearizable, Stale or Confirmed
}

// Page is a part of a scan.
type Page struct {
	Entries  []cell.Entry  // in the order of keys
	More     bool          // there are further keys behind the last of Entries
	Revision cell.Revision // of the cell when the page was read
}

// Scan reads the keys with a prefix, in order, up to a limit in number (ScanOptions.Limit) and in bytes
// (cell.ScanBytesMax); More says that there are further ones. A page is one moment of the cell. Not applied: all errors.
func (h *Cell) Scan(ctx context.Context, prefix string, options ScanOptions) (Page, error) {
	result, _, err := h.txn(ctx, "client.scan", cell.Txn{
		Then: []cell.Op{{Kind: cell.OpScan, Key: prefix, After: options.After, Limit: options.Limit}}}, options.Read)
	if err != nil {
		return Page{}, err
	}
	page := Page{Revision: result.Revision}
	if r, ok := first(&result); ok {
		page.Entries, page.More = r.Entries, r.More
	}
	return page, nil
}

// All iterates over all keys with a prefix, page by page; each page is one moment of the cell, and the moments follow
// each other. An error ends the iteration; it comes with a zero Entry. Linearizable unless Stale is given.
func (h *Cell) All(ctx context.Context, prefix string, option ...ReadOption) iter.Seq2[cell.Entry, error] {
	return func(yield func(cell.Entry, error) bool) {
		options := ScanOptions{Read: only(option)}
		for {
			page, err := h.Scan(ctx, prefix, options)
			if err != nil {
				yield(cell.Entry{}, err)
				return
			}
			for _, e := range page.Entries {
				if !yield(e, nil) {
					return
				}
			}
			if !page.More || len(page.Entries) == 0 {
				return
			}
			options.After = page.Entries[len(page.Entries)-1].Key
		}
	}
}

// first returns the first result of a transaction, if the cell still had it.
func first(r *cell.TxnResult) (*cell.OpResult, bool) {
	if len(r.Results) == 0 {
		return nil, false
	}
	return &r.Results[0], true
}

// only takes an optional ReadOption.
func only(options []ReadOption) ReadOption {
	if len(options) == 0 {
		return Linearizable
	}
	return options[0]
}
