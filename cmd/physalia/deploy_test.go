package main

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/spf13/cobra"
)

// texts are all string literals of the project's sources but for tests.
func texts(t *testing.T) map[string]bool {
	t.Helper()
	all := map[string]bool{}
	err := filepath.WalkDir("../..", func(path string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case d.IsDir() && (d.Name() == "bench" || d.Name() == ".git" || d.Name() == "bin" && path == "../../bin"):
			return fs.SkipDir
		case d.IsDir() || !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go"):
			return nil
		}
		file, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.SkipObjectResolution)
		if err != nil {
			return err
		}
		ast.Inspect(file, func(n ast.Node) bool {
			if lit, ok := n.(*ast.BasicLit); ok && lit.Kind == token.STRING {
				if text, err := strconv.Unquote(lit.Value); err == nil {
					all[text] = true
				}
			}
			return true
		})
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

// Every metric that people are told to look at exists. Names are made of a prefix and a literal.
func TestDocumentedMetricsExist(t *testing.T) {
	known := texts(t)
	exists := func(name string) bool {
		for _, prefix := range []string{"", "physalia_", "physalia_control_", "physalia_health_", "physalia_discovery_"} {
			if rest, ok := strings.CutPrefix(name, prefix); ok && known[rest] {
				return true
			}
		}
		return false
	}
	if exists("physalia_no_such_thing") || !exists("physalia_nodes_hot") {
		t.Fatal("the search is broken")
	}
	files, err := filepath.Glob("../../docs/*.md")
	if err != nil {
		t.Fatal(err)
	}
	found, metric := 0, regexp.MustCompile(`physalia_[a-z0-9_]*[a-z0-9]`)
	for _, path := range append(files, "../../deploy/prometheus/alerts.yml", "../../README.md") {
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		for _, name := range metric.FindAllString(string(text), -1) {
			found++
			if !exists(name) {
				t.Errorf("%s tells of %s, which no source makes", path, name)
			}
		}
	}
	if found < 50 {
		t.Errorf("%d mentions of metrics were found: the search is broken", found)
	}
}

// The units start commands with flags that exist, and with nothing that the environment file lacks.
func TestDeploy(t *testing.T) {
	environment, err := os.ReadFile("../../deploy/systemd/physalia.env")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"server", "control"} {
		text, err := os.ReadFile("../../deploy/systemd/physalia-" + name + ".service")
		if err != nil {
			t.Fatal(err)
		}
		start := regexp.MustCompile(`(?m)^ExecStart=(.*)$`).FindStringSubmatch(string(text))
		if start == nil {
			t.Fatalf("the unit of %s starts nothing", name)
		}
		words := strings.Fields(start[1])
		if len(words) < 10 || words[1] != name {
			t.Fatalf("the unit of %s starts %q", name, start[1])
		}
		a := &app{lookupEnv: func(string) (string, bool) { return "", false }}
		cmd, _, err := a.command().Find(words[1:2])
		if err != nil {
			t.Fatal(err)
		}
		for i := 2; i < len(words); i += 2 {
			checkWord(t, cmd, words[i], words[i+1], string(environment))
		}
	}
}

// checkWord checks one flag and its value.
func checkWord(t *testing.T, cmd *cobra.Command, flag, value, environment string) {
	t.Helper()
	name, ok := strings.CutPrefix(flag, "--")
	if !ok || cmd.Flags().Lookup(name) == nil && cmd.InheritedFlags().Lookup(name) == nil {
		t.Errorf("%s has no flag %s", cmd.Name(), flag)
	}
	for _, variable := range regexp.MustCompile(`\$\{(\w+)\}`).FindAllStringSubmatch(value, -1) {
		if !regexp.MustCompile(`(?m)^` + variable[1] + `=\S`).MatchString(environment) {
			t.Errorf("the value of %s is %s, which physalia.env does not set", flag, variable[0])
		}
	}
}
