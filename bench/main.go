// Command bench compares the product with what a user could pick instead, in one run on one disk: see docs/performance.md. It starts
// the servers of every system as seven processes; those of the Raft libraries are this same binary, with the word "member" first.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"time"

	"physalia/bench/child"
	"physalia/bench/contest"
	"physalia/bench/ground"
	"physalia/bench/report"
)

func main() {
	// The kernel kills children when the thread that started them dies; this one lives as long as the process.
	runtime.LockOSThread()
	child.Share()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := start(ctx, os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		stop()
		os.Exit(1)
	}
}

// librariesMax bounds --libraries: each has a connection to every server, and goroutines for it.
const librariesMax = 64

// options are the flags.
type options struct {
	quick               bool          // chooses the defaults of what is zero
	dir, out            string        // of the data, and of the report
	physalia, etcd      string        // binaries
	version             string        // of the product
	rounds              int           // zero until defaults
	clients, kinds      string        // lists with commas
	libraries           int           // client libraries that the clients of a subject share
	only                string        // list with commas; empty: all
	point, idle         time.Duration // of one measurement
	startLimit, subject time.Duration // limits of a phase, and of a subject in one round
	limit               time.Duration // of everything
}

// parse reads the flags. Quick changes the defaults of times and rounds; a flag that is given always wins.
func parse(args []string) (o options, err error) {
	f := flag.NewFlagSet("bench", flag.ContinueOnError)
	f.BoolVar(&o.quick, "quick", false, "one round of a second per point, within ten minutes")
	f.StringVar(&o.dir, "dir", "bin/peers", "`directory` for data, on the disk that is meant; what is below it is removed afterwards")
	f.StringVar(&o.out, "out", "bin/peers-report", "`directory` for results.json, table.txt and the plots")
	f.StringVar(&o.physalia, "physalia", "bin/physalia", "the product's binary")
	f.StringVar(&o.etcd, "etcd", "bin/etcd", "etcd's binary")
	f.StringVar(&o.version, "version", "unknown", "what the product's binary is called")
	f.IntVar(&o.rounds, "rounds", 0, "rounds (default 3, quick 1)")
	f.StringVar(&o.clients, "clients", "1,8,224,896", "numbers of clients")
	f.IntVar(&o.libraries, "libraries", 1, "client libraries, each with connections of its own, that the clients of a subject share: a program has one")
	f.StringVar(&o.kinds, "kinds", "write,read,read-sure,mixed", "kinds of work, writes first")
	f.StringVar(&o.only, "only", "", "only the subjects whose names, like physalia/1000, are listed here")
	f.DurationVar(&o.point, "point", 0, "how long each point is measured (default 10s, quick 800ms)")
	f.DurationVar(&o.idle, "idle", 0, "how long the idle spell is (default 15s, quick 3s)")
	f.DurationVar(&o.startLimit, "start-limit", 60*time.Second, "for a start with a write on every volume, and again for the recovery after kill -9")
	f.DurationVar(&o.subject, "subject-limit", 0, "for everything about one subject in one round (default 8m, quick 100s)")
	f.DurationVar(&o.limit, "limit", 0, "for the whole run (default 5h, quick 9m30s); what was not measured by then is missing")
	if err := f.Parse(args); err != nil {
		return o, err
	}
	// A word without a dash is most likely a subject that was meant for --only.
	if f.NArg() > 0 {
		return o, fmt.Errorf("%q is not understood; there are only flags, see --help", f.Arg(0))
	}
	if o.libraries < 1 || o.libraries > librariesMax {
		return o, fmt.Errorf("--libraries: %d are not possible; use 1 to %d", o.libraries, librariesMax)
	}
	o.defaults()
	return o, nil
}

// defaults fills in what depends on quick.
func (o *options) defaults() {
	// What was given stays.
	choose := func(d *time.Duration, long, quick time.Duration) {
		if *d == 0 {
			*d = long
			if o.quick {
				*d = quick
			}
		}
	}
	choose(&o.point, 10*time.Second, 800*time.Millisecond)
	choose(&o.idle, 15*time.Second, 3*time.Second)
	choose(&o.subject, 8*time.Minute, 100*time.Second)
	choose(&o.limit, 5*time.Hour, 9*time.Minute+30*time.Second)
	if o.rounds == 0 {
		o.rounds = 3 // the least that has a median
		if o.quick {
			o.rounds = 1
		}
	}
}

// start runs the contest, or a member of it.
func start(ctx context.Context, args []string) error {
	// Our own children come here with another command line.
	if len(args) > 0 && args[0] == "member" {
		return memberMain(ctx, args[1:])
	}
	o, err := parse(args)
	if errors.Is(err, flag.ErrHelp) {
		return nil // it was shown
	}
	if err != nil {
		return err
	}
	return o.run(ctx)
}

// run measures, and writes the report of whatever there is in the end, also when the time was over.
func (o options) run(ctx context.Context) (err error) {
	plan, makers, err := o.plan()
	if err != nil {
		return err
	}
	if err := os.MkdirAll(o.dir, 0o755); err != nil {
		return err
	}
	// A directory of this run's own, so that removing it removes nothing else.
	if plan.Dir, err = os.MkdirTemp(o.dir, "run-"); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(plan.Dir)) }()
	// The disk is measured while nothing else of ours runs; one in memory is refused.
	facts, err := ground.Look(plan.Dir)
	if err != nil {
		return err
	}
	// Whoever interrupts us ends it in the same way as the limit does.
	limited, cancel := context.WithTimeout(ctx, o.limit)
	defer cancel()
	results, runErr := plan.Run(limited, makers, o.rounds)
	facts.LoadAfter = ground.Load()
	r := report.Report{Ground: facts, ValueBytes: plan.ValueBytes, PointS: plan.Point.Seconds(), Procs: child.Environment(), Libraries: o.libraries, Results: results}
	// An end by time or by hand still has a report.
	if runErr != nil {
		r.Incomplete = fmt.Sprintf("%d of %d measurements were begun: %v", len(results), len(makers)*o.rounds, runErr)
	}
	if err := r.Write(o.out); err != nil {
		return errors.Join(runErr, err)
	}
	fmt.Printf("\nwritten to %s\n", o.out)
	return verdict(results, runErr)
}

// verdict is an error when a key is missing, when the product did not finish, or when not everything was measured. A peer that did not
// finish is a result.
func verdict(results []contest.Result, err error) error {
	for i := range results {
		// A lost key is the worst that anybody can show, whoever it is.
		r := &results[i]
		if r.LostKeys > 0 {
			err = errors.Join(err, fmt.Errorf("%s with %d groups: %d of %d acknowledged keys are missing", r.System, r.Groups, r.LostKeys, r.LostKeys+r.VerifiedKeys))
		}
		if r.System == "physalia" && !r.Verified() {
			err = errors.Join(err, fmt.Errorf("physalia with %d cells was not verified: %s", r.Groups, r.DidNotFinish))
		}
	}
	return err
}

// plan makes the contest of the flags.
func (o options) plan() (p contest.Plan, makers []contest.Maker, err error) {
	// Values are as large as the record of a volume.
	p = contest.Plan{Dir: o.dir, ValueBytes: 64, Point: o.point, Idle: o.idle, StartLimit: o.startLimit, Limit: o.subject,
		Say: func(format string, args ...any) {
			fmt.Fprintf(os.Stderr, time.Now().Format("15:04:05 ")+format+"\n", args...)
		}}
	// Numbers and kinds are checked here, their bounds by the contest.
	for _, word := range strings.Split(o.clients, ",") {
		var n int
		if _, err := fmt.Sscanf(word, "%d", &n); err != nil {
			return p, nil, fmt.Errorf("--clients: %q is not a number", word)
		}
		p.Clients = append(p.Clients, n)
	}
	for _, word := range strings.Split(o.kinds, ",") {
		k := contest.Kind(word) // checked below
		switch k {
		case contest.Write, contest.Read, contest.ReadSure, contest.Mixed:
			p.Kinds = append(p.Kinds, k)
		default:
			return p, nil, fmt.Errorf("--kinds: %q is none; use write, read, read-sure, mixed", word)
		}
	}
	makers, err = o.makers()
	return p, makers, err
}

// absolute makes the path of a binary independent of directories, and insists that it is there.
func absolute(path string) (string, error) {
	// Later, a missing one would be a subject that did not finish.
	path, err := filepath.Abs(path)
	if err != nil {
		return "", err
	}
	if _, err := os.Stat(path); err != nil {
		return "", fmt.Errorf("%w; `make bench-peers` builds what is needed", err)
	}
	return path, nil
}
