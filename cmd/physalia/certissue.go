package main

import (
	"path/filepath"
	"time"

	"github.com/spf13/cobra"

	"physalia/cell"
	"physalia/internal/pki"
)

// A directory is all that a process needs: it is copied to its host, and its key nowhere else. Nothing that exists is written over, since a
// key that is replaced by mistake takes a running process off the network.
//
// certIssue makes directories for processes and people.
func (a *app) certIssue(home *string) *cobra.Command {
	var id pki.Identity
	var role, out string
	var life time.Duration
	cmd := &cobra.Command{
		Use:   "issue NAME...",
		Short: "Issue certificates, one directory each",
		Long: "Issue a certificate for each NAME, in a directory of that name below --out: ca.crt, tls.crt, tls.key, and for a server\n" +
			"gossip.keys. Bring the directory to its machine, and name it there with --certs. NAME of a server is its --name. Nothing is\n" +
			"overwritten; a certificate that exists is renewed with `physalia cert renew`.",
		Args: args("NAME...", 1, -1),
		RunE: func(cmd *cobra.Command, names []string) error {
			op := cmd.CommandPath()
			h, err := pki.OpenHome(*home)
			if err != nil {
				return err
			}
			// The colony is the authority's: it signs for no other.
			id.Role, id.Colony = pki.Role(role), h.Signer.Colony()
			if a.colony != "" && a.colony != id.Colony {
				return usage(op, "name the directory of its authority with --ca", "--colony is %q, %s is the authority of %q", a.colony, *home, id.Colony)
			}
			// All names are looked at before the first file is written.
			for _, name := range names {
				id.Name = name
				if err := id.Check(); err != nil {
					return cell.AsError(op, cell.Invalid, err)
				}
			}
			// What was issued before an error stays, and is refused when the command is repeated.
			var done []pki.Report
			for _, name := range names {
				id.Name = name
				dir := filepath.Join(out, name)
				if err := h.Issue(dir, id, time.Now(), life, false); err != nil {
					return cell.AsError(op, cell.Internal, err)
				}
				done = append(done, pki.Inspect(dir, time.Now()))
			}
			return a.emitReports(done)
		},
	}
	f := cmd.Flags()
	f.StringVar(&role, "role", "", "`role`: server, control, client or operator")
	f.StringVar(&id.Brick, "brick", "", "a server's `brick`")
	f.StringVar(&id.Color, "color", "", "a server's `color`")
	f.StringVar(&out, "out", "certs", "`directory` below which the new directories are made")
	f.DurationVar(&life, "life", pki.LeafLife, "`time` that a certificate is valid; it should be renewed from half of it")
	return cmd
}
