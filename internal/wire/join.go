package wire

// The messages by which a process gets its first certificate. An operator asks for an invitation; whoever has its text makes a key,
// and redeems it at the join port, which serves nothing else and asks for no certificate.

// The methods of joining.
const (
	MethodInvite = "join.invite" // operator -> control: Invite -> Invited
	MethodJoin   = "join.redeem" // joining process -> control's join port: Join -> Joined
)

// Invite asks for an invitation.
type Invite struct {
	Identity string // whom the certificate will be for, as the URI in it
	Life     uint32 // seconds in which it has to be used
}

// Invited answers an Invite.
type Invited struct {
	Token   string // the text of the invitation, a secret
	Addr    string // of the join port
	Expires uint64 // milliseconds since 1970
}

// Join redeems an invitation.
type Join struct {
	Secret  []byte // of the invitation
	Request []byte // a certificate request (PKCS #10, DER), signed with the new key; only its key counts
}

// Joined has what the new process needs beside its key, as the files of a directory of certificates.
type Joined struct {
	Identity    string
	Certificate []byte
	Authorities []byte
	Gossip      []byte // servers only
	Tokens      []byte // servers and control processes only
}

// Bounds of the messages above.
const (
	IdentityBytesMax    = 512
	SecretBytesMax      = 64
	CertRequestBytesMax = 4096
	CertFileBytesMax    = 128 << 10
	JoinFrameMax        = 4*CertFileBytesMax + 4096
)

// Append adds [identity, life].
func (m *Invite) Append(b []byte) []byte {
	return AppendUint(AppendString(AppendArray(b, 2), m.Identity), uint64(m.Life))
}

// Decode reads what Append wrote.
func (m *Invite) Decode(r *Reader) {
	r.Struct(2, "Invite")
	*m = Invite{Identity: r.String(IdentityBytesMax, "identity"), Life: r.Uint32("life")}
}

// Append adds [token, addr, expires].
func (m *Invited) Append(b []byte) []byte {
	return AppendUint(AppendString(AppendString(AppendArray(b, 3), m.Token), m.Addr), m.Expires)
}

// Decode reads what Append wrote.
func (m *Invited) Decode(r *Reader) {
	r.Struct(3, "Invited")
	*m = Invited{Token: r.String(TokenBytesMax, "join token"), Addr: r.String(AddrBytesMax, "address"), Expires: r.Uint()}
}

// Append adds [secret, request].
func (m *Join) Append(b []byte) []byte {
	return AppendBytes(AppendBytes(AppendArray(b, 2), m.Secret), m.Request)
}

// Decode reads what Append wrote.
func (m *Join) Decode(r *Reader) {
	r.Struct(2, "Join")
	*m = Join{Secret: copied(r.Bytes(SecretBytesMax, "secret")), Request: copied(r.Bytes(CertRequestBytesMax, "certificate request"))}
}

// Append adds [identity, certificate, authorities, gossip, tokens].
func (m *Joined) Append(b []byte) []byte {
	b = AppendString(AppendArray(b, 5), m.Identity)
	b = AppendBytes(AppendBytes(b, m.Certificate), m.Authorities)
	return AppendBytes(AppendBytes(b, m.Gossip), m.Tokens)
}

// Decode reads what Append wrote.
func (m *Joined) Decode(r *Reader) {
	r.Struct(5, "Joined")
	*m = Joined{Identity: r.String(IdentityBytesMax, "identity")}
	for _, to := range []*[]byte{&m.Certificate, &m.Authorities, &m.Gossip, &m.Tokens} {
		*to = copied(r.Bytes(CertFileBytesMax, "file"))
	}
}

// copied keeps bytes that alias the input; nothing stays nil.
func copied(p []byte) []byte {
	if len(p) == 0 {
		return nil
	}
	return append([]byte(nil), p...)
}
