package main

import (
	"encoding/json"
	"strings"
	"testing"

	"physalia/cmd/physalia/drill"
)

// drilled runs one drill on a small scale, and returns its figures by name.
func drilled(t *testing.T, line string) map[string]float64 {
	t.Helper()
	t.Setenv(asBinary, "yes")
	r := runLine(t, nil, "", strings.Fields("drill -o json --seed 1 "+line))
	var report drill.Report
	if err := json.Unmarshal([]byte(r.stdout), &report); err != nil {
		t.Fatalf("exit %d, %v: %q\n%s", r.code, err, r.stdout, r.stderr)
	}
	if r.code != 0 || report.Verdict != "ok" || len(report.Reasons) > 0 {
		t.Fatalf("exit %d: %+v\n%s", r.code, report, r.stderr)
	}
	figures := map[string]float64{}
	for _, f := range report.Figures {
		if _, twice := figures[f.Name]; twice {
			t.Errorf("the figure %q is there twice", f.Name)
		}
		figures[f.Name] = f.Value
	}
	return figures
}

// What works with the control plane works without it.
func TestDrillStatic(t *testing.T) {
	f := drilled(t, "static --cells 9 --span 4s")
	if f["errors without it"] > f["errors with the control plane"] || f["writes acknowledged without it"] == 0 || f["writes acknowledged with the control plane"] == 0 ||
		f["cells found by clients that knew one thing, without it"] != 5 || f["clients restarted without it: writes acknowledged"] == 0 {
		t.Errorf("%v", f)
	}
}

// Neither a lost store nor an old one loses a cell.
func TestDrillAmnesia(t *testing.T) {
	f := drilled(t, "amnesia --cells 8")
	if f["store deleted: cells live"] != 16 || f["store restored from before: cells live"] != 16 || f["errors of clients"] != 0 || f["clients: writes acknowledged"] == 0 {
		t.Errorf("%v", f)
	}
}

// Every drill is listed with what it proves; one that does not exist is a usage error, and nothing is started.
func TestDrillList(t *testing.T) {
	r := runLine(t, nil, "", []string{"drill", "--list", "-o", "json"})
	var list struct {
		Drills []struct{ Drill, Proves string }
	}
	if err := json.Unmarshal([]byte(r.stdout), &list); err != nil || r.code != 0 || len(list.Drills) != len(drill.All()) {
		t.Fatalf("%v, exit %d: %s%s", err, r.code, r.stdout, r.stderr)
	}
	for _, d := range list.Drills {
		if d.Drill == "" || d.Proves == "" {
			t.Errorf("%+v", d)
		}
	}
	wrong(t, exitUsage, `there is no drill "earthquake"`, "drill", "earthquake")
	wrong(t, exitUsage, "use positive numbers", "drill", "static", "--cells", "-1")
}
