package audit

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"
	"pgregory.net/rapid"

	"physalia/cell"
	"physalia/internal/wire"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func noon() time.Time { return time.Date(2026, 11, 22, 12, 0, 0, 5e6, time.FixedZone("", 3600)) }

func open(t *testing.T, c Config) *Log {
	t.Helper()
	c.Now = noon
	l, err := Open(c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(l.Close)
	return l
}

// TestLine fixes the form of an entry: programs read it.
func TestLine(t *testing.T) {
	e := Entry{Time: "2026-11-22T11:00:00.005Z", Control: "c1", Who: "physalia://eu1/operator/alice", From: "10.0.0.9:4711", Says: "ann@desk", Action: "control.pause",
		What: []string{"move", "repair"}, Why: "power \"work\"\n", Result: "ok", Took: 12}
	const want = `{"time":"2026-11-22T11:00:00.005Z","control":"c1","who":"physalia://eu1/operator/alice","from":"10.0.0.9:4711","says":"ann@desk","action":"control.pause",` +
		`"what":["move","repair"],"why":"power \"work\"\n","result":"ok","took_ms":12}` + "\n"
	if got := string(e.Line()); got != want {
		t.Errorf("the line is\n%swant\n%s", got, want)
	}
	if got, err := Parse(want); err != nil || string(got.Line()) != want {
		t.Errorf("%+v, %v", got, err)
	}
	long := Entry{Who: strings.Repeat("w", 1<<20), Detail: strings.Repeat("\x00", 1<<20), What: slices.Repeat([]string{strings.Repeat("c", 128)}, 1<<14)}
	if n := len(long.Line()); n > wire.AuditLineBytesMax {
		t.Errorf("a line has %d bytes, allowed are %d", n, wire.AuditLineBytesMax)
	}
	whole := Entry{What: slices.Repeat([]string{strings.Repeat("c", cell.IDBytesMax)}, wire.BatchMax)}
	if line := whole.Line(); bytes.Contains(line, []byte(`"..."`)) {
		t.Errorf("the names of a whole batch do not fit: %d bytes", len(line))
	}
}

// TestDescribe: what is said of each action, and that nothing secret is.
func TestDescribe(t *testing.T) {
	for name, test := range map[string]struct {
		method string
		params wire.Message
		action bool
		what   string
	}{
		"create":      {wire.MethodCreateCells, &wire.CreateCells{Cells: []cell.ID{"a", "b"}}, true, "a b"},
		"delete":      {wire.MethodDeleteCells, &wire.DeleteCells{Drops: []wire.Drop{{Cell: "a", Incarnation: 3}, {Cell: "b"}}}, true, "a.3 b"},
		"replace":     {wire.MethodReplaceMember, &wire.ReplaceMember{Cell: "a", Remove: "s1", Add: "s9"}, true, "a remove s1 add s9"},
		"locate":      {wire.MethodLocate, &wire.LocateVolume{Cell: "a", Client: "s1"}, true, "a client s1 primary  replica "},
		"recover":     {wire.MethodRecoverCells, &wire.RecoverCells{Dead: []cell.ServerID{"s1"}, Cells: []wire.RecoveryCell{{Cell: "a", Incarnation: 2}}}, true, "a.2 dead s1"},
		"pause":       {wire.MethodPause, &wire.ActionOrder{By: "ann", Reason: "why"}, true, "all"},
		"resume":      {wire.MethodResume, &wire.ActionOrder{Actions: []string{"move"}}, true, "move"},
		"drain":       {wire.MethodDuty, &wire.ServerDuty{Server: "s1", Duty: "draining"}, true, "s1 draining"},
		"hold":        {wire.MethodEndHold, &wire.EndHold{Domain: "rack:b1/r2"}, true, "rack:b1/r2"},
		"rebuild":     {wire.MethodRebuild, &wire.Rebuild{Action: wire.RebuildBegin}, true, "begin"},
		"end rebuild": {wire.MethodRebuild, &wire.Rebuild{Action: wire.RebuildEnd, Force: true}, true, "end force"},
		"look":        {wire.MethodRebuild, &wire.Rebuild{Action: wire.RebuildLook}, false, ""},
		"backup":      {wire.MethodBackup, &wire.Backup{To: "s3://key:secret@bucket/a/b?secret=x"}, true, "s3://bucket/a/b"},
		"invite":      {wire.MethodInvite, &wire.Invite{Identity: "physalia://eu1/client/c"}, true, "physalia://eu1/client/c"},
		"status":      {wire.MethodStatus, &wire.StatusRequest{}, false, ""},
		"present":     {wire.MethodPresent, &wire.Present{Token: "phy1.secret"}, false, ""},
	} {
		e, action := Describe(test.method, test.params.Append(nil))
		if got := strings.Join(e.What, " "); action != test.action || got != test.what || e.Action != test.method || strings.Contains(string(e.Line()), "secret") {
			t.Errorf("%s: %v, %q, want %q", name, action, got, test.what)
		}
	}
	if e, action := Describe(wire.MethodDeleteCells, []byte{0xc1}); !action || len(e.What) != 1 {
		t.Errorf("what cannot be read is %+v, %v", e, action)
	}
}

// TestAnswer: of a batch, which elements failed is said, and why the first did.
func TestAnswer(t *testing.T) {
	e := Entry{What: []string{"a", "b", "c"}}
	no := &cell.Error{Kind: cell.Exists, Detail: "taken"}
	e.Answer(&wire.Outcomes{Outcomes: []wire.Outcome{{}, {Err: no}, {Err: no}}}, nil)
	if e.Result != "exists already" || e.Detail != "failed: b c; the first: taken" {
		t.Errorf("%+v", e)
	}
	e.Answer(&wire.Outcomes{Outcomes: make([]wire.Outcome, 3)}, nil)
	if e.Result != "ok" {
		t.Errorf("%+v", e)
	}
	e.Answer((*wire.Outcomes)(nil), &cell.Error{Kind: cell.Denied, Detail: "no"})
	if e.Result != "denied" || e.Detail != "no" {
		t.Errorf("%+v", e)
	}
}

// TestLog: whatever is recorded, and however often the process stops or is killed in the middle of a line, the newest entries are
// there, in order and whole, and the files keep to their bounds.
func TestLog(t *testing.T) {
	rapid.Check(t, func(r *rapid.T) {
		dir, err := os.MkdirTemp(t.TempDir(), "audit")
		if err != nil {
			r.Fatal(err)
		}
		config := Config{Dir: dir, FileBytes: rapid.IntRange(200, 2000).Draw(r, "file"), Files: rapid.IntRange(2, 4).Draw(r, "files"), Now: noon}
		var want []string
		for life := range rapid.IntRange(1, 4).Draw(r, "lives") {
			l, err := Open(config)
			if err != nil {
				r.Fatal(err)
			}
			for i := range rapid.IntRange(0, 30).Draw(r, "entries") {
				action := fmt.Sprintf("%d/%d", life, i)
				l.Record(Entry{Action: action, Detail: strings.Repeat("d", rapid.IntRange(0, 80).Draw(r, "length"))})
				want = append(want, action)
			}
			l.Close()
			if l.Lost() != 0 {
				r.Fatalf("%d are lost", l.Lost())
			}
			l.Record(Entry{Action: "late"}) // lost, and counted
			if l.Lost() != 1 {
				r.Fatal("an entry after the end is not counted")
			}
			if rapid.Bool().Draw(r, "torn") {
				tear(r, dir)
			}
		}
		numbers, err := list(dir)
		if err != nil || len(numbers) > config.Files {
			r.Fatalf("%d files, %v", len(numbers), err)
		}
		for _, n := range numbers {
			if info, err := os.Stat(fileName(dir, n)); err != nil || info.Size() > int64(config.FileBytes+400) || info.Mode().Perm() != 0o600 {
				r.Fatalf("file %d: %v, %v", n, info, err)
			}
		}
		lines, err := Tail(dir, 1000, 1<<20)
		if err != nil {
			r.Fatal(err)
		}
		var got []string
		for _, line := range lines {
			if e, err := Parse(line); err == nil {
				got = append(got, e.Action)
			} else if line != torn {
				r.Fatalf("a line is %q", line)
			}
		}
		if len(got) > len(want) || len(numbers) < config.Files && len(got) != len(want) || !slices.Equal(got, want[len(want)-len(got):]) {
			r.Fatalf("the newest are %v, recorded were %v", got, want)
		}
		if few, err := Tail(dir, 3, 1<<20); err != nil || len(few) != min(3, len(lines)) || !slices.Equal(few, lines[len(lines)-len(few):]) {
			r.Fatalf("the newest three are %v, %v", few, err)
		}
	})
}

const torn = `{"time":"2026`

// tear leaves half a line at the end, as a crash does.
func tear(r *rapid.T, dir string) {
	numbers, err := list(dir)
	if err != nil {
		r.Fatal(err)
	}
	file, err := os.OpenFile(fileName(dir, numbers[len(numbers)-1]), os.O_WRONLY|os.O_APPEND, 0o600)
	if err == nil {
		_, err = file.WriteString(torn)
		err = errors.Join(err, file.Close())
	}
	if err != nil {
		r.Fatal(err)
	}
}

// TestFailingDisk: entries that cannot be written are counted, and the log goes on when the disk does.
func TestFailingDisk(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "audit")
	l := open(t, Config{Dir: dir, FileBytes: 1}) // every entry needs the next file
	l.Record(Entry{Action: "first"})
	eventually(t, func() bool { return l.Written() == 1 })
	away := dir + ".away"
	if err := os.Rename(dir, away); err != nil {
		t.Fatal(err)
	}
	l.Record(Entry{Action: "lost"})
	eventually(t, func() bool { return l.Lost() == 1 })
	if err := os.Rename(away, dir); err != nil {
		t.Fatal(err)
	}
	l.Record(Entry{Action: "last"})
	eventually(t, func() bool { return l.Written() == 2 })
	lines, err := l.Tail(10, 1<<20)
	if err != nil || len(lines) != 2 || !strings.Contains(lines[1], "last") {
		t.Errorf("%v, %v", lines, err)
	}
}

func eventually(t *testing.T, f func() bool) {
	t.Helper()
	deadline := time.NewTimer(time.Minute)
	defer deadline.Stop()
	ticker := time.NewTicker(time.Millisecond)
	defer ticker.Stop()
	for !f() {
		select {
		case <-deadline.C:
			t.Fatal("it does not come")
		case <-ticker.C:
		}
	}
}

// TestNone: a process that keeps no record needs no questions asked, and a directory that cannot be one is refused.
func TestNone(t *testing.T) {
	var l *Log
	l.Record(Entry{})
	l.Close()
	if lines, err := l.Tail(1, 1); l.Written()+l.Lost() != 0 || len(lines) != 0 || err != nil {
		t.Error("a log that is none has something")
	}
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(Config{Dir: file}); cell.KindOf(err) != cell.Invalid {
		t.Error(err)
	}
	if _, err := Tail(file+".none", 1, 1); cell.KindOf(err) != cell.NotFound {
		t.Error(err)
	}
}
