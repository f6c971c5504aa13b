package node

import (
	"bytes"
	"context"
	"slices"

	"github.com/hashicorp/memberlist"

	"physalia/internal/pki"
)

// gossipRing is the keyring of the pool: the key of the configuration, else those that lie beside the certificates, else nil.
func gossipRing(c *Config, guard *pki.Guard) (*memberlist.Keyring, error) {
	keys := [][]byte{c.GossipKey}
	if len(c.GossipKey) == 0 {
		keys = nil
		if m := guard.Material(); m != nil {
			keys = m.GossipKeys
		}
	}
	if len(keys) == 0 {
		return nil, nil
	}
	return memberlist.NewKeyring(keys, keys[0])
}

// keep follows the keys beside the certificates until ctx ends: during a rotation they are changed under a running pool. A server
// that began without keys gets none, and one that began with some never goes on without: memberlist cannot change its mind
// about that, and a pool must not.
func (g *gossip) keep(ctx context.Context, guard *pki.Guard) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-guard.Changed():
		}
		m := guard.Material()
		if g.keys == nil || len(m.GossipKeys) == 0 {
			continue
		}
		if err := turn(g.keys, m.GossipKeys); err != nil {
			g.logger.Error("new gossip keys cannot be used, the old ones go on", "err", err)
		}
	}
}

// turn makes a ring hold exactly these keys, of which the first encrypts.
func turn(ring *memberlist.Keyring, keys [][]byte) error {
	for _, k := range keys {
		if err := ring.AddKey(k); err != nil { // one that is there already is no error
			return err
		}
	}
	if err := ring.UseKey(keys[0]); err != nil {
		return err
	}
	for _, old := range ring.GetKeys() {
		if slices.ContainsFunc(keys, func(k []byte) bool { return bytes.Equal(k, old) }) {
			continue
		}
		if err := ring.RemoveKey(old); err != nil {
			return err
		}
	}
	return nil
}
