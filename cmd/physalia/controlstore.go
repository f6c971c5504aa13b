package main

import (
	"net"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"physalia/cmd/physalia/control"
	"physalia/lifecycle/etcdstore"
)

// storeSettings say where the lifecycle manager's state is kept when several control processes share it. Secrets come from
// files, never from the command line, which everybody on the machine can read.
type storeSettings struct {
	url                string
	files              etcdstore.TLSFiles
	user, passwordFile string
	ttl                time.Duration
}

// register adds the flags to the daemon.
func (s *storeSettings) register(f *pflag.FlagSet, c *control.Config) {
	f.StringVar(&s.url, "store", "", "`etcd://host:port[,host:port]/prefix` of a store that several control processes share; empty: one in --data-dir")
	f.StringVar(&s.files.CA, "store-ca", "", "PEM `file` of who signs etcd's certificates; with it, or --store-cert, TLS is used")
	f.StringVar(&s.files.Cert, "store-cert", "", "PEM `file` of the certificate shown to etcd")
	f.StringVar(&s.files.Key, "store-key", "", "PEM `file` of its key")
	f.StringVar(&s.user, "store-user", "", "`name` of a user of etcd")
	f.StringVar(&s.passwordFile, "store-password-file", "", "`file` with his password")
	f.DurationVar(&s.ttl, "store-ttl", 10*time.Second, "how long an instance that is not heard from stays the active one; whole seconds")
	f.StringVar(&c.Advertise, "advertise", "", "`address` at which others reach --listen; needed with --store when that is a wildcard")
}

// shared is the store that was asked for, or nil for one of this process's own.
func (s *storeSettings) shared(op string, c *control.Config) (*etcdstore.Config, error) {
	if c.Advertise != "" {
		if err := checkAddresses(op, setting{"advertise", c.Advertise}); err != nil {
			return nil, err
		}
	}
	if s.url == "" {
		if s.files != (etcdstore.TLSFiles{}) || s.user != "" || s.passwordFile != "" {
			return nil, usage(op, "give the store itself with --store", "there are settings of a shared store, and no --store")
		}
		return nil, nil
	}
	// The others need an address of this machine. A port that the kernel chooses is known only later and is fine.
	host, _, err := net.SplitHostPort(c.Listen)
	if ip := net.ParseIP(host); err == nil && c.Advertise == "" && (host == "" || ip != nil && ip.IsUnspecified()) {
		return nil, usage(op, "say with --advertise where the other instances, servers and clients reach this one", "--listen %s is no address of one machine", c.Listen)
	}
	// Name and address are set again from the listener; here they are for the check.
	shared := &etcdstore.Config{TTL: s.ttl, User: s.user, Name: c.Name, Addr: c.Listen}
	if shared.Endpoints, shared.Prefix, err = etcdstore.ParseURL(s.url); err != nil {
		return nil, err
	}
	if shared.TLS, err = s.files.Load(); err != nil {
		return nil, err
	}
	if s.passwordFile != "" {
		if shared.Password, err = etcdstore.ReadPassword(s.passwordFile); err != nil {
			return nil, err
		}
	}
	return shared, shared.Check()
}

// instanceDocument and instanceRow are what `physalia control instances` prints; their names stay.
type instanceDocument struct {
	Version   int           `json:"version"`
	Asked     string        `json:"asked"`
	Store     string        `json:"store"`
	Problem   string        `json:"problem,omitempty"`
	Instances []instanceRow `json:"instances"`
}

type instanceRow struct {
	Name   string `json:"name"`
	Addr   string `json:"addr"`
	Active bool   `json:"active"`
}

// It asks one instance and does not follow to the active one: when there is none, what that instance knows is the answer.
//
// controlInstances tells which control processes there are, and which is active.
func (a *app) controlInstances() *cobra.Command {
	return &cobra.Command{
		Use:         "instances",
		Short:       "Which control processes there are, and which is active",
		Args:        args("", 0, 0),
		Annotations: readOnly,
		RunE: func(cmd *cobra.Command, _ []string) error {
			ctx, cancel := a.limited(cmd.Context())
			defer cancel()
			list, err := a.operator().Instances(ctx, cmd.CommandPath())
			if err != nil {
				return err
			}
			d := instanceDocument{Version: 1, Asked: list.Asked, Store: list.Store, Problem: list.Problem, Instances: []instanceRow{}}
			var rows [][]string
			for _, i := range list.Instances {
				d.Instances = append(d.Instances, instanceRow{i.Name, i.Addr, i.Active})
				role := "standing by"
				if i.Active {
					role = "active"
				}
				rows = append(rows, []string{i.Name, i.Addr, role})
			}
			if list.Problem != "" {
				a.note("%s", list.Problem)
			}
			return a.emit(d, []string{"NAME", "ADDRESS", "ROLE"}, rows)
		},
	}
}
