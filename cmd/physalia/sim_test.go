package main

import (
	"encoding/json"
	"strings"
	"testing"
)

// A hunt and a replay tell the same of a seed, twice the same, and as JSON.
func TestSimReplaysItself(t *testing.T) {
	line := []string{"sim", "replay", "--seed", "0x11", "-o", "json"}
	first, second := runLine(t, nil, "", line), runLine(t, nil, "", line)
	if first.code != 0 || first.stdout != second.stdout {
		t.Fatalf("exit %d, %d:\n%s%s", first.code, second.code, first.stdout, second.stdout)
	}
	var d replayDocument
	if err := json.Unmarshal([]byte(first.stdout), &d); err != nil {
		t.Fatal(err)
	}
	again := runLine(t, nil, "", []string{"sim", "replay", "--schedule", d.Schedule.String(), "-o", "json"})
	if !strings.Contains(again.stdout, `"trace":"`+d.Trace+`"`) {
		t.Errorf("the schedule of a seed gives another trace:\n%s", again.stdout)
	}
	run := runLine(t, nil, "", []string{"sim", "run", "--seeds", "10", "--from", "17", "-o", "json"})
	var h huntDocument
	if err := json.Unmarshal([]byte(run.stdout), &h); err != nil || run.code != 0 || h.Seeds != 10 || h.Failed != 0 {
		t.Errorf("exit %d, %v: %+v", run.code, err, h)
	}
}

func TestSimUsage(t *testing.T) {
	wrong(t, exitUsage, "which world is meant?", "sim", "replay")
	wrong(t, exitUsage, "is not a number", "sim", "replay", "--seed", "soon")
	wrong(t, exitUsage, `no scenario is called "rain"`, "sim", "run", "--scenario", "rain")
	wrong(t, exitUsage, "not a schedule", "sim", "shrink", "--schedule", "{")
	wrong(t, exitFailed, "nothing to shrink", "sim", "shrink", "--seed", "1")
}
