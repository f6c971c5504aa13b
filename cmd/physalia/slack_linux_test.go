package main

import (
	"bufio"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// A server begins again with slack in its timers, under the process number that its supervisor knows, and says so.
func TestServerBeginsAgainWithSlack(t *testing.T) {
	for _, c := range []struct{ flag, want string }{{"7ms", "timer_slack=7ms"}, {"0s", "timer_slack=" + timerSlack().String()}} {
		cmd := exec.Command(os.Args[0], strings.Fields("server --name a --brick b --rack r --power p --color c --listen-peer 127.0.0.1:0 "+
			"--listen-client 127.0.0.1:0 --listen-gossip 127.0.0.1:0 --listen-ops 127.0.0.1:0 --colony test --timer-slack "+c.flag+" --data-dir "+t.TempDir())...)
		cmd.Env = append(os.Environ(), asBinary+"=yes")
		log, err := cmd.StderrPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		var all strings.Builder
		lines := bufio.NewScanner(log)
		for lines.Scan() && !strings.Contains(all.String(), "msg=serving") {
			all.WriteString(lines.Text() + "\n")
		}
		if !strings.Contains(all.String(), c.want) {
			t.Errorf("--timer-slack %s: no %q in\n%s", c.flag, c.want, all.String())
		}
		if err := cmd.Process.Signal(os.Interrupt); err != nil { // the process that was started is the one that serves
			t.Error(err)
		}
		for lines.Scan() {
			all.WriteString(lines.Text() + "\n")
		}
		if err := cmd.Wait(); err != nil {
			t.Errorf("ended with %v:\n%s", err, all.String())
		}
	}
	wrong(t, exitUsage, "out of bounds", "server", "--data-dir", t.TempDir(), "--timer-slack", "21ms")
}

// What main reads of a command line before anything else does.
func TestSlackOf(t *testing.T) {
	for _, c := range []struct {
		line, env string
		want      time.Duration
	}{
		{"server --data-dir d", "", slackDefault},
		{"--config f server", "", slackDefault},
		{"server --timer-slack 3ms", "", 3 * time.Millisecond},
		{"server --timer-slack=4ms", "5ms", 4 * time.Millisecond},
		{"server", "5ms", 5 * time.Millisecond},
		{"server --timer-slack 0", "", 0},
		{"server --timer-slack soon", "", 0},
		{"server --timer-slack 1h", "", 0},
		{"control --timer-slack 3ms", "", 0},
		{"", "5ms", 0},
	} {
		env := func(key string) (string, bool) { return c.env, key == "PHYSALIA_TIMER_SLACK" && c.env != "" }
		if got := slackOf(strings.Fields(c.line), env); got != c.want {
			t.Errorf("%q with %q: %v, want %v", c.line, c.env, got, c.want)
		}
	}
}

// From a file it would come too late.
func TestSlackFromAFile(t *testing.T) {
	file := filepath.Join(t.TempDir(), "settings.toml")
	if err := os.WriteFile(file, []byte("[server]\ntimer_slack = \"3ms\"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	wrong(t, exitUsage, "comes too late", "server", "--data-dir", t.TempDir(), "--config", file)
}
