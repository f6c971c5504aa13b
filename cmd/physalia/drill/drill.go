package drill

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"physalia/cell"
	"physalia/cmd/physalia/colony"
)

// Config says how a drill is run. Binary and Dir are required; what is zero takes the drill's own default.
type Config struct {
	Binary   string        // that every child executes
	Dir      string        // of data and logs; empty at the start
	Cells    int           // databases
	Span     time.Duration // of each phase under load
	Other    string        // a binary of another version, for the drill about upgrades; empty: Binary
	Patience time.Duration // of slow repair, in the drill about it
	Seed     uint64        // of when and whom accidents hit

	// Store is the URL of a shared store, and Instances how many control processes share it; empty and zero: one process with a
	// store of its own. A drill that deletes or restores the store takes no shared one.
	Store     string
	Instances int

	// Say takes progress, one line at a time; nil drops it.
	Say func(format string, args ...any)
}

// Figure is one number that a drill saw. The JSON names stay.
type Figure struct {
	Name  string  `json:"name"`
	Value float64 `json:"value"`
	Unit  string  `json:"unit,omitempty"` // empty: a count
}

// Report is what a drill found. The JSON names stay.
type Report struct {
	Drill   string   `json:"drill"`
	Verdict string   `json:"verdict"` // "ok" or "fail"
	Reasons []string `json:"reasons,omitempty"`
	Seconds float64  `json:"seconds"`
	Figures []Figure `json:"figures"`
}

// reasonsMax bounds the reasons that a report names; what is beyond is counted.
const reasonsMax = 20

// Drill is one game day.
type Drill struct {
	Name   string
	Proves string // in one sentence

	cells          int                                             // default of Config.Cells
	span, patience time.Duration                                   // defaults
	spec           colony.Spec                                     // the shape of its colony
	host           func(colony.Spec) func(name string) colony.Host // where its processes run; nil: on loopback, like any
	shared         bool                                            // it can be run with several control processes on a shared store
	run            func(context.Context, *site) error
}

// memTable is the write buffer of each server's disk, in bytes: the default size times a dozen servers is too much for cells
// that need kilobytes.
const memTable = 4 << 20

// shape is a colony of one pool.
func shape(servers, racks, powers int, control ...string) colony.Spec {
	return colony.Spec{Bricks: 1, Colors: 1, Servers: servers, Racks: racks, Powers: powers, MemTableBytes: memTable, ControlArgs: control}
}

// All lists the drills, in the order in which they are run.
func All() []Drill {
	return append([]Drill{chaosDrill, staticDrill, amnesiaDrill, jumpDrill, repairDrill, discoveryDrill, burstDrill, upgradeDrill}, special()...)
}

// A name that does not exist is refused before anything is started.
//
// checkStore refuses a store that the drill could not do to what it does to stores.
func (d Drill) checkStore(cfg *Config) error {
	switch {
	case cfg.Instances < 0 || cfg.Instances > 1 && cfg.Store == "":
		return &cell.Error{Op: "drill", Kind: cell.Invalid, Detail: fmt.Sprintf("%d control processes without a store that they share", cfg.Instances), Hint: "name it with --store"}
	case cfg.Store != "" && !d.shared:
		return &cell.Error{Op: "drill", Kind: cell.Invalid, Detail: fmt.Sprintf("the drill %s is about a store of its own", d.Name), Hint: "leave --store out"}
	}
	return nil
}

// Find finds drills by their names; none named means all.
func Find(names []string) ([]Drill, error) {
	if len(names) == 0 {
		return All(), nil
	}
	var known []string
	byName := map[string]Drill{}
	for _, d := range All() {
		known, byName[d.Name] = append(known, d.Name), d
	}
	var found []Drill
	for _, name := range names {
		d, ok := byName[name]
		if !ok {
			return nil, &cell.Error{Op: "drill", Kind: cell.Invalid, Detail: fmt.Sprintf("there is no drill %q", name), Hint: "one of: " + strings.Join(known, ", ")}
		}
		found = append(found, d)
	}
	return found, nil
}

// The colony ends with the drill, whatever its verdict; its data and logs stay in the directory, which is the caller's. A drill whose
// colony does not come up, or in which a process dies by itself, returns an error that says so.
//
// Run starts the drill's colony, carries the drill out and ends the colony. The report is complete when the error is nil.
func (d Drill) Run(ctx context.Context, cfg Config) (Report, error) {
	if cfg.Say == nil {
		cfg.Say = func(string, ...any) {}
	}
	if cfg.Cells < 0 || cfg.Span < 0 || cfg.Patience < 0 {
		return Report{}, &cell.Error{Op: "drill", Kind: cell.Invalid, Detail: "a size or a time is negative", Hint: "use positive numbers, or leave them out"}
	}
	if err := d.checkStore(&cfg); err != nil {
		return Report{}, err
	}
	if cfg.Cells == 0 {
		cfg.Cells = d.cells
	}
	if cfg.Span == 0 {
		cfg.Span = d.span
	}
	if cfg.Patience == 0 {
		cfg.Patience = d.patience
	}
	s := &site{cfg: cfg, spec: d.spec, report: Report{Drill: d.Name, Verdict: "ok"}, origin: time.Now()}
	s.spec.Binary, s.spec.Dir, s.spec.Store, s.spec.Instances = cfg.Binary, cfg.Dir, cfg.Store, cfg.Instances
	if d.host != nil {
		s.spec.Host = d.host(s.spec)
	}
	if d.patience > 0 {
		s.spec.ControlArgs = append(s.spec.ControlArgs, "--repair-patience", cfg.Patience.String())
	}
	err := s.start(ctx)
	if err == nil {
		err = errors.Join(d.run(ctx, s), s.close())
	}
	s.report.Seconds = time.Since(s.origin).Seconds()
	if more := len(s.report.Reasons) - reasonsMax; more > 0 {
		s.report.Reasons = append(s.report.Reasons[:reasonsMax], fmt.Sprintf("and %d more reasons", more))
	}
	return s.report, err
}
