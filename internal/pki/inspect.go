package pki

import (
	"fmt"
	"os"
	"path/filepath"
	"time"
)

// Report is what a directory of certificates looks like from outside.
type Report struct {
	Dir                                 string
	Identity                            Identity // zero: there is none that can be read
	Issuer                              string   // name of the authority that signed it
	From, RenewFrom, Until, TrustsUntil time.Time
	Authorities, GossipKeys             int
	Problem                             string // why it cannot be used, or empty
	Warning                             string // what should be mended, or empty
}

// Inspect reads a directory, however broken it may be.
func Inspect(dir string, now time.Time) Report {
	r := Report{Dir: dir}
	files, err := ReadFiles(dir)
	if err == nil {
		var m *Material
		if m, err = Parse(files, now); err == nil {
			r.TrustsUntil, r.GossipKeys = m.FirstExpiry(), len(m.GossipKeys)
		}
	}
	if err != nil {
		r.Problem = err.Error()
	}
	// What can be told of one that is expired, or has lost its key, is told.
	if all, err := parseCertificates(files.Authorities); err == nil {
		r.Authorities = len(all)
	}
	if all, err := parseCertificates(files.Certificate); err == nil {
		leaf := all[0]
		r.Issuer, r.From, r.RenewFrom, r.Until = leaf.Issuer.CommonName, leaf.NotBefore, RenewFrom(leaf), leaf.NotAfter
		if id, err := identityOf(leaf); err == nil {
			r.Identity = id
		}
	}
	for _, name := range []string{keyFile, gossipFile} {
		if info, err := os.Stat(filepath.Join(dir, name)); err == nil && info.Mode().Perm()&0o077 != 0 {
			r.Warning = fmt.Sprintf("%s has mode %#o: others may read it; make it 0600", name, info.Mode().Perm())
		}
	}
	return r
}

// Renewal is what Renew did to a directory.
type Renewal struct {
	Report
	Renewed bool // the certificate is new; else only whom to trust was brought up to date
}

// Renew brings a process's directory up to date: whom to trust in any case, and the certificate when its half-life is over, when
// another authority signs by now, or when it is forced. The identity stays.
func (h *Home) Renew(dir string, now time.Time, life time.Duration, force bool) (Renewal, error) {
	files, err := ReadFiles(dir)
	if err != nil {
		return Renewal{}, err
	}
	all, err := parseCertificates(files.Certificate)
	if err != nil {
		return Renewal{}, invalid(filepath.Join(dir, certificateFile) + ": " + err.Error())
	}
	leaf := all[0]
	id, err := identityOf(leaf)
	if err != nil {
		return Renewal{}, fmt.Errorf("%s: %w", filepath.Join(dir, certificateFile), err)
	}
	if id.Colony != h.Signer.Colony() {
		return Renewal{}, invalid(fmt.Sprintf("%s is for %s, this is the authority of colony %q", dir, id, h.Signer.Colony()))
	}
	due := force || !now.Before(RenewFrom(leaf)) || leaf.CheckSignatureFrom(h.Signer.Certificate) != nil
	if due {
		err = h.Issue(dir, id, now, life, true)
	} else {
		err = h.Trust(dir, id)
	}
	return Renewal{Inspect(dir, now), due}, err
}
