package node

import (
	"log/slog"
	"os"
	"path/filepath"
	"testing"

	"physalia/node/core"
)

// Starts that end at the same node again and again make it suspect; one that ends elsewhere begins anew.
func TestSuspicion(t *testing.T) {
	const well = core.Handle(0)
	for name, starts := range map[string][]struct{ at, suspect core.Handle }{
		"again and again": {{7, well}, {7, well}, {7, well}, {0, 7}, {7, well}, {7, well}, {7, well}, {0, 7}},
		"chance":          {{7, well}, {7, well}, {8, well}, {7, well}, {7, well}, {0, well}, {7, well}, {7, well}, {0, well}, {0, well}},
	} {
		dir := t.TempDir()
		for i, start := range starts {
			var s suspicion
			working, suspect := s.open(filepath.Join(dir, "page"), slog.New(slog.DiscardHandler))
			if working == nil || *working != 0 || suspect != start.suspect {
				t.Fatalf("%s, start %d: suspect %d, want %d", name, i, suspect, start.suspect)
			}
			*working = uint64(start.at) // and the process dies
			if err := s.close(); err != nil {
				t.Fatal(err)
			}
		}
	}
}

// A file that was cut off begins anew; a place where there can be none costs the suspicion and nothing else.
func TestSuspicionWithoutAFile(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "page"), []byte("torn"), 0o600); err != nil {
		t.Fatal(err)
	}
	var s suspicion
	if working, suspect := s.open(filepath.Join(dir, "page"), slog.New(slog.DiscardHandler)); working == nil || *working != 0 || suspect != 0 {
		t.Errorf("a torn file: suspect %d", suspect)
	}
	if err := s.close(); err != nil {
		t.Error(err)
	}
	var none suspicion
	if working, suspect := none.open(filepath.Join(dir, "missing", "page"), slog.New(slog.DiscardHandler)); working != nil || suspect != 0 {
		t.Errorf("no directory: suspect %d", suspect)
	}
	if err := none.close(); err != nil {
		t.Error(err)
	}
}
