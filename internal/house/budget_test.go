package house

import (
	"bufio"
	"fmt"
	"go/ast"
	"go/scanner"
	"go/token"
	"os"
	"slices"
	"sort"
	"strconv"
	"strings"
	"testing"
)

// The budgets. Beauty is decided in the tail, so there are limits for the largest and for the ninetieth percentile.
const (
	fileLinesMax = 700
	fileLinesP90 = 450
	funcLinesMax = 70
	funcLinesP90 = 35

	// exceptionsMax bounds the list of exceptions. It may only be lowered.
	exceptionsMax = 0
	exceptionFile = "testdata/exceptions.txt"
)

// codePerComment is how many lines of code a package may have for every hundred lines of comment: a ratio of 0.25, and of
// 0.40 in paxos, where the arguments are.
func codePerComment(pkg string) int {
	if within(pkg, "paxos") {
		return 250
	}
	return 400
}

// measure is one measured thing that a limit concerns; its name is what an exception names.
type measure struct {
	name string // "file paxos/ballot.go", "func paxos/ballot.go Ballot.Less" or "code paxos"
	size int    // lines; for "code", lines of code for every hundred lines of comment
	max  int
}

// exceptions reads the list: one per line, the name of a measure and the size that it has today.
// Only those of the given kinds are returned, and all of them counted against exceptionsMax.
func exceptions(t *testing.T, kinds ...string) map[string]int {
	t.Helper()
	f, err := os.Open(exceptionFile)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	list, count := map[string]int{}, 0
	for lines := bufio.NewScanner(f); lines.Scan(); {
		text := strings.TrimSpace(lines.Text())
		if text == "" || text[0] == '#' {
			continue
		}
		i := strings.LastIndexByte(text, ' ')
		size, err := strconv.Atoi(text[i+1:])
		if i < 0 || err != nil {
			t.Fatalf("%s: %q is not a name and a size", exceptionFile, text)
		}
		count++
		if kind, _, _ := strings.Cut(text, " "); slices.Contains(kinds, kind) {
			list[text[:i]] = size
		}
	}
	if count != exceptionsMax {
		t.Errorf("%d exceptions, exceptionsMax is %d: it may only be lowered, and must be when the list shrinks", count, exceptionsMax)
	}
	return list
}

// overdrawn compares measures with their limits and the exceptions; an exception must be needed, and exact.
func overdrawn(all []measure, allowed map[string]int) (problems []string) {
	used := map[string]bool{}
	for _, m := range all {
		size, excepted := allowed[m.name]
		used[m.name] = true
		switch {
		case excepted && m.size <= m.max:
			problems = append(problems, m.name+" keeps its budget now: remove its exception")
		case excepted && m.size < size:
			problems = append(problems, fmt.Sprintf("%s shrank to %d: lower its exception from %d", m.name, m.size, size))
		case excepted && m.size > size:
			problems = append(problems, fmt.Sprintf("%s grew to %d, its exception says %d", m.name, m.size, size))
		case !excepted && m.size > m.max:
			problems = append(problems, fmt.Sprintf("%s is %d, allowed are %d", m.name, m.size, m.max))
		}
	}
	for _, name := range sortedKeys(allowed) {
		if !used[name] {
			problems = append(problems, name+" does not exist: remove its exception")
		}
	}
	return problems
}

// fileLines counts the lines of a file.
func fileLines(s *source) int { return strings.Count(s.text, "\n") }

// functions measures every function declaration, from its signature to its closing brace.
func functions(s *source) (all []measure) {
	for _, d := range s.tree.Decls {
		f, ok := d.(*ast.FuncDecl)
		if !ok {
			continue
		}
		name := f.Name.Name
		if f.Recv != nil && len(f.Recv.List) == 1 {
			name = receiver(f.Recv.List[0].Type) + "." + name
		}
		lines := s.fileSet.Position(f.End()).Line - s.line(f) + 1
		all = append(all, measure{"func " + s.name + " " + name, lines, funcLinesMax})
	}
	return all
}

func receiver(e ast.Expr) string {
	switch e := e.(type) {
	case *ast.StarExpr:
		return receiver(e.X)
	case *ast.IndexExpr:
		return receiver(e.X)
	case *ast.Ident:
		return e.Name
	}
	return "?"
}

// p90 is the size that nine tenths of the measures do not exceed.
func p90(all []measure) int {
	sizes := make([]int, len(all))
	for i, m := range all {
		sizes[i] = m.size
	}
	sort.Ints(sizes)
	return sizes[(len(sizes)*9+9)/10-1]
}

func TestSizes(t *testing.T) {
	var all, productFiles, productFuncs []measure
	for _, s := range sources(t) {
		file := measure{"file " + s.name, fileLines(s), fileLinesMax}
		funcs := functions(s)
		all = append(append(all, file), funcs...)
		if !s.test {
			productFiles = append(productFiles, file)
			productFuncs = append(productFuncs, funcs...)
		}
	}
	for _, problem := range overdrawn(all, exceptions(t, "file", "func")) {
		t.Error(problem)
	}
	if got := p90(productFiles); got > fileLinesP90 {
		t.Errorf("nine tenths of the files should have at most %d lines, they have %d", fileLinesP90, got)
	}
	if got := p90(productFuncs); got > funcLinesP90 {
		t.Errorf("nine tenths of the functions should have at most %d lines, they have %d", funcLinesP90, got)
	}
}

func TestOverdrawn(t *testing.T) {
	all := []measure{{"a", 10, 20}, {"b", 30, 20}, {"c", 30, 20}, {"d", 30, 20}, {"e", 30, 20}, {"f", 10, 20}}
	got := overdrawn(all, map[string]int{"c": 30, "d": 29, "e": 31, "f": 30, "g": 1})
	want := []string{
		"b is 30, allowed are 20", "d grew to 30, its exception says 29", "e shrank to 30: lower its exception from 31",
		"f keeps its budget now: remove its exception", "g does not exist: remove its exception",
	}
	if !slices.Equal(got, want) {
		t.Errorf("got %q\nwant %q", got, want)
	}
}

// commentsAndCode counts the lines that hold a comment, and those that hold code that could need one: not those with
// nothing but brackets and texts.
func commentsAndCode(s *source) (comments, code int) {
	var sc scanner.Scanner
	set := token.NewFileSet()
	file := set.AddFile(s.name, -1, len(s.text))
	sc.Init(file, []byte(s.text), nil, scanner.ScanComments)
	counted := 0 // last line that counted as code
	for {
		pos, tok, literal := sc.Scan()
		switch line := file.Line(pos); tok {
		case token.EOF:
			return comments, code
		case token.COMMENT:
			comments += 1 + strings.Count(literal, "\n")
		case token.SEMICOLON, token.LBRACE, token.RBRACE, token.RPAREN, token.RBRACK, token.COMMA, token.STRING, token.ADD:
		default:
			if line > counted {
				code++
				counted = line
			}
		}
	}
}

func TestComments(t *testing.T) {
	comments, code, documented := map[string]int{}, map[string]int{}, map[string]bool{}
	for _, s := range sources(t) {
		if s.test {
			continue
		}
		a, b := commentsAndCode(s)
		comments[s.pkg] += a
		code[s.pkg] += b
		documented[s.pkg] = documented[s.pkg] || s.tree.Doc != nil && len(strings.Fields(s.tree.Doc.Text())) >= 5
	}
	var all []measure
	for _, pkg := range sortedKeys(code) {
		if !documented[pkg] {
			t.Errorf("package %s has no package comment", pkg)
		}
		all = append(all, measure{"code " + pkg, (code[pkg]*100/max(comments[pkg], 1) + 9) / 10 * 10, codePerComment(pkg)})
	}
	for _, problem := range overdrawn(all, exceptions(t, "code")) {
		t.Error(problem)
	}
}

func TestCommentsAndCode(t *testing.T) {
	s := parsed(t, "p/p.go", "// Package p.\n// More.\npackage p\n\nvar a = 1 // one\n/* x\ny */\nvar s = `\n\n`\nfunc f(\n) {\n}\n")
	if comments, code := commentsAndCode(s); comments != 5 || code != 4 {
		t.Errorf("got %d comment lines and %d of code, want 5 and 4", comments, code)
	}
}
