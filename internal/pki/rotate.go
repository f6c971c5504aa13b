package pki

import (
	"crypto/x509"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"physalia/cell"
)

// A rotation of the authority, and of the keys of gossip and of tokens, has three steps. After each one, every process's directory is
// renewed, and only then the next one begins: at any time, whatever somebody shows, everybody knows already.
//
//	begin   everybody learns the new authority and the new keys; nobody uses them yet
//	switch  new certificates are signed by the new authority, new tokens with the new key; gossip encrypts with the new keys
//	finish  everybody forgets the old ones

// Begin makes the successor of the authority, and a further key for every pool's gossip and for tokens.
func (h *Home) Begin(now time.Time) error {
	if len(h.bundle) != 1 || exists(h.Dir, nextFile) != nil {
		return outOfOrder("a rotation is under way already", "go on with `physalia cert rotate switch` or `finish`")
	}
	_, certificate, key, err := NewAuthority(h.Signer.Colony(), now)
	if err != nil {
		return err
	}
	added, err := parseCertificates(certificate)
	if err != nil {
		return err
	}
	err = h.rings(func(keys [][]byte) ([][]byte, error) {
		fresh, err := newGossipKey()
		return append(keys[:1:1], fresh), err
	})
	if err != nil {
		return err
	}
	// Interrupted before the key is there, the rotation can only be finished, which takes the certificate out again.
	if err := h.setBundle(append(h.bundle, added...)); err != nil {
		return err
	}
	return writeFile(filepath.Join(h.Dir, nextFile), key, 0o600)
}

// Switch lets the successor sign. The key of the old authority is gone after that.
func (h *Home) Switch() error {
	next, err := h.authority(encodeBundle(h.bundle), nextFile)
	if err != nil {
		return outOfOrder("there is no successor", "begin with `physalia cert rotate begin`")
	}
	// Interrupted between the two, pools whose ring was not turned stay with their old key, which is no harm.
	if err := os.Rename(filepath.Join(h.Dir, nextFile), filepath.Join(h.Dir, signerFile)); err != nil {
		return err
	}
	h.Signer = next
	return h.rings(func(keys [][]byte) ([][]byte, error) {
		if len(keys) == 2 {
			keys[0], keys[1] = keys[1], keys[0]
		}
		return keys, nil
	})
}

// Finish drops all authorities but the one that signs, and all keys but the ones in use.
func (h *Home) Finish() error {
	switch {
	case len(h.bundle) == 1:
		return outOfOrder("no rotation is under way", "begin with `physalia cert rotate begin`")
	case exists(h.Dir, nextFile) != nil:
		return outOfOrder("the successor does not sign yet", "first `physalia cert rotate switch`, and renew every directory")
	}
	err := h.rings(func(keys [][]byte) ([][]byte, error) { return keys[:1], nil })
	if err != nil {
		return err
	}
	return h.setBundle([]*x509.Certificate{h.Signer.Certificate})
}

func (h *Home) setBundle(bundle []*x509.Certificate) error {
	h.bundle = bundle
	return writeFile(filepath.Join(h.Dir, authoritiesFile), encodeBundle(bundle), 0o644)
}

// rings changes the keyring of every pool, and the one of those who sign tokens.
func (h *Home) rings(change func(keys [][]byte) ([][]byte, error)) error {
	root := filepath.Join(h.Dir, gossipDir)
	err := filepath.WalkDir(root, func(name string, entry fs.DirEntry, err error) error {
		if errors.Is(err, fs.ErrNotExist) && name == root {
			return nil // no server has a certificate yet
		}
		if err != nil || entry.IsDir() || filepath.Ext(name) != ".keys" {
			return err
		}
		return changeRing(name, change)
	})
	if err != nil {
		return err
	}
	if err := changeRing(filepath.Join(h.Dir, tokenRing), change); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil // no process that checks tokens has a certificate yet
}

func changeRing(name string, change func(keys [][]byte) ([][]byte, error)) error {
	text, err := readFile(name)
	if err != nil {
		return err
	}
	keys, err := ParseKeyring(text)
	if err == nil {
		keys, err = change(keys)
	}
	if err != nil {
		return err
	}
	return writeFile(name, FormatKeyring(keys), 0o600)
}

func outOfOrder(detail, hint string) error {
	return &cell.Error{Op: "pki.rotate", Kind: cell.Refused, Detail: detail, Hint: hint}
}
