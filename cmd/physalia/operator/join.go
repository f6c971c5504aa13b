package operator

import (
	"context"
	"time"

	"physalia/internal/pki"
	"physalia/internal/rpc"
	"physalia/internal/wire"
)

// Join makes a key, has it certified at a join port, and writes a directory of certificates, which must have none. It asks once: an
// invitation is used up by the first request that reaches the control plane, whatever becomes of the answer. The key never leaves this
// process but into that directory, and what comes back is written only if it is good, and belongs to the key.
func Join(ctx context.Context, token pki.JoinToken, from, out string) (pki.Identity, error) {
	key, request, err := pki.NewRequest()
	if err != nil {
		return pki.Identity{}, err
	}
	conn, err := rpc.Dial(ctx, from, rpc.Config{Hello: wire.Hello{Purpose: wire.ForJoin}, FrameMax: wire.JoinFrameMax, DialContext: pki.JoinDialer(token.Authority, time.Now)})
	if err != nil {
		return pki.Identity{}, err
	}
	// The other side has proven itself before it hears the secret.
	defer conn.Close(nil)
	var joined wire.Joined
	if err := conn.Call(ctx, wire.MethodJoin, &wire.Join{Secret: token.Secret[:], Request: request}, &joined); err != nil {
		return pki.Identity{}, err
	}
	return pki.WriteFiles(out, pki.Files{Authorities: joined.Authorities, Certificate: joined.Certificate, Key: key, Gossip: joined.Gossip, Tokens: joined.Tokens}, time.Now())
}
