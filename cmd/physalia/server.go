package main

import (
	"context"
	"errors"
	"time"

	"github.com/spf13/cobra"

	"physalia/node"
)

// A server is stopped by SIGINT or SIGTERM and then ends with 0. Stopping is not special: nothing is written on the way out
// that a crash would miss.
//
// serverCommand is the storage server. It only turns settings into a node.Config; node checks it, refuses a data directory
// of another server, and runs.
func (a *app) serverCommand() *cobra.Command {
	var c node.Config
	var log logSettings
	var keyFile string
	var slack time.Duration
	cmd := &cobra.Command{
		Use:   "server",
		Short: "Run a storage server",
		Long: "Run a storage server until it is interrupted. Name, colony, brick, rack, power domain and color are written into the\n" +
			"data directory at the first start, together with a random identity; a later start with others is refused.",
		Args: daemonArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			logger, err := a.logger(cmd.CommandPath(), log)
			if err != nil {
				return err
			}
			if err := a.checkSlack(cmd.CommandPath(), slack, logger); err != nil {
				return err
			}
			if c.KnockKey, err = knockKey(keyFile); err != nil {
				return err
			}
			if err := checkDirectory(cmd.CommandPath(), c.DataDir); err != nil {
				return err
			}
			if c.ListenOps != "" {
				if err := checkAddresses(cmd.CommandPath(), setting{"listen-ops", c.ListenOps}); err != nil {
					return err
				}
			}
			c.Colony, c.Control, c.Version, c.Logger = a.colony, a.controlPlane, describeBuild().Version, logger
			c.Certs = a.certs
			return a.serve(cmd.Context(), c)
		},
	}
	f := cmd.Flags()
	f.StringVar(&c.DataDir, "data-dir", "", "`directory` for everything durable, one per server")
	f.StringVar(&c.Name, "name", "", "`name` of this server, for people")
	f.StringVar(&c.Brick, "brick", "", "`brick` (group of racks) that it stands in; its cells live inside it")
	f.StringVar(&c.Rack, "rack", "", "`rack` that it stands in")
	f.StringVar(&c.Power, "power", "", "power `domain` that feeds it")
	f.StringVar(&c.Color, "color", "", "its `color`; servers of different colors never exchange a byte")
	f.StringVar(&c.ListenPeer, "listen-peer", "127.0.0.1:7301", "`address` for other servers")
	f.StringVar(&c.ListenClient, "listen-client", "127.0.0.1:7302", "`address` for clients")
	f.StringVar(&c.ListenGossip, "listen-gossip", "127.0.0.1:7303", "`address` for gossip, TCP and UDP")
	f.StringVar(&c.ListenOps, "listen-ops", "127.0.0.1:7304", "`address` of /metrics, /livez and /readyz; empty for none")
	f.BoolVar(&c.Profiles, "profiles", false, "serve Go's /debug/pprof on --listen-ops, to whoever reaches that")
	f.StringVar(&c.Advertise, "advertise", "", "`host` that others reach it at; the host of --listen-peer when empty")
	f.StringSliceVar(&c.Join, "join", nil, "gossip `addresses` of other servers, beside those that the control plane names")
	f.IntVar(&c.Capacity, "capacity", 0, "`number` of nodes that it is willing to host; 0 for the default")
	f.IntVar(&c.MemTableBytes, "memtable-bytes", 0, "size of the disk's write buffer in `bytes`; 0 for the default")
	f.Uint32Var(&c.CommandSet, "command-set", 0, "newest `number` of a command set that it proposes; during an upgrade that of the old version,\n"+
		"see docs/operations.md; 0 for the newest that it understands")
	f.IntVar(&c.InboxMax, "inbox-max", 0, "`number` of messages and requests that may wait for the loop; 0 for the default")
	f.BoolVar(&c.NoSweep, "no-sweep", false, "when another server dies, do not ask for the cells that it led before clients need them")
	f.IntVar(&c.BalancePerSecond, "balance-per-second", 0, "`number` of cells handed over per second, at most, to a server that came back and leads fewer; 0 for the default, -1 for none")
	f.DurationVar(&slack, slackFlag, slackDefault, "how `late` the kernel may wake this process, which saves it a third of its wake-ups; 0 leaves that to the kernel")
	connectionFlags(f, &c.Connections)
	f.StringVar(&keyFile, "knock-key-file", "", "`file` with the key of UDP knocks, the same on servers and control processes; empty: no knocks")
	admissionFlags(f, &c)
	log.register(f)
	cmd.AddCommand(a.serverDuties()...)
	return cmd
}

// serve runs a server until ctx ends, which is how it is meant to end, or until it cannot go on, which is a failure.
func (a *app) serve(ctx context.Context, c node.Config) error {
	// Start returns once the server listens. What its nodes still have to read comes later; requests for them wait.
	s, err := node.Start(c)
	if err != nil {
		return err
	}
	c.Logger.Info("serving", "server", s.Identity().Server, "peers", s.PeerAddr(), "clients", s.ClientAddr(), "gossip", s.GossipAddr(), "ops", s.OpsAddr(),
		"timer_slack", timerSlack())
	select {
	case <-ctx.Done():
		c.Logger.Info("stopping: interrupted")
	case <-s.Failed():
		return errors.Join(s.Err(), s.Close())
	}
	return s.Close()
}
