package main

import (
	"log/slog"
	"net"
	"os"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"physalia/cell"
	"physalia/internal/knock"
	"physalia/internal/wire"
)

// What the two daemons, server and control, have in common: a log on standard error, and settings that are checked before
// anything is opened, so that a daemon that starts has understood all of its configuration.

// logSettings says how a daemon logs.
type logSettings struct {
	format string // text or json
	level  slog.Level
}

// register adds the flags to a daemon.
func (l *logSettings) register(f *pflag.FlagSet) {
	f.StringVar(&l.format, "log-format", "text", "`format` of the log on standard error: text or json")
	f.TextVar(&l.level, "log-level", slog.LevelInfo, "least `level` that is logged: debug, info, warn or error")
}

// logger makes the daemon's log; every line says who wrote it.
func (a *app) logger(op string, l logSettings) (*slog.Logger, error) {
	// The log goes to standard error, where a supervisor picks it up; no file is rotated here.
	options := &slog.HandlerOptions{Level: l.level}
	switch l.format {
	case "text":
		return slog.New(slog.NewTextHandler(a.stderr, options)), nil
	case "json":
		return slog.New(slog.NewJSONHandler(a.stderr, options)), nil
	}
	return nil, usage(op, "use --log-format text or json", "log format %q is unknown", l.format)
}

// setting is one value to be checked, with the flag that it came from.
type setting struct{ flag, value string }

// checkAddresses refuses what is not host:port. Whether a port is free turns out when it is opened.
func checkAddresses(op string, addresses ...setting) error {
	for _, a := range addresses {
		if _, port, err := net.SplitHostPort(a.value); err != nil || port == "" || len(a.value) > wire.AddrBytesMax {
			return usage(op, "write host:port, for example 127.0.0.1:7301", "--%s is %q", a.flag, clip(a.value))
		}
	}
	return nil
}

// checkDirectory refuses a data directory that is missing as a setting, or that is something else than a directory. One that
// does not exist yet is made by whoever opens it.
func checkDirectory(op, dir string) error {
	if dir == "" {
		return usage(op, "give it as a flag, as "+envKey("data-dir")+", or in the file", "--data-dir is missing")
	}
	if info, err := os.Stat(dir); err == nil && !info.IsDir() {
		return usage(op, "name a directory", "--data-dir %s is not a directory", dir)
	}
	return nil
}

// daemonArgs refuses arguments: everything about a daemon is a setting.
func daemonArgs(cmd *cobra.Command, given []string) error {
	if len(given) == 0 {
		return nil
	}
	return usage(cmd.CommandPath(), "everything is a flag; see `"+cmd.CommandPath()+" --help`", "unexpected arguments: %s", clip(strings.Join(given, " ")))
}

// knockKey reads the key file of --knock-key-file, if there is one. The file is read once, at the start: a new key needs a
// restart of both sides, and in between servers connect instead, as they do when nobody hears their knocks. The key itself is
// never a flag, since the arguments of a process are for everybody to see.
func knockKey(path string) (knock.Key, error) {
	if path == "" {
		return knock.Key{}, nil
	}
	content, err := os.ReadFile(path)
	if err != nil {
		return knock.Key{}, &cell.Error{Op: "knock.key", Kind: cell.Invalid, Detail: "--knock-key-file cannot be read", Err: err,
			Hint: "write a key with `head -c 32 /dev/urandom | base64`, the same for all servers and control processes of the colony"}
	}
	return knock.NewKey(content)
}
