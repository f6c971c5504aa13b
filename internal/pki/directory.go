package pki

import (
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"physalia/cell"
)

// The files of a directory of certificates. The first three are named as Kubernetes and cert-manager name them in a secret.
const (
	authoritiesFile = "ca.crt"
	certificateFile = "tls.crt"
	keyFile         = "tls.key"
	gossipFile      = "gossip.keys"
	tokensFile      = "tokens.pub" // keys that sign tokens, for those who check them
)

// The files of the authority's own directory, beside ca.crt.
const (
	signerFile = "ca.key"      // of the authority that signs
	nextFile   = "ca.key.new"  // of its successor, from begin to switch of a rotation
	gossipDir  = "gossip"      // gossip/BRICK/COLOR.keys
	tokenRing  = "tokens.keys" // seeds of the keys that sign tokens: the first signs, all count
)

// fileBytesMax bounds every file that is read.
const fileBytesMax = 1 << 20

// ReadFiles reads a directory of certificates. Files that are missing are empty, and found to be missing by Parse.
func ReadFiles(dir string) (f Files, err error) {
	for _, part := range []struct {
		name string
		to   *[]byte
	}{{authoritiesFile, &f.Authorities}, {certificateFile, &f.Certificate}, {keyFile, &f.Key}, {gossipFile, &f.Gossip}, {tokensFile, &f.Tokens}} {
		if *part.to, err = readFile(filepath.Join(dir, part.name)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return f, &cell.Error{Op: "pki.read", Kind: cell.Invalid, Detail: "certificates", Err: err, Hint: "check the directory and who may read it"}
		}
	}
	return f, nil
}

func readFile(name string) ([]byte, error) {
	file, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	text, err := io.ReadAll(io.LimitReader(file, fileBytesMax+1))
	if err == nil && len(text) > fileBytesMax {
		err = fmt.Errorf("%s is larger than %d bytes", name, fileBytesMax)
	}
	return text, err
}

// writeFile replaces a file at once, or not at all.
func writeFile(name string, text []byte, mode fs.FileMode) error {
	temp, err := os.CreateTemp(filepath.Dir(name), "."+filepath.Base(name)+".*")
	if err != nil {
		return err
	}
	defer os.Remove(temp.Name()) // in vain after the rename
	_, err = temp.Write(text)
	err = errors.Join(err, temp.Chmod(mode), temp.Sync(), temp.Close())
	if err != nil {
		return err
	}
	return os.Rename(temp.Name(), name)
}

// exists refuses to overwrite.
func exists(dir string, names ...string) error {
	for _, name := range names {
		if _, err := os.Lstat(filepath.Join(dir, name)); err == nil {
			return &cell.Error{Op: "pki.write", Kind: cell.Exists, Detail: filepath.Join(dir, name) + " exists, and is not overwritten",
				Hint: "choose another directory, or remove it if nobody uses it"}
		} else if !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return nil
}

// Home is the directory of a colony's authority. It belongs on a machine that few may enter.
type Home struct {
	Dir    string
	Signer *Authority
	bundle []*x509.Certificate
}

// InitHome makes an authority for a colony in a directory, which must not have one.
func InitHome(dir, colony string, now time.Time) (*Home, error) {
	if err := exists(dir, authoritiesFile, signerFile); err != nil {
		return nil, err
	}
	_, certificate, key, err := NewAuthority(colony, now)
	if err != nil {
		return nil, err
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	// The key goes first: a directory with a certificate alone would look finished.
	if err := writeFile(filepath.Join(dir, signerFile), key, 0o600); err != nil {
		return nil, err
	}
	if err := writeFile(filepath.Join(dir, authoritiesFile), certificate, 0o644); err != nil {
		return nil, err
	}
	return OpenHome(dir)
}

// OpenHome reads the directory that InitHome made.
func OpenHome(dir string) (*Home, error) {
	h := &Home{Dir: dir}
	text, err := readFile(filepath.Join(dir, authoritiesFile))
	if err == nil {
		h.Signer, err = h.authority(text, signerFile)
	}
	if err == nil {
		h.bundle, err = parseCertificates(text)
	}
	if err != nil {
		return nil, &cell.Error{Op: "pki.authority", Kind: cell.Invalid, Detail: dir + " is no usable authority", Err: err,
			Hint: "make one with `physalia cert init`, or name its directory with --ca"}
	}
	return h, nil
}

func (h *Home) authority(bundle []byte, name string) (*Authority, error) {
	key, err := readFile(filepath.Join(h.Dir, name))
	if err != nil {
		return nil, err
	}
	return ParseAuthority(bundle, key)
}

// Issue writes a directory for one process: certificate, key, whom to trust, and for a server the keys of its pool's gossip.
// With renew, a directory that has a certificate of the same identity is written over; without, none is.
func (h *Home) Issue(dir string, id Identity, now time.Time, life time.Duration, renew bool) error {
	if !renew {
		if err := exists(dir, certificateFile, keyFile); err != nil {
			return err
		}
	}
	certificate, key, err := h.Signer.Issue(id, now, life)
	if err != nil {
		return err
	}
	if err := h.Trust(dir, id); err != nil {
		return err
	}
	if err := writeFile(filepath.Join(dir, keyFile), key, 0o600); err != nil {
		return err
	}
	return writeFile(filepath.Join(dir, certificateFile), certificate, 0o644)
}

// Trust brings whom to trust in a process's directory up to date, and the keys of gossip, and leaves its certificate alone.
func (h *Home) Trust(dir string, id Identity) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	if id.Role == Server {
		ring, err := h.gossip(id.Brick, id.Color)
		if err != nil {
			return err
		}
		if err := writeFile(filepath.Join(dir, gossipFile), ring, 0o600); err != nil {
			return err
		}
	}
	// Users are not to know who signs: they cannot be asked.
	if id.Role == Server || id.Role == Control {
		public, err := h.tokensPublic()
		if err != nil {
			return err
		}
		if err := writeFile(filepath.Join(dir, tokensFile), public, 0o644); err != nil {
			return err
		}
	}
	return writeFile(filepath.Join(dir, authoritiesFile), encodeBundle(h.bundle), 0o644)
}

// gossip is the keyring of a pool, made when it is first asked for.
func (h *Home) gossip(brick, color string) ([]byte, error) {
	return ring(filepath.Join(h.Dir, gossipDir, brick, color+".keys"))
}

// ring reads a keyring of the authority's, and makes it when it is first asked for.
func ring(name string) ([]byte, error) {
	text, err := readFile(name)
	if err == nil {
		_, err = ParseKeyring(text)
		return text, err
	}
	if !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	if err := os.MkdirAll(filepath.Dir(name), 0o700); err != nil {
		return nil, err
	}
	key, err := newGossipKey()
	if err != nil {
		return nil, err
	}
	text = FormatKeyring([][]byte{key})
	return text, writeFile(name, text, 0o600)
}

// Authorities are all that processes are told to trust.
func (h *Home) Authorities() []*x509.Certificate { return h.bundle }
