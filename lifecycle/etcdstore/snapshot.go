package etcdstore

import (
	"context"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"physalia/cell"
)

// snapshotPoll is how often a journal that is being carried out is looked at, which takes milliseconds.
const snapshotPoll = 20 * time.Millisecond

// Snapshot visits everything stored at one moment, in key order, as Scan does, but beside Put and without any say in the term: it
// reads the past at one revision, touches nothing of the Store, and its errors are the caller's alone. While a committed journal is
// carried out there is no such moment (E3); it waits for the end, or for that of ctx.
func (s *Store) Snapshot(ctx context.Context, visit func(key, value []byte) error) error {
	revision, err := s.moment(ctx)
	if err != nil {
		return err
	}
	root := s.prefix + "/data/"
	for from, end := root, clientv3.GetPrefixRangeEnd(root); ; {
		// A revision that is compacted away meanwhile is an error, never a page of another moment.
		resp, err := s.kv.Get(ctx, from, clientv3.WithRange(end), clientv3.WithLimit(scanPage), clientv3.WithRev(revision))
		if err != nil {
			return unread(err)
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
	}
}

// A journal that is not committed yet does not disturb: its parts stand beside the data and are read by nobody. One that is committed
// stays so until the transaction that carries out its last part, so the absence of commit at a revision says that every batch
// up to it is there as a whole.
//
// moment is a revision at which no batch is half carried out.
func (s *Store) moment(ctx context.Context) (int64, error) {
	ticker := time.NewTicker(snapshotPoll)
	defer ticker.Stop()
	for {
		// A linearizable read: its revision is not older than anything that was acknowledged before the snapshot was asked for.
		resp, err := s.kv.Get(ctx, s.prefix+"/commit", clientv3.WithCountOnly())
		if err != nil {
			return 0, unread(err)
		}
		if resp.Count == 0 {
			return resp.Header.Revision, nil
		}
		select {
		case <-ctx.Done():
			return 0, unread(ctx.Err())
		case <-ticker.C:
		}
	}
}

// unread says that a picture could not be taken; whatever was visited of it is to be thrown away.
func unread(err error) error {
	return &cell.Error{Op: "lifecycle.snapshot", Kind: cell.Unavailable, Detail: "etcd was not read to the end", Err: err, Hint: "try again"}
}
