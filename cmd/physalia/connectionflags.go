package main

import (
	"github.com/spf13/pflag"

	"physalia/internal/rpc"
)

// connectionFlags are the limits of connections from outside: of clients at a server, of everybody at a control process. What the
// defaults are depends on the port; docs/security.md has them.
func connectionFlags(f *pflag.FlagSet, l *rpc.Limits) {
	f.IntVar(&l.Connections, "connections-max", 0, "`number` of connections that may be open; 0 for the default")
	f.IntVar(&l.PerAddress, "connections-per-address", 0, "`number` of them from one address, or one IPv6 /64; 0 for the default")
	f.IntVar(&l.PerIdentity, "connections-per-identity", 0, "`number` of them that show a certificate of the same identity; 0 for the default")
}
