package faults

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"physalia/cmd/physalia/colony"
)

// Network is hosts on one bridge, each in a network namespace of its own, by name. This process is one of them, the
// client. Its methods are for one goroutine.
type Network struct {
	dir   string
	addrs map[string]string
	cut   map[[2]string]bool // from, to
}

// Client is the name of this process's own host.
const Client = "client"

// subnet is where the hosts are; nobody else is in these namespaces, so it cannot collide.
const subnet = "10.77.0."

// rules drop what goes between two addresses of the set, in this direction. ARP passes: an address that is no longer found
// is another accident.
const rules = `table bridge faults {
	set cut { type ipv4_addr . ipv4_addr; }
	chain crossing {
		type filter hook forward priority 0; policy accept;
		ip saddr . ip daddr @cut drop
	}
}
`

// NewNetwork makes a bridge, the hosts and their links, in a directory for the handles of the namespaces. Call it inside a
// cage; this process joins as Client. Close takes it apart.
func NewNetwork(dir string, names ...string) (*Network, error) {
	n := &Network{dir: dir, addrs: map[string]string{}, cut: map[[2]string]bool{}}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	if err := n.build(names); err != nil {
		return nil, errors.Join(err, n.Close())
	}
	return n, nil
}

// hub is the namespace of the bridge, where nobody lives.
const hub = "hub"

func (n *Network) build(names []string) error {
	if err := n.space(hub); err != nil {
		return err
	}
	if err := n.in(hub, "", "ip", "link", "add", "bridge", "type", "bridge"); err != nil {
		return err
	}
	if err := n.in(hub, "", "ip", "link", "set", "bridge", "up"); err != nil {
		return err
	}
	if err := n.in(hub, rules, "nft", "-f", "-"); err != nil {
		return err
	}
	for i, name := range append([]string{Client}, names...) {
		n.addrs[name] = fmt.Sprintf("%s%d", subnet, i+1)
		if name != Client {
			if err := n.space(name); err != nil {
				return err
			}
		}
		if err := n.plug(name); err != nil {
			return err
		}
	}
	return nil
}

// space makes a network namespace and a handle for it.
func (n *Network) space(name string) error {
	if err := os.WriteFile(n.handle(name), nil, 0o600); err != nil {
		return err
	}
	return try("unshare", "--net="+n.handle(name), "true")
}

// plug connects a host to the bridge. The far end of its link has its name.
func (n *Network) plug(name string) error {
	link := "add link0 type veth peer name " + name + " netns " + n.handle(hub)
	for _, args := range []string{"link " + link, "addr add " + n.addrs[name] + "/24 dev link0", "link set link0 up", "link set lo up"} {
		if err := n.in(name, "", "ip", strings.Fields(args)...); err != nil {
			return err
		}
	}
	return n.in(hub, "", "ip", "link", "set", name, "master", "bridge", "up")
}

func (n *Network) handle(name string) string { return filepath.Join(n.dir, name) }

// enter is what stands before a program to run it at a host.
func (n *Network) enter(name string) []string {
	if name == Client {
		return nil
	}
	return []string{"nsenter", "--net=" + n.handle(name)}
}

// in runs a program at a host.
func (n *Network) in(name, input, program string, args ...string) error {
	line := append(n.enter(name), program)
	return feed(input, line[0], append(line[1:], args...)...)
}

// Host is where a process of a name runs; it is for colony.Spec.
func (n *Network) Host(name string) colony.Host {
	return colony.Host{Addr: n.addrs[name], Enter: n.enter(name)}
}

// Cut drops everything that any host of one group sends to any of another, from now on.
func (n *Network) Cut(from, to []string) error {
	for _, a := range from {
		for _, b := range to {
			n.cut[[2]string{a, b}] = true
		}
	}
	return n.apply()
}

// Sever drops everything between two groups, both ways.
func (n *Network) Sever(a, b []string) error { return errors.Join(n.Cut(a, b), n.Cut(b, a)) }

// Heal lets everything pass again.
func (n *Network) Heal() error {
	clear(n.cut)
	return n.apply()
}

// apply makes the bridge drop exactly what is cut, in one step.
func (n *Network) apply() error {
	script := "flush set bridge faults cut\n"
	for pair := range n.cut {
		script += fmt.Sprintf("add element bridge faults cut { %s . %s }\n", n.addrs[pair[0]], n.addrs[pair[1]])
	}
	return n.in(hub, script, "nft", "-f", "-")
}

// Close takes the network apart. What still runs in it keeps its namespace until it ends.
func (n *Network) Close() error {
	var all []error
	if _, ok := n.addrs[Client]; ok {
		all = append(all, try("ip", "link", "delete", "link0"))
	}
	for name := range n.addrs {
		if name != Client {
			all = append(all, try("umount", n.handle(name)))
		}
	}
	return errors.Join(append(all, try("umount", n.handle(hub)))...)
}
