package house

import (
	"go/ast"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// textEndings are the files that the text rules read.
var textEndings = []string{".go", ".md", ".sh", ".txt", ".toml", ".mod", ".yml", ".yaml", ".json", "Makefile", "run", ".service", ".gitignore"}

// unfinished are marks of work that was left for later; they are assembled here so that this file passes its own rule.
var unfinished = regexp.MustCompile(`\b(` + "TO" + "DO|FIX" + "ME|XX" + "X|HA" + "CK" + `)\b`)

// elsewhere are directories of machines that this was written on; the repository knows only paths relative to itself.
var elsewhere = regexp.MustCompile(`(^|[^A-Za-z0-9_.])/(` + "wo" + "rk|fa" + "rm|ro" + "ot|ho" + `me/[a-z]+)/`)

// dash is the typographic dash; a comma, a colon or a full stop says more.
const dash = "\u2014"

// texts reads every text file of the repository.
func texts(t *testing.T) map[string]string {
	t.Helper()
	all := map[string]string{}
	for _, name := range files(t, func(n string) bool {
		return slices.ContainsFunc(textEndings, func(e string) bool { return strings.HasSuffix(n, e) })
	}) {
		b, err := os.ReadFile(filepath.Join(root, name))
		if err != nil {
			t.Fatal(err)
		}
		all[name] = string(b)
	}
	return all
}

func TestTexts(t *testing.T) {
	for name, text := range texts(t) {
		for i, line := range strings.Split(text, "\n") {
			if m := unfinished.FindString(line); m != "" {
				t.Errorf("%s:%d: %s: finish it, or write it down as an issue", name, i+1, m)
			}
			if m := elsewhere.FindString(line); m != "" {
				t.Errorf("%s:%d: a path outside the repository: %s", name, i+1, m)
			}
			if strings.Contains(line, dash) {
				t.Errorf("%s:%d: a typographic dash", name, i+1)
			}
		}
	}
}

// A test waits for a condition, never for a time. In files that import testing/synctest, time is simulated, and sleeping is
// how a test moves it.
func TestNoSleepInTests(t *testing.T) {
	for _, s := range sources(t) {
		if !s.test || slices.Contains(s.imports(), "testing/synctest") {
			continue
		}
		ast.Inspect(s.tree, func(n ast.Node) bool {
			sel, ok := n.(*ast.SelectorExpr)
			if x, isName := selectorOf(sel, ok); isName && x == "time" && sel.Sel.Name == "Sleep" {
				t.Errorf("%s:%d: a test sleeps; wait for a condition", s.name, s.line(n))
			}
			return true
		})
	}
}

func selectorOf(sel *ast.SelectorExpr, ok bool) (string, bool) {
	if !ok {
		return "", false
	}
	x, isName := sel.X.(*ast.Ident)
	if !isName {
		return "", false
	}
	return x.Name, true
}

// Every relative link of a document leads somewhere.
func TestLinks(t *testing.T) {
	link := regexp.MustCompile(`\]\(([^)#:\s]+)(#[^)]*)?\)`)
	count := 0
	for name, text := range texts(t) {
		if !strings.HasSuffix(name, ".md") {
			continue
		}
		for _, m := range link.FindAllStringSubmatch(text, -1) {
			count++
			target := path.Join(path.Dir(name), m[1])
			if _, err := os.Stat(filepath.Join(root, target)); err != nil {
				t.Errorf("%s: the link to %s leads nowhere", name, m[1])
			}
		}
	}
	if count == 0 {
		t.Error("no link was found; README.md has some")
	}
}

// docs/dependencies.md justifies exactly the modules that our code imports, in the versions that go.mod pins.
func TestDependencies(t *testing.T) {
	all := texts(t)
	pinned, direct := map[string]string{}, map[string]string{}
	for _, line := range strings.Split(all["go.mod"], "\n") {
		if f := strings.Fields(line); strings.HasPrefix(line, "\t") && len(f) >= 2 {
			pinned[f[0]] = f[1]
		}
	}
	for _, s := range sources(t) {
		if within(s.pkg, "bench") {
			continue // a module of its own: what it imports is no dependency of the product
		}
		for _, imp := range s.imports() {
			for module := range pinned {
				if within(imp, module) {
					direct[module] = pinned[module]
				}
			}
		}
	}
	row := regexp.MustCompile("(?m)^\\| `([^` ]+)` \\| (v[^ ]+) \\|")
	documented := map[string]string{}
	for _, m := range row.FindAllStringSubmatch(all["docs/dependencies.md"], -1) {
		documented[m[1]] = m[2]
	}
	for _, module := range sortedKeys(direct) {
		if documented[module] != direct[module] {
			t.Errorf("%s %s is imported, docs/dependencies.md says %q", module, direct[module], documented[module])
		}
	}
	for _, module := range sortedKeys(documented) {
		if direct[module] == "" {
			t.Errorf("docs/dependencies.md lists %s, which nothing imports", module)
		}
	}
	if len(direct) == 0 {
		t.Error("no dependency was found")
	}
}

// The rules find what they look for.
func TestHygieneRules(t *testing.T) {
	for _, bad := range []string{"// TO" + "DO later", "FIX" + "ME"} {
		if !unfinished.MatchString(bad) {
			t.Errorf("%q is not found", bad)
		}
	}
	for text, found := range map[string]bool{"see /wo" + "rk/main": true, "cd /ro" + "ot/x": true, "../wo" + "rk/x": false, "net/work": false, "/home" + "/ann/x": true} {
		if elsewhere.MatchString(text) != found {
			t.Errorf("%q: found is %v", text, !found)
		}
	}
}
