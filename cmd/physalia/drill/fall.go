//go:build poison

package drill

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"physalia/cell"
	"physalia/cell/machine"
	"physalia/client"
	"physalia/cmd/physalia/colony"
	"physalia/cmd/physalia/crowd"
)

// The drills about servers that die by themselves. Somebody starts them again, as an operator's supervisor would (nurse).

var fatalDrill = Drill{
	Name:   "fatal",
	Proves: "a command over which every process dies that applies it ends no server for good: each dies three times at most, and one cell is lost",
	cells:  40, span: 5 * time.Second,
	spec: shape(8, 4, 3),
	run:  runFatal,
}

var colorDrill = Drill{
	Name:   "color",
	Proves: "a color whose build dies at random costs the cells of other colors not one request",
	cells:  30, span: 20 * time.Second,
	spec: colony.Spec{Bricks: 1, Colors: 3, Servers: 7, Racks: 4, Powers: 3, MemTableBytes: memTable},
	host: falling,
	run:  runColor,
}

// fallMax is how often a process may die over one node before that is out of service.
const fallMax = 3

// nurse starts servers again that died by themselves, and counts.
type nurse struct {
	mu    sync.Mutex
	falls map[string]int // by server
	err   error
	end   context.CancelFunc
	done  chan struct{}
}

// newNurse watches the servers of a site until the nurse is dismissed.
func (s *site) newNurse(ctx context.Context) *nurse {
	ctx, cancel := context.WithCancel(ctx)
	n := &nurse{falls: map[string]int{}, end: cancel, done: make(chan struct{})}
	go func() {
		defer close(n.done)
		ticker := time.NewTicker(pollEvery)
		defer ticker.Stop()
		for ctx.Err() == nil {
			for _, v := range s.Servers {
				n.look(v)
			}
			select {
			case <-ctx.Done():
			case <-ticker.C:
			}
		}
	}()
	return n
}

// look starts one server again if it died.
func (n *nurse) look(v *colony.Server) {
	if v.Failed() == nil {
		return
	}
	// At once: a supervisor that waits longer each time would make a loop of restarts slower, and not shorter.
	err := v.Start()
	n.mu.Lock()
	defer n.mu.Unlock()
	n.falls[v.Name]++
	n.err = errors.Join(n.err, err)
}

// Counts are of all lives that a nurse has seen, not of those before: a drill that wants to know what happened meanwhile asks twice.
//
// count tells how often any server died, and how often the one did that died most.
func (n *nurse) count() (all, most int) {
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, f := range n.falls {
		all, most = all+f, max(most, f)
	}
	return all, most
}

// What could not be started again is an error of the drill and no verdict, like any child that does not start.
//
// dismiss ends the watch.
func (n *nurse) dismiss() error {
	n.end()
	<-n.done
	return n.err
}

// patiently is until while servers may die.
func (s *site) patiently(ctx context.Context, what string, holds func(context.Context) (bool, error)) error {
	ctx, cancel := context.WithTimeout(ctx, convergeMax)
	defer cancel()
	ticker := time.NewTicker(pollEvery)
	defer ticker.Stop()
	for {
		ok, err := holds(ctx)
		if ok {
			return nil
		}
		select {
		case <-ctx.Done():
			return errors.Join(fmt.Errorf("in vain for %v: %s", convergeMax, what), err)
		case <-ticker.C:
		}
	}
}

// runFatal poisons a cell with what no process survives, and waits until nobody dies of it any more.
func runFatal(ctx context.Context, s *site) error {
	ids := names("vol", max(s.cfg.Cells, 4))
	if err := s.create(ctx, ids); err != nil {
		return err
	}
	victim, others := ids[0], ids[1:]
	n := s.newNurse(ctx)
	defer n.dismiss()
	// The crowd comes only after the worst is over: what it sees while servers die one after the other says nothing about anything.
	if err := s.insist(ctx, victim, n); err != nil {
		return err
	}
	how := s.crowd(others, poisonRate, s.clients())
	load, err := crowd.Start(ctx, how)
	if err != nil {
		return err
	}
	if err := s.patiently(ctx, "every other cell takes writes", func(context.Context) (bool, error) {
		return len(load.Waiting(0)) == 0, fmt.Errorf("waiting: %v", load.Waiting(0))
	}); err != nil {
		load.Stop()
		return err
	}
	all, most := n.count()
	s.cfg.Say("%d processes died, one of them %d times", all, most)
	ended := time.After(s.cfg.Span)
	select {
	case <-ctx.Done():
	case <-ended:
	}
	later, _ := n.count()
	if err := n.dismiss(); err != nil {
		return err
	}
	if _, err := s.judge(ctx, "other cells", load, how); err != nil {
		return err
	}
	sick, err := s.sick(ctx, "crash")
	s.count("processes that died", all)
	s.count("deaths of one server at most", most)
	s.count("nodes out of service", int(sick))
	s.wrong(later != all, "%d processes died after everything was quiet", later-all)
	s.wrong(most > fallMax, "one server died %d times", most)
	s.wrong(sick < lostMin, "%v nodes are out of service over it", sick)
	return err
}

// insist sends the poison, and requests to the poisoned cell, until so many of its nodes are out of service that nobody can choose it any
// more: each request may have another member campaign and fall.
func (s *site) insist(ctx context.Context, id cell.ID, n *nurse) error {
	lib, err := client.New(ctx, client.Config{Colony: colony.Name, Control: s.op.Addresses, Servers: s.clientAddrs(), CallTimeout: 2 * time.Second})
	if err != nil {
		return err
	}
	defer lib.Close()
	return s.patiently(ctx, "a majority of the poisoned cell is out of service", func(ctx context.Context) (bool, error) {
		// Whoever leads falls over it, or refuses as out of service; the next request makes the next member campaign, which adopts the
		// command from those that accepted it, chooses it again, applies it, and falls.
		one, cancel := context.WithTimeout(ctx, 2*time.Second)
		_, err := lib.Cell(id).Then(client.Put(machine.PoisonKey+"exit", cell.Int(1))).Commit(one)
		cancel()
		if err == nil {
			return false, errors.New("the poison was acknowledged")
		}
		sick, err := s.sick(ctx, "crash")
		all, most := n.count()
		return sick >= lostMin, fmt.Errorf("%v nodes are, after %d deaths, %d of one server: %w", sick, all, most, err)
	})
}

// fallEvery is the mean time between the deaths of one server.
const fallEvery = 4 * time.Second

// runColor loads all colors, lets the first one fall, and compares.
func runColor(ctx context.Context, s *site) error {
	ids := names("vol", max(s.cfg.Cells, 9))
	if err := s.create(ctx, ids); err != nil {
		return err
	}
	infos, err := s.op.Cells(ctx, "drill.color", "")
	if err != nil {
		return err
	}
	// A cell is of one color, and placement has dealt them over the colors; which is which only the control plane knows.
	var sick, well []cell.ID
	for _, v := range infos {
		if v.Color == s.Servers[0].Color {
			sick = append(sick, v.Cell)
		} else {
			well = append(well, v.Cell)
		}
	}
	if len(sick) == 0 || len(well) == 0 {
		return fmt.Errorf("%d cells in the color that falls, %d in others", len(sick), len(well))
	}
	// The two crowds share nothing, not even clients: a client that waits for a server that fell must not be one of another color.
	n := s.newNurse(ctx)
	defer n.dismiss()
	howSick, howWell := s.crowd(sick, poisonRate, s.clients()), s.crowd(well, poisonRate, s.clients())
	falling, err := crowd.Start(ctx, howSick)
	if err != nil {
		return err
	}
	standing, err := crowd.Start(ctx, howWell)
	if err != nil {
		falling.Stop()
		return err
	}
	err = s.fall(ctx, n)
	wellLogs, errWell := s.judge(ctx, "other colors", standing, howWell)
	sickLogs, errSick := s.judge(ctx, "the color that falls", falling, howSick)
	if err := errors.Join(err, errWell, errSick, n.dismiss()); err != nil {
		return err
	}
	// A request of fifteen seconds that fails on a machine with far more processes than processors would be counted here, too.
	hurt, kinds := errorsWithin(wellLogs, 0, time.Hour)
	s.wrong(hurt > 0, "%d requests to other colors failed: %v", hurt, kinds)
	own, _ := errorsWithin(sickLogs, 0, time.Hour)
	all, _ := n.count()
	for name, falls := range n.falls {
		at := slices.IndexFunc(s.Servers, func(v *colony.Server) bool { return v.Name == name })
		s.wrong(s.Servers[at].Color != s.Servers[0].Color, "%s of another color died %d times", name, falls)
	}
	s.count("cells in the color that falls", len(sick))
	s.count("cells in other colors", len(well))
	s.count("processes that died", all)
	s.count("errors in the color that falls", own)
	s.count("errors in other colors", hurt)
	s.wrong(all == 0, "no process died")
	return nil
}

// The servers look for the file twenty times a second; removing it is how all of them stop falling without being restarted.
//
// fall lets servers fall for a span, and then waits until all of them are up.
func (s *site) fall(ctx context.Context, n *nurse) error {
	file := filepath.Join(s.spec.Dir, fallName)
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		return err
	}
	select {
	case <-ctx.Done():
	case <-time.After(s.cfg.Span):
	}
	// Chance may spare everybody for a span; a drill in which nobody died proves nothing.
	if err := s.patiently(ctx, "somebody dies", func(context.Context) (bool, error) {
		all, _ := n.count()
		return all > 0, nil
	}); err != nil {
		return err
	}
	if err := os.Remove(file); err != nil {
		return err
	}
	return s.patiently(ctx, "every server is up", func(ctx context.Context) (bool, error) {
		for _, v := range s.Servers {
			if !v.Running() {
				return false, fmt.Errorf("%s is not", v.Name)
			}
		}
		return true, nil
	})
}

// fallName is the file beside the data of all processes.
const fallName = "fall"

// falling is where a server runs: those of the first color fall.
func falling(spec colony.Spec) func(name string) colony.Host {
	return func(name string) colony.Host {
		h := colony.Host{Addr: "127.0.0.1"}
		i, err := strconv.Atoi(strings.TrimPrefix(name, "s"))
		if err == nil && spec.Place(i-1).Color == spec.Place(0).Color {
			// The program `env` puts two variables into the environment of these servers alone, and becomes the server.
			h.Enter = []string{"env", "PHYSALIA_FALL_WHILE=" + filepath.Join(spec.Dir, fallName), "PHYSALIA_FALL_EVERY=" + fallEvery.String()}
		}
		return h
	}
}
