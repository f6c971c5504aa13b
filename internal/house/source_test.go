package house

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
)

const module = "physalia"

// root is the repository, seen from this package's directory.
const root = "../.."

// source is one Go file of the repository, whatever its build tags.
type source struct {
	name    string // slash path from the root, for example "paxos/ballot.go"
	pkg     string // slash path of its directory
	test    bool
	text    string
	fileSet *token.FileSet
	tree    *ast.File
}

// imports lists the import paths of the file.
func (s *source) imports() []string {
	var paths []string
	for _, spec := range s.tree.Imports {
		p, err := strconv.Unquote(spec.Path.Value)
		if err != nil {
			panic(err) // the parser has accepted it
		}
		paths = append(paths, p)
	}
	return paths
}

// line is where a node stands.
func (s *source) line(n ast.Node) int { return s.fileSet.Position(n.Pos()).Line }

// files lists every file below the root that is ours: no dot directories but .ci, no build output, no other module.
func files(t *testing.T, keep func(name string) bool) []string {
	t.Helper()
	var names []string
	err := filepath.WalkDir(root, func(p string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		name, err := filepath.Rel(root, p)
		if err != nil {
			return err
		}
		name = filepath.ToSlash(name)
		if d.IsDir() {
			base := path.Base(name)
			if name != "." && (base == "bin" || strings.HasPrefix(base, ".") && name != ".ci") {
				return fs.SkipDir
			}
			return nil
		}
		if keep(name) {
			names = append(names, name)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return names
}

// sources parses every Go file of the main module.
func sources(t *testing.T) []*source {
	t.Helper()
	var all []*source
	for _, name := range files(t, func(n string) bool { return strings.HasSuffix(n, ".go") }) {
		if strings.Contains(name, "testdata/") {
			continue
		}
		text, err := os.ReadFile(filepath.Join(root, name))
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, parsed(t, name, string(text)))
	}
	if len(all) < 10 {
		t.Fatalf("found %d Go files below %s: the walk is broken", len(all), root)
	}
	return all
}

// own turns an import path into a package of this module, as a slash path from the root.
func own(importPath string) (string, bool) { return strings.CutPrefix(importPath, module+"/") }

// standard reports whether an import path belongs to the standard library.
func standard(importPath string) bool {
	first, _, _ := strings.Cut(importPath, "/")
	return first != module && !strings.Contains(first, ".")
}

// within reports whether a package is dir itself or below it.
func within(pkg, dir string) bool { return pkg == dir || strings.HasPrefix(pkg, dir+"/") }

// parsed makes a source from its text; a text that does not parse ends the test.
func parsed(t *testing.T, name, text string) *source {
	t.Helper()
	set := token.NewFileSet()
	tree, err := parser.ParseFile(set, name, text, parser.ParseComments)
	if err != nil {
		t.Fatal(err)
	}
	return &source{name: name, pkg: path.Dir(name), test: strings.HasSuffix(name, "_test.go"), text: text, fileSet: set, tree: tree}
}
