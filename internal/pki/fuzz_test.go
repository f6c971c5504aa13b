package pki

import (
	"testing"
	"time"
)

// FuzzMaterial reads mutated files of certificates: what is accepted has an identity and can be shown.
func FuzzMaterial(f *testing.F) {
	dir, now := f.TempDir(), time.Now()
	h, err := InitHome(dir+"/ca", "c", now)
	if err == nil {
		err = h.Issue(dir+"/s1", Identity{Colony: "c", Role: Server, Brick: "b1", Color: "red", Name: "s1"}, now, LeafLife, false)
	}
	if err != nil {
		f.Fatal(err)
	}
	files, err := ReadFiles(dir + "/s1")
	if err != nil {
		f.Fatal(err)
	}
	f.Add(files.Authorities, files.Certificate, files.Key, files.Gossip)
	f.Add([]byte("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"), []byte{}, []byte{}, []byte("AAAA\n"))
	f.Fuzz(func(t *testing.T, authorities, certificate, key, gossip []byte) {
		m, err := Parse(Files{Authorities: authorities, Certificate: certificate, Key: key, Gossip: gossip}, now)
		if err == nil && (m.Identity.Check() != nil || m.Leaf == nil) {
			t.Fatalf("accepted %+v", m.Identity)
		}
	})
}
