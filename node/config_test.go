package node

import (
	"strings"
	"testing"

	"physalia/cell"
)

func TestConfigRefusals(t *testing.T) {
	long := strings.Repeat("x", 65)
	for name, test := range map[string]struct {
		change func(*Config)
		says   string
	}{
		"no colony":           {func(c *Config) { c.Colony = "" }, "colony"},
		"long name":           {func(c *Config) { c.Name = long }, "name has 65 bytes"},
		"brick with a slash":  {func(c *Config) { c.Brick = "a/b" }, "brick"},
		"no rack":             {func(c *Config) { c.Rack = "" }, "rack"},
		"power with a space":  {func(c *Config) { c.Power = "a b" }, "power"},
		"color with a dot":    {func(c *Config) { c.Color = ".red" }, "color"},
		"no directory":        {func(c *Config) { c.DataDir = "" }, "--data-dir"},
		"no peer address":     {func(c *Config) { c.ListenPeer = "" }, "listen-peer"},
		"no port":             {func(c *Config) { c.ListenClient = "127.0.0.1" }, "listen-client"},
		"named port":          {func(c *Config) { c.ListenGossip = "127.0.0.1:http" }, "listen-gossip"},
		"port out of range":   {func(c *Config) { c.ListenOps = "127.0.0.1:70000" }, "listen-ops"},
		"all interfaces":      {func(c *Config) { c.ListenPeer = "0.0.0.0:1" }, "--advertise"},
		"all interfaces, too": {func(c *Config) { c.ListenGossip = ":1" }, "--advertise"},
		"and IPv6":            {func(c *Config) { c.ListenClient = "[::]:1" }, "--advertise"},
		"control port 0":      {func(c *Config) { c.Control = []string{"a:1", "b:0"} }, "control-plane"},
		"join without host":   {func(c *Config) { c.Join = []string{":1"} }, "join"},
		"advertise a port":    {func(c *Config) { c.Advertise = "host:1" }, "advertised host"},
		"advertise too much":  {func(c *Config) { c.Advertise = strings.Repeat("h", hostBytesMax+1) }, "advertised host"},
		"gossip key":          {func(c *Config) { c.GossipKey = make([]byte, 15) }, "gossip key has 15 bytes"},
		"negative capacity":   {func(c *Config) { c.Capacity = -1 }, "capacity -1"},
		"negative inbox":      {func(c *Config) { c.InboxMax = -1 }, "inbox -1"},
	} {
		t.Run(name, func(t *testing.T) {
			c := goodConfig("dir")
			test.change(&c)
			err := c.Validate()
			if cell.KindOf(err) != cell.Invalid || !strings.Contains(err.Error(), test.says) {
				t.Fatalf("%v does not say %q", err, test.says)
			}
			if s, err := Start(c); err == nil {
				s.Close()
				t.Error("it starts nevertheless")
			}
		})
	}
}

func TestConfigDefaults(t *testing.T) {
	c := goodConfig("dir")
	c.Logger = nil
	c.ListenPeer, c.ListenGossip, c.Advertise = ":7301", "0.0.0.0:7303", "fd00::1"
	c.Control, c.Join, c.GossipKey = []string{"control.example:1"}, []string{"[fd00::2]:7303"}, make([]byte, 32)
	if err := c.Validate(); err != nil {
		t.Fatal(err)
	}
	if c.Capacity <= 0 || c.InboxMax != inboxDefault || c.Logger == nil {
		t.Errorf("defaults are %+v", c)
	}
	before := c.Capacity
	if err := c.Validate(); err != nil || c.Capacity != before {
		t.Errorf("validating twice: %v", err)
	}
}
