package main

import (
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"physalia/internal/pki"
)

// It reads files and asks nobody, so it says what a process will read, not what it runs with; that is in its metrics.
//
// certStatus shows directories of certificates, by default the one of --certs.
func (a *app) certStatus() *cobra.Command {
	return &cobra.Command{
		Use:   "status [DIR...]",
		Short: "Show identity, expiry and what renews",
		Long: "Show what is in directories of certificates, by default the one that --certs names. Ends with 1 when one of them cannot be\n" +
			"used. A process that is running shows the same as metrics: physalia_certificate_expiry_timestamp_seconds and\n" +
			"physalia_certificate_reload_failing.",
		Args:        args("[DIR...]", 0, -1),
		Annotations: readOnly,
		RunE: func(cmd *cobra.Command, dirs []string) error {
			// Without arguments: what this very command would show of itself.
			if len(dirs) == 0 && a.certs.Dir != "" {
				dirs = []string{a.certs.Dir}
			}
			if len(dirs) == 0 {
				return usage(cmd.CommandPath(), "give a directory, or --certs", "there is nothing to look at")
			}
			// All are shown before anything is said about some.
			var all []pki.Report
			bad := 0
			for _, dir := range dirs {
				r := pki.Inspect(dir, time.Now())
				if all = append(all, r); r.Problem != "" {
					bad++
				}
			}
			// Monitoring looks at the exit code, people at the table.
			if err := a.emitReports(all); err != nil || bad == 0 {
				return err
			}
			return fmt.Errorf("%d of %d directories of certificates cannot be used", bad, len(all))
		},
	}
}

// reportView is one directory as -o json shows it. No key is in it.
type reportView struct {
	Dir         string    `json:"dir"`                // as it was named
	Identity    string    `json:"identity,omitempty"` // URI; empty when it cannot be read
	State       string    `json:"state"`              // good, due or unusable
	Issuer      string    `json:"issuer,omitempty"`   // authority that signed it
	RenewFrom   time.Time `json:"renew_from"`         // half-life
	Until       time.Time `json:"until"`              // end of the certificate's life
	Authorities int       `json:"authorities"`        // that it trusts
	TrustsUntil time.Time `json:"trusts_until"`       // the first of them expires
	GossipKeys  int       `json:"gossip_keys"`        // servers only; two during a rotation
	Problem     string    `json:"problem,omitempty"`  // why it cannot be used
	Warning     string    `json:"warning,omitempty"`  // what should be mended
}

// emitReports shows directories of certificates. What renews them is a sentence, because nothing does it by itself.
func (a *app) emitReports(all []pki.Report) error {
	var views []reportView
	var rows [][]string
	for _, r := range all {
		v := reportView{Dir: r.Dir, State: "good", Issuer: r.Issuer, RenewFrom: r.RenewFrom, Until: r.Until, Authorities: r.Authorities,
			TrustsUntil: r.TrustsUntil, GossipKeys: r.GossipKeys, Problem: r.Problem, Warning: r.Warning}
		// A directory may be so broken that it says nothing of who it is for.
		if r.Identity != (pki.Identity{}) {
			v.Identity = r.Identity.String()
		}
		// The process itself never renews: it does not hold the authority's key.
		renews := "from " + r.RenewFrom.Format(time.RFC3339) + " by `physalia cert renew`"
		switch {
		case r.Problem != "":
			v.State, renews = "unusable", r.Problem
		case time.Now().After(r.RenewFrom):
			v.State = "due"
		}
		if r.Warning != "" {
			renews += "; " + r.Warning
		}
		views = append(views, v)
		rows = append(rows, []string{r.Dir, v.Identity, v.State, r.Until.Format(time.RFC3339), fmt.Sprint(r.Authorities), renews})
	}
	return a.emit(map[string]any{"certificates": views}, []string{"DIR", "IDENTITY", "STATE", "UNTIL", "AUTHORITIES", "RENEWS"}, rows)
}
