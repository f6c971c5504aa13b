package main

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/spf13/cobra"

	"physalia/cell"
)

// ran is what one command line did.
type ran struct {
	code           int
	stdout, stderr string
}

// runLine runs a command line in a world of its own; extra commands are added to the tree.
func runLine(t *testing.T, env map[string]string, stdin string, line []string, extra ...*cobra.Command) ran {
	t.Helper()
	var out, errs bytes.Buffer
	a := app{stdin: strings.NewReader(stdin), stdout: &out, stderr: &errs, extra: extra,
		lookupEnv: func(k string) (string, bool) { v, ok := env[k]; return v, ok }}
	code := a.run(line)
	return ran{code, out.String(), errs.String()}
}

// wrong runs a command line that must fail with a code and say something on standard error, nothing on standard output.
func wrong(t *testing.T, code exitCode, says string, line ...string) {
	t.Helper()
	r := runLine(t, nil, "", line)
	if r.code != int(code) || !strings.Contains(r.stderr, says) || r.stdout != "" {
		t.Errorf("physalia %s: exit %d, want %d; stderr should contain %q:\n%s%s", strings.Join(line, " "), r.code, code, says, r.stderr, r.stdout)
	}
}

func TestUsageErrors(t *testing.T) {
	wrong(t, exitUsage, `did you mean "version"?`, "vesion")
	wrong(t, exitUsage, `did you mean "--timeout"?`, "version", "--tineout", "1s")
	wrong(t, exitUsage, "see `physalia version --help`", "version", "--zzzzzzzzzzzz")
	wrong(t, exitUsage, "1 arguments given", "version", "now")
	wrong(t, exitUsage, "use -o table or -o json", "version", "-o", "yaml")
	wrong(t, exitUsage, "it must be above zero", "version", "--timeout", "0s")
	wrong(t, exitUsage, "invalid argument", "version", "--timeout", "soon")
	wrong(t, exitUsage, "no such file", "version", "--config", filepath.Join(t.TempDir(), "none.toml"))
}

func TestErrorAsJSON(t *testing.T) {
	r := runLine(t, nil, "", []string{"version", "--nope", "-o", "json"})
	var d errorDocument
	if err := json.Unmarshal([]byte(r.stderr), &d); err != nil {
		t.Fatalf("%v in %q", err, r.stderr)
	}
	want := errorDocument{Version: 1, Error: "invalid_request", Op: "physalia version", Detail: "unknown flag: --nope",
		Hint: "see `physalia version --help`", Exit: 2}
	if d != want || strings.Count(r.stderr, "\n") != 1 {
		t.Errorf("got %+v\nwant %+v", d, want)
	}
}

func TestVersion(t *testing.T) {
	var d buildDocument
	r := runLine(t, nil, "", []string{"version", "-o", "json"})
	if err := json.Unmarshal([]byte(r.stdout), &d); err != nil || d.Go == "" || d.ProtocolMax == 0 || r.code != 0 {
		t.Errorf("%v: exit %d, %+v", err, r.code, d)
	}
	if r := runLine(t, nil, "", []string{"version"}); r.code != 0 || !strings.Contains(r.stdout, "protocol  1 to 1") {
		t.Errorf("exit %d: %s", r.code, r.stdout)
	}
}

// probe is a command with flags of every kind; it prints what it was given.
func probe(got *probed) *cobra.Command {
	noun := &cobra.Command{Use: "probe", Args: cobra.ArbitraryArgs, RunE: group}
	verb := &cobra.Command{Use: "verb", RunE: func(cmd *cobra.Command, _ []string) error {
		got.ran = true
		return nil
	}}
	verb.Flags().StringVar(&got.dataDir, "data-dir", "default", "a directory")
	verb.Flags().Uint64Var(&got.capacity, "capacity", 7, "a number")
	verb.Flags().BoolVar(&got.keep, "keep", false, "a switch")
	verb.Flags().StringSliceVar(&got.seeds, "seeds", nil, "a list")
	verb.Flags().DurationVar(&got.pause, "pause", time.Second, "a duration")
	noun.PersistentFlags().StringVar(&got.server, "server", "", "a flag of the noun, named as a command is")
	noun.AddCommand(verb)
	return noun
}

type probed struct {
	ran      bool
	dataDir  string
	capacity uint64
	keep     bool
	seeds    []string
	pause    time.Duration
	server   string
}

func writeFile(t *testing.T, text string) string {
	t.Helper()
	name := filepath.Join(t.TempDir(), "physalia.toml")
	if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return name
}

// Flags win over the environment, the environment over the file, the file over defaults.
func TestSettingsOrder(t *testing.T) {
	file := writeFile(t, "timeout = \"3s\"\n[probe]\ndata_dir = \"file\"\ncapacity = 9\nkeep = true\nseeds = [\"a\", \"b\"]\npause = \"2m\"\n")
	env := map[string]string{"PHYSALIA_CONFIG": file, "PHYSALIA_CAPACITY": "10", "PHYSALIA_SEEDS": "c,d", "PHYSALIA_UNHEARD": "x"}
	var got probed
	if r := runLine(t, env, "", []string{"probe", "verb", "--data-dir", "flag"}, probe(&got)); r.code != 0 {
		t.Fatal(r.stderr)
	}
	if !got.ran || got.dataDir != "flag" || got.capacity != 10 || !got.keep || strings.Join(got.seeds, " ") != "c d" || got.pause != 2*time.Minute {
		t.Errorf("got %+v", got)
	}
	got = probed{}
	if r := runLine(t, nil, "", []string{"probe", "verb", "--config", file}, probe(&got)); r.code != 0 {
		t.Fatal(r.stderr)
	}
	if got.dataDir != "file" || got.capacity != 9 || strings.Join(got.seeds, " ") != "a b" {
		t.Errorf("got %+v", got)
	}
}

// A table for one command is none of another's business, even if a flag of the other has the table's name.
func TestTablesAreApart(t *testing.T) {
	for text, want := range map[string]string{"[server]\nname = \"s1\"\n": "", "[probe]\nserver = \"a:1\"\n[server]\nname = \"s1\"\n": "a:1"} {
		var got probed
		r := runLine(t, nil, "", []string{"probe", "verb", "--config", writeFile(t, text)}, probe(&got))
		if r.code != 0 || !got.ran || got.server != want {
			t.Errorf("%q: exit %d, server %q, want %q: %s", text, r.code, got.server, want, r.stderr)
		}
	}
}

// A file or variable that makes no sense is a usage error that names the place, and the command does not run.
func TestSettingsErrors(t *testing.T) {
	for _, c := range []struct{ text, says string }{
		{"[probe]\ncapasity = 9\n", `:2:1: unknown key "probe.capasity"`},
		{"[probe]\ncapasity = 9\n", `did you mean "probe.capacity"?`},
		{"\n\ntimout = \"1s\"\n", `:3:1: unknown key "timout"`},
		{"[serbia]\nx = 1\n", `unknown key "serbia`},
		{"[probe]\ncapacity = -1\n", "key capacity of [probe]"},
		{"[probe]\ncapacity = [\"1\"]\n", "a list is not allowed"},
		{"[probe]\nseeds = [1]\n", "1 is not a string"},
		{"[probe]\nkeep = {a = 1}\n", "key keep of [probe]"},
		{"[probe\n", ":1:"},
		{"timeout = \"1s\"\ntimeout = \"2s\"\n", "timeout"},
	} {
		var got probed
		r := runLine(t, nil, "", []string{"probe", "verb", "--config", writeFile(t, c.text)}, probe(&got))
		if r.code != int(exitUsage) || !strings.Contains(r.stderr, c.says) || got.ran {
			t.Errorf("%q: exit %d, ran %v, want %q in:\n%s", c.text, r.code, got.ran, c.says, r.stderr)
		}
	}
	var got probed
	r := runLine(t, map[string]string{"PHYSALIA_CAPACITY": "many"}, "", []string{"probe", "verb"}, probe(&got))
	if r.code != int(exitUsage) || !strings.Contains(r.stderr, "PHYSALIA_CAPACITY") || got.ran {
		t.Errorf("exit %d: %s", r.code, r.stderr)
	}
	if r := runLine(t, nil, "", []string{"probe", "verbs"}, probe(&got)); r.code != int(exitUsage) || !strings.Contains(r.stderr, `did you mean "verb"?`) {
		t.Errorf("exit %d: %s", r.code, r.stderr)
	}
}

// Every kind of error has a deliberate exit code, and an error that may have been applied never looks final.
func TestExitCodes(t *testing.T) {
	for k := cell.Kind(1); k.Valid(); k++ {
		code, listed := exitOfKind[k]
		if !listed {
			t.Errorf("kind %v has no exit code", k)
		}
		if k.MaybeApplied() && code != exitUnknown {
			t.Errorf("kind %v may have been applied, but ends with %d", k, code)
		}
	}
	unknown := &cell.Error{Op: "kv.put", Kind: cell.UnknownResult}
	if exitOf(unknown, false) != exitUnknown || exitOf(unknown, true) != exitUnavailable {
		t.Error("an unknown result is unknown for writes, and merely unavailable for reads")
	}
	documented, err := os.ReadFile("../../docs/operations.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, row := range exitTable {
		line := "| " + strings.TrimSpace(strings.Join([]string{jsonNumber(int(row.code)), row.meaning}, " | ")) + " |"
		if !strings.Contains(string(documented), line) {
			t.Errorf("docs/operations.md lacks the row %s", line)
		}
	}
}

func jsonNumber(n int) string {
	b, err := json.Marshal(n)
	if err != nil {
		panic(err)
	}
	return string(b)
}

// Every command has a summary, and its help names no flag that is undocumented.
func TestHelpIsWhole(t *testing.T) {
	a := app{lookupEnv: func(string) (string, bool) { return "", false }}
	var walk func(c *cobra.Command)
	walk = func(c *cobra.Command) {
		if c.Short == "" {
			t.Errorf("%s has no summary", c.CommandPath())
		}
		for _, sub := range c.Commands() {
			walk(sub)
		}
	}
	walk(a.command())
}
