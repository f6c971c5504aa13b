package etcdstore

import (
	"fmt"
	"net"
	"strings"

	"physalia/cell"
)

// Scheme begins the URL of a shared store.
const Scheme = "etcd://"

// ParseURL reads etcd://host:port[,host:port...]/prefix. The prefix begins with a slash and does not end in one; the hosts
// are members of one etcd cluster. The error is a *cell.Error of kind Invalid, which never repeats a password.
func ParseURL(url string) (endpoints []string, prefix string, err error) {
	rest, ok := strings.CutPrefix(url, Scheme)
	switch {
	case !ok:
		return nil, "", badURL("it does not begin with %s", Scheme)
	case strings.ContainsAny(rest, "@"):
		return nil, "", badURL("it holds a user or a password; use --store-user and --store-password-file")
	case strings.ContainsAny(rest, "?# \t"):
		return nil, "", badURL("it has more than hosts and a prefix")
	}
	hosts, path, _ := strings.Cut(rest, "/")
	for _, h := range strings.Split(hosts, ",") {
		if host, port, err := net.SplitHostPort(h); err != nil || host == "" || port == "" {
			return nil, "", badURL("%q is not host:port", h)
		}
		endpoints = append(endpoints, h)
	}
	path = strings.Trim(path, "/")
	if path == "" || strings.Contains(path, "//") {
		return nil, "", badURL("the prefix is %q; two colonies that share a prefix would share their cells", path)
	}
	return endpoints, "/" + path, nil
}

func badURL(format string, args ...any) error {
	return &cell.Error{Op: "control.store", Kind: cell.Invalid, Detail: "the URL of the store cannot be used: " + fmt.Sprintf(format, args...),
		Hint: "write etcd://host:2379[,host:2379]/prefix, for example etcd://e1:2379,e2:2379,e3:2379/physalia/eu1"}
}
