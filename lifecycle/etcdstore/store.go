package etcdstore

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strconv"
	"strings"
	"sync"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"physalia/cell"
	"physalia/lifecycle"
)

// ErrFenced says that the term is over: another instance may be active. Nothing was written.
var ErrFenced = errors.New("this instance does not hold the election any more")

// How a Store talks to etcd.
const (
	attemptTimeout = 3 * time.Second // one transaction; a member that is cut off from its leader does not answer
	retryMin       = 50 * time.Millisecond
	retryMax       = time.Second
	scanPage       = 2048 // keys of one read
)

// Store is the lifecycle.Store of one term. One goroutine puts, and others may scan meanwhile, as a backup does; Put and Scan
// block, while etcd does not answer, until the term is over.
type Store struct {
	kv     clientv3.KV
	ctx    context.Context // the term; its cause says how it ended
	prefix string          // without a slash at the end
	key    string          // the election key of this term
	term   int64           // revision that created it
	log    *slog.Logger

	mu     sync.Mutex // held by a Put to its end, and by a Scan for its first page, so that no scan begins within a journal
	head   string     // value of head; empty: there is none
	count  uint64     // writes of this term
	broken error      // why no more is done
}

// openStore takes the store over: it learns head, and carries out or drops what a journal holds (E3).
func openStore(ctx context.Context, kv clientv3.KV, prefix, electionKey string, term int64, log *slog.Logger) (*Store, error) {
	s := &Store{kv: kv, ctx: ctx, prefix: prefix, key: electionKey, term: term, log: log}
	resp, _, err := s.read(clientv3.OpGet(s.prefix + "/head"))
	if err != nil {
		return nil, err
	}
	if len(resp.Kvs) > 0 {
		s.head = string(resp.Kvs[0].Value)
	}
	if err := s.recover(); err != nil {
		return nil, s.lost(err)
	}
	return s, nil
}

// Put makes a batch durable as one: in one transaction, or by the journal. After an error the Store refuses everything.
//
// By the journal: its parts are written first, the last one together with commit, which makes the batch durable. Then the
// parts are carried out, the last of them together with the removal of commit. Whoever dies in between leaves a journal that
// is carried out as often as needed, since writing the same values again changes nothing.
func (s *Store) Put(batch []lifecycle.Write) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.broken != nil {
		return s.broken
	}
	if err := s.put(lastOfEach(batch)); err != nil {
		return s.lost(err)
	}
	return nil
}

func (s *Store) put(batch []lifecycle.Write) error {
	for _, w := range batch {
		if n := bytesOf(w, len(s.prefix)); n > oneBytesMax {
			return &cell.Error{Op: "lifecycle.store", Kind: cell.TooLarge, Detail: fmt.Sprintf("the value of %q takes %d bytes, allowed are %d", w.Key, n, oneBytesMax)}
		}
	}
	parts := split(batch, writesMax, bytesMax, len(s.prefix))
	if len(parts) <= 1 {
		return s.write(s.ops(batch))
	}
	journal := split(batch, journalOnly, bytesMax, 0)
	for i, part := range journal {
		ops := []clientv3.Op{clientv3.OpPut(s.journalKey(i), string(appendJournal(nil, part)))}
		if i == len(journal)-1 {
			ops = append(ops, clientv3.OpPut(s.prefix+"/commit", strconv.Itoa(len(journal))))
		}
		if err := s.write(ops); err != nil {
			return err
		}
	}
	return s.carryOut(parts)
}

// carryOut writes the parts of a committed journal, and ends it with the last.
func (s *Store) carryOut(parts [][]lifecycle.Write) error {
	for i, part := range parts {
		ops := s.ops(part)
		if i == len(parts)-1 {
			ops = append(ops, s.endJournal()...)
		}
		if err := s.write(ops); err != nil {
			return err
		}
	}
	return nil
}

// endJournal removes commit and all parts.
func (s *Store) endJournal() []clientv3.Op {
	return []clientv3.Op{clientv3.OpDelete(s.prefix + "/commit"), clientv3.OpDelete(s.prefix+"/journal/", clientv3.WithPrefix())}
}

// recover carries out the journal of an earlier term if it was committed, and drops it if not.
func (s *Store) recover() error {
	commit, _, err := s.read(clientv3.OpGet(s.prefix + "/commit"))
	if err != nil {
		return err
	}
	if len(commit.Kvs) == 0 {
		left, _, err := s.read(clientv3.OpGet(s.prefix+"/journal/", clientv3.WithPrefix(), clientv3.WithCountOnly()))
		if err != nil || left.Count == 0 {
			return err
		}
		s.log.Info("an unfinished batch of an earlier term is dropped; nobody was told of it", "parts", left.Count)
		return s.write(s.endJournal())
	}
	n, err := strconv.Atoi(string(commit.Kvs[0].Value))
	if err != nil || n < 1 {
		return fmt.Errorf("%w: commit is %q", errJournal, commit.Kvs[0].Value)
	}
	var batch []lifecycle.Write
	for i := range n {
		resp, _, err := s.read(clientv3.OpGet(s.journalKey(i)))
		if err != nil {
			return err
		}
		if len(resp.Kvs) == 0 {
			return fmt.Errorf("%w: part %d of %d is missing", errJournal, i, n)
		}
		part, err := decodeJournal(resp.Kvs[0].Value)
		if err != nil {
			return err
		}
		batch = append(batch, part...)
	}
	s.log.Info("a batch of an earlier term is carried out", "writes", len(batch))
	return s.carryOut(split(batch, writesMax, bytesMax, len(s.prefix)))
}

func (s *Store) journalKey(i int) string { return fmt.Sprintf("%s/journal/%08d", s.prefix, i) }

// ops translates writes.
func (s *Store) ops(batch []lifecycle.Write) []clientv3.Op {
	ops := make([]clientv3.Op, len(batch), len(batch)+3)
	for i, w := range batch {
		key := s.prefix + "/data/" + string(w.Key)
		if w.Value == nil {
			ops[i] = clientv3.OpDelete(key)
		} else {
			ops[i] = clientv3.OpPut(key, string(w.Value))
		}
	}
	return ops
}

// Scan visits everything stored in key order. All pages are of the revision of the first one, whatever is put meanwhile. That
// etcd has compacted it away ends the scan, not the term.
func (s *Store) Scan(visit func(key, value []byte) error) error {
	root := s.prefix + "/data/"
	from, end := root, clientv3.GetPrefixRangeEnd(root)
	resp, revision, err := s.firstPage(clientv3.OpGet(from, clientv3.WithRange(end), clientv3.WithLimit(scanPage)))
	for {
		if err != nil {
			return err
		}
		for _, kv := range resp.Kvs {
			if err := visit(kv.Key[len(root):], kv.Value); err != nil {
				return err
			}
		}
		if !resp.More {
			return nil
		}
		from = string(resp.Kvs[len(resp.Kvs)-1].Key) + "\x00"
		resp, _, err = s.read(clientv3.OpGet(from, clientv3.WithRange(end), clientv3.WithLimit(scanPage), clientv3.WithRev(revision)))
	}
}

// firstPage reads the page that tells the moment of a scan: one between two batches.
func (s *Store) firstPage(op clientv3.Op) (page *pb.RangeResponse, revision int64, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.broken != nil {
		return nil, 0, s.broken
	}
	return s.read(op)
}

// Close does nothing: the content is etcd's, and the term is ended by who won it.
func (s *Store) Close() error { return nil }

// holds compares that the term is not over (E1).
func (s *Store) holds() clientv3.Cmp {
	return clientv3.Compare(clientv3.CreateRevision(s.key), "=", s.term)
}

// write carries out one transaction that moves head, exactly once if it returns nil (E1, E2). The operations do not touch one
// key twice.
func (s *Store) write(ops []clientv3.Op) error {
	head := s.prefix + "/head"
	was := clientv3.Compare(clientv3.Value(head), "=", s.head)
	if s.head == "" {
		was = clientv3.Compare(clientv3.CreateRevision(head), "=", 0)
	}
	s.count++
	next := fmt.Sprintf("%d.%d", s.term, s.count)
	ops = append(ops, clientv3.OpPut(head, next))
	resp, err := s.persist([]clientv3.Cmp{s.holds(), was}, ops, []clientv3.Op{clientv3.OpGet(s.key), clientv3.OpGet(head)})
	if err != nil {
		return err
	}
	if !resp.Succeeded {
		now := resp.Responses[1].GetResponseRange().Kvs
		switch {
		case !s.isOurs(resp.Responses[0]):
			return s.fenced()
		case len(now) == 0 || string(now[0].Value) != next: // else an earlier attempt got through
			return &cell.Error{Op: "lifecycle.store", Kind: cell.Internal, Detail: fmt.Sprintf("head is %v, not %q: somebody else writes under %s", now, s.head, s.prefix),
				Hint: "find out who; until then nothing in it can be relied on"}
		}
	}
	s.head = next
	return nil
}

// isOurs reports whether a response to a read of the election key shows it as this term's.
func (s *Store) isOurs(r interface{ GetResponseRange() *pb.RangeResponse }) bool {
	kvs := r.GetResponseRange().Kvs
	return len(kvs) == 1 && kvs[0].CreateRevision == s.term
}

// read carries out one read within the term (E1), and tells the revision as of which it was.
func (s *Store) read(op clientv3.Op) (page *pb.RangeResponse, revision int64, err error) {
	resp, err := s.persist([]clientv3.Cmp{s.holds()}, []clientv3.Op{op}, nil)
	if err != nil {
		return nil, 0, err
	}
	if !resp.Succeeded {
		return nil, 0, s.fenced()
	}
	return resp.Responses[0].GetResponseRange(), resp.Header.Revision, nil
}

// persist sends a transaction until etcd has answered it. Sending it again is harmless: reads change nothing, and of the
// copies of a write only one finds head as it was.
func (s *Store) persist(cmps []clientv3.Cmp, then, otherwise []clientv3.Op) (*clientv3.TxnResponse, error) {
	for pause := retryMin; ; pause = min(2*pause, retryMax) {
		ctx, cancel := context.WithTimeout(s.ctx, attemptTimeout)
		resp, err := s.kv.Txn(ctx).If(cmps...).Then(then...).Else(otherwise...).Commit()
		cancel()
		switch {
		case err == nil:
			return resp, nil
		case s.ctx.Err() != nil:
			return nil, s.over()
		case !isTransient(err):
			return nil, explain(err)
		}
		s.log.Warn("etcd did not answer a transaction; it is sent again", "error", err, "after", pause)
		timer := time.NewTimer(pause)
		select {
		case <-timer.C:
		case <-s.ctx.Done():
			timer.Stop()
			return nil, s.over()
		}
	}
}

// isTransient reports whether an error may go away while the term lasts.
func isTransient(err error) bool {
	if errors.Is(err, context.DeadlineExceeded) {
		return true
	}
	var of rpctypes.EtcdError
	code := status.Code(err)
	if errors.As(err, &of) {
		code = of.Code()
	}
	busy := strings.Contains(err.Error(), rpctypes.ErrorDesc(rpctypes.ErrTooManyRequests))
	return code == codes.Unavailable || code == codes.DeadlineExceeded || busy
}

// explain tells people what etcd refused and what to do.
func explain(err error) error {
	e := &cell.Error{Op: "lifecycle.store", Kind: cell.Unavailable, Detail: "etcd refused", Err: err, Hint: "see docs/control.md"}
	for _, known := range []struct {
		text error
		hint string
	}{
		{rpctypes.ErrNoSpace, "etcd's space quota is used up: compact, defragment and disarm the alarm; raise --quota-backend-bytes"},
		{rpctypes.ErrTooManyOps, "start etcd with --max-txn-ops of at least 128, its default"},
		{rpctypes.ErrRequestTooLarge, "start etcd with --max-request-bytes of at least 1572864, its default"},
		{rpctypes.ErrPermissionDenied, "grant the user of --store-user reading and writing under the prefix"},
	} {
		if strings.Contains(err.Error(), rpctypes.ErrorDesc(known.text)) {
			e.Hint = known.hint
		}
	}
	return e
}

// fenced says that another term may have begun.
func (s *Store) fenced() error {
	return &cell.Error{Op: "lifecycle.store", Kind: cell.Stale, Detail: fmt.Sprintf("term %d is over", s.term), Err: ErrFenced}
}

// over says how the term ended.
func (s *Store) over() error {
	return &cell.Error{Op: "lifecycle.store", Kind: cell.Unavailable, Detail: fmt.Sprintf("term %d has ended", s.term), Err: context.Cause(s.ctx)}
}

// lost notes the first error; nothing is known of the content after it.
func (s *Store) lost(err error) error {
	if s.broken == nil {
		s.broken = err
	}
	return err
}
