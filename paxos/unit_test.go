package paxos

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"physalia/internal/must"
)

// config is a small cell of n members, seen by member 1.
func config(n int) Config {
	return Config{Self: 1, Configuration: jury(n, 2), Window: 4, BatchCommands: 4, BatchBytes: 64}
}

// fresh makes member self of a fresh cell of n members.
func fresh(t *testing.T, n int, self NodeNumber) *Replica {
	t.Helper()
	cfg := config(n)
	cfg.Self = self
	r, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func TestConfigurationCheck(t *testing.T) {
	for _, c := range []struct {
		wrong  func(c *Configuration)
		reason string // part of the error, "" when the configuration is right
	}{
		{func(c *Configuration) {}, ""},
		{func(c *Configuration) { c.Number, c.Owner = 2, 0 }, ""},
		{func(c *Configuration) { c.Number = 0 }, "configuration number is 0"},
		{func(c *Configuration) { c.Members = nil }, "has 0 members"},
		{func(c *Configuration) { *c = jury(JuryMax+1, 1) }, "has 14 members"},
		{func(c *Configuration) { c.Alpha = 0 }, "alpha 0"},
		{func(c *Configuration) { c.Alpha = AlphaMax + 1 }, "alpha 17"},
		{func(c *Configuration) { c.Members[0].Node = 0 }, "node number 0"},
		{func(c *Configuration) { c.Next = 3 }, "node number 3, which was not issued"},
		{func(c *Configuration) { c.Members[0].Node, c.Members[1].Node = 2, 1 }, "not ordered"},
		{func(c *Configuration) { c.Members[1].Server = "" }, `server ""`},
		{func(c *Configuration) { c.Members[1].Server = "s1" }, `server "s1"`},
		{func(c *Configuration) { c.Owner = 9 }, "owner 9"},
	} {
		conf := jury(3, 2)
		c.wrong(&conf)
		err := conf.Check()
		if (err == nil) != (c.reason == "") || (err != nil && !strings.Contains(err.Error(), c.reason)) {
			t.Errorf("want %q, got %v", c.reason, err)
		}
	}
}

func TestConfigBounds(t *testing.T) {
	for _, c := range []struct {
		wrong  func(c *Config)
		reason string
	}{
		{func(c *Config) { c.Configuration.Number = 0 }, "configuration number"},
		{func(c *Config) { c.Configuration.Number = 2 }, "not a founding one"},
		{func(c *Config) { c.Window = WindowMin - 1 }, "window is 3"},
		{func(c *Config) { c.Window = WindowMax + 1 }, "window is 65"},
		{func(c *Config) { c.Configuration.Alpha = 3 }, "at least twice alpha (3)"},
		{func(c *Config) { c.BatchCommands = 0 }, "batch has 0 commands"},
		{func(c *Config) { c.BatchCommands = BatchCommandsMax + 1 }, "batch has 1025 commands"},
		{func(c *Config) { c.BatchBytes = 0 }, "batch has 0 bytes"},
		{func(c *Config) { c.BatchBytes = BatchBytesMax + 1 }, "batch has 65537 bytes"},
		{func(c *Config) { c.Self = 4 }, "node 4 is not a member"},
	} {
		cfg := config(3)
		c.wrong(&cfg)
		if _, err := New(cfg); err == nil || !strings.Contains(err.Error(), c.reason) {
			t.Errorf("want %q, got %v", c.reason, err)
		}
	}
}

func TestMajority(t *testing.T) {
	for n, want := range map[int]int{1: 1, 2: 2, 3: 2, 4: 3, 5: 3, 7: 4, 13: 7} {
		c := jury(n, 1)
		if got := c.Majority(); got != want {
			t.Errorf("majority of %d is %d, want %d", n, got, want)
		}
	}
}

func TestBallotOrder(t *testing.T) {
	ordered := []Ballot{{}, {1, 1}, {1, 2}, {2, 1}, {2, 7}, {10, 1}}
	for i, a := range ordered {
		for j, b := range ordered {
			if a.Less(b) != (i < j) {
				t.Errorf("%v < %v is %v", a, b, a.Less(b))
			}
		}
	}
	if !ordered[0].IsZero() || ordered[1].IsZero() {
		t.Error("only the zero ballot is zero")
	}
}

// A cell of one member decides alone, but not before its own disk has it.
func TestSingleMember(t *testing.T) {
	w := newWorld(Config{Configuration: jury(1, 1), Window: 4, BatchCommands: 1, BatchBytes: 64})
	m := w.member(1)
	m.slow = true
	w.propose(m, "a")
	w.obey(m)
	if m.replica.Applied() != 0 {
		t.Fatal("decided before it was durable")
	}
	w.settle(w.up())
	if m.replica.Applied() != 1 || m.replica.Unfinished() == m.replica.IsIdle() {
		t.Fatal(m.replica.Describe())
	}
	w.crash(m, 0)
	w.restart(m)
	m.replica.Campaign()
	w.settle(w.up())
	if m.replica.Role() != Proposer || m.replica.Applied() != 1 {
		t.Fatal(m.replica.Describe())
	}
}

// Restore refuses a disk that lost a slot which it says was applied, rather than replay around it.
func TestRestoreRefusesHoles(t *testing.T) {
	b := Ballot{1, 1}
	entry := Entry{Kind: NoOp}
	rec := Recovery{Promised: b, Applied: 2, Records: []Record{{Slot: 2, Ballot: b, Entry: entry}}}
	if _, err := Restore(config(3), rec); err == nil || !strings.Contains(err.Error(), "slot 1 was applied (through 2)") {
		t.Errorf("slot 1 is missing, got %v", err)
	}
	rec.Records = append(rec.Records, Record{Slot: 1, Ballot: b, Entry: entry})
	r, err := Restore(config(3), rec)
	if err != nil {
		t.Fatal(err)
	}
	if e := r.Effects(); len(e.Deliver) != 2 || e.Deliver[0].Slot != 1 || !e.Persist.IsEmpty() || r.Role() != Follower {
		t.Errorf("replays %v, persists %v", e.Deliver, e.Persist)
	}
	cfg := config(3)
	cfg.Window = 1
	if _, err := Restore(cfg, rec); err == nil {
		t.Error("Restore takes a window of 1")
	}
}

// Restore ignores records that the state covers: they may be older than an installed state, and of entries that were
// never chosen.
func TestRestoreIgnoresCoveredRecords(t *testing.T) {
	b := Ballot{3, 2}
	snapshot := &Snapshot{Applied: 6, Configuration: jury(3, 2), Sealed: true}
	rec := Recovery{Promised: b, Snapshot: snapshot, Applied: 1, Records: []Record{
		{Slot: 1, Ballot: Ballot{1, 1}, Entry: Entry{Kind: NoOp}}, {Slot: 6, Ballot: b, Entry: Entry{Kind: NoOp}},
		{Slot: 7, Ballot: b, Entry: Entry{Kind: NoOp}},
	}}
	r, err := Restore(config(3), rec)
	if err != nil {
		t.Fatal(err)
	}
	_, six := r.record(6)
	_, seven := r.record(7)
	if e := r.Effects(); !e.IsEmpty() || six || !seven || r.Applied() != 6 || r.Floor() != 6 || !r.IsSealed() {
		t.Errorf("%s: slot 6 held %v, slot 7 held %v", r.Describe(), six, seven)
	}
}

// A record that stands where a smaller window put it is stored again before anything can overwrite it, unless it is not
// needed any more; a window that shrank is refused, since it cannot hold everything that was accepted.
func TestRestoreIntoAnotherWindow(t *testing.T) {
	b := Ballot{1, 1}
	record := func(s Slot) Record { return Record{Slot: s, Ballot: b, Entry: Entry{Kind: NoOp}} }
	cfg := config(3)
	cfg.Window = 6
	rec := Recovery{Promised: b, Applied: 3, Snapshot: &Snapshot{Applied: 2, Configuration: cfg.Configuration},
		Records: []Record{record(3)}, Misplaced: []Record{record(2), record(3), record(4), record(6)}}
	r, err := Restore(cfg, rec)
	if err != nil {
		t.Fatal(err)
	}
	e := r.Effects()
	var again []Slot
	for _, stored := range e.Persist.Records {
		again = append(again, stored.Slot)
	}
	if !slices.Equal(again, []Slot{4, 6}) || e.Persist.Applied != 3 || r.Applied() != 3 {
		t.Errorf("stores slots %v again, applied through %d", again, e.Persist.Applied)
	}
	cfg.Window = 4
	rec.Records = append(rec.Records, record(7))
	if _, err := Restore(cfg, rec); err == nil || !strings.Contains(err.Error(), "the window must not shrink") {
		t.Errorf("slot 7 does not fit into a window of 4 above slot 2, got %v", err)
	}
}

// What was delivered in a turn is not delivered again behind the state that was taught in the same turn.
func TestTaughtInTheTurnOfADelivery(t *testing.T) {
	r := fresh(t, 3, 3)
	r.Step(&Message{Kind: MsgAccept, From: 1, Ballot: Ballot{1, 1}, Slot: 1, Entry: Entry{Kind: NoOp}})
	r.Step(&Message{Kind: MsgChosen, From: 1, Ballot: Ballot{1, 1}, Through: 1})
	r.Step(&Message{Kind: MsgTeachAll, From: 1, Through: 9, Snapshot: &Snapshot{Applied: 9, Configuration: jury(3, 2)}})
	r.Step(&Message{Kind: MsgAccept, From: 1, Ballot: Ballot{1, 1}, Slot: 10, Entry: Entry{Kind: NoOp}})
	r.Step(&Message{Kind: MsgChosen, From: 1, Ballot: Ballot{1, 1}, Through: 10})
	e := r.Effects()
	if e.Install == nil || e.Install.Applied != 9 || len(e.Deliver) != 1 || e.Deliver[0].Slot != 10 || !e.Persist.State || e.Persist.Applied != 10 {
		t.Errorf("installs %v, delivers %v, persists %+v", e.Install, e.Deliver, e.Persist)
	}
}

// violates runs something that must fail an assertion.
func violates(t *testing.T, name string, do func()) {
	t.Helper()
	defer func() {
		t.Helper()
		var v *must.Violation
		if err, ok := recover().(error); !ok || !errors.As(err, &v) || !strings.HasPrefix(v.Text, name+":") {
			t.Errorf("want a violation of %s, got %v", name, err)
		}
	}()
	do()
}

// The assertions that guard the invariants are alive.
func TestAssertions(t *testing.T) {
	b := Ballot{2, 2}
	a, z := Entry{Kind: Commands, Commands: [][]byte{[]byte("a")}}, Entry{Kind: Commands, Commands: [][]byte{[]byte("z")}}
	violates(t, "P2", func() {
		r := fresh(t, 3, 3)
		r.Step(&Message{Kind: MsgAccept, From: 2, Ballot: b, Slot: 1, Entry: a})
		r.Step(&Message{Kind: MsgAccept, From: 2, Ballot: b, Slot: 1, Entry: z})
	})
	violates(t, "P2", func() {
		r := fresh(t, 3, 3)
		r.Step(&Message{Kind: MsgAccept, From: 2, Ballot: b, Slot: 1, Entry: a})
		r.Step(&Message{Kind: MsgChosen, From: 2, Ballot: b, Through: 1})
		r.Step(&Message{Kind: MsgAccept, From: 1, Ballot: Ballot{3, 1}, Slot: 1, Entry: z})
	})
	violates(t, "P2", func() {
		r := fresh(t, 3, 3)
		r.Step(&Message{Kind: MsgAccept, From: 2, Ballot: b, Slot: 1, Entry: a})
		r.Step(&Message{Kind: MsgTeach, From: 1, Through: 1, Records: []Record{{Slot: 1, Ballot: Ballot{1, 1}, Entry: z}}})
	})
	violates(t, "P1", func() { fresh(t, 3, 3).promise(Ballot{}) })
	violates(t, "P1", func() {
		if _, err := Restore(config(3), Recovery{Promised: Ballot{1, 1}, Records: []Record{{Slot: 1, Ballot: b, Entry: a}}}); err != nil {
			t.Error(err)
		}
	})
	violates(t, "P7", func() {
		r := fresh(t, 3, 3)
		r.Step(&Message{Kind: MsgTeach, From: 1, Through: 2, Records: []Record{
			{Slot: 1, Ballot: b, Entry: Entry{Kind: Seal}}, {Slot: 2, Ballot: b, Entry: a},
		}})
	})
}

// Messages from strangers, and those for others, change nothing.
func TestStrangers(t *testing.T) {
	r := fresh(t, 3, 2)
	before := r.Describe()
	for _, m := range []Message{
		{Kind: MsgAccepted, From: 9, To: 2, Ballot: Ballot{1, 1}, Slot: 1},
		{Kind: MsgResign, From: 3, To: 2, Ballot: Ballot{1, 1}},
		{Kind: MsgPrepare, From: 3, To: 1, Ballot: Ballot{5, 3}, Slot: 1},
		{Kind: MsgAccept, From: 0, Ballot: Ballot{5, 1}, Slot: 1, Entry: Entry{Kind: NoOp}},
		{Kind: MessageKind(200), From: 1, To: 2, Ballot: Ballot{1, 1}},
		{Kind: MsgAccept, From: 1, To: 2, Ballot: Ballot{1, 1}, Slot: 0, Entry: Entry{Kind: NoOp}},
		{Kind: MsgTeachAll, From: 1, To: 2, Through: 9},
		{Kind: MsgTeach, From: 1, To: 2, Records: []Record{{Slot: 2, Ballot: Ballot{1, 1}, Entry: Entry{Kind: NoOp}}}},
		{Kind: MsgAccepted, From: 1, To: 2, Ballot: Ballot{1, 1}, Slot: 1},
		{Kind: MsgConfirmed, From: 1, To: 2, Ballot: Ballot{1, 1}, Number: 1},
		{Kind: MsgLearn, From: 1, To: 2, Slot: 0},
		{Kind: MsgLearn, From: 1, To: 2, Slot: 1},
	} {
		r.Step(&m)
	}
	e := r.Effects()
	if r.Describe() != before || len(e.Deliver) != 0 || !e.Persist.IsEmpty() || len(e.SendDurable) != 0 {
		t.Errorf("%s became %s, effects %+v", before, r.Describe(), e)
	}
}

// A promise carries a bounded amount of chosen entries, and so does a lesson; what is too much is told as "learn from me"
// and in portions.
func TestLargeEntries(t *testing.T) {
	w := newWorld(Config{Configuration: jury(3, 2), Window: 16, BatchCommands: 1, BatchBytes: BatchBytesMax})
	large := strings.Repeat("x", 100<<10)
	for i := range 6 {
		w.propose(w.member(1), large+string(rune('a'+i)))
		w.settle([]NodeNumber{1, 2})
	}
	w.member(1).replica.Nudge()
	w.settle([]NodeNumber{1, 2})
	w.member(3).replica.Campaign()
	w.obey(w.member(3))
	w.network = nil
	w.obey(w.step(Message{Kind: MsgPrepare, From: 3, To: 2, Ballot: w.member(3).replica.Promised(), Slot: 1}))
	w.obey(w.step(Message{Kind: MsgLearn, From: 3, To: 2, Slot: 1}))
	promise, lesson := w.take(0), w.take(0)
	if promise.Kind != MsgPromise || promise.Floor != 4 || len(promise.Records) != 2 || promise.Through != 6 {
		t.Errorf("%v with %d entries of 100 KiB, floor %d", promise.Kind, len(promise.Records), promise.Floor)
	}
	if lesson.Kind != MsgTeach || len(lesson.Records) != 2 || lesson.Through != 6 {
		t.Errorf("%v of %d entries of 100 KiB", lesson.Kind, len(lesson.Records))
	}
	w.member(3).replica.Nudge()
	w.propose(w.member(3), "z")
	w.settle(w.up())
	if got := w.member(3).replica; got.Applied() != 7 || got.Role() != Proposer {
		t.Error(got.Describe())
	}
}

// A batch is bounded in commands and bytes; a command larger than that goes alone.
func TestBatchBounds(t *testing.T) {
	cfg := config(3)
	cfg.Configuration.Alpha, cfg.BatchCommands, cfg.BatchBytes = 1, 3, 8
	r, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	for i, c := range []struct {
		command string
		want    Refusal
	}{
		{"123456789", Accepted}, // larger than a batch: slot 1, alone
		{"1234", Accepted}, {"1234", Accepted}, {"1", PipelineFull}, {"", Accepted}, {"", PipelineFull},
	} {
		if got := r.Propose([]byte(c.command), Proposal(i)); got != c.want {
			t.Errorf("proposal %d: %v, want %v", i, got, c.want)
		}
	}
	if e := r.Effects(); len(e.Persist.Records) != 1 || len(e.Persist.Records[0].Entry.Commands) != 1 || r.InFlight() != 1 {
		t.Errorf("%d slots, %d in flight", len(e.Persist.Records), r.InFlight())
	}
}

// At most roundsMax confirmation rounds are under way; the reads that arrive meanwhile share the next one.
func TestReadRoundsAreBounded(t *testing.T) {
	r := fresh(t, 3, 1)
	confirms := 0
	for i := range 3 * roundsMax {
		r.Read(ReadToken(i))
		e := r.Effects()
		confirms += len(e.SendNow)
	}
	if confirms != roundsMax {
		t.Fatalf("%d rounds, want %d", confirms, roundsMax)
	}
	answered := 0
	for answered < 3*roundsMax {
		number := r.reads.rounds[len(r.reads.rounds)-1].number
		for _, from := range []NodeNumber{1, 3} {
			r.Step(&Message{Kind: MsgConfirmed, From: from, To: 1, Ballot: Ballot{1, 1}, Number: number})
		}
		e := r.Effects()
		answered += len(e.ReadsReady)
		if len(e.ReadsReady) == 0 {
			t.Fatalf("%d reads answered", answered)
		}
	}
}

func TestDescribe(t *testing.T) {
	entry := Entry{Kind: Commands, Commands: [][]byte{[]byte("a"), []byte("b")}}
	for want, m := range map[string]Message{
		"1->* Prepare 2.1 slot 3":                     {Kind: MsgPrepare, From: 1, Ballot: Ballot{2, 1}, Slot: 3},
		`1->2 Accept 1.1 slot 1 "a"+"b" through 0`:    {Kind: MsgAccept, From: 1, To: 2, Ballot: Ballot{1, 1}, Slot: 1, Entry: entry},
		"2->1 Nack promised 2.2":                      {Kind: MsgNack, From: 2, To: 1, Ballot: Ballot{2, 2}},
		"1->* Chosen 1.1 through 4":                   {Kind: MsgChosen, From: 1, Ballot: Ballot{1, 1}, Through: 4},
		"1->* Confirm 1.1 number 7":                   {Kind: MsgConfirm, From: 1, Ballot: Ballot{1, 1}, Number: 7},
		"2->1 Learn from slot 4":                      {Kind: MsgLearn, From: 2, To: 1, Slot: 4},
		"1->2 Teach through 1 [slot 1: no-op at 1.1]": {Kind: MsgTeach, From: 1, To: 2, Through: 1, Records: []Record{{1, Ballot{1, 1}, Entry{Kind: NoOp}}}},
		"1->2 TeachAll through 5 state@6":             {Kind: MsgTeachAll, From: 1, To: 2, Through: 5, Snapshot: &Snapshot{Applied: 6}},
		"2->1 Promise 2.1 from 1 through 3 floor 2":   {Kind: MsgPromise, From: 2, To: 1, Ballot: Ballot{2, 1}, Slot: 1, Through: 3, Floor: 2},
		"2->1 Behind 1.1 slot 1":                      {Kind: MsgBehind, From: 2, To: 1, Ballot: Ballot{1, 1}, Slot: 1},
		"2->1 Ahead 1.1 through 5":                    {Kind: MsgAhead, From: 2, To: 1, Ballot: Ballot{1, 1}, Through: 5},
		"2->1 Accepted 1.1 slot 2 through 0":          {Kind: MsgAccepted, From: 2, To: 1, Ballot: Ballot{1, 1}, Slot: 2},
		"1->1 Confirmed 1.1 number 7":                 {Kind: MsgConfirmed, From: 1, To: 1, Ballot: Ballot{1, 1}, Number: 7},
		"1->3 Accept 1.1 slot 9 seal through 8":       {Kind: MsgAccept, From: 1, To: 3, Ballot: Ballot{1, 1}, Slot: 9, Through: 8, Entry: Entry{Kind: Seal}},
	} {
		if got := m.Describe(); got != want {
			t.Errorf("got  %s\nwant %s", got, want)
		}
	}
}

// Who holds slots only as state, and teaches nobody, does not keep a candidate waiting to which a majority of others told all that
// they accepted; and it does count once the candidate was taught (P5).
func TestCandidateDoesWithoutWhoHoldsStateOnly(t *testing.T) {
	old := Ballot{Round: 1, Node: 1}
	record := func(s Slot) Record {
		return Record{Slot: s, Ballot: old, Entry: Entry{Kind: Commands, Commands: [][]byte{{byte('a' + s)}}}}
	}
	r := fresh(t, 5, 2)
	r.Campaign()
	r.Effects()
	b := r.Ballot()
	r.Step(&Message{Kind: MsgPromise, From: 2, To: 2, Ballot: b, Slot: 1})
	r.Step(&Message{Kind: MsgPromise, From: 1, To: 2, Ballot: b, Slot: 1, Floor: 2, Through: 4, Records: []Record{record(3), record(4)}})
	r.Step(&Message{Kind: MsgPromise, From: 3, To: 2, Ballot: b, Slot: 1, Records: []Record{record(1), record(2), record(3)}})
	if r.Role() != Candidate {
		t.Fatal("it leads by a promise that leaves out slots 1 and 2")
	}
	r.Step(&Message{Kind: MsgPromise, From: 4, To: 2, Ballot: b, Slot: 1})
	if r.Role() != Proposer {
		t.Fatal("three of five promised and told everything from slot 1 on, and it does not lead")
	}
	var proposed []string
	for _, m := range r.Effects().SendNow {
		if m.Kind == MsgAccept {
			proposed = append(proposed, m.Entry.Describe())
		}
	}
	if want := []string{record(1).Entry.Describe(), record(2).Entry.Describe()}; !slices.Equal(proposed, want) {
		t.Errorf("it proposes %v, want %v", proposed, want)
	}
}
