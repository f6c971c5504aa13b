package node

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"sync"

	"physalia/cell"
	"physalia/internal/wire"
	"physalia/node/datadir"
)

// addressBook knows where the servers of this brick and color are. Configurations hold identities; addresses are
// versioned attributes, gossiped and kept on disk, so that a server may move with the control plane dead. The version is
// the boot number of the server that the address is of: a later boot knows better.
type addressBook struct {
	dir    *datadir.Dir
	onward func(id cell.ServerID, clientAddr string) // told of every new client address

	mu    sync.Mutex
	book  map[cell.ServerID]address
	dirty bool
}

type address struct {
	Boot   uint64 `json:"boot"` // 0: hearsay, replaced by anything
	Peer   string `json:"peer"`
	Client string `json:"client"`
	Gossip string `json:"gossip"`
}

// addressesMax bounds the book; a pool of one brick and color has far fewer servers.
const addressesMax = 20_000

// addressesFile holds the book in the data directory.
const addressesFile = "addresses"

// openAddressBook reads the book that an earlier life left; a missing file is an empty book.
func openAddressBook(dir *datadir.Dir, onward func(cell.ServerID, string)) (*addressBook, error) {
	b := &addressBook{dir: dir, onward: onward, book: make(map[cell.ServerID]address)}
	data, err := dir.ReadFile(addressesFile)
	switch {
	case errors.Is(err, os.ErrNotExist):
		return b, nil
	case err == nil:
		err = json.Unmarshal(data, &b.book)
	}
	if err != nil {
		return nil, &cell.Error{Op: "node.start", Kind: cell.Invalid, Detail: "the file " + addressesFile + " in the data directory is damaged",
			Err: err, Hint: "delete that file: it is rebuilt from gossip and from the control plane"}
	}
	for id, a := range b.book {
		onward(id, a.Client)
	}
	return b, nil
}

// learn takes an address; it is kept if it is as new as what is known, or newer.
func (b *addressBook) learn(id cell.ServerID, a address) {
	b.mu.Lock()
	known, ok := b.book[id]
	if (ok && (a.Boot < known.Boot || a == known)) || (!ok && len(b.book) >= addressesMax) {
		b.mu.Unlock()
		return
	}
	if a.Gossip == "" {
		a.Gossip = known.Gossip
	}
	b.book[id] = a
	b.dirty = true
	b.mu.Unlock()
	b.onward(id, a.Client)
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

// gossip lists known gossip addresses, for joining again after a restart.
func (b *addressBook) gossip(except cell.ServerID) []string {
	b.mu.Lock()
	defer b.mu.Unlock()
	var addrs []string
	for id, a := range b.book {
		if id != except && a.Gossip != "" {
			addrs = append(addrs, a.Gossip)
		}
	}
	return addrs
}

// save writes the book if it changed since the last time; one goroutine calls it.
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
