package main

import (
	"github.com/spf13/cobra"

	"physalia/cell"
	"physalia/internal/wire"
)

// volumeLocate tells the control plane where a volume is used from. Which nodes move, and when, is the lifecycle manager's to
// decide, within its limits.
func (a *app) volumeLocate() *cobra.Command {
	var client, primary, replica string
	cmd := &cobra.Command{
		Use:   "locate VOLUME",
		Short: "Tell where a volume's client and copies are, so that its cell's nodes move there",
		Long: "Tell where the client, the primary and the replica of a volume are, by the identities of servers there, and wait until\n" +
			"the cell's nodes are as near to them as the rules of placement allow. The cell serves all the time, and one member is\n" +
			"replaced after the other. What is named replaces what was told before; without any flag it is forgotten. It is safe to\n" +
			"repeat after exit 5 or 7; what was begun goes on in the control plane.",
		Args: args("VOLUME", 1, 1),
		RunE: func(cmd *cobra.Command, given []string) error {
			ctx, cancel := a.limited(cmd.Context())
			defer cancel()
			request := wire.LocateVolume{Cell: cell.ID(given[0]), Client: cell.ServerID(client), Primary: cell.ServerID(primary), Replica: cell.ServerID(replica)}
			if err := a.operator().Locate(ctx, cmd.CommandPath(), request); err != nil {
				return err
			}
			return a.emitMembers(ctx, cmd.CommandPath(), request.Cell)
		},
	}
	cmd.Flags().StringVar(&client, "client", "", "identity of the `server` beside the volume's client")
	cmd.Flags().StringVar(&primary, "primary", "", "identity of the `server` of the primary copy")
	cmd.Flags().StringVar(&replica, "replica", "", "identity of the `server` of the other copy")
	return cmd
}
