package main

import (
	"encoding/hex"
	"time"

	"github.com/spf13/cobra"

	"physalia/internal/pki"
)

// certCommand is the noun: the authority of a colony, and the certificates that it signs. These commands work on files and ask
// nobody, so that they work before there is a colony, and when it is ill.
func (a *app) certCommand() *cobra.Command {
	noun := &cobra.Command{
		Use:   "cert",
		Short: "Make, renew and look at certificates",
		Long: "Make, renew and look at certificates. A colony has an authority (a directory that belongs on a machine of its own),\n" +
			"and every process a directory with its certificate, its key and whom to trust, named by --certs. Running processes read\n" +
			"their directory again every few seconds. A working set:\n\n" +
			"  physalia cert init --colony eu1\n" +
			"  physalia cert issue control --role control\n" +
			"  physalia cert issue s1 s2 s3 s4 s5 s6 s7 --role server --brick b1 --color red\n" +
			"  physalia cert issue alice --role operator\n" +
			"  physalia cert issue blockstore --role client",
		Args: cobra.ArbitraryArgs,
		RunE: group,
	}
	// All verbs but status need the authority, and share its flag.
	var home string
	noun.PersistentFlags().StringVar(&home, "ca", "ca", "`directory` of the colony's authority")
	noun.AddCommand(a.certInit(&home), a.certIssue(&home), a.certRenew(&home), a.certRotate(&home), a.certStatus(), a.certJoinToken(), a.certJoin())
	return noun
}

// certInit makes the authority.
func (a *app) certInit(home *string) *cobra.Command {
	return &cobra.Command{
		Use:   "init",
		Short: "Make the authority of a colony",
		Long: "Make the authority of the colony that --colony names: ca.crt, which everybody may see, and ca.key, which signs. Whoever has\n" +
			"ca.key can be anybody in that colony: keep the directory apart from servers. Nothing is overwritten.",
		Args: args("", 0, 0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if a.colony == "" {
				return usage(cmd.CommandPath(), "name the installation, for example --colony eu1", "--colony is missing")
			}
			// The directory is made for its owner alone.
			h, err := pki.InitHome(*home, a.colony, time.Now())
			if err != nil {
				return err
			}
			return a.emitAuthorities(h)
		},
	}
}

// authorityView is one authority as -o json shows it.
type authorityView struct {
	Name   string    `json:"name"`   // of the authority, unique
	Serial string    `json:"serial"` // hexadecimal
	Until  time.Time `json:"until"`  // end of its life
	Signs  bool      `json:"signs"`  // new certificates are signed by it
}

// emitAuthorities shows whom an authority's directory tells others to trust.
func (a *app) emitAuthorities(h *pki.Home) error {
	var views []authorityView
	var rows [][]string
	// During a rotation there are two; only one of them signs.
	for _, c := range h.Authorities() {
		v := authorityView{c.Subject.CommonName, hex.EncodeToString(c.SerialNumber.Bytes()), c.NotAfter, c.Equal(h.Signer.Certificate)}
		signs := ""
		if v.Signs {
			signs = "signs"
		}
		views = append(views, v)
		rows = append(rows, []string{v.Name, v.Until.Format(time.RFC3339), signs})
	}
	return a.emit(map[string]any{"dir": h.Dir, "colony": h.Signer.Colony(), "authorities": views}, []string{"AUTHORITY", "UNTIL", ""}, rows)
}
