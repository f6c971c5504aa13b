package pki

import (
	"crypto/x509"
	"errors"
	"fmt"
	"slices"
	"time"

	"physalia/cell"
	"physalia/internal/refusal"
	"physalia/internal/wire"
)

// Reason is why a connection was refused or lost in its handshake.
type Reason = refusal.Reason

// The reasons that are found here, by the same names; package refusal has all of them and says what each means. Most are found
// when the other side's certificate is verified and judged, some when its Hello is compared with that, and three when there is
// no certificate to judge: whoever speaks no TLS, turned away himself, or broke off.
const (
	Welcome          = refusal.Welcome   // verify and Judge found nothing
	PlainText        = refusal.PlainText // classify
	NotPlainText     = refusal.NotPlainText
	NoCertificate    = refusal.NoCertificate    // verify
	UnknownAuthority = refusal.UnknownAuthority // verify
	Expired          = refusal.Expired
	NotYetValid      = refusal.NotYetValid
	BadCertificate   = refusal.BadCertificate
	NoIdentity       = refusal.NoIdentity  // Judge
	OtherColony      = refusal.OtherColony // Judge, JudgeHello
	OtherBrick       = refusal.OtherBrick
	OtherColor       = refusal.OtherColor
	WrongRole        = refusal.WrongRole    // Judge, JudgeHello
	OtherName        = refusal.OtherName    // JudgeHello
	RefusedThere     = refusal.RefusedThere // conn.readError
	Broken           = refusal.Broken       // classify
	SlowStart        = refusal.SlowStart    // classify
	BadRecord        = refusal.BadRecord    // after the handshake
)

// Refusal is the error of a connection that was refused: inside a *cell.Error of kind Refused.
type Refusal struct {
	Reason Reason
	Detail string
}

// Error is the reason alone; the *cell.Error around it tells the rest.
func (r *Refusal) Error() string { return r.Reason.String() }

// String describes the refusal.
func (r *Refusal) String() string { return r.Reason.String() + ": " + r.Detail }

func because(r Reason, format string, args ...any) *Refusal {
	return &Refusal{r, fmt.Sprintf(format, args...)}
}

// hints say what to do about a reason.
var hints = map[Reason]string{
	PlainText:        "give the other side certificates (--certs), or check the port",
	NotPlainText:     "this side has no certificates: set --certs here, or check the port",
	NoCertificate:    "give the other side certificates (--certs)",
	UnknownAuthority: "compare `physalia cert status` of both sides: one of them must learn the other's authority",
	Expired:          "run `physalia cert renew` for the other side, and compare the clocks",
	NotYetValid:      "compare the clocks of both sides",
	RefusedThere:     "the other side counts and logs why; see `physalia cert status` for this one",
}

// asError is the refusal as the rest of the colony says no.
func (r *Refusal) asError() *cell.Error {
	hint, ok := hints[r.Reason]
	if !ok {
		hint = "check the address, and `physalia cert status` of both sides"
	}
	return &cell.Error{Op: "pki.handshake", Kind: cell.Refused, Detail: r.Detail, Err: r, Hint: hint}
}

// Port is what a listener is for.
type Port uint8

// The ports.
const (
	PeerPort    Port = iota // of a server, for servers
	ClientPort              // of a server, for clients and for the control plane that calls back
	ControlPort             // of a control process, for everybody
	OpsPort                 // metrics and probes
	GossipPort              // of a server; nobody proves himself there, it is for counting
	anyPort                 // dialled by whoever does not know whether a server or a control process is there
	portCount
)

// AnyPort is for dialling an address of the colony that may be a server's or a control process's.
const AnyPort = anyPort

var portNames = [portCount]string{"peer", "client", "control", "ops", "gossip", "any"}

// String names the port, as the metric has it.
func (p Port) String() string { return portNames[p] }

// Side is an end of a connection.
type Side uint8

// The sides: this one has accepted, or dialled.
const (
	Accepting Side = iota
	Dialling
	sideCount
)

var sideNames = [sideCount]string{"accepted", "dialled"}

// String names the side, as the metric has it.
func (s Side) String() string { return sideNames[s] }

// fitting lists whom a port takes, and who is expected to be there.
var fitting = [portCount][sideCount][]Role{
	PeerPort:    {{Server}, {Server}},
	ClientPort:  {{Client, Operator, Control}, {Server}},
	ControlPort: {{Server, Client, Operator, Control}, {Control}},
	OpsPort:     {{Client, Operator, Control}, {Server, Control}},
	GossipPort:  {{}, {}},
	anyPort:     {{}, {Server, Control}},
}

// Judge decides about the other side by its verified chain, leaf first: who it is, or why it is refused. Who it is is told in
// both cases, as far as it is known. self is who this side is.
func Judge(self Identity, port Port, side Side, chain []*x509.Certificate) (Identity, *Refusal) {
	other, err := identityOf(chain[0])
	switch {
	case err != nil:
		return other, because(NoIdentity, "%v", err)
	case other.Colony != self.Colony:
		return other, because(OtherColony, "%s, this is %s", other, self)
	case !slices.Contains(fitting[port][side], other.Role):
		return other, because(WrongRole, "%s has no business at the %s port", other, port)
	case port == PeerPort && other.Brick != self.Brick:
		return other, because(OtherBrick, "%s, this is %s", other, self)
	case port == PeerPort && other.Color != self.Color:
		return other, because(OtherColor, "%s, this is %s", other, self)
	}
	return other, nil
}

// holders are the roles that may open a connection for a purpose.
var holders = map[wire.Purpose][]Role{
	wire.ForClient:    {Client, Operator, Control},
	wire.ForControl:   {Server},
	wire.ForPaxos:     {Server},
	wire.ForHeartbeat: {Server},
	wire.ForBulk:      {Server},
	wire.ForForward:   {Server},
	wire.ForDialBack:  {Control},
}

// JudgeHello decides whether the Hello of the other side says of itself what its certificate proves; nil when it does.
// A purpose that this build does not know is left to the port to refuse.
func JudgeHello(side Side, other Identity, h *wire.Hello) *Refusal {
	roles, known := holders[h.Purpose]
	switch {
	case h.Colony != "" && h.Colony != other.Colony:
		return because(OtherColony, "%s says that it is of colony %q", other, h.Colony)
	case side == Accepting && known && !slices.Contains(roles, other.Role):
		return because(WrongRole, "%s connects as only %v may", other, roles)
	case (h.Server != "") != (other.Role == Server):
		return because(WrongRole, "%s says that it is server %q", other, h.Server)
	case h.Server == "":
		return nil
	case h.Brick != other.Brick:
		return because(OtherBrick, "%s says that it is of brick %q", other, h.Brick)
	case h.Color != other.Color:
		return because(OtherColor, "%s says that it is of color %q", other, h.Color)
	case !other.names(h.Server):
		return because(OtherName, "%s says that it is server %s", other, h.Server)
	}
	return nil
}

// verify builds the chain from what the other side showed to an authority that is trusted, at a time. Side is this side's: the
// other one's certificate must be for the other end.
func verify(shown []*x509.Certificate, roots *x509.CertPool, side Side, now time.Time) ([]*x509.Certificate, *Refusal) {
	if len(shown) == 0 {
		return nil, because(NoCertificate, "the other side showed none")
	}
	leaf, between := shown[0], x509.NewCertPool()
	for _, c := range shown[1:] {
		between.AddCert(c)
	}
	usage := x509.ExtKeyUsageClientAuth
	if side == Dialling {
		usage = x509.ExtKeyUsageServerAuth
	}
	switch {
	case now.After(leaf.NotAfter):
		return nil, because(Expired, "%s was valid until %s", titleOf(leaf), leaf.NotAfter.Format(time.RFC3339))
	case now.Before(leaf.NotBefore):
		return nil, because(NotYetValid, "%s is valid from %s", titleOf(leaf), leaf.NotBefore.Format(time.RFC3339))
	}
	chains, err := leaf.Verify(x509.VerifyOptions{Roots: roots, Intermediates: between, CurrentTime: now, KeyUsages: []x509.ExtKeyUsage{usage}})
	var unknown x509.UnknownAuthorityError
	var bad x509.CertificateInvalidError
	switch {
	case err == nil:
		return chains[0], nil
	case errors.As(err, &unknown):
		return nil, because(UnknownAuthority, "%s is signed by %q", titleOf(leaf), clip(leaf.Issuer.String()))
	case errors.As(err, &bad) && bad.Reason == x509.Expired:
		return nil, because(Expired, "the authority of %s: %v", titleOf(leaf), err)
	}
	return nil, because(BadCertificate, "%s: %v", titleOf(leaf), err)
}

// titleOf names a certificate for errors, before its identity is proven or known to be well-formed.
func titleOf(c *x509.Certificate) string {
	if id, err := identityOf(c); err == nil {
		return id.String()
	}
	return fmt.Sprintf("%q", clip(c.Subject.String()))
}
