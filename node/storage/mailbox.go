package storage

import "sync"

// mailbox is an unbounded queue whose put never blocks. It is unbounded because the loop that fills it must not wait
// for a disk; the loop bounds what it has handed over by its own admission limits. Safe for concurrent use.
type mailbox[T any] struct {
	mu     sync.Mutex
	filled sync.Cond
	items  []T
	closed bool
}

func newMailbox[T any]() *mailbox[T] {
	m := &mailbox[T]{}
	m.filled.L = &m.mu
	return m
}

// put appends an item and reports whether the mailbox is still open.
func (m *mailbox[T]) put(item T) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.closed {
		return false
	}
	m.items = append(m.items, item)
	m.filled.Signal()
	return true
}

// takeAll waits for items and returns all of them in order, in exchange for an empty slice whose memory is used next.
// It returns false once the mailbox is closed and empty.
func (m *mailbox[T]) takeAll(empty []T) ([]T, bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.wait()
	items := m.items
	m.items = empty[:0]
	return items, len(items) > 0
}

// takeOne waits for an item and returns the oldest. It returns false once the mailbox is closed and empty.
func (m *mailbox[T]) takeOne() (item T, ok bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.wait()
	if len(m.items) == 0 {
		return item, false
	}
	item = m.items[0]
	var none T
	m.items[0] = none // do not keep what was taken alive
	m.items = m.items[1:]
	return item, true
}

// wait returns with the lock held when there is an item or nothing will come any more.
func (m *mailbox[T]) wait() {
	for len(m.items) == 0 && !m.closed {
		m.filled.Wait()
	}
}

// len is the number of items waiting.
func (m *mailbox[T]) len() int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return len(m.items)
}

// close lets takers finish what is there and then return; later puts are refused.
func (m *mailbox[T]) close() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.closed = true
	m.filled.Broadcast()
}
