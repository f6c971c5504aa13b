package lifecycle

import (
	"encoding/hex"
	"fmt"
	"time"

	"physalia/cell"
	"physalia/internal/wire"
)

// An invitation lets a process that has no certificate yet ask for one, once. The manager remembers invitations because it is what
// remembers anything durably, and alone, in a control plane: that each is used once holds through restarts, and among instances that
// share a store. It keeps a hash of the secret, never the secret, and decides nothing about certificates.

// SecretHash is what is stored of an invitation's secret.
type SecretHash [32]byte

// Invitation is what is stored of one.
type Invitation struct {
	Hash     SecretHash
	Identity string // whom the certificate will be for, as the URI in it
	Expires  uint64 // milliseconds since 1970
	Used     uint64 // likewise, when; zero: it was not
}

const (
	formatInvitation = 'I'
	keyInvitation    = 'j'

	// InvitationsMax bounds those that are remembered; used ones are, until they expire.
	InvitationsMax   = 4096
	identityBytesMax = 512
)

func (v *Invitation) key() []byte { return append([]byte{keyInvitation}, v.Hash[:]...) }

// appendInvitation adds the stored form: [identity, expires, used]; the hash is the key.
func appendInvitation(b []byte, v *Invitation) []byte {
	start := len(b)
	b = wire.AppendArray(append(b, formatInvitation, storedVersion), 3)
	b = wire.AppendUint(wire.AppendString(b, v.Identity), v.Expires)
	return appendSum(wire.AppendUint(b, v.Used), start)
}

// restoreInvitation takes a stored invitation.
func (m *Manager) restoreInvitation(key, value []byte) error {
	r, err := storedBody(formatInvitation, value)
	if err != nil {
		return err
	}
	v := &Invitation{}
	r.Struct(3, "invitation")
	v.Identity, v.Expires, v.Used = r.String(identityBytesMax, "identity"), r.Uint(), r.Uint()
	if err := r.Done(); err != nil {
		return damaged(err.Error())
	}
	if len(key) != 1+len(v.Hash) {
		return damaged(fmt.Sprintf("key %q holds an invitation", key))
	}
	copy(v.Hash[:], key[1:])
	m.invitations[v.Hash] = v
	return nil
}

// Invite remembers an invitation; the answer comes when that is durable. wall is the time in milliseconds since 1970, and those that have
// expired by then are forgotten.
func (m *Manager) Invite(now time.Duration, id RequestID, wall uint64, v Invitation) {
	m.now = now
	for hash, old := range m.invitations {
		if old.Expires <= wall {
			delete(m.invitations, hash)
			m.out.Persist = append(m.out.Persist, Write{Key: old.key()})
		}
	}
	var refusal *cell.Error
	switch {
	case len(v.Identity) == 0 || len(v.Identity) > identityBytesMax:
		refusal = &cell.Error{Kind: cell.Invalid, Detail: fmt.Sprintf("the identity has %d bytes, allowed are 1 to %d", len(v.Identity), identityBytesMax)}
	case v.Expires <= wall:
		refusal = &cell.Error{Kind: cell.Invalid, Detail: "the invitation has expired already"}
	case m.invitations[v.Hash] != nil:
		refusal = &cell.Error{Kind: cell.Exists, Detail: "there is such an invitation"}
	case len(m.invitations) >= InvitationsMax:
		refusal = &cell.Error{Kind: cell.Overloaded, Detail: fmt.Sprintf("%d invitations are remembered", len(m.invitations)), Hint: "wait until some have expired"}
	default:
		v.Used = 0
		m.invitations[v.Hash] = &v
		m.out.Persist = append(m.out.Persist, Write{v.key(), appendInvitation(nil, &v)})
	}
	m.out.Replies = append(m.out.Replies, Reply{Request: id, Err: refusal})
}

// Redeem uses an invitation up, and answers with its identity when that is durable. Whoever asks gets no certificate before the answer,
// and if he is lost then, the invitation is lost: it is used at most once.
//
// NotFound: there is none, or none any more. Stale: it has expired. Exists: it was used already.
func (m *Manager) Redeem(now time.Duration, id RequestID, wall uint64, hash SecretHash) {
	m.now = now
	reply := Reply{Request: id}
	switch v := m.invitations[hash]; {
	case v == nil:
		reply.Err = &cell.Error{Kind: cell.NotFound, Detail: "no such join token is known", Hint: "have a new one made with `physalia cert join-token`"}
	case v.Used != 0:
		reply.Err = &cell.Error{Kind: cell.Exists, Detail: fmt.Sprintf("the join token for %s was used at %s", v.Identity, time.UnixMilli(int64(v.Used)).UTC().Format(time.RFC3339)),
			Hint: "if that was not you, somebody else has a certificate of that name: rotate the authority; else have a new one made"}
	case v.Expires <= wall:
		reply.Err = &cell.Error{Kind: cell.Stale, Detail: "the join token has expired", Hint: "have a new one made with `physalia cert join-token`"}
	default:
		used := *v
		used.Used = max(wall, 1)
		m.invitations[hash] = &used
		m.out.Persist = append(m.out.Persist, Write{used.key(), appendInvitation(nil, &used)})
		reply.Identity = used.Identity
	}
	m.out.Replies = append(m.out.Replies, reply)
}

// String names a hash in logs by its beginning, which leads to no secret.
func (h SecretHash) String() string { return hex.EncodeToString(h[:4]) }
