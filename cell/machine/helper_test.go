package machine

import (
	"bytes"
	"slices"
	"testing"

	"physalia/cell"
	"physalia/internal/wire"
)

// request names a request of client c.
func request(c byte, sequence uint64, since cell.Revision) cell.Request {
	return cell.Request{Client: cell.ClientID{0: c, 15: c}, Sequence: sequence, Since: since}
}

// The transactions most tests are made of.

func put(key string, v cell.Value) cell.Txn {
	return cell.Txn{Then: []cell.Op{{Kind: cell.OpPut, Key: key, Value: v}}}
}

func increment(key string, by int64) cell.Txn {
	return cell.Txn{Then: []cell.Op{{Kind: cell.OpIncrement, Key: key, Value: cell.Int(by)}}}
}

func del(key string) cell.Txn { return cell.Txn{Then: []cell.Op{{Kind: cell.OpDelete, Key: key}}} }

func get(key string) cell.Txn { return cell.Txn{Then: []cell.Op{{Kind: cell.OpGet, Key: key}}} }

func scan(prefix, after string, limit uint32) cell.Txn {
	return cell.Txn{Then: []cell.Op{{Kind: cell.OpScan, Key: prefix, After: after, Limit: limit}}}
}

// host applies transactions to a machine the way a cell's log would, and fails the test on what must never happen.
type host struct {
	testing.TB
	*Machine
	sequence uint64
}

func newHost(tb testing.TB) *host { return &host{TB: tb, Machine: New()} }

// send applies a transaction under an explicit request.
func (h *host) send(r cell.Request, t cell.Txn) Outcome {
	h.Helper()
	c := wire.Command{Request: r, Txn: t}
	before := h.Snapshot(nil)
	revision := h.Revision()
	out, err := h.Apply(c.Append(nil))
	if err != nil {
		h.Fatalf("apply %v: %v", r, err)
	}
	if out.Request != r {
		h.Fatalf("applied %v, outcome of %v", r, out.Request)
	}
	if unchanged := bytes.Equal(before, h.Snapshot(nil)); unchanged != (h.Revision() == revision) {
		h.Fatalf("M3: revision %d -> %d, state unchanged: %t", revision, h.Revision(), unchanged)
	}
	out.Result.Results = slices.Clone(out.Result.Results)
	return *out
}

// do applies a transaction under a new request that is up to date.
func (h *host) do(t cell.Txn) Outcome {
	h.Helper()
	h.sequence++
	before := h.Revision()
	out := h.send(request(99, h.sequence, before), t)
	if h.Revision() != before+1 || out.Result.Revision != before+1 {
		h.Fatalf("M3: revision %d -> %d, outcome says %d", before, h.Revision(), out.Result.Revision)
	}
	return out
}

// must applies a transaction that has to take effect, and returns its results.
func (h *host) must(t cell.Txn) []cell.OpResult {
	h.Helper()
	out := h.do(t)
	if out.Err != nil {
		h.Fatalf("revision %d: %v", h.Revision(), out.Err)
	}
	return out.Result.Results
}

// look reads one key.
func (h *host) look(key string) (cell.Entry, bool) {
	h.Helper()
	t := get(key)
	r, err := h.Read(&t)
	if err != nil {
		h.Fatalf("read %q: %v", key, err)
	}
	return r.Results[0].Entry, r.Results[0].Found
}
