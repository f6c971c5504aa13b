package etcdstore

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"log/slog"
	"os"
	"strings"
	"time"

	"physalia/cell"
)

// Config says which store is shared, and by whom. Endpoints, Prefix, Name and Addr are required.
type Config struct {
	Endpoints []string // host:port of members of the etcd cluster
	Prefix    string   // of all keys; begins with a slash, does not end in one
	Name      string   // of this instance; unique within the colony
	Addr      string   // where servers, clients and operators reach this instance

	// TTL is how long an instance that is not heard from keeps its term: a successor takes over after TTL to 1.5 TTL. Default
	// 10 s, at least 2 s; etcd counts whole seconds, and may raise it to 1.5 times its own election timeout.
	TTL time.Duration

	TLS            *tls.Config // nil: no TLS
	User, Password string      // empty: no authentication by name

	Log *slog.Logger // nil discards
}

const (
	ttlDefault = 10 * time.Second
	ttlMin     = 2 * time.Second
	ttlMax     = 5 * time.Minute
)

// withDefaults replaces zero values.
func (c Config) withDefaults() Config {
	if c.TTL == 0 {
		c.TTL = ttlDefault
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	return c
}

// Check reports the first thing that is wrong, as a *cell.Error of kind Invalid.
func (c Config) Check() error {
	c = c.withDefaults()
	invalid := func(hint, format string, args ...any) error {
		return &cell.Error{Op: "control.store", Kind: cell.Invalid, Detail: fmt.Sprintf(format, args...), Hint: hint}
	}
	switch {
	case len(c.Endpoints) == 0 || !strings.HasPrefix(c.Prefix, "/") || strings.HasSuffix(c.Prefix, "/"):
		return invalid("see ParseURL", "endpoints are %v, the prefix is %q", c.Endpoints, c.Prefix)
	case c.Name == "" || c.Addr == "" || strings.Contains(c.Name, "/"):
		return invalid("give each instance a name of its own and an address that others reach", "instance %q at %q", c.Name, c.Addr)
	case c.TTL < ttlMin || c.TTL > ttlMax || c.TTL%time.Second != 0:
		return invalid(fmt.Sprintf("use whole seconds from %v to %v", ttlMin, ttlMax), "the time to live is %v", c.TTL)
	}
	return nil
}

// TLSFiles names PEM files: CA who may have signed etcd's certificate (empty: the system's), Cert and Key what this instance
// shows of itself (both or none).
type TLSFiles struct{ CA, Cert, Key string }

// Load makes the settings for a connection, or nil when no file is named. The instance's own certificate is read again for
// every connection, so it can be rotated in place.
func (f TLSFiles) Load() (*tls.Config, error) {
	invalid := func(err error, format string, args ...any) error {
		return &cell.Error{Op: "control.store", Kind: cell.Invalid, Detail: fmt.Sprintf(format, args...), Err: err, Hint: "check the files"}
	}
	if f == (TLSFiles{}) {
		return nil, nil
	}
	c := &tls.Config{MinVersion: tls.VersionTLS12}
	if f.CA != "" {
		pem, err := os.ReadFile(f.CA)
		if err != nil {
			return nil, invalid(err, "the authorities cannot be read")
		}
		if c.RootCAs = x509.NewCertPool(); !c.RootCAs.AppendCertsFromPEM(pem) {
			return nil, invalid(nil, "%s holds no certificate", f.CA)
		}
	}
	if f.Cert == "" && f.Key == "" {
		return c, nil
	}
	if _, err := tls.LoadX509KeyPair(f.Cert, f.Key); err != nil {
		return nil, invalid(err, "certificate %q with key %q", f.Cert, f.Key)
	}
	c.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
		pair, err := tls.LoadX509KeyPair(f.Cert, f.Key)
		return &pair, err
	}
	return c, nil
}

// ReadPassword reads a password from a file, without the line end behind it.
func ReadPassword(file string) (string, error) {
	b, err := os.ReadFile(file)
	if err != nil {
		return "", &cell.Error{Op: "control.store", Kind: cell.Invalid, Detail: "the password file cannot be read", Err: err, Hint: "check --store-password-file"}
	}
	return string(bytes.TrimRight(b, "\r\n")), nil
}
