package child

import (
	"path/filepath"
	"strings"
	"testing"
)

func TestCounters(t *testing.T) {
	page := "# HELP a x\na{m=\"1\"} 2\na{m=\"2\"} 3.5 1700000000\nab 7\nb 1e3\n"
	got, err := counters(page, []string{"a", "b"})
	if err != nil || got["a"] != 5.5 || got["b"] != 1000 {
		t.Errorf("got %v, %v", got, err)
	}
	if _, err := counters(page, []string{"a", "c"}); err == nil {
		t.Error("a missing counter was taken for zero")
	}
	if _, err := counters("a x\n", []string{"a"}); err == nil {
		t.Error("a counter that is no number was taken")
	}
}

func TestChildren(t *testing.T) {
	log := filepath.Join(t.TempDir(), "log")
	stays, err := Start("stays", log, "sleep", "600")
	if err != nil {
		t.Fatal(err)
	}
	fails, err := Start("fails", log, "sh", "-c", "echo the reason; exit 3")
	if err != nil {
		t.Fatal(err)
	}
	<-fails.ended
	if err := (Fleet{stays, fails}).Failed(); err == nil || !strings.Contains(err.Error(), "the reason") {
		t.Errorf("a child that ended by itself: %v", err)
	}
	usage, err := Fleet{stays, fails}.Usage()
	if err != nil || len(usage) != 1 || usage[0].RSS == 0 {
		t.Errorf("usage of those that are alive: %v, %v", usage, err)
	}
	if err := (Fleet{stays, fails}).Kill(); err != nil || stays.Running() || stays.Failed() != nil {
		t.Errorf("killed: %v, running is %v, failed is %v", err, stays.Running(), stays.Failed())
	}
}

func TestAddresses(t *testing.T) {
	all, err := Addresses(20)
	if err != nil {
		t.Fatal(err)
	}
	seen := map[string]bool{}
	for _, a := range all {
		if seen[a] {
			t.Errorf("%s twice", a)
		}
		seen[a] = true
	}
}
