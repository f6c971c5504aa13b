//go:build privileged && linux

package faults_test

import (
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"text/tabwriter"
	"time"

	"physalia/cmd/physalia/faults"
)

var require = flag.Bool("require", false, "fail where the accidents cannot be made, instead of saying so")

// binaryName is what the program under test is called, in the directory of the cage.
const binaryName = "physalia"

// TestMain builds the program under test and moves into a cage; there it runs the tests and prints what they measured.
func TestMain(m *testing.M) {
	if os.Getenv(counterVariable) != "" {
		countDatagrams()
	}
	flag.Parse()
	if dir, caged := faults.Caged(); caged {
		binary = filepath.Join(dir, binaryName)
		if err := os.Setenv("TMPDIR", dir); err != nil { // whatever tests leave behind goes with the cage
			panic(err)
		}
		code := m.Run()
		printTable()
		os.Exit(code)
	}
	status, err := faults.Cage(func(dir string) error {
		build := exec.Command("go", "build", "-o", filepath.Join(dir, binaryName), "physalia/cmd/physalia")
		build.Stdout, build.Stderr = os.Stderr, os.Stderr
		return build.Run()
	})
	if err != nil {
		fmt.Fprintf(os.Stderr, "\n!!! NOT RUN: privileged fault tests: %v\n", err)
		if *require {
			os.Exit(1)
		}
	}
	os.Exit(status)
}

// binary is the program under test.
var binary string

// row is what one scenario measured.
type row struct {
	name       string
	acked      uint64
	calm       float64       // acknowledged writes per second outside of the fault, the lowest
	unwritable time.Duration // longest time that any client of any cell could not write
	within     time.Duration // what is promised of that; zero: nothing
	failed     bool
}

var (
	table   []row
	tableMu sync.Mutex
)

func note(r row) {
	tableMu.Lock()
	defer tableMu.Unlock()
	table = append(table, r)
}

// printTable shows all rows. A time beyond what is promised, but within what is asserted on a machine that has other things to
// do, is marked.
func printTable() {
	tableMu.Lock()
	defer tableMu.Unlock()
	if len(table) == 0 {
		return
	}
	w := tabwriter.NewWriter(os.Stdout, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "\nSCENARIO\tLONGEST UNWRITABLE\tPROMISED\tWRITES ACKED\tLEAST RATE OUTSIDE\tVERDICT")
	for _, r := range table {
		promised, verdict := "-", "ok"
		if r.within > 0 {
			promised = r.within.String()
		}
		if r.within > 0 && r.unwritable > r.within {
			verdict = "ok, slow"
		}
		if r.failed {
			verdict = "FAIL"
		}
		fmt.Fprintf(w, "%s\t%v\t%s\t%d\t%.0f/s\t%s\n", strings.TrimPrefix(r.name, "Test"), r.unwritable.Round(time.Millisecond), promised, r.acked, r.calm, verdict)
	}
	w.Flush()
}
