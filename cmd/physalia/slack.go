package main

import (
	"log/slog"
	"strings"
	"time"
)

// The slack of a server's timers. Its finest timer is a tick of 20 ms, and all that rests on time is judged by the clock, not by when a
// timer fired.
const (
	slackFlag    = "timer-slack"
	slackDefault = 10 * time.Millisecond
	slackMax     = 20 * time.Millisecond
)

// slackOf is the timer slack that a command line asks for: none but that of a server. It is needed before flags are parsed, since the process
// may have to begin again for it; what it cannot read, the parser of flags complains about.
func slackOf(args []string, lookupEnv func(string) (string, bool)) time.Duration {
	isServer, text := false, ""
	if given, ok := lookupEnv(envKey(slackFlag)); ok {
		text = given
	}
	for i, arg := range args {
		value, joined := strings.CutPrefix(arg, "--"+slackFlag+"=")
		switch {
		case joined:
			text = value
		case arg == "--"+slackFlag && i+1 < len(args):
			text = args[i+1]
		case arg == "server":
			isServer = true
		}
	}
	slack := slackDefault
	if text != "" {
		var err error
		if slack, err = time.ParseDuration(text); err != nil || slack < 0 || slack > slackMax {
			return 0
		}
	}
	if !isServer {
		return 0
	}
	return slack
}

// checkSlack bounds the flag and refuses one that came too late. Where the kernel did not do it, a server is only slower.
func (a *app) checkSlack(op string, slack time.Duration, log *slog.Logger) error {
	if slack < 0 || slack > slackMax {
		return usage(op, "use a duration up to "+slackMax.String()+", or 0 for the kernel's own", "--%s %v is out of bounds", slackFlag, slack)
	}
	if a.slackError != nil {
		log.Warn("the kernel wakes this process as exactly as before: more often than it has to", "err", a.slackError)
	}
	if slack != slackDefault && slack != a.slack {
		return usage(op, "give it as a flag of `physalia server`, or as "+envKey(slackFlag), "--%s %v comes too late from a file", slackFlag, slack)
	}
	return nil
}
