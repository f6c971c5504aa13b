package main

import (
	"fmt"
	"os"
	"runtime/debug"
	"slices"
	"strings"

	"physalia/bench/contest"
	"physalia/bench/subjects"
)

// entry is one subject by its name.
type entry struct {
	name string        // for --only
	make contest.Maker // of a fresh one for each round
}

// makers lists the subjects, each of ours beside a peer, so that what is compared was measured close together.
func (o options) makers() ([]contest.Maker, error) {
	ours, err := absolute(o.physalia)
	if err != nil {
		return nil, err
	}
	etcd, err := absolute(o.etcd)
	if err != nil {
		return nil, err
	}
	// Members of the libraries' fleets are this binary.
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	// The libraries differ in name and module only.
	groups := func(engine, module string, count int) entry {
		return entry{fmt.Sprintf("%s/%d", engine, count), func() contest.Subject {
			return &subjects.Groups{Self: self, Engine: engine, Version: version(module), Count: count, Libraries: o.libraries}
		}}
	}
	library := func(count int) entry { return groups("raft/v3", "go.etcd.io/raft/v3", count) }
	hashicorp := func(count int) entry { return groups("hashicorp/raft", "github.com/hashicorp/raft", count) }
	physalia := func(cells int) entry {
		return entry{fmt.Sprintf("physalia/%d", cells), func() contest.Subject {
			return &subjects.Physalia{Binary: ours, Version: o.version, Cells: cells, Libraries: o.libraries}
		}}
	}
	// Etcd has as many volumes as the middle case of ours has cells, all in its one store.
	all := []entry{
		{"etcd", func() contest.Subject {
			return &subjects.Etcd{Binary: etcd, Version: version("go.etcd.io/etcd/client/v3"), Volumes: 1000, Libraries: o.libraries}
		}},
		physalia(1000), physalia(5000), library(1000), hashicorp(1000),
		physalia(1), library(1), hashicorp(1),
		physalia(100), library(100), hashicorp(100),
	}
	return choose(all, o.only)
}

// choose takes the entries that are listed, all when nothing is.
func choose(all []entry, only string) (makers []contest.Maker, err error) {
	var names []string
	for _, e := range all {
		names = append(names, e.name)
	}
	// In the order of the list, so that it also says what is measured beside what.
	wanted := names
	if only != "" {
		wanted = strings.Split(only, ",")
	}
	for _, name := range wanted {
		i := slices.Index(names, name)
		if i < 0 {
			return nil, fmt.Errorf("--only: no subject is called %q; there are %s", name, strings.Join(names, ", "))
		}
		makers = append(makers, all[i].make)
	}
	return makers, nil
}

// version is the version of a module that this binary was built with. The pinned etcd server is of the version of its client.
func version(module string) string {
	// Modules are listed in every binary that was built from modules.
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return "unknown"
	}
	for _, m := range info.Deps {
		if m.Path == module {
			return m.Version
		}
	}
	return "unknown"
}
