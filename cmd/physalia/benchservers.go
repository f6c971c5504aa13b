package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"path/filepath"
	"sync"

	"github.com/spf13/cobra"

	"physalia/cmd/physalia/colony"
	"physalia/node"
)

// benchServersCommand hosts many real servers in one process, each with its own data directory, disk log and sockets. It is what
// crowded colonies execute; nobody should run servers like this for their data.
func (a *app) benchServersCommand() *cobra.Command {
	var spec colony.Spec
	var log logSettings
	cmd := &cobra.Command{
		Use:    "servers",
		Short:  "Run many storage servers in one process, for measurements",
		Hidden: true,
		Args:   daemonArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			logger, err := a.logger(cmd.CommandPath(), log)
			if err != nil {
				return err
			}
			if err := errors.Join(checkDirectory(cmd.CommandPath(), spec.Dir), spec.Check()); err != nil {
				return err
			}
			// Every port is picked by the system, so a server that starts again tells others a new address.
			return serveMany(cmd.Context(), spec.Count(), func(i int) node.Config {
				name, at, any := colony.ServerName(i), spec.Place(i), net.JoinHostPort("127.0.0.1", "0")
				return node.Config{DataDir: filepath.Join(spec.Dir, name), Colony: a.colony, Name: name,
					Brick: at.Brick, Rack: at.Rack, Power: at.Power, Color: at.Color, ListenPeer: any, ListenClient: any, ListenGossip: any,
					Control: a.controlPlane, Capacity: spec.Capacity, MemTableBytes: spec.MemTableBytes,
					Version: describeBuild().Version, Logger: logger.With("name", name)}
			})
		},
	}
	f := cmd.Flags()
	f.StringVar(&spec.Dir, "data-dir", "", "`directory` for everything durable, with one directory per server in it")
	f.IntVar(&spec.Bricks, "bricks", 1, "`number` of bricks")
	f.IntVar(&spec.Colors, "colors", 1, "`number` of colors")
	f.IntVar(&spec.Servers, "servers", 14, "`number` of servers of each color in each brick")
	f.IntVar(&spec.Racks, "racks", 7, "`number` of racks of each brick")
	f.IntVar(&spec.Powers, "powers", 7, "`number` of power domains of each brick")
	f.IntVar(&spec.Capacity, "capacity", 0, "`number` of nodes that each server is willing to host; 0 for the default")
	f.IntVar(&spec.MemTableBytes, "memtable-bytes", 0, "size of each disk's write buffer in `bytes`; 0 for the default")
	log.register(f)
	return cmd
}

// serveMany runs n servers until ctx ends, or until one of them cannot go on.
func serveMany(ctx context.Context, n int, config func(i int) node.Config) error {
	servers, errs := make([]*node.Server, n), make([]error, n)
	var wait sync.WaitGroup
	for i := range n { // side by side: each waits for its disk
		wait.Go(func() { servers[i], errs[i] = node.Start(config(i)) })
	}
	wait.Wait()
	ctx, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	for i, s := range servers {
		if s == nil {
			stop(fmt.Errorf("server %d: %w", i+1, errs[i]))
			continue
		}
		// Each watcher ends with ctx at the latest.
		wait.Go(func() {
			select {
			case <-s.Failed():
				stop(fmt.Errorf("server %d: %w", i+1, s.Err()))
			case <-ctx.Done():
			}
		})
	}
	<-ctx.Done()
	wait.Wait()
	// An interruption is how it is meant to end; any other cause is a failure.
	var err error
	if cause := context.Cause(ctx); !errors.Is(cause, context.Canceled) {
		err = cause
	}
	for i, s := range servers {
		if s != nil {
			wait.Go(func() { errs[i] = s.Close() })
		}
	}
	wait.Wait()
	return errors.Join(append(errs, err)...)
}
