package main

import (
	"context"
	"errors"
	"fmt"
	"strconv"

	"github.com/spf13/cobra"

	"physalia/cell"
	"physalia/client"
)

// The volume commands change the record of one partition: who is primary, who is its replica, under which generation. Each
// change names the generation that its caller has seen, so two operators who act on the same old picture cannot both win.

// volumeDocument is the record of a partition under -o json. The fence is what every I/O under this record carries.
type volumeDocument struct {
	Volume      string `json:"volume"`      // name of the cell
	Partition   uint32 `json:"partition"`   // of the volume
	Primary     string `json:"primary"`     // who serves it
	Replica     string `json:"replica"`     // who may take over; empty: nobody
	Generation  uint64 `json:"generation"`  // one more with every change
	Incarnation uint64 `json:"incarnation"` // of the cell that answered
	Fence       string `json:"fence"`       // "incarnation.generation"
}

// volumeCommand is the noun. A volume's name is its cell's name.
func (a *app) volumeCommand() *cobra.Command {
	var u users
	var partition uint32
	noun := &cobra.Command{
		Use:   "volume",
		Short: "Look up and change who serves a volume",
		Args:  cobra.ArbitraryArgs,
		RunE:  group,
	}
	u.register(noun)
	noun.PersistentFlags().Uint32Var(&partition, "partition", 0, "`number` of the volume's partition")
	noun.AddCommand(a.volumeLookup(&u, &partition), a.volumeAttach(&u, &partition), a.volumePromote(&u, &partition), a.volumeReplace(&u, &partition), a.volumeLocate())
	return noun
}

// onVolume runs one operation on a volume and prints the record that it ends with. A conflict also tells the record that
// stood there instead.
func (a *app) onVolume(cmd *cobra.Command, u *users, name string, f func(context.Context, *client.Volume) (client.VolumeState, error)) error {
	return a.use(cmd.Context(), u, func(ctx context.Context, c *client.Client) error {
		s, err := f(ctx, c.Volume(cell.ID(name)))
		// The error itself says what did not hold; the record is what the caller needs to decide again.
		var conflict *cell.VolumeConflict
		if errors.As(err, &conflict) && conflict.Found {
			a.note("the record is: %v", conflict.Actual)
		}
		if err != nil {
			return err
		}
		d := volumeDocument{name, s.Partition, s.Primary, s.Replica, uint64(s.Generation), uint64(s.Fence.Incarnation), s.Fence.String()}
		return a.emit(d, []string{"VOLUME", "PARTITION", "PRIMARY", "REPLICA", "GENERATION", "FENCE"},
			[][]string{{name, fmt.Sprint(s.Partition), s.Primary, orDash(s.Replica), fmt.Sprint(s.Generation), d.Fence}})
	})
}

// orDash shows an absent name.
func orDash(s string) string {
	if s == "" {
		return "-"
	}
	return s
}

// generationArg reads the generation that a caller has seen.
func generationArg(op, text string) (cell.Generation, error) {
	// A generation is an integer in the cell, so it stays within what both sides can hold.
	n, err := strconv.ParseUint(text, 10, 63)
	if err != nil {
		return 0, usage(op, "take it from `physalia volume lookup`", "generation %q is not a whole number", clip(text))
	}
	return cell.Generation(n), nil
}

// volumeLookup is what a client of the block store does before its first I/O, and after every refusal.
func (a *app) volumeLookup(u *users, partition *uint32) *cobra.Command {
	cmd := &cobra.Command{
		Use:         "lookup VOLUME",
		Short:       "Show who is primary and replica now, and under which generation",
		Args:        args("VOLUME", 1, 1),
		Annotations: readOnly,
		RunE: func(cmd *cobra.Command, given []string) error {
			return a.onVolume(cmd, u, given[0], func(ctx context.Context, v *client.Volume) (client.VolumeState, error) {
				return v.Lookup(ctx, *partition, u.option())
			})
		},
	}
	u.staleFlag(cmd)
	return cmd
}

// volumeAttach founds the record. Running it twice does not change anything the second time.
func (a *app) volumeAttach(u *users, partition *uint32) *cobra.Command {
	return &cobra.Command{
		Use:   "attach VOLUME PRIMARY [REPLICA]",
		Short: "Create the record, with generation 1; exit 3 if there is one",
		Args:  args("VOLUME PRIMARY [REPLICA]", 2, 3),
		RunE: func(cmd *cobra.Command, given []string) error {
			replica := ""
			if len(given) == 3 {
				replica = given[2]
			}
			return a.onVolume(cmd, u, given[0], func(ctx context.Context, v *client.Volume) (client.VolumeState, error) {
				return v.Attach(ctx, *partition, given[1], replica)
			})
		},
	}
}

// volumePromote is the decision that Physalia exists for: the primary is gone, the replica takes over, and everybody else who
// tries the same under the same generation is told that it has happened. The old replica's place is empty afterwards.
func (a *app) volumePromote(u *users, partition *uint32) *cobra.Command {
	return &cobra.Command{
		Use:   "promote VOLUME GENERATION REPLICA",
		Short: "Make the replica the primary, if the generation is still this one; otherwise exit 3",
		Args:  args("VOLUME GENERATION REPLICA", 3, 3),
		RunE: func(cmd *cobra.Command, given []string) error {
			generation, err := generationArg(cmd.CommandPath(), given[1])
			if err != nil {
				return err
			}
			return a.onVolume(cmd, u, given[0], func(ctx context.Context, v *client.Volume) (client.VolumeState, error) {
				return v.Promote(ctx, *partition, generation, given[2])
			})
		},
	}
}

// volumeReplace fills the replica's place, or empties it.
func (a *app) volumeReplace(u *users, partition *uint32) *cobra.Command {
	return &cobra.Command{
		Use:   "replace VOLUME GENERATION [REPLICA]",
		Short: "Give it another replica, or none, if the generation is still this one; otherwise exit 3",
		Args:  args("VOLUME GENERATION [REPLICA]", 2, 3),
		RunE: func(cmd *cobra.Command, given []string) error {
			generation, err := generationArg(cmd.CommandPath(), given[1])
			if err != nil {
				return err
			}
			replica := ""
			if len(given) == 3 {
				replica = given[2]
			}
			return a.onVolume(cmd, u, given[0], func(ctx context.Context, v *client.Volume) (client.VolumeState, error) {
				return v.Replace(ctx, *partition, generation, replica)
			})
		},
	}
}
