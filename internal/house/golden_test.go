package house

import (
	"encoding/hex"
	"go/ast"
	"go/token"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
)

// What is stored begins with one byte that tells what it is: the key with its kind, the value with its format. Each such byte is a constant
// named key... or format..., and the bytes behind it are fixed by a golden file of its package. So a kind of record that is added
// without golden bytes fails here. (The messages of internal/wire, whose constants are the messages themselves, are counted by
// TestSamplesAreComplete there; those of internal/wire/peer by TestEveryKindHasACodec.)

var storedConstant = regexp.MustCompile(`^(key|format)[A-Z]`)

// goldenFile is where a package keeps the bytes: a line with a name, then lines that are indented, with the bytes in hex.
const goldenFile = "testdata/golden.txt"

// leaders reads the first bytes of everything in a golden file.
func leaders(t *testing.T, pkg string) map[byte]bool {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(root, pkg, goldenFile))
	if err != nil {
		return nil
	}
	found, begins := map[byte]bool{}, false
	for line := range strings.Lines(string(text)) {
		digits, indented := strings.CutPrefix(strings.TrimRight(line, "\n"), "\t")
		if indented && begins {
			b, err := hex.DecodeString(digits)
			if err != nil || len(b) == 0 {
				t.Fatalf("%s/%s: %q, %v", pkg, goldenFile, line, err)
			}
			found[b[0]] = true
		}
		begins = !indented
	}
	return found
}

// storedKinds lists the constants of a file that begin what is stored.
func storedKinds(s *source) map[string]byte {
	kinds := map[string]byte{}
	ast.Inspect(s.tree, func(n ast.Node) bool {
		spec, ok := n.(*ast.ValueSpec)
		if !ok {
			return true
		}
		for i, name := range spec.Names {
			if !storedConstant.MatchString(name.Name) || i >= len(spec.Values) {
				continue
			}
			if lit, ok := spec.Values[i].(*ast.BasicLit); ok && lit.Kind == token.CHAR {
				if text, err := strconv.Unquote(lit.Value); err == nil {
					kinds[name.Name] = text[0]
				}
			}
		}
		return true
	})
	return kinds
}

// TestStoredKindsHaveGoldenBytes finds kinds of records whose bytes nothing holds.
func TestStoredKindsHaveGoldenBytes(t *testing.T) {
	found := 0
	golden := map[string]map[byte]bool{}
	for _, s := range sources(t) {
		if s.test {
			continue
		}
		for name, kind := range storedKinds(s) {
			found++
			if golden[s.pkg] == nil {
				golden[s.pkg] = leaders(t, s.pkg)
			}
			if !golden[s.pkg][kind] {
				t.Errorf("%s: nothing in %s/%s begins with %s = %q: add a golden record of it", s.name, s.pkg, goldenFile, name, kind)
			}
		}
	}
	if found < 25 {
		t.Errorf("found %d kinds of records: the search is broken", found)
	}
}

// TestStoredKindsAreFound proves that the search sees what it looks for.
func TestStoredKindsAreFound(t *testing.T) {
	s := parsed(t, "x/y.go", "package y\n\nconst (\n\tkeyA, formatB = 'a', 'b'\n\tkeyword = 'c'\n\tkeyNumber = 7\n)\n")
	if got := storedKinds(s); len(got) != 2 || got["keyA"] != 'a' || got["formatB"] != 'b' {
		t.Errorf("%v", got)
	}
}
