package node

import (
	"encoding/json"
	"testing"

	"physalia/cell"
)

// FuzzGossipMeta reads what anybody in the pool may tell of himself: what is accepted is a fixed point.
func FuzzGossipMeta(f *testing.F) {
	f.Add((&gossipMeta{Boot: 3, Peer: "10.0.0.1:7301", Client: "10.0.0.1:7302"}).append(nil))
	f.Add([]byte{0xdd, 0xff, 0xff, 0xff, 0xff})
	f.Fuzz(func(t *testing.T, b []byte) {
		var first, second gossipMeta
		if first.decode(b) != nil {
			return
		}
		if err := second.decode(first.append(nil)); err != nil || first != second {
			t.Fatalf("%+v is read again as %+v, %v", first, second, err)
		}
	})
}

// FuzzLifeName reads the names of members of the pool.
func FuzzLifeName(f *testing.F) {
	f.Add(lifeName("s1-aaaaaaaa", 7))
	f.Add("#")
	f.Fuzz(func(t *testing.T, name string) {
		id, boot, err := parseLife(name)
		if err != nil {
			return
		}
		if again, n, err := parseLife(lifeName(id, boot)); err != nil || again != id || n != boot {
			t.Fatalf("%q is %s of boot %d, then %s of boot %d: %v", name, id, boot, again, n, err)
		}
	})
}

// FuzzAddressBook reads what lies in a data directory, where operators have editors: what is accepted keeps its bounds.
func FuzzAddressBook(f *testing.F) {
	f.Add([]byte(`{"s1-aaaaaaaa": {"boot": 1, "peer": "10.0.0.1:7301", "client": "", "gossip": ""}}`))
	f.Add([]byte(`{"": {}}`))
	f.Fuzz(func(t *testing.T, text []byte) {
		b := addressBook{book: map[cell.ServerID]address{}}
		if json.Unmarshal(text, &b.book) != nil || b.check() != nil {
			return
		}
		for id := range b.book {
			if id.Check() != nil || b.peer(id) != b.book[id].Peer {
				t.Fatalf("server %q was accepted", id)
			}
		}
	})
}

// FuzzGossipLog: no line of memberlist's log, whose end outsiders choose, makes its reader fall over, nor counts as welcome and
// refused.
func FuzzGossipLog(f *testing.F) {
	for _, w := range gossipWords {
		f.Add(w.begin + ": \"i/o timeout\" from=1.2.3.4:5")
	}
	f.Fuzz(func(t *testing.T, line string) {
		if why := gossipRefusal(line); why.String() == "" && why != 0 {
			t.Fatalf("%q has a reason without a name", line)
		}
	})
}
