package core

import (
	"slices"
	"testing"
	"time"

	"physalia/node/storage"
)

// storedVersions tells in which versions of their form a server has stored states.
func (c *colony) storedVersions(i int) (versions []byte) {
	b := c.servers[i]
	var pairs []storage.Pair
	read := storage.OpenModel(b.model.Disk(), reader(func(p []storage.Pair) { pairs = p }))
	read.Read(1, kindRange(keyState))
	read.Pump()
	for _, p := range pairs {
		versions = append(versions, p.Value[1])
	}
	return versions
}

// reader is a sink that only takes what was read.
type reader func([]storage.Pair)

func (r reader) Durable(storage.BatchNumber)                                {}
func (r reader) Failed(err error)                                           { panic(err) }
func (r reader) ReadDone(_ storage.ReadID, pairs []storage.Pair, err error) { r(pairs) }

// TestStatesInBothForms: a server that may have to go back stores states as builds from before packed states read them; every server
// reads both, in either direction.
func TestStatesInBothForms(t *testing.T) {
	c := newColony(t, 7)
	c.create("vol-1")
	next := uint64(1)
	for round, form := range []struct {
		unpacked bool
		version  byte
	}{{true, 1}, {false, 2}, {true, 1}} {
		c.tune = func(cfg *Config) { cfg.Unpacked = form.unpacked }
		for i := range 7 {
			if c.tune(&c.servers[i].core.cfg); round > 0 {
				c.restart(i)
				c.wait(3 * time.Second) // until the others support it again
			}
		}
		c.writes(next, next+uint64(2*c.window))
		next += uint64(2*c.window) + 1
		for i := range 7 {
			if got := c.storedVersions(i); !slices.Equal(got, []byte{form.version}) {
				t.Errorf("round %d: %s stores states in versions %v, want %d", round, serverID(i), got, form.version)
			}
			if sick := c.servers[i].sick; len(sick) > 0 {
				t.Errorf("round %d: %s: out of service: %q", round, serverID(i), sick)
			}
		}
	}
}

// TestMarksOfOlderBuilds: what a build did not understand is looked at again by one that knows more, be it a newer form of what is stored.
func TestMarksOfOlderBuilds(t *testing.T) {
	c := newColony(t, 7)
	c.create("vol-1")
	c.writes(1, 3)
	for mark, healed := range map[string]bool{
		"not-understood: command set 1: stored state":                  true, // from before marks named forms
		"not-understood: command set 1, stored forms 1: stored state":  true,
		"not-understood: command set 1, stored forms 2: stored state":  false,
		"not-understood: command set 0, stored forms 2: stored state":  true,
		"not-understood: command set 2, stored forms 3: stored state":  false,
		"not-understood: something else":                               false,
		"panic: command set 0, stored forms 1: not what it looks like": false,
	} {
		old := c.servers[2].core
		h := old.find("vol-1")
		old.mark(h, mark)
		old.putRow(h)
		c.settle()
		c.servers[2].sick = nil
		c.restart(2)
		if r := c.read(2, "vol-1", true); (r.Err == nil) != healed {
			t.Errorf("after a start, %q: %v", mark, r.Err)
		}
		if h = c.servers[2].core.find("vol-1"); !healed { // well again, for the next mark
			h.quarantined = ""
			delete(c.servers[2].core.sick, h.handle)
		}
	}
}
