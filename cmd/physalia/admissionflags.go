package main

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/spf13/pflag"

	"physalia/node"
)

// rateValue is a flag of the form RATE:BURST, or off.
type rateValue struct{ rate *node.Rate }

// String shows the value as it is given.
func (v rateValue) String() string {
	if v.rate == nil || v.rate.Off() {
		return "off"
	}
	return fmt.Sprintf("%g:%d", v.rate.PerSecond, v.rate.Burst)
}

// Type names the form in help texts.
func (v rateValue) Type() string { return "rate:burst" }

// Set reads the value; the ranges are checked by package node.
func (v rateValue) Set(text string) error {
	if text == "off" {
		*v.rate = node.Rate{}
		return nil
	}
	rate, burst, ok := strings.Cut(text, ":")
	if !ok {
		return fmt.Errorf("%q is not RATE:BURST, for example 500:1000, and not off", text)
	}
	r, err := strconv.ParseFloat(rate, 64)
	if err != nil || r <= 0 {
		return fmt.Errorf("rate %q is no positive number", rate)
	}
	b, err := strconv.Atoi(burst)
	if err != nil {
		return fmt.Errorf("burst %q is no whole number", burst)
	}
	*v.rate = node.Rate{PerSecond: r, Burst: b}
	return nil
}

// admissionFlags are what a server takes on before it says that it is overloaded or has no room; see docs/operations.md.
func admissionFlags(f *pflag.FlagSet, c *node.Config) {
	f.Var(rateValue{&c.Identity.Rate}, "limit-identity", "`rate:burst` of requests of one client identity, per second and at once")
	f.Var(rateValue{&c.Admission.CellRate}, "limit-cell", "`rate:burst` of requests about one cell")
	f.IntVar(&c.Identity.Requests, "identity-requests", 0, "`number` of requests that one client identity may have in flight; 0 for the default")
	f.IntVar(&c.Identity.Bytes, "identity-bytes", 0, "`bytes` of requests that one client identity may have in flight; 0 for the default")
	f.Uint64Var(&c.DiskReserve, "disk-reserve", 0, "`bytes` of the disk that stay free: below, no new nodes, no writes led from here; 0 for the default")
	f.DurationVar(&c.Admission.DelayMax, "delay-max", 0, "how `long` a request may wait for the server's loop before it is refused; 0 for the default")
}
