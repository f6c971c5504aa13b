package node

import (
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"sync"

	"physalia/cell"
	"physalia/internal/wire"
	"physalia/node/datadir"
)

// addressBook knows where the servers of this brick and color are. Configurations hold identities; addresses are
// versioned attributes, gossiped and kept on disk, so that a server may move with the control plane dead. The version is
// the boot number of the server that the address is of: a later boot knows better. A wrong address costs time, never
// safety, since every handshake names the identity that is meant.
//
// Its methods are safe for concurrent use, save excepted. It calls changed without holding its lock.
type addressBook struct {
	dir     *datadir.Dir
	logger  *slog.Logger
	changed func(id cell.ServerID, a address) // told of every new or changed entry, the restored ones included

	mu    sync.Mutex
	book  map[cell.ServerID]address // at most addressesMax
	dirty bool                      // not yet on disk as it is
}

// address is where one server is reached, each as host:port, or empty when unknown.
type address struct {
	Boot   uint64 `json:"boot"` // 0: hearsay, for example of a founding; replaced by anything
	Peer   string `json:"peer"`
	Client string `json:"client"`
	Gossip string `json:"gossip"`
}

// addressesMax bounds the book; a pool of one brick and color has far fewer servers. At about 200 bytes each, the book
// stays below what datadir keeps in one file.
const addressesMax = 20_000

// addressesFile holds the book in the data directory, as JSON: operators may want to read it.
const addressesFile = "addresses"

// openAddressBook reads the book that an earlier life left. A missing or damaged file is an empty book: it is a cache, it
// fills again from gossip and from the control plane, and a server must not stay down for it.
func openAddressBook(dir *datadir.Dir, logger *slog.Logger, changed func(cell.ServerID, address)) (*addressBook, error) {
	b := &addressBook{dir: dir, logger: logger, changed: changed, book: make(map[cell.ServerID]address)}
	data, err := dir.ReadFile(addressesFile)
	switch {
	case errors.Is(err, os.ErrNotExist):
		return b, nil
	case cell.KindOf(err) == cell.Internal: // the disk
		return nil, err
	case err == nil:
		err = json.Unmarshal(data, &b.book)
	}
	if err == nil {
		err = b.check()
	}
	if err != nil {
		logger.Error("the address book is damaged; beginning with an empty one", "err", err)
		b.book, b.dirty = make(map[cell.ServerID]address), true
		return b, nil
	}
	for id, a := range b.book {
		changed(id, a)
	}
	return b, nil
}

// check bounds what came from the disk.
func (b *addressBook) check() error {
	if len(b.book) > addressesMax {
		return fmt.Errorf("%d entries, allowed are %d", len(b.book), addressesMax)
	}
	for id, a := range b.book {
		if err := id.Check(); err != nil {
			return err
		}
		if len(a.Peer) > wire.AddrBytesMax || len(a.Client) > wire.AddrBytesMax || len(a.Gossip) > wire.AddrBytesMax {
			return fmt.Errorf("an address of server %s is longer than %d bytes", id, wire.AddrBytesMax)
		}
	}
	return nil
}

// learn takes an address if it is as new as what is known, or newer. What it leaves empty stays as it was: to know only
// half of it is no reason to forget the other half.
func (b *addressBook) learn(id cell.ServerID, a address) {
	b.mu.Lock()
	known, ok := b.book[id]
	for _, f := range []struct{ to, from *string }{{&a.Peer, &known.Peer}, {&a.Client, &known.Client}, {&a.Gossip, &known.Gossip}} {
		if *f.to == "" {
			*f.to = *f.from
		}
	}
	if a.Boot < known.Boot || a == known || !ok && !b.makeRoom(a.Boot) {
		b.mu.Unlock()
		return
	}
	b.book[id] = a
	b.dirty = true
	b.mu.Unlock()
	b.changed(id, a)
}

// makeRoom reports whether another entry fits, and drops some hearsay for what a server said of itself. The lock is held.
func (b *addressBook) makeRoom(boot uint64) bool {
	if len(b.book) < addressesMax {
		return true
	}
	if boot > 0 {
		for id, a := range b.book {
			if a.Boot == 0 {
				delete(b.book, id)
				return true
			}
		}
	}
	b.logger.Debug("the address book is full", "entries", len(b.book))
	return false
}

// founders learns from a founding what nobody has said better yet.
func (b *addressBook) founders(members []wire.Founder) {
	for _, m := range members {
		b.learn(m.Server, address{Peer: m.PeerAddr, Client: m.ClientAddr})
	}
}

// peer resolves a server's peer address; empty when unknown.
func (b *addressBook) peer(id cell.ServerID) string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.book[id].Peer
}

// boot is the boot number that a server's entry is of; 0 when unknown or hearsay.
func (b *addressBook) boot(id cell.ServerID) uint64 {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.book[id].Boot
}

// gossip lists up to limit gossip addresses of servers for which want holds, in random order (that of the map).
func (b *addressBook) gossip(limit int, want func(cell.ServerID) bool) []string {
	b.mu.Lock()
	defer b.mu.Unlock()
	var addrs []string
	for id, a := range b.book {
		if len(addrs) == limit {
			break
		}
		if a.Gossip != "" && want(id) {
			addrs = append(addrs, a.Gossip)
		}
	}
	return addrs
}

// save writes the book if it changed since the last time; one goroutine at a time calls it. After an error the next call
// tries again.
func (b *addressBook) save() error {
	b.mu.Lock()
	if !b.dirty {
		b.mu.Unlock()
		return nil
	}
	b.dirty = false
	data, err := json.MarshalIndent(b.book, "", " ")
	b.mu.Unlock()
	if err == nil {
		err = b.dir.WriteFile(addressesFile, data)
	}
	if err != nil {
		b.mu.Lock()
		b.dirty = true
		b.mu.Unlock()
		return fmt.Errorf("address book: %w", err)
	}
	return nil
}
