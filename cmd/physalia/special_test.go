//go:build poison

package main

import (
	"os/exec"
	"path/filepath"
	"testing"
)

// Trials that take special builds: run by `make test`, as go test -tags poison -run Special ./cmd/physalia.

// One poisoned cell of many: it is lost, no server restarts, and nobody else notices.
func TestSpecialPoison(t *testing.T) {
	f := drilled(t, "poison --cells 200 --span 4s")
	if f["cells"] != 200 || f["errors of other cells before"] != 0 || f["errors of other cells after"] != 0 || f["other cells: writes acknowledged"] == 0 ||
		f["nodes out of service"] < 4 || f["nodes out of service"] > 7 || f["nodes out of service after a restart"] < 4 {
		t.Errorf("%v", f)
	}
}

// A command over which processes die ends in a lost cell and not in a loop of restarts.
func TestSpecialFatal(t *testing.T) {
	f := drilled(t, "fatal --cells 20 --span 2s")
	if f["deaths of one server at most"] != 3 || f["processes that died"] < 4*3 || f["nodes out of service"] < 4 || f["other cells: writes acknowledged"] == 0 {
		t.Errorf("%v", f)
	}
}

// A color that dies at random, beside two that do not.
func TestSpecialColor(t *testing.T) {
	f := drilled(t, "color --cells 18 --span 8s")
	if f["errors in other colors"] != 0 || f["processes that died"] == 0 || f["other colors: writes acknowledged"] == 0 || f["cells in other colors"] == 0 {
		t.Errorf("%v", f)
	}
}

// Upgrade and rollback between versions that are not neighbours, one server after the other.
func TestSpecialUpgrade(t *testing.T) {
	other := filepath.Join(t.TempDir(), "physalia")
	build := exec.Command("go", "build", "-tags", "nextversion", "-ldflags", "-X physalia/internal/wire.nextSet=3", "-o", other, "physalia/cmd/physalia")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	f := drilled(t, "upgrade --cells 12 --other-binary "+other)
	if f["errors of clients"] != 0 || f["nodes of the old version that stopped"] == 0 || f["clients: writes acknowledged"] == 0 {
		t.Errorf("%v", f)
	}
}
