package main

import (
	"bufio"
	"os"
	"os/exec"
	"strings"
	"testing"
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
