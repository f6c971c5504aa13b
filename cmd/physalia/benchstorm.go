package main

import (
	"errors"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"physalia/cmd/physalia/storm"
)

// A storm is what a control plane fears most: everything restarts, and everybody comes at once, with the control plane itself
// cold. What is shown here is that nothing then depends on how many they are: an instance takes what its pace says, and
// the others are told when to come. Beside the time, therefore, stand the peak within a second, which must not exceed the
// pace, and the attempts, which tell whether those who had to wait did so quietly.
//
// Both sides are in one process, so the file limit of the shell may have to be raised for more than a few thousand servers,
// and the processor time is an upper bound for the control plane's.
//
// benchStormCommand shows that the control plane sets the pace, however many servers there are.
func (a *app) benchStormCommand() *cobra.Command {
	var cfg storm.Config
	cmd := &cobra.Command{
		Use:   "storm",
		Short: "Let thousands of simulated servers come to the control plane at once",
		Long: "Open real connections from simulated servers to real control instances in this process, all at once; then restart all\n" +
			"instances under them. Registrations must stay at the pace, servers must not try often, and everybody must get in about as\n" +
			"fast as the pace allows. Memory and processor time are those of both sides. Exit 1 if the pace was exceeded.",
		Args: daemonArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			cfg.Say = a.progress()
			report, err := storm.Run(cmd.Context(), cfg)
			if err != nil {
				return err
			}
			// The numbers are printed in any case: who exceeds the pace wants to know by how much.
			err = a.emit(report, nil, stormRows(report))
			if !report.Paced {
				err = errors.Join(err, errors.New("an instance admitted more than its pace"))
			}
			return err
		},
	}
	f := cmd.Flags()
	f.IntVar(&cfg.Servers, "servers", 2000, "`number` of simulated servers")
	f.IntVar(&cfg.Bricks, "bricks", 16, "`number` of bricks that they stand in")
	f.IntVar(&cfg.Instances, "instances", 1, "`number` of control instances")
	f.Float64Var(&cfg.PerSecond, "registers-per-second", 200, "`number` of registrations that each instance admits per second")
	f.DurationVar(&cfg.Idle, "idle", 4*time.Second, "how `long` to measure what idle connections cost")
	f.Uint64Var(&cfg.Seed, "seed", 1, "`number` that the servers' jitter is drawn from")
	return cmd
}

// stormRows shows a report for people: first what was asked for, then a paragraph per storm with what the pace alone would
// need beside what it took, then what it costs that everybody is connected.
func stormRows(r storm.Report) [][]string {
	rows := [][]string{{"setting", fmt.Sprintf("%d servers, %d instances, %.0f registrations/s each", r.Servers, r.Instances, r.PerSecond)}}
	for _, p := range r.Phases {
		rows = append(rows,
			[]string{p.Name, fmt.Sprintf("%.2f s until everybody was in, %.2f s expected of the pace", p.Seconds, p.ExpectedSeconds)},
			[]string{"", fmt.Sprintf("%d registrations, at most %d within a second at one instance", p.Registrations, p.PeakPerSecond)},
			[]string{"", fmt.Sprintf("%.2f attempts per server, at most %d; %d refused early", p.AttemptsPerServer, p.AttemptsMost, p.Refused)},
			[]string{"", fmt.Sprintf("%.2f s of processor time, both sides", p.CPUSeconds)})
	}
	return append(rows,
		[]string{"memory", fmt.Sprintf("%.1f MB, %.1f KB per connection, both ends; %d goroutines", r.HeapMB, r.PerConnection, r.Goroutines)},
		[]string{"idle", fmt.Sprintf("%.3f cores with everybody connected and pinged", r.IdleCPU)},
		[]string{"paced", fmt.Sprint(r.Paced)})
}
