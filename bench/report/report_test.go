package report

import (
	"encoding/xml"
	"errors"
	"io"
	"strings"
	"testing"

	"physalia/bench/contest"
)

// sample is a report of two systems; one of them did not finish.
func sample() *Report {
	point := func(k contest.Kind, clients int, perS float64) contest.Point {
		return contest.Point{Kind: k, Clients: clients, PerS: perS, P50MS: 1, P99MS: 2, P999MS: 3, ServersUS: 40, SyncsPerS: 5, Operations: 100}
	}
	physalia, etcd := contest.Facts{System: "physalia", Groups: 1000, Volumes: 1000}, contest.Facts{System: "etcd", Groups: 1, Volumes: 1000}
	return &Report{Results: []contest.Result{
		{Facts: etcd, Round: 1, Points: []contest.Point{point(contest.Write, 1, 10), point(contest.Write, 224, 5000)}, VerifiedKeys: 7},
		{Facts: physalia, Round: 1, Points: []contest.Point{point(contest.Write, 224, 20000), point(contest.ReadSure, 224, 30000)}, VerifiedKeys: 5},
		{Facts: physalia, Round: 2, Points: []contest.Point{point(contest.Write, 224, 22000)}, LostKeys: 3},
		{Facts: contest.Facts{System: "raft <&>", Groups: 100, Volumes: 100}, Round: 1, DidNotFinish: "start: too slow"},
	}}
}

func TestTable(t *testing.T) {
	table := sample().Table()
	for _, want := range []string{"21000", "5000", "raft <&>, 100 did not finish in round 1: start: too slow", "physalia, 1000"} {
		if !strings.Contains(table, want) {
			t.Errorf("the table lacks %q:\n%s", want, table)
		}
	}
	// The missing keys of one round are in the sum.
	for line := range strings.Lines(table) {
		if f := strings.Fields(line); len(f) == 9 && f[0] == "physalia," && f[8] != "3" {
			t.Errorf("missing keys: %q", line)
		}
	}
}

func TestPlots(t *testing.T) {
	plots := sample().plots()
	for _, name := range []string{"write-throughput.svg", "write-p99.svg", "read-sure-p50.svg", "groups-writes.svg", "groups-cpu.svg"} {
		if plots[name] == "" {
			t.Errorf("no plot %s", name)
		}
	}
	if _, ok := plots["groups-kill.svg"]; ok {
		t.Error("a plot without a figure was drawn")
	}
	for name, svg := range plots {
		for d := xml.NewDecoder(strings.NewReader(svg)); ; {
			if _, err := d.Token(); errors.Is(err, io.EOF) {
				break
			} else if err != nil {
				t.Fatalf("%s is no XML: %v", name, err)
			}
		}
		for _, want := range []string{"physalia", "</svg>"} {
			if !strings.Contains(svg, want) {
				t.Errorf("%s lacks %q", name, want)
			}
		}
	}
	if strings.Contains(plots["read-sure-p50.svg"], ">etcd<") {
		t.Error("a line for a subject without that kind of reads")
	}
}

func TestMedian(t *testing.T) {
	s := &subject{}
	for _, x := range []float64{5, 1, 0, 9} {
		s.rounds = append(s.rounds, contest.Result{StartS: x})
	}
	got, ok := s.median(func(r *contest.Result) (float64, bool) { return r.StartS, r.StartS > 0 })
	if !ok || got != 5 {
		t.Errorf("got %v, %v", got, ok)
	}
	if _, ok := s.median(func(*contest.Result) (float64, bool) { return 0, false }); ok {
		t.Error("a median of nothing")
	}
}
