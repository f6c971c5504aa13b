package lifecycle

import (
	"testing"
	"time"

	"pgregory.net/rapid"

	"physalia/cell"
)

// invitations is a manager beside a table that is right for its own reasons.
type invitations struct {
	t     *rapid.T
	store *MemStore
	m     *Manager
	book  map[SecretHash]*invited
	wall  uint64
}

type invited struct {
	identity string
	expires  uint64
	used     bool
}

// turn makes what the manager wants durable, and returns its one answer.
func (w *invitations) turn() Reply {
	e := w.m.Effects(0)
	if err := w.store.Put(e.Persist); err != nil {
		w.t.Fatal(err)
	}
	if len(e.Replies) != 1 {
		w.t.Fatalf("the answers are %+v", e.Replies)
	}
	return e.Replies[0]
}

// invite asks for an invitation, and compares the answer with the table's.
func (w *invitations) invite(hash SecretHash, identity string, life uint64) {
	expires := w.wall + life
	w.m.Invite(0, 1, w.wall, Invitation{Hash: hash, Identity: identity, Expires: expires})
	for h, old := range w.book {
		if old.expires <= w.wall {
			delete(w.book, h)
		}
	}
	want := cell.Kind(0)
	switch {
	case identity == "" || life == 0:
		want = cell.Invalid
	case w.book[hash] != nil:
		want = cell.Exists
	default:
		w.book[hash] = &invited{identity: identity, expires: expires}
	}
	if got := w.turn(); kindOf(got.Err) != want {
		w.t.Fatalf("invited: %v, want %v", got.Err, want)
	}
}

// redeem redeems an invitation, and compares the answer with the table's.
func (w *invitations) redeem(hash SecretHash) {
	w.m.Redeem(0, 1, w.wall, hash)
	got, want := w.turn(), cell.Kind(0)
	switch v := w.book[hash]; {
	case v == nil:
		want = cell.NotFound
	case v.used:
		want = cell.Exists
	case v.expires <= w.wall:
		want = cell.Stale
	default:
		v.used = true
		if got.Identity != v.identity {
			w.t.Fatalf("redeemed for %q, want %q", got.Identity, v.identity)
		}
	}
	if kindOf(got.Err) != want || want != 0 && got.Identity != "" {
		w.t.Fatalf("redeemed: %+v, want %v", got, want)
	}
}

// TestInvitations: whatever the order of invitations, redemptions, restarts and the passing of time, each is redeemed at most once and in
// its time, and the answers are those of a table.
func TestInvitations(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w := &invitations{t: t, store: NewMemStore(), m: NewManager(Config{}), book: map[SecretHash]*invited{}, wall: 1000}
		for range rapid.IntRange(1, 30).Draw(t, "steps") {
			hash := SecretHash{byte(rapid.IntRange(0, 3).Draw(t, "secret"))}
			switch rapid.SampledFrom([]string{"invite", "redeem", "redeem", "restart", "wait"}).Draw(t, "step") {
			case "invite":
				identity := rapid.SampledFrom([]string{"physalia://eu1/server/b1/red/s1", "physalia://eu1/client/c", ""}).Draw(t, "identity")
				w.invite(hash, identity, uint64(rapid.IntRange(0, 20).Draw(t, "life")))
			case "redeem":
				w.redeem(hash)
			case "restart":
				w.m = NewManager(Config{})
				if err := w.store.Scan(w.m.Restore); err != nil {
					t.Fatal(err)
				}
			case "wait":
				w.wall += uint64(rapid.IntRange(1, 15).Draw(t, "time"))
			}
		}
	})
}

func kindOf(err *cell.Error) cell.Kind {
	if err == nil {
		return 0
	}
	return err.Kind
}

// TestInvitationsAreBounded: more than the bound are refused, and there is room again when they have expired.
func TestInvitationsAreBounded(t *testing.T) {
	m := NewManager(Config{})
	invite := func(i int, wall uint64) cell.Kind {
		m.Invite(0, 1, wall, Invitation{Hash: SecretHash{byte(i), byte(i >> 8)}, Identity: "physalia://eu1/client/c", Expires: wall + 10})
		return kindOf(m.Effects(0).Replies[0].Err)
	}
	for i := range InvitationsMax {
		if kind := invite(i, 1); kind != 0 {
			t.Fatalf("invitation %d: %v", i, kind)
		}
	}
	if kind := invite(InvitationsMax, 1); kind != cell.Overloaded {
		t.Errorf("one too many: %v", kind)
	}
	if kind := invite(InvitationsMax, 11); kind != 0 || len(m.invitations) != 1 {
		t.Errorf("after all have expired: %v, %d are remembered", kind, len(m.invitations))
	}
}

// TestStoredInvitation fixes the stored form, and refuses what is damaged.
func TestStoredInvitation(t *testing.T) {
	v := Invitation{Hash: SecretHash{1, 2}, Identity: "physalia://eu1/client/c", Expires: uint64(time.Hour.Milliseconds()), Used: 7}
	stored := appendInvitation(nil, &v)
	const want = "490193b77068797361" // format, version, three fields, the beginning of the identity
	if got := hexOf(stored[:9]); got != want {
		t.Errorf("the stored form begins with %s, want %s", got, want)
	}
	m := NewManager(Config{})
	if err := m.Restore(v.key(), stored); err != nil || *m.invitations[v.Hash] != v {
		t.Errorf("%v: %+v", err, m.invitations[v.Hash])
	}
	for i := range stored {
		broken := append([]byte(nil), stored...)
		broken[i] ^= 1
		if err := NewManager(Config{}).Restore(v.key(), broken); err == nil {
			t.Errorf("a flipped bit in byte %d is not found", i)
		}
	}
	if err := NewManager(Config{}).Restore(v.key()[:20], stored); err == nil {
		t.Error("a short key is taken")
	}
}

func hexOf(b []byte) (text string) {
	const digits = "0123456789abcdef"
	for _, c := range b {
		text += string(digits[c>>4]) + string(digits[c&15])
	}
	return text
}
