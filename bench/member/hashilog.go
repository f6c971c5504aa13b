package member

import (
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"sync"

	"github.com/cockroachdb/pebble/v2"
	"github.com/hashicorp/raft"
)

// hashiLog is one group's part of the shared Pebble: the library's LogStore and StableStore. The library waits for each call, so groups share
// a sync where Pebble commits several waiting batches with one.
type hashiLog struct {
	db          *pebble.DB
	group       int
	mu          sync.Mutex
	first, last uint64 // indexes; zero: the log is empty
}

// FirstIndex implements raft.LogStore.
func (l *hashiLog) FirstIndex() (uint64, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.first, nil
}

// LastIndex implements raft.LogStore.
func (l *hashiLog) LastIndex() (uint64, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.last, nil
}

// GetLog implements raft.LogStore.
func (l *hashiLog) GetLog(index uint64, log *raft.Log) error {
	value, closer, err := l.db.Get(logKey(l.group, index))
	if errors.Is(err, pebble.ErrNotFound) {
		return raft.ErrLogNotFound
	}
	if err != nil {
		return err
	}
	if len(value) < 9 {
		return errors.Join(fmt.Errorf("entry %d of group %d has %d bytes", index, l.group, len(value)), closer.Close())
	}
	*log = raft.Log{Index: index, Term: binary.LittleEndian.Uint64(value), Type: raft.LogType(value[8]), Data: slices.Clone(value[9:])}
	return closer.Close()
}

// StoreLog implements raft.LogStore.
func (l *hashiLog) StoreLog(log *raft.Log) error { return l.StoreLogs([]*raft.Log{log}) }

// StoreLogs implements raft.LogStore.
func (l *hashiLog) StoreLogs(logs []*raft.Log) error {
	batch := l.db.NewBatch()
	for _, log := range logs {
		value := append(binary.LittleEndian.AppendUint64(make([]byte, 0, 9+len(log.Data)), log.Term), byte(log.Type))
		if err := batch.Set(logKey(l.group, log.Index), append(value, log.Data...), nil); err != nil {
			return errors.Join(err, batch.Close())
		}
	}
	if err := errors.Join(batch.Commit(pebble.Sync), batch.Close()); err != nil {
		return err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	// Entries come in order, without gaps; what they replace was deleted before.
	if l.first == 0 {
		l.first = logs[0].Index
	}
	l.last = logs[len(logs)-1].Index
	return nil
}

// DeleteRange implements raft.LogStore. Here only ends that disagree with a new leader's are deleted: nothing is compacted.
func (l *hashiLog) DeleteRange(from, to uint64) error {
	if err := l.db.DeleteRange(logKey(l.group, from), logKey(l.group, to+1), pebble.Sync); err != nil {
		return err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	switch {
	case from <= l.first && to >= l.last:
		l.first, l.last = 0, 0
	case from <= l.first:
		l.first = to + 1
	case to >= l.last:
		l.last = from - 1
	}
	return nil
}

// stableKey is the key of a setting.
func (l *hashiLog) stableKey(key []byte) []byte { return append(append(logKey(l.group), '/'), key...) }

// Set implements raft.StableStore.
func (l *hashiLog) Set(key, value []byte) error {
	return l.db.Set(l.stableKey(key), value, pebble.Sync)
}

// Get implements raft.StableStore. The library knows an absent setting by these words.
func (l *hashiLog) Get(key []byte) ([]byte, error) {
	value, closer, err := l.db.Get(l.stableKey(key))
	if errors.Is(err, pebble.ErrNotFound) {
		return nil, errors.New("not found")
	}
	if err != nil {
		return nil, err
	}
	return slices.Clone(value), closer.Close()
}

// SetUint64 implements raft.StableStore.
func (l *hashiLog) SetUint64(key []byte, n uint64) error {
	return l.Set(key, binary.LittleEndian.AppendUint64(nil, n))
}

// GetUint64 implements raft.StableStore.
func (l *hashiLog) GetUint64(key []byte) (uint64, error) {
	value, err := l.Get(key)
	if err != nil || len(value) != 8 {
		return 0, err
	}
	return binary.LittleEndian.Uint64(value), nil
}
