package member

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"sync"

	"github.com/cockroachdb/pebble/v2"
	pb "go.etcd.io/raft/v3/raftpb"
	"google.golang.org/protobuf/proto"
)

// append_ is what one group wants stored.
type append_ struct {
	group   int
	message *pb.Message
}

// queue holds appends in order; whoever takes gets all of them.
type queue struct {
	mu     sync.Mutex
	more   sync.Cond // signalled when something was put, or at the end
	all    []append_
	closed bool // nothing more will be taken
}

func newQueue() *queue {
	q := &queue{}
	q.more.L = &q.mu
	return q
}

// put adds appends.
func (q *queue) put(a []append_) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.all = append(q.all, a...)
	q.more.Signal()
}

// take waits for appends; nil says that there will be none.
func (q *queue) take() []append_ {
	q.mu.Lock()
	defer q.mu.Unlock()
	for len(q.all) == 0 && !q.closed {
		q.more.Wait()
	}
	all := q.all
	q.all = nil
	return all
}

// close lets a take that waits return.
func (q *queue) close() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.closed = true
	q.more.Broadcast()
}

// logKey is the key of an entry of a group's log; without an index, of its term, vote and commit.
func logKey(group int, index ...uint64) []byte {
	k := binary.BigEndian.AppendUint32(make([]byte, 0, 13), uint32(group))
	if len(index) == 0 {
		return append(k, 'h')
	}
	return binary.BigEndian.AppendUint64(append(k, 'l'), index[0])
}

// runStore makes appends durable: all that wait, of all groups, with one batch and one sync. A batch in which nothing but commit indexes
// moved is not synced: a member that forgets one learns it again, and the library's own rule (MustSync) says the same.
func (s *stepper) runStore(ctx context.Context) error {
	ballots := make([][2]uint64, len(s.groups)) // term and vote of each group, as they are durable
	for {
		appends := s.toStore.take()
		if appends == nil {
			return ctx.Err()
		}
		batch, option := s.st.db.NewBatch(), pebble.NoSync
		for _, a := range appends {
			if err := write(batch, a); err != nil {
				return errors.Join(err, batch.Close())
			}
			if len(a.message.Entries) > 0 || moved(&ballots[a.group], a.message) {
				option = pebble.Sync
			}
		}
		if err := errors.Join(batch.Commit(option), batch.Close()); err != nil {
			return fmt.Errorf("store: %w", err)
		}
		// Only the loop may touch the groups, so it hears of it like of any message.
		s.put(item{durable: appends})
	}
}

// moved notes the term and the vote of a message, and reports whether they are new.
func moved(ballot *[2]uint64, m *pb.Message) bool {
	if m.Term == nil && m.Vote == nil {
		return false
	}
	now := [2]uint64{m.GetTerm(), m.GetVote()}
	was := *ballot
	*ballot = now
	return now != was
}

// write adds one append to a batch.
func write(batch *pebble.Batch, a append_) error {
	m := a.message
	for _, e := range m.Entries {
		value, err := proto.Marshal(e)
		if err != nil {
			return err
		}
		if err := batch.Set(logKey(a.group, e.GetIndex()), value, nil); err != nil {
			return err
		}
	}
	if m.Term == nil && m.Vote == nil && m.Commit == nil {
		return nil
	}
	value := binary.LittleEndian.AppendUint64(nil, m.GetTerm())
	value = binary.LittleEndian.AppendUint64(binary.LittleEndian.AppendUint64(value, m.GetVote()), m.GetCommit())
	return batch.Set(logKey(a.group), value, nil)
}

// stored lets the library see what is durable, and delivers what waited for that.
func (s *stepper) stored(g *group, m *pb.Message) error {
	if len(m.Entries) > 0 {
		if err := g.log.Append(m.Entries); err != nil {
			return err
		}
	}
	s.touch(g)
	return s.respond(g, m)
}
