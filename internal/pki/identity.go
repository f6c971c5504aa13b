package pki

import (
	"crypto/x509"
	"fmt"
	"strings"

	"physalia/cell"
	"physalia/internal/wire"
)

// Role is what the holder of a certificate is.
type Role string

// The roles. The words are part of the identities in certificates and never change.
const (
	Server   Role = "server"
	Control  Role = "control"
	Client   Role = "client"
	Operator Role = "operator"
)

// Identity is who a certificate speaks for.
type Identity struct {
	Colony string
	Role   Role
	Brick  string // servers only
	Color  string // servers only
	Name   string // a server's without the random part of its cell.ServerID, which is drawn after the certificate was issued
}

const scheme = "physalia://"

// String is the identity as the URI in its certificate.
func (id Identity) String() string {
	if id.Role == Server {
		return scheme + strings.Join([]string{id.Colony, string(id.Role), id.Brick, id.Color, id.Name}, "/")
	}
	return scheme + strings.Join([]string{id.Colony, string(id.Role), id.Name}, "/")
}

// ParseIdentity reads what String wrote, from anybody. The error is a *cell.Error of kind Invalid.
func ParseIdentity(uri string) (Identity, error) {
	rest, ok := strings.CutPrefix(uri, scheme)
	parts := strings.Split(rest, "/")
	var id Identity
	switch {
	case !ok || len(uri) > len(scheme)+5*(wire.NameBytesMax+1):
		return Identity{}, invalid("the identity is no " + scheme + " URI, or too long")
	case len(parts) == 5 && Role(parts[1]) == Server:
		id = Identity{Colony: parts[0], Role: Server, Brick: parts[2], Color: parts[3], Name: parts[4]}
	case len(parts) == 3:
		id = Identity{Colony: parts[0], Role: Role(parts[1]), Name: parts[2]}
	default:
		return Identity{}, invalid(fmt.Sprintf("identity %q has %d parts", clip(uri), len(parts)))
	}
	return id, id.Check()
}

// Check reports what is wrong with an identity, as a *cell.Error of kind Invalid, or nil.
func (id Identity) Check() error {
	switch id.Role {
	case Server:
	case Control, Client, Operator:
		if id.Brick != "" || id.Color != "" {
			return invalid(fmt.Sprintf("a %s has no brick and no color", id.Role))
		}
	default:
		return invalid(fmt.Sprintf("role is %q; use server, control, client or operator", clip(string(id.Role))))
	}
	fields := []struct{ name, value string }{{"colony", id.Colony}, {"name", id.Name}}
	if id.Role == Server {
		fields = append(fields, struct{ name, value string }{"brick", id.Brick}, struct{ name, value string }{"color", id.Color})
	}
	for _, f := range fields {
		if len(f.value) > wire.NameBytesMax || cell.ServerID(f.value).Check() != nil || strings.ContainsAny(f.value, ":/") {
			return invalid(fmt.Sprintf("%s is %q; use 1 to %d letters, digits, '.', '_' and '-', and begin with a letter or digit",
				f.name, clip(f.value), wire.NameBytesMax))
		}
	}
	// The colony stands where a URI has its host, and the standard library insists on a host name's dots.
	if strings.HasSuffix(id.Colony, ".") || strings.Contains(id.Colony, "..") {
		return invalid(fmt.Sprintf("colony is %q; no certificate can carry dots at its end or side by side", id.Colony))
	}
	return nil
}

// identityOf reads the identity of a certificate: it has exactly one URI.
func identityOf(leaf *x509.Certificate) (Identity, error) {
	if len(leaf.URIs) != 1 {
		return Identity{}, invalid(fmt.Sprintf("the certificate has %d URIs, an identity is exactly one", len(leaf.URIs)))
	}
	return ParseIdentity(leaf.URIs[0].String())
}

// names tells whether a server of this identity may call itself id: its name, a dash, and the random part.
func (id Identity) names(server cell.ServerID) bool {
	random, ok := strings.CutPrefix(string(server), id.Name+"-")
	return ok && random != "" && !strings.Contains(random, "-")
}

// clip shortens what came from outside, for errors.
func clip(s string) string {
	const most = 100
	if len(s) > most {
		return s[:most] + "..."
	}
	return s
}

func invalid(detail string) error {
	return &cell.Error{Op: "pki", Kind: cell.Invalid, Detail: detail}
}
