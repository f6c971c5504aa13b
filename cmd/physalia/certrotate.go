package main

import (
	"time"

	"github.com/spf13/cobra"

	"physalia/cell"
	"physalia/internal/pki"
)

// Between the steps time must pass: whoever has not read the new authority yet refuses those who show certificates of it. What has
// to be true before the next step is said by the one before.
//
// certRotate replaces the authority and the keys of gossip, in three steps between which everybody learns what comes next.
func (a *app) certRotate(home *string) *cobra.Command {
	noun := &cobra.Command{
		Use:   "rotate",
		Short: "Replace the authority, and the keys of gossip, step by step",
		Long: "Replace the authority and the keys of gossip under a running colony: begin, switch, finish. After each step run\n" +
			"`physalia cert renew` for every directory, bring them to their machines, and wait until no process reports another authority\n" +
			"or a failing reload. At any time everybody knows whatever anybody shows.",
		Args: cobra.ArbitraryArgs,
		RunE: group,
	}
	// Each step is refused when it is not its turn, so a script that repeats itself does no harm.
	for _, step := range []struct {
		name, short string
		do          func(*pki.Home) error
	}{
		{"begin", "Make the next authority; everybody learns it, nobody uses it", func(h *pki.Home) error { return h.Begin(time.Now()) }},
		{"switch", "Let the next authority sign from now on", (*pki.Home).Switch},
		{"finish", "Forget the old authority", (*pki.Home).Finish},
	} {
		noun.AddCommand(&cobra.Command{Use: step.name, Short: step.short, Args: args("", 0, 0), RunE: func(cmd *cobra.Command, _ []string) error {
			// Nobody is asked whether everybody has heard of the last step: only the operator knows all directories.
			h, err := pki.OpenHome(*home)
			if err == nil {
				err = step.do(h)
			}
			if err != nil {
				return cell.AsError(cmd.CommandPath(), cell.Internal, err)
			}
			return a.emitAuthorities(h)
		}})
	}
	return noun
}
