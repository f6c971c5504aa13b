package node

import (
	"fmt"
	"log/slog"
	"math/rand/v2"
	"testing"
	"time"

	"physalia/cell"
	"physalia/internal/wire"
	"physalia/node/datadir"
)

type fixedRandom struct{ *rand.ChaCha8 }

func openDir(t *testing.T, path string) *datadir.Dir {
	t.Helper()
	d, err := datadir.Open(datadir.Config{Path: path, Random: fixedRandom{rand.NewChaCha8([32]byte{1})}, Now: time.Unix(0, 0),
		Logger: slog.New(slog.DiscardHandler), Want: datadir.Identity{Colony: "c", Name: "s1", Brick: "b", Rack: "r", Power: "p", Color: "red"}})
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// openBook opens a book in a data directory and notes what it passes on.
func openBook(t *testing.T, d *datadir.Dir) (*addressBook, map[cell.ServerID]address) {
	t.Helper()
	told := make(map[cell.ServerID]address)
	b, err := openAddressBook(d, slog.New(slog.DiscardHandler), func(id cell.ServerID, a address) { told[id] = a })
	if err != nil {
		t.Fatal(err)
	}
	return b, told
}

func TestAddressesOfLaterBootsWin(t *testing.T) {
	d := openDir(t, t.TempDir())
	defer d.Close()
	b, told := openBook(t, d)
	hearsay := wire.Founder{Server: "s2", PeerAddr: "old:1", ClientAddr: "old:2"}
	gossiped := address{Boot: 3, Peer: "new:1", Client: "new:2", Gossip: "new:3"}
	for _, step := range []struct {
		name string
		do   func()
		want address
	}{
		{"hearsay is better than nothing", func() { b.founders([]wire.Founder{hearsay}) }, address{0, "old:1", "old:2", ""}},
		{"newer hearsay is better than older", func() { b.learn("s2", address{Peer: "x:1"}) }, address{0, "x:1", "old:2", ""}},
		{"a server knows best", func() { b.learn("s2", gossiped) }, gossiped},
		{"hearsay does not replace it", func() { b.founders([]wire.Founder{hearsay}) }, gossiped},
		{"nor does an earlier boot", func() { b.learn("s2", address{2, "a:1", "a:2", "a:3"}) }, gossiped},
		{"nor emptiness", func() { b.learn("s2", address{Boot: 4}) }, address{4, "new:1", "new:2", "new:3"}},
		{"a later boot does", func() { b.learn("s2", address{5, "b:1", "b:2", "b:3"}) }, address{5, "b:1", "b:2", "b:3"}},
	} {
		step.do()
		if b.book["s2"] != step.want || told["s2"] != step.want || b.peer("s2") != step.want.Peer {
			t.Fatalf("%s: the book says %+v and told %+v, want %+v", step.name, b.book["s2"], told["s2"], step.want)
		}
	}
	delete(told, "s2")
	b.learn("s2", address{5, "b:1", "b:2", "b:3"})
	if len(told) != 0 {
		t.Error("it passes on what did not change")
	}
}

func TestAddressBookIsKept(t *testing.T) {
	path := t.TempDir()
	d := openDir(t, path)
	b, _ := openBook(t, d)
	want := address{3, "a:1", "a:2", "a:3"}
	b.learn("s2", want)
	if err := b.save(); err != nil || b.dirty {
		t.Fatalf("save: %v", err)
	}
	if err := d.Close(); err != nil {
		t.Fatal(err)
	}
	d = openDir(t, path)
	defer d.Close()
	b, told := openBook(t, d)
	if b.book["s2"] != want || told["s2"] != want || b.dirty {
		t.Errorf("restored is %+v, told %+v", b.book, told)
	}
	everybody := func(cell.ServerID) bool { return true }
	if got := b.gossip(10, everybody); len(got) != 1 || got[0] != "a:3" {
		t.Errorf("gossip addresses are %v", got)
	}
	if got := b.gossip(10, func(id cell.ServerID) bool { return id != "s2" }); len(got) != 0 {
		t.Errorf("gossip addresses are %v", got)
	}
}

// TestDamagedAddressBookIsNoReasonToStayDown: it is a cache. The damage is found, and the next save heals it.
func TestDamagedAddressBookIsNoReasonToStayDown(t *testing.T) {
	for name, content := range map[string]string{
		"no JSON":      "{",
		"bad name":     `{"../x": {"boot": 1}}`,
		"long address": fmt.Sprintf(`{"s2": {"boot": 1, "peer": "%0300d"}}`, 1),
	} {
		path := t.TempDir()
		d := openDir(t, path)
		if err := d.WriteFile(addressesFile, []byte(content)); err != nil {
			t.Fatal(err)
		}
		b, told := openBook(t, d)
		if len(b.book) != 0 || len(told) != 0 || !b.dirty {
			t.Errorf("%s: the book has %v", name, b.book)
		}
		if err := b.save(); err != nil {
			t.Error(err)
		}
		if b, _ := openBook(t, d); b.dirty {
			t.Errorf("%s: it is still damaged", name)
		}
		if err := d.Close(); err != nil {
			t.Error(err)
		}
	}
}

func TestAddressBookIsBounded(t *testing.T) {
	d := openDir(t, t.TempDir())
	defer d.Close()
	b, _ := openBook(t, d)
	b.learn("known", address{Boot: 1, Peer: "k:1"})
	for i := range addressesMax + 100 {
		b.learn(cell.ServerID(fmt.Sprintf("h%d", i)), address{Peer: "h:1"})
	}
	if len(b.book) != addressesMax {
		t.Fatalf("%d entries, allowed are %d", len(b.book), addressesMax)
	}
	b.learn("new", address{Boot: 1, Peer: "n:1"})
	if len(b.book) != addressesMax || b.peer("new") != "n:1" || b.peer("known") != "k:1" {
		t.Errorf("hearsay keeps a server's own word out: %d entries, new is %q, known is %q", len(b.book), b.peer("new"), b.peer("known"))
	}
	b.learn("known", address{Boot: 2, Peer: "k:2"})
	if b.peer("known") != "k:2" {
		t.Error("a full book cannot be corrected")
	}
}
