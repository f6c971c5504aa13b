package main

import (
	"context"
	"fmt"
	"strconv"
	"time"

	"github.com/spf13/cobra"

	"physalia/cell"
	"physalia/client"
)

// The lease commands are for scripts that hold a lock themselves, and for people who look who holds one. A command ends, so
// none of them keeps a lease alive: whoever grants one must renew it with keep, within its time counted from before the last
// command that succeeded was started.

// kvLease is the verb of kv that has verbs of its own.
func (a *app) kvLease(u *users) *cobra.Command {
	noun := &cobra.Command{
		Use:   "lease",
		Short: "Grant, renew, revoke and list the leases of a cell",
		Long: "Grant, renew, revoke and list the leases of a cell: time-bounded locks, and the keys that go with them (kv put --lease).\n" +
			"Believe in a lease for its time from before you started the last command that granted or renewed it; the cell waits\n" +
			"three times as long before it gives it up. The token is what to tell others, so that they refuse older ones.",
		Args: cobra.ArbitraryArgs,
		RunE: group,
	}
	noun.AddCommand(a.leaseGrant(u), a.leaseKeep(u), a.leaseRevoke(u), a.leaseList(u))
	return noun
}

// leaseID reads the name of a lease.
func leaseID(op, text string) (cell.LeaseID, error) {
	n, err := strconv.ParseUint(text, 10, 64)
	if err != nil || n == 0 {
		return 0, usage(op, "see `physalia kv lease list CELL`", "a lease is a number, not %q", clip(text))
	}
	return cell.LeaseID(n), nil
}

// leaseGrant prints what a script has to remember: the number to renew with, and the token to show to others. The library
// would keep the lease alive for as long as the process lives; this one is about to end, and leaves it to the cell's clock.
func (a *app) leaseGrant(u *users) *cobra.Command {
	var ttl time.Duration
	var label string
	cmd := &cobra.Command{
		Use:   "grant CELL",
		Short: "Grant a lease and print its number and token",
		Args:  args("CELL", 1, 1),
		RunE: func(cmd *cobra.Command, given []string) error {
			return a.use(cmd.Context(), u, func(ctx context.Context, c *client.Client) error {
				l, err := c.Cell(cell.ID(given[0])).Grant(ctx, ttl, label)
				if err != nil {
					return err
				}
				// Here, not in the cell: from now on only keep renews it.
				defer l.Close()
				return a.emit(map[string]any{"lease": l.ID(), "token": l.Token().String(), "ttl_ms": l.TTL().Milliseconds()}, nil,
					[][]string{{"lease", fmt.Sprint(uint64(l.ID()))}, {"token", l.Token().String()}, {"ttl", l.TTL().String()}})
			})
		},
	}
	cmd.Flags().DurationVar(&ttl, "ttl", 30*time.Second, fmt.Sprintf("its time, a `duration` of %v to %v", cell.LeaseTTLMin, cell.LeaseTTLMax))
	cmd.Flags().StringVar(&label, "label", "", "who holds it, a `text` for people")
	return cmd
}

// leaseKeep says how often the lease was renewed, so that a script can tell whether somebody else renews it, too.
func (a *app) leaseKeep(u *users) *cobra.Command {
	return &cobra.Command{
		Use:   "keep CELL LEASE",
		Short: "Renew a lease once; exit 8 when it is not held any more",
		Args:  args("CELL LEASE", 2, 2),
		RunE: func(cmd *cobra.Command, given []string) error {
			id, err := leaseID(cmd.CommandPath(), given[1])
			if err != nil {
				return err
			}
			return a.use(cmd.Context(), u, func(ctx context.Context, c *client.Client) error {
				if _, err := c.Cell(cell.ID(given[0])).KeepAlive(ctx, id); err != nil {
					return err
				}
				return a.emit(map[string]any{"lease": id, "kept": true}, nil, [][]string{{"kept", fmt.Sprint(uint64(id))}})
			})
		},
	}
}

// leaseRevoke is not idempotent on purpose: exit 8 tells an operator that the lease was somebody else's to end.
func (a *app) leaseRevoke(u *users) *cobra.Command {
	return &cobra.Command{
		Use:   "revoke CELL LEASE",
		Short: "End a lease, whoever holds it, and delete the keys attached to it; exit 8 when it is not held",
		Args:  args("CELL LEASE", 2, 2),
		RunE: func(cmd *cobra.Command, given []string) error {
			id, err := leaseID(cmd.CommandPath(), given[1])
			if err != nil {
				return err
			}
			return a.use(cmd.Context(), u, func(ctx context.Context, c *client.Client) error {
				if err := c.Cell(cell.ID(given[0])).RevokeLease(ctx, id); err != nil {
					return err
				}
				return a.emit(map[string]any{"lease": id, "revoked": true}, nil, [][]string{{"revoked", fmt.Sprint(uint64(id))}})
			})
		},
	}
}

// leaseDocument is one lease under -o json.
type leaseDocument struct {
	Lease    cell.LeaseID `json:"lease"`
	Token    string       `json:"token"` // incarnation.number
	TTL      int64        `json:"ttl_ms"`
	Label    string       `json:"label"`
	Renewals uint64       `json:"renewals"` // keep-alives that went through the log; those under a read lease do not
	Keys     uint64       `json:"keys"`     // attached to it
}

// leaseList is a linearizable read, so what it shows was held at a moment of this run. It says nothing about how long a
// lease still has: only the cell's proposer counts that, by a clock of its own.
func (a *app) leaseList(u *users) *cobra.Command {
	return &cobra.Command{
		Use:         "list CELL",
		Short:       "List the leases of a cell",
		Args:        args("CELL", 1, 1),
		Annotations: readOnly,
		RunE: func(cmd *cobra.Command, given []string) error {
			return a.use(cmd.Context(), u, func(ctx context.Context, c *client.Client) error {
				leases, of, err := c.Cell(cell.ID(given[0])).Leases(ctx)
				if err != nil {
					return err
				}
				// The document has the list also when it is empty, so that programs need no special case.
				documents, rows := []leaseDocument{}, [][]string{}
				for _, l := range leases {
					token := l.ID.Fence(of).String()
					documents = append(documents, leaseDocument{l.ID, token, l.TTL.Milliseconds(), l.Label, l.Renewals, l.Keys})
					rows = append(rows, []string{fmt.Sprint(uint64(l.ID)), token, l.TTL.String(), strconv.Quote(l.Label), fmt.Sprint(l.Keys)})
				}
				return a.emit(map[string]any{"leases": documents}, []string{"LEASE", "TOKEN", "TTL", "LABEL", "KEYS"}, rows)
			})
		},
	}
}
