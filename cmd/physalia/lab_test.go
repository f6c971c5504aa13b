package main

import (
	"context"
	"encoding/json"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"physalia/sim/lab"
)

// The same seed writes the same files, all of them, and the command tells what was found.
func TestLabReport(t *testing.T) {
	var files [2]map[string]string
	for i := range files {
		dir := filepath.Join(t.TempDir(), "out")
		r := runLine(t, nil, "", []string{"lab", "report", "--only", "sizes,load", "--effort", "0.01", "--seed", "5", "--out", dir, "-o", "json"})
		var d struct {
			Page        string
			Experiments []struct {
				Name     string
				Findings []lab.Finding
			}
		}
		if err := json.Unmarshal([]byte(r.stdout), &d); err != nil || r.code != 0 || len(d.Experiments) != 2 || len(d.Experiments[1].Findings) == 0 {
			t.Fatalf("%v: exit %d, %s%s", err, r.code, r.stdout, r.stderr)
		}
		files[i] = map[string]string{}
		entries, err := os.ReadDir(dir)
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range entries {
			text, err := os.ReadFile(filepath.Join(dir, e.Name()))
			if err != nil {
				t.Fatal(err)
			}
			files[i][e.Name()] = string(text)
		}
	}
	for _, name := range []string{"index.html", "1-sizes.json", "1-independent.svg", "1-power.png", "4-load.json", "4-load.svg"} {
		if files[0][name] == "" {
			t.Errorf("%s was not written", name)
		}
	}
	for name, text := range files[0] {
		if files[1][name] != text {
			t.Errorf("%s is another one the second time", name)
		}
	}
}

func TestLabUsage(t *testing.T) {
	wrong(t, exitUsage, `did you mean "sizes"?`, "lab", "report", "--only", "size", "--out", t.TempDir())
	wrong(t, exitUsage, "effort is 0", "lab", "report", "--effort", "0", "--out", t.TempDir())
	wrong(t, exitUsage, "one of --topology, --shape and --live is needed", "lab", "what-if")
	wrong(t, exitUsage, "--live does not go with", "lab", "what-if", "--live", "--shape", "1x3x9x3x1")
	wrong(t, exitUnavailable, "no address of the control plane answers", "lab", "what-if", "--live", "--control-plane", "127.0.0.1:1")
	wrong(t, exitUsage, "no such file", "lab", "what-if", "--topology", filepath.Join(t.TempDir(), "none.toml"))
	wrong(t, exitUsage, "has 2 numbers, wanted are 5", "lab", "what-if", "--shape", "3x4")
	wrong(t, exitUsage, `"many" is no number`, "lab", "what-if", "--shape", "3xmany")
	wrong(t, exitUsage, "0 cells", "lab", "what-if", "--shape", "1x3x9x3x1", "--cells", "0")
	wrong(t, exitUsage, `there is no rack "r9"`, "lab", "what-if", "--shape", "1x3x9x3x1", "--kill", "rack=r9")
	wrong(t, exitRefused, "p1 would hold", "lab", "what-if", "--shape", "1x3x9x2x1", "--cells", "10")
	wrong(t, exitRefused, "p1 would hold", "lab", "what-if", "--shape", "3x3x9x2x3", "--cells", "5000") // in several pools at once
	file := writeFile(t, "[[brick]]\nname = \"b1\"\n[[brick.rack]]\nname = \"r1\"\npower = \"p1\"\nservers = 9\nfeed = 1\n")
	wrong(t, exitUsage, file+`:7: unknown key "brick.rack.feed"`, "lab", "what-if", "--topology", file)
}

// Whoever interrupts is told so, by the exit code too; a failure is not hidden by what it ended.
func TestFirstCause(t *testing.T) {
	failed := usage("x", "", "failed")
	ctx, cancel := context.WithCancel(t.Context())
	if err := firstCause(ctx, []error{context.Canceled, nil, failed}); exitOf(err, true) != exitUsage {
		t.Errorf("a failure became %v", err)
	}
	cancel()
	if err := firstCause(ctx, []error{context.Canceled, failed}); exitOf(err, true) != exitInterrupted {
		t.Errorf("an interruption became %v", err)
	}
}

// A power domain and a rack together cost cells their majority; alone they do not, and the answer adds up.
func TestLabWhatIf(t *testing.T) {
	ask := func(kill string) (a lab.Answer) {
		r := runLine(t, nil, "", []string{"lab", "what-if", "--shape", "1x8x9x4x1", "--cells", "500", "--kill", kill, "-o", "json"})
		if err := json.Unmarshal([]byte(r.stdout), &a); err != nil || r.code != 0 {
			t.Fatalf("%v: exit %d, %s%s", err, r.code, r.stdout, r.stderr)
		}
		return a
	}
	if a := ask("power=p1"); a.Lost != 0 || a.Repairs == 0 || a.ServersDown != 18 || !a.Hold {
		t.Errorf("one power domain: %+v", a)
	}
	if a := ask("power=p1,power=p2"); a.Lost == 0 || len(a.LostCells) == 0 || a.Lost+a.CutOff+a.Margins[0]+a.Margins[1]+a.Margins[2]+a.Margins[3] != 500 {
		t.Errorf("two power domains: %+v", a)
	}
	r := runLine(t, nil, "", []string{"lab", "what-if", "--shape", "1x8x9x4x1", "--cells", "500", "--kill", "rack=b01/r01"})
	if r.code != 0 || !strings.Contains(r.stdout, "without a majority  0 (0 %)") || !strings.Contains(r.stdout, "a hold keeps back") {
		t.Errorf("exit %d: %s", r.code, r.stdout)
	}
}

// A report that was interrupted goes on where it was: what is finished is not run again if seed, effort and program are the same, and
// the files are those of a report that was not interrupted.
func TestLabReportResumes(t *testing.T) {
	chosen := func(names string) []lab.Experiment {
		all, err := chosenExperiments("test", strings.Split(names, ","))
		if err != nil {
			t.Fatal(err)
		}
		return all
	}
	report := func(dir string, more ...string) ran {
		r := runLine(t, nil, "", append([]string{"lab", "report", "--only", "load,rollout", "--effort", "0.01", "--seed", "5", "--out", dir}, more...))
		if r.code != 0 {
			t.Fatalf("exit %d: %s", r.code, r.stderr)
		}
		return r
	}
	interrupted, whole := filepath.Join(t.TempDir(), "interrupted"), filepath.Join(t.TempDir(), "whole")
	begin := func(o reportFlags) {
		a := app{stdout: io.Discard, stderr: io.Discard}
		u, err := resume(&o)
		if err != nil {
			t.Fatal(err)
		}
		if _, _, err := a.runExperiments(t.Context(), chosen("load"), &o, u); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.MkdirAll(interrupted, 0o755); err != nil {
		t.Fatal(err)
	}
	o := reportFlags{out: interrupted, seed: 5, effort: 0.01}
	for _, c := range []struct {
		name   string
		change func(o *reportFlags)
		damage func()
		line   []string
		kept   bool
	}{
		{"as it was", func(*reportFlags) {}, func() {}, nil, true},
		{"another seed", func(o *reportFlags) { o.seed = 6 }, func() {}, nil, false},
		{"another effort", func(o *reportFlags) { o.effort = 0.02 }, func() {}, nil, false},
		{"a changed file", func(*reportFlags) {}, func() { spoil(t, filepath.Join(interrupted, "4-load.json"), `"experiment": 4`, `"experiment": 4 `) }, nil, false},
		{"another program", func(*reportFlags) {}, func() { spoil(t, filepath.Join(interrupted, unfinishedName), `"program": "`, `"program": "0`) }, nil, false},
		{"nothing to read", func(*reportFlags) {}, func() { spoil(t, filepath.Join(interrupted, unfinishedName), `{`, ``) }, nil, false},
		{"begun anew", func(*reportFlags) {}, func() {}, []string{"--fresh"}, false},
	} {
		p := o
		c.change(&p)
		begin(p)
		c.damage()
		r := report(interrupted, c.line...)
		if kept := strings.Contains(r.stderr, "experiment 4, load: finished before"); kept != c.kept || strings.Contains(r.stderr, "rollout: finished before") {
			t.Errorf("%s: %s", c.name, r.stderr)
		}
		if _, err := os.Stat(filepath.Join(interrupted, unfinishedName)); !os.IsNotExist(err) {
			t.Errorf("%s: %s is left: %v", c.name, unfinishedName, err)
		}
	}
	begin(o)
	report(interrupted)
	report(whole)
	for _, name := range []string{"4-load.json", "4-load.png", "8-rollout.json", "index.html"} {
		if one, two := read(t, interrupted, name), read(t, whole, name); one != two {
			t.Errorf("%s differs: %d and %d bytes", name, len(one), len(two))
		}
	}
}

// spoil changes a text in a file, which must be there.
func spoil(t *testing.T, path, from, to string) {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil || !strings.Contains(string(text), from) {
		t.Fatalf("%s: %v, without %q", path, err, from)
	}
	if err := os.WriteFile(path, []byte(strings.Replace(string(text), from, to, 1)), 0o644); err != nil {
		t.Fatal(err)
	}
}

func read(t *testing.T, dir, name string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(dir, name))
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// Cells that were placed are kept pool by pool, and used again only for the same question about the same site; what is damaged is placed anew.
func TestLabWhatIfKeeps(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "cells")
	ask := func(seed, shape string) (string, bool) {
		r := runLine(t, nil, "", []string{"lab", "what-if", "--shape", shape, "--cells", "4000", "--kill", "power=p1,power=p2", "--keep", dir, "--seed", seed})
		if r.code != 0 {
			t.Fatalf("exit %d: %s", r.code, r.stderr)
		}
		return r.stdout, strings.Contains(r.stderr, "placing cells")
	}
	first, placed := ask("1", "2x8x9x4x1")
	again, placedAgain := ask("1", "2x8x9x4x1")
	if first != again || !placed || placedAgain {
		t.Errorf("placed %v, then %v:\n%s%s", placed, placedAgain, first, again)
	}
	files, err := filepath.Glob(filepath.Join(dir, "*.cells"))
	if err != nil || len(files) != 2 {
		t.Fatalf("%v, %v", files, err)
	}
	text := []byte(read(t, "", files[0]))
	text[len(text)-1] ^= 1
	if err := os.WriteFile(files[0], text, 0o644); err != nil {
		t.Fatal(err)
	}
	if damaged, placed := ask("1", "2x8x9x4x1"); damaged != first || !placed {
		t.Errorf("damaged: placed %v:\n%s", placed, damaged)
	}
	if other, placed := ask("2", "2x8x9x4x1"); other == first || !placed {
		t.Errorf("another seed: placed %v:\n%s", placed, other)
	}
	if _, placed := ask("2", "2x8x9x5x1"); !placed {
		t.Error("another site: nothing was placed")
	}
}
