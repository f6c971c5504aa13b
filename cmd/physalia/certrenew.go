package main

import (
	"time"

	"github.com/spf13/cobra"

	"physalia/cell"
	"physalia/internal/pki"
)

// renewalView is one directory as -o json shows it after a renewal.
type renewalView struct {
	Dir      string    `json:"dir"`                // of the process
	Identity string    `json:"identity,omitempty"` // stays the same
	Renewed  bool      `json:"renewed"`            // false: only ca.crt and gossip.keys were brought up to date
	Until    time.Time `json:"until"`              // end of the certificate's life
}

// certRenew renews what is due, and brings the rest up to date. It is meant to be run every day by a timer.
func (a *app) certRenew(home *string) *cobra.Command {
	var force bool
	var life time.Duration
	cmd := &cobra.Command{
		Use:   "renew DIR...",
		Short: "Renew the certificates that are due, and tell all whom to trust",
		Long: "Bring directories of certificates up to date: ca.crt and gossip.keys in any case; certificate and key when half of the\n" +
			"certificate's life is over, or when another authority signs by now. The identity stays. A running process takes the new files by\n" +
			"itself. Run it every day, from a timer.",
		Args: args("DIR...", 1, -1),
		RunE: func(cmd *cobra.Command, dirs []string) error {
			h, err := pki.OpenHome(*home)
			if err != nil {
				return err
			}
			// One directory that cannot be renewed stops the rest, so that a timer's log ends with it.
			views, rows := []renewalView{}, [][]string{}
			for _, dir := range dirs {
				r, err := h.Renew(dir, time.Now(), life, force)
				if err != nil {
					return cell.AsError(cmd.CommandPath(), cell.Internal, err)
				}
				// Certificates renew from half of their life on, so a daily timer has two weeks to succeed.
				what := "not due"
				if r.Renewed {
					what = "renewed"
				}
				views = append(views, renewalView{dir, r.Identity.String(), r.Renewed, r.Until})
				rows = append(rows, []string{dir, r.Identity.String(), what, r.Until.Format(time.RFC3339)})
			}
			// Whoever uses a directory sees the new files within seconds, without a restart.
			return a.emit(map[string]any{"renewals": views}, []string{"DIR", "IDENTITY", "CERTIFICATE", "UNTIL"}, rows)
		},
	}
	f := cmd.Flags()
	f.BoolVar(&force, "force", false, "renew also what is not due")
	f.DurationVar(&life, "life", pki.LeafLife, "`time` that a new certificate is valid")
	return cmd
}
