package sim

import (
	"flag"
	"io"
	"os"
	"strings"
	"testing"

	"pgregory.net/rapid"

	_ "physalia/internal/rapidseed"
	"physalia/paxos"
)

var scheduleFlag = flag.String("schedule", "", "the schedule that TestReplay plays, as a failure printed it")

// TestMain draws a few hundred schedules unless somebody says how many: -rapid.checks=10000 takes a few minutes.
func TestMain(m *testing.M) {
	flag.Parse()
	flag.Visit(func(f *flag.Flag) { chosen = chosen || f.Name == "rapid.checks" })
	usually("300")
	os.Exit(m.Run())
}

// chosen says that somebody asked for a number of schedules.
var chosen bool

// usually sets how many schedules the next test draws if nobody has said how many.
func usually(checks string) {
	if chosen {
		return
	}
	if err := flag.Set("rapid.checks", checks); err != nil {
		panic(err)
	}
}

// rapidSource draws from rapid, which shrinks what it drew.
type rapidSource struct{ t *rapid.T }

func (s rapidSource) Draw(what string, n int) int { return rapid.IntRange(0, n-1).Draw(s.t, what) }

// TestProperty plays random schedules: every property holds in every one of them.
func TestProperty(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		if r := Run(Draw(rapidSource{t})); r.Failure != nil {
			t.Fatal(r.Describe())
		}
	})
}

// TestReplay plays one schedule with a log of every event, or those in testdata: each of them once found a mistake.
func TestReplay(t *testing.T) {
	if *scheduleFlag != "" {
		replayed(t, *scheduleFlag, t.Output())
		return
	}
	text, err := os.ReadFile("testdata/schedules.txt")
	if err != nil {
		t.Fatal(err)
	}
	played := 0
	for line := range strings.Lines(string(text)) {
		if !strings.HasPrefix(line, "#") {
			replayed(t, line, nil)
			played++
		}
	}
	if played == 0 {
		t.Error("no schedule in testdata")
	}
}

func replayed(t *testing.T, text string, log io.Writer) {
	p, err := Parse(text)
	if err != nil {
		t.Fatal(err)
	}
	if r := RunLogged(p, log); r.Failure != nil {
		t.Error(r.Describe())
	}
}

// TestEverythingHappens proves that the schedules go everywhere: every fault, message and fate occurs, often.
func TestEverythingHappens(t *testing.T) {
	var sum Report
	for seed := uint64(1); seed <= 300; seed++ {
		r := Run(Draw(SeedSource(seed)))
		if r.Failure != nil {
			t.Fatal(r.Describe())
		}
		sum.Add(r)
	}
	t.Log(&sum)
	for kind, n := range sum.Faults {
		if n < 5 && FaultKind(kind).general() && notYet[FaultKind(kind)] == "" { // seals are rare on purpose
			t.Errorf("%s happened %d times", FaultKind(kind), n)
		}
	}
	for kind, n := range sum.Messages[1 : paxos.MsgBehind+1] {
		if n < 10 {
			t.Errorf("messages of kind %d were sent %d times", kind+1, n)
		}
	}
	for f := answered; f <= useless; f++ {
		if sum.Fates[f] < 3 {
			t.Errorf("%s was the fate of %d operations", f, sum.Fates[f])
		}
	}
	if sum.ReadsInTrouble < 1000 || sum.Quarantined < 10 || sum.Stopped < 3 {
		t.Errorf("%d reads in trouble, %d nodes quarantined, %d servers stopped for good", sum.ReadsInTrouble, sum.Quarantined, sum.Stopped)
	}
	if sum.BatchesLost < 100 || sum.Takeovers < 300 || sum.Undecided > 0 {
		t.Errorf("%d batches lost, %d takeovers, %d histories undecided", sum.BatchesLost, sum.Takeovers, sum.Undecided)
	}
}
