package route

import (
	"fmt"
	"strconv"
	"strings"
	"testing"
	"time"

	"physalia/cell"
	"physalia/internal/wire"

	"github.com/cockroachdb/datadriven"
)

// story is the world of one transcript: one place, one call, a clock that the transcript moves.
type story struct {
	now    time.Duration
	rules  Rules
	budget Budget
	place  *Place
	call   Call
	dice   Dice
	addr   string        // of the last Ask
	until  time.Duration // of the last Ask
}

// Each file of testdata/stories is a story that can be read aloud. "until" and "pause" are shown as bounds, not as exact times,
// so that a transcript does not depend on the dice.
func TestStories(t *testing.T) {
	datadriven.Walk(t, "testdata/stories", func(t *testing.T, path string) {
		s := &story{budget: NewBudget(100), dice: 1, place: NewPlace("vol"),
			rules: Rules{AttemptTimeout: time.Second, BackoffMin: 10 * time.Millisecond, BackoffMax: time.Second, FindTimeout: 2 * time.Second}}
		datadriven.RunTest(t, path, s.run)
	})
}

func (s *story) run(t *testing.T, d *datadriven.TestData) string {
	switch d.Cmd {
	case "rules":
		s.rules.Discovery = d.HasArg("discovery")
		s.rules.Servers = words(d, "servers")
		if d.HasArg("budget") {
			s.budget = NewBudget(number(t, d, "budget"))
		}
		return ""
	case "route":
		r := wire.Route{Cell: "vol", Incarnation: cell.Incarnation(number(t, d, "incarnation")), Configuration: uint64(number(t, d, "configuration"))}
		for i, a := range words(d, "members") {
			r.Members = append(r.Members, wire.Founder{Node: uint64(i + 1), Server: cell.ServerID("S" + a), ClientAddr: a})
		}
		return fmt.Sprintf("accepted %v\n%s", s.place.Accept(&r), s.place.Describe())
	case "found":
		s.place.Found(s.now, &s.rules, &s.dice, d.HasArg("improved"), d.HasArg("denied"))
		return s.step()
	case "saw":
		return fmt.Sprintf("present %v", s.place.Saw(cell.Incarnation(number(t, d, "incarnation")), cell.Revision(number(t, d, "revision"))))
	case "begin":
		purpose := map[string]Purpose{"write": Write, "read": Read, "stale": StaleRead, "resolve": Resolve}[d.CmdArgs[0].Key]
		s.call.Begin(purpose, "client.test", s.place, 0, s.now, s.now+10*time.Second, 7)
		if purpose == Write || purpose == Resolve {
			s.call.Begin(purpose, "client.test", s.place, s.place.Incarnation(), s.now, s.now+10*time.Second, 7)
		}
		return s.step()
	case "answer":
		s.call.Answered(s.now, s.addr, s.answer(t, d), s.place, &s.rules)
		return s.step()
	case "wait":
		s.now += time.Duration(number(t, d, "ms")) * time.Millisecond
		return s.step()
	case "overdue": // the time of the Ask is over
		s.now = s.until
		if until := s.call.Overdue(s.now, &s.rules, &s.budget); until > s.now {
			s.until = until
			return "wait for its answer"
		}
		s.call.Answered(s.now, s.addr, Answer{Fate: Lost, Err: &cell.Error{Kind: cell.Unavailable, Detail: "no answer"}}, s.place, &s.rules)
		return "lost\n" + s.step()
	case "wait-out": // overdue, until nothing is left
		for range 1000 {
			s.now = s.until
			if s.until = s.call.Overdue(s.now, &s.rules, &s.budget); s.until == s.now {
				s.call.Answered(s.now, s.addr, Answer{Fate: Lost, Err: &cell.Error{Kind: cell.Unavailable, Detail: "no answer"}}, s.place, &s.rules)
				return "lost\n" + s.step()
			}
		}
		return "never lost"
	case "abandon":
		return "error " + s.call.Abandon(s.now, d.HasArg("in-flight")).Error()
	case "place":
		return s.place.Describe()
	}
	t.Fatalf("%s: unknown command %q", d.Pos, d.Cmd)
	return ""
}

// answer reads "ok incarnation=1 revision=4", "lost", "unsent" or the name of an error kind.
func (s *story) answer(t *testing.T, d *datadriven.TestData) Answer {
	switch what := d.CmdArgs[0].Key; what {
	case "ok":
		return Answer{Fate: Replied, Incarnation: cell.Incarnation(number(t, d, "incarnation")), Revision: cell.Revision(number(t, d, "revision"))}
	case "lost":
		return Answer{Fate: Lost, Err: &cell.Error{Kind: cell.Unavailable, Detail: "connection cut"}}
	case "unsent":
		return Answer{Fate: Unsent, Err: &cell.Error{Kind: cell.Unavailable, Detail: "connection refused"}}
	default:
		e := &cell.Error{Op: "server"}
		for k := cell.Kind(1); k.Valid(); k++ {
			if strings.ReplaceAll(k.String(), " ", "-") == what {
				e.Kind = k
			}
		}
		if e.Kind == 0 {
			t.Fatalf("%s: unknown answer %q", d.Pos, what)
		}
		if d.HasArg("leader") {
			e.Leader = cell.ServerID(words(d, "leader")[0])
		}
		if d.HasArg("at") {
			e.LeaderAddr = words(d, "at")[0]
		}
		if d.HasArg("to") {
			e.Pointer = &cell.Pointer{Incarnation: cell.Incarnation(number(t, d, "incarnation")), Configuration: uint64(number(t, d, "configuration"))}
			for _, a := range words(d, "to") {
				e.Pointer.Servers = append(e.Pointer.Servers, cell.Location{Server: cell.ServerID("S" + a), ClientAddr: a})
			}
		}
		if d.HasArg("after") {
			e.RetryAfter = time.Duration(number(t, d, "after")) * time.Millisecond
		}
		return Answer{Fate: Replied, Err: e}
	}
}

// step shows the next decision.
func (s *story) step() string {
	if s.call.id == "" {
		return ""
	}
	st := s.call.Next(s.now, s.place, &s.rules, &s.budget)
	find := ""
	if st.Find {
		find = ", look it up"
	}
	switch st.Do {
	case Ask:
		s.addr, s.until = st.Addr, st.Until
		if st.Stale {
			find += ", stale"
		}
		return fmt.Sprintf("ask %s attempt %d incarnation %d within %v%s", st.Addr, st.Attempt, st.Incarnation, st.Until-s.now, find)
	case Pause:
		s.now = st.Until
		return "pause" + find + "\n" + s.step()
	case Await:
		return "await the lookup" + find
	}
	if st.Err == nil {
		return "stop: done" + find
	}
	return "stop: " + st.Err.Error() + find
}

func words(d *datadriven.TestData, key string) []string {
	for _, a := range d.CmdArgs {
		if a.Key == key {
			return a.Vals
		}
	}
	return nil
}

func number(t *testing.T, d *datadriven.TestData, key string) int {
	t.Helper()
	v := words(d, key)
	if len(v) != 1 {
		t.Fatalf("%s: %s needs one number", d.Pos, key)
	}
	n, err := strconv.Atoi(v[0])
	if err != nil {
		t.Fatalf("%s: %v", d.Pos, err)
	}
	return n
}
