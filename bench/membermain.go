package main

import (
	"context"
	"flag"
	"strings"

	"physalia/bench/member"
)

// memberMain is one process of a fleet that runs a Raft library.
func memberMain(ctx context.Context, args []string) error {
	// Its parent makes the command line; what is missing there is found by the member.
	var c member.Config
	var peers, clients string
	f := flag.NewFlagSet("bench member", flag.ContinueOnError)
	f.StringVar(&c.Engine, "engine", "", "raft/v3 or hashicorp/raft")
	f.IntVar(&c.Me, "me", 0, "index of this process")
	f.IntVar(&c.Groups, "groups", 1, "number of groups")
	f.StringVar(&c.Dir, "dir", "", "directory of the store, which must be empty")
	f.StringVar(&peers, "peers", "", "addresses between the processes, by index")
	f.StringVar(&clients, "clients", "", "addresses for clients, by index")
	f.StringVar(&c.Ops, "ops", "", "address for counters")
	if err := f.Parse(args); err != nil {
		return err
	}
	c.Peers, c.Clients = strings.Split(peers, ","), strings.Split(clients, ",")
	return member.Run(ctx, c)
}
