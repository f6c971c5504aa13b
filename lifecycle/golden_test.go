package lifecycle

import (
	"flag"
	"fmt"
	"os"
	"strings"
	"testing"

	"physalia/cell"
	"physalia/internal/wire"
)

var rewrite = flag.Bool("rewrite", false, "write the golden file instead of comparing with it")

// TestGoldenStore fixes the bytes of everything that the manager stores, keys included: a difference is a change of the format, which
// needs a new version and a reader for the old one.
func TestGoldenStore(t *testing.T) {
	const path = "testdata/golden.txt"
	r := Record{Cell: "vol-1", Incarnation: 2, State: Live, Plan: 3, Brick: labelOf("b1"), Color: labelOf("red"), Configuration: 1, Alpha: 4,
		Owner: 2, Members: []Member{NewMember(1, "s1"), NewMember(2, "s2"), NewMember(3, "s3")}, Founded: 0b111}
	g := wire.Registration{Server: "s1", Name: "n", Colony: "c", Brick: "b", Rack: "r", Power: "p", Color: "red", PeerAddr: "h:1",
		ClientAddr: "h:2", GossipAddr: "h:3", Boot: 7, Capacity: 1000}
	x := &mode{rebuilding: true, why: "lost", floor: 70000}
	saved := &recovery{applied: 4711, hash: 1 << 60, state: []byte("S\x01state"), kept: []wire.Accepted{{Slot: 4712, Round: 3, Node: 2, Entry: []byte{1}}}}
	u := &users{cell: "vol-1", incarnation: 2, client: "s1", primary: "s2", replica: "s3", near: true}
	invitation := &Invitation{Hash: SecretHash{1, 2, 31: 3}, Identity: "physalia://c/b1/red/server/s1", Expires: 1_795_000_000_000, Used: 1}
	order := &Order{By: "ops@h", Reason: "why not", At: 1_795_000_000_000}
	var b strings.Builder
	for _, c := range []struct {
		name  string
		bytes []byte
	}{
		{"record", appendRecord(nil, &r)}, {"record key", r.key()},
		{"server", appendServer(nil, &g)}, {"server key", serverKey("s1")},
		{"mode", appendMode(nil, x)}, {"mode key", x.write().Key},
		{"recovery", appendRecovery(nil, saved)}, {"recovery key", recoveryKey(&r)},
		{"retired", appendRetired(nil, "s1")}, {"retired key", retiredKey("s1")},
		{"users", appendUsers(nil, u)}, {"users key", usersKey("vol-1")},
		{"pause", appendOrder(nil, 2, order)}, {"pause key", pauseKey(2)},
		{"invitation", appendInvitation(nil, invitation)}, {"invitation key", invitation.key()},
		{"drain key", drainKey(cell.ServerID("s1"))},
		{"chunk of a backup", appendSum(append(newChunk(), 1, 'k', 1, 'v'), 0)},
		{"manifest of a backup", appendManifest(&wire.BackupDone{Name: "n", Pairs: 1}, []chunkSum{{10, 1 << 31}})},
	} {
		fmt.Fprintf(&b, "%s\n", c.name)
		for rest := c.bytes; len(rest) > 0; rest = rest[min(32, len(rest)):] {
			fmt.Fprintf(&b, "\t%x\n", rest[:min(32, len(rest))])
		}
	}
	if *rewrite {
		if err := os.MkdirAll("testdata", 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(b.String()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if b.String() != string(want) {
		t.Errorf("bytes differ from %s; got\n%s", path, b.String())
	}
}
