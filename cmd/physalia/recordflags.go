package main

import (
	"github.com/spf13/pflag"

	"physalia/cmd/physalia/control"
)

// recordFlags are those of the record of what is asked of a control process: see docs/operations.md. The eight files of a record are
// written round; what is older than they hold is gone, unless somebody has copied it.
func recordFlags(f *pflag.FlagSet, c *control.Config) {
	f.StringVar(&c.AuditDir, "audit-dir", "", "`directory` of the record of what is asked of this process; empty for data-dir/audit")
	f.IntVar(&c.AuditFileBytes, "audit-file-bytes", 0, "size of each of the eight files of that record, in `bytes`; 0 for the default, 16 MiB")
}

// joinFlags are those of a control process at which others get their first certificates. Both are needed: the port is for those who have
// nothing but a token, and somebody has to sign.
func joinFlags(f *pflag.FlagSet, c *control.Config) {
	f.StringVar(&c.ListenJoin, "listen-join", "", "`address` for processes that have nothing but a join token; empty for none")
	f.StringVar(&c.JoinCA, "join-ca", "", "`directory` of the colony's authority, which signs for those who join; whoever has it can be anybody")
}
