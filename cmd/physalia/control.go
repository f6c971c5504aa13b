package main

import (
	"context"
	"errors"
	"time"

	"github.com/spf13/cobra"

	"physalia/cmd/physalia/control"
)

// controlCommand is the control plane in one process: lifecycle manager, discovery and health. Package control plugs them
// together; here are its settings.
func (a *app) controlCommand() *cobra.Command {
	var c control.Config
	var log logSettings
	var store storeSettings
	var keyFile string
	cmd := &cobra.Command{
		Use:   "control",
		Short: "Run the control plane: which cells exist, where they are, who is up",
		Long: "Run the control plane until it is interrupted: the lifecycle manager, the discovery cache and the health tracker, in\n" +
			"one process. Its store in the data directory says which cells exist; cells that exist serve without it. With --store several\n" +
			"such processes share a store in etcd: one is active, the others stand by and take over. The commands below ask one that runs.",
		Args: daemonArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			op := cmd.CommandPath()
			logger, err := a.logger(op, log)
			if err != nil {
				return err
			}
			if c.KnockKey, err = knockKey(keyFile); err != nil {
				return err
			}
			if c.Shared, err = store.shared(op, &c); err != nil {
				return err
			}
			// With the store in etcd and the snapshots elsewhere, nothing of this process is worth a directory.
			if c.Shared == nil || c.Objects == "" || c.DataDir != "" {
				if err := checkDirectory(op, c.DataDir); err != nil {
					return err
				}
			}
			// Malformed addresses are refused here, with the flag's name, rather than by the listener with a system error.
			addresses := []setting{{"listen", c.Listen}}
			if c.ListenOps != "" {
				addresses = append(addresses, setting{"listen-ops", c.ListenOps})
			}
			if err := checkAddresses(op, addresses...); err != nil {
				return err
			}
			c.Colony, c.Certs, c.Logger = a.colony, a.certs, logger
			// A drawn seed is logged, so that a placement can be explained afterwards.
			if c.Seed == 0 {
				c.Seed = uint64(time.Now().UnixNano())
			}
			return a.serveControl(cmd.Context(), c)
		},
	}
	f := cmd.Flags()
	f.StringVar(&c.DataDir, "data-dir", "", "`directory` of the lifecycle manager's store")
	f.StringVar(&c.Name, "name", "control", "`name` of this process, for people")
	f.StringVar(&c.Listen, "listen", "127.0.0.1:7300", "`address` for servers and clients")
	f.StringVar(&c.ListenOps, "listen-ops", "127.0.0.1:7310", "`address` of /metrics, /livez and /readyz; empty for none")
	f.StringVar(&c.Objects, "objects", "", "`where` discovery keeps its snapshots: a directory, or s3://bucket/prefix?endpoint=URL; empty for data-dir/objects")
	f.DurationVar(&c.Snapshot, "snapshot-every", time.Minute, "`time` between two snapshots of discovery")
	f.StringSliceVar(&c.Copies, "discovery-copies", nil, "`addresses` of the other control processes, whose copies of discovery exchange routes with this one")
	f.Float64Var(&c.RegistersPerSecond, "registers-per-second", 0, "`number` of registrations of servers admitted per second; 0 for the default")
	f.Uint64Var(&c.Seed, "seed", 0, "`number` that placement and jitter are drawn from; 0 draws one")
	f.StringVar(&keyFile, "knock-key-file", "", "`file` with the key of UDP knocks, the same on servers and control processes; empty: no knocks")
	f.DurationVar(&c.ScanEvery, "scan-every", time.Minute, "least `time` between two rounds in which servers are asked what they host; 0 for none")
	f.IntVar(&c.ScanPace, "scan-pace", 0, "`pages` per second asked for over the whole fleet; 0 for the default")
	f.IntVar(&c.RebuildPace, "rebuild-pace", 0, "`pages` per second while the store is being rebuilt; 0 for the default")
	connectionFlags(f, &c.Connections)
	recordFlags(f, &c)
	joinFlags(f, &c)
	limitFlags(f, &c.Limits, &c.MovesPerServer)
	repairFlags(f, &c.Repair)
	log.register(f)
	store.register(f, &c)
	cmd.AddCommand(a.controlPause(), a.controlResume(), a.controlStatus(), a.controlHold(), a.controlRebuild(), a.controlBackup(), a.controlAudit(), a.controlRestore(), a.controlInstances())
	return cmd
}

// serveControl runs the control plane until ctx ends, or until it cannot go on.
func (a *app) serveControl(ctx context.Context, c control.Config) error {
	p, err := control.Start(c)
	if err != nil {
		return err
	}
	c.Logger.Info("serving", "addr", p.Addr(), "ops", p.OpsAddr(), "seed", c.Seed)
	select {
	case <-ctx.Done():
		c.Logger.Info("stopping: interrupted")
	case <-p.Failed():
	}
	return errors.Join(p.Err(), p.Close())
}
