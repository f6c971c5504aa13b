package main

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/spf13/pflag"

	"physalia/lifecycle"
)

// A rate and a burst belong together: who changes one without the other gets a limit that he did not mean. So they are one flag.
//
// limitValue is a flag of the form RATE:BURST.
type limitValue struct{ limit *lifecycle.Limit }

// String shows the value as it is given.
func (v limitValue) String() string {
	if v.limit == nil {
		return ""
	}
	return v.limit.String()
}

// Type names the form in help texts.
func (v limitValue) Type() string { return "rate:burst" }

// Set reads the value; the ranges are checked by the lifecycle manager.
func (v limitValue) Set(text string) error {
	rate, burst, ok := strings.Cut(text, ":")
	if !ok {
		return fmt.Errorf("%q is not RATE:BURST, for example 5:10", text)
	}
	r, err := strconv.ParseFloat(rate, 64)
	if err != nil {
		return fmt.Errorf("rate %q is no number", rate)
	}
	b, err := strconv.Atoi(burst)
	if err != nil {
		return fmt.Errorf("burst %q is no whole number", burst)
	}
	// Zero of both would mean the default further down, which is the opposite of what was meant.
	if r == 0 && b == 0 {
		return fmt.Errorf("a limit of nothing: pause the action instead")
	}
	*v.limit = lifecycle.Limit{PerSecond: r, Burst: b}
	return nil
}

// Three kinds of work in three scopes make nine flags of one form; what they mean is told in docs/control.md.
//
// limitFlags are the token buckets of the lifecycle manager as flags.
func limitFlags(f *pflag.FlagSet, limits *lifecycle.Limits, perServer *int) {
	// The defaults are the lifecycle manager's own, shown here so that --help tells them.
	*limits = lifecycle.DefaultLimits()
	for _, row := range []struct {
		work  string
		of    *lifecycle.LimitsOf
		count string
	}{{"create", &limits.Create, "cells created"}, {"move", &limits.Move, "members moved"}, {"repair", &limits.Repair, "members repaired"}} {
		f.Var(limitValue{&row.of.Colony}, "limit-"+row.work, "`rate:burst` of "+row.count+" in the colony, per second and at once")
		f.Var(limitValue{&row.of.Brick}, "limit-"+row.work+"-brick", "`rate:burst` of "+row.count+" in one brick")
		f.Var(limitValue{&row.of.Server}, "limit-"+row.work+"-server", "`rate:burst` of "+row.count+" at one server")
	}
	f.IntVar(perServer, "limit-replacing-server", 16, "`number` of replacements under way at one server")
}
