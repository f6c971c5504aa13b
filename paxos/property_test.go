package paxos

import (
	"slices"
	"testing"

	"pgregory.net/rapid"

	_ "physalia/internal/rapidseed"
)

// TestPropertySchedules plays random schedules, with the checkers of this package watching every step. A failure prints
// the shrunk schedule as Go source; it belongs into TestFoundSchedules then.
func TestPropertySchedules(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		d := func(n int) int { return rapid.IntRange(0, n-1).Draw(t, "die") }
		s := drawSchedule(d, rapid.IntRange(1, 300).Draw(t, "events"))
		if err := s.run(nil); err != nil {
			t.Fatalf("%v\n%v", err, s)
		}
	})
}

// eventsPerSeed is how long a schedule from a seed is.
const eventsPerSeed = 400

// TestPropertySeeds plays longer schedules, each from one number: rapid prefers small numbers and short lists, a seed does
// not.
func TestPropertySeeds(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := drawSchedule(seeded(rapid.Uint64().Draw(t, "seed")), eventsPerSeed)
		if err := s.run(nil); err != nil {
			t.Fatalf("%v\n%v", err, s.shrink())
		}
	})
}

// TestSeededSchedules plays schedules that are drawn from small seeds: the same ones every time. It also checks that they
// reach what they are meant to reach, since a schedule in which nothing happens finds nothing.
func TestSeededSchedules(t *testing.T) {
	const schedules = 300
	reached := map[string]int{}
	for seed := range uint64(schedules) {
		s := drawSchedule(seeded(seed), eventsPerSeed)
		var w *world
		if err := s.run(func(created *world) { w = created }); err != nil {
			t.Fatalf("seed %d: %v\n%v", seed, err, s.shrink())
		}
		for what := range w.check.seen {
			reached[what]++
		}
	}
	for what, percent := range map[string]int{
		"Accept": 95, "Accepted": 95, "Prepare": 80, "Promise": 80, "Nack": 40, "Confirm": 60, "Confirmed": 60, "Chosen": 90, "Learn": 40,
		"Teach": 35, "TeachAll": 15, "Behind": 8, "commands chosen": 90, "no-op chosen": 1, "seal chosen": 4, "crash": 95, "install": 15,
		"drop": 20, "read answered": 40, "read failed": 20, "local read": 90, "Resign": 40, "change chosen": 60, "learner added": 50,
		"learner dropped": 8, "member replaced": 20, "change settled": 20, "released": 20,
		"change refused: planned for another configuration": 2, "change refused: an earlier change is pending": 2,
		"change refused: the server hosts a node of this cell already": 20,
	} {
		if reached[what]*100 < percent*schedules {
			t.Errorf("%q happened in %d of %d schedules, want %d %%", what, reached[what], schedules, percent)
		}
	}
}

// foundSchedules are what random schedules found, shrunk: each once broke something.
var foundSchedules = map[string]schedule{
	// The window of member 1 grew between two lives. A new record overwrote one that stood where the old window had
	// put it, and that was still a vote.
	"the window grew": {jury: 3, alpha: 4, window: 8, batch: 1, heals: 12875, events: []event{
		{campaignNow, 2, 70, false},
		{cutOff, 1, 170, false},
		{proposeSome, 1, 163, false},
		{settleAll, 1, 205, false},
		{proposeSome, 1, 171, true},
		{settleAll, 0, 109, false},
		{crashOne, 0, 42, false},
		{restartOne, 0, 72, false},
	}},
	// A member that was away knew no living node but the one that spoke last, and went on asking the one that spoke first.
	"who speaks lives": {jury: 3, alpha: 4, window: 8, batch: 1, heals: 26781, events: []event{
		{proposeSome, 2, 189, false},
		{repeatAny, 4, 42, false},
		{reformCell, 3, 47, false},
		{reformCell, 0, 149, false},
		{repeatAny, 2, 39, false},
		{reformCell, 4, 84, false},
		{syncAll, 2, 54, false},
		{loseAny, 3, 118, false},
		{loseAny, 1, 158, false},
		{settleAll, 2, 191, false},
		{createOne, 2, 78, false},
		{deliverOldest, 1, 177, false},
		{proposeSome, 1, 51, false},
		{deliverOldest, 3, 248, false},
		{deliverAny, 0, 118, false},
		{reformCell, 0, 253, false},
		{repeatAny, 3, 224, false},
		{deliverOldest, 1, 229, false},
		{loseAll, 2, 8, false},
		{settleAll, 4, 226, false},
		{reformCell, 3, 108, false},
		{settleAll, 2, 148, false},
		{reformCell, 1, 3, false},
		{cutOff, 3, 18, false},
		{reformCell, 0, 35, false},
		{settleAll, 2, 27, false},
		{reformCell, 0, 31, false},
		{settleAll, 2, 107, false},
	}},
	// A candidate resigned before its ballot was durable, crashed, and used the ballot that others took for given up.
	"given up before it was durable": {jury: 3, alpha: 2, window: 6, batch: 3, heals: 26375, events: []event{
		{campaignNow, 1, 242, true},
		{resignOne, 2, 149, false},
		{resignOne, 1, 220, true},
		{syncAll, 2, 220, false},
		{crashOne, 1, 210, true},
		{restartOne, 1, 252, true},
		{campaignNow, 1, 14, false},
	}},
	// A candidate needed to be taught, and asked whoever spoke first, though that one knew no more than itself. The
	// question was under way then, so the one who could teach was not asked.
	"the wrong teacher": {jury: 5, alpha: 2, window: 5, batch: 1, heals: 58262, events: []event{
		{crashOne, 2, 135, false},
		{proposeSome, 3, 10, true},
		{settleAll, 4, 126, true},
		{proposeSome, 4, 211, false},
		{settleAll, 2, 140, true},
		{cutOff, 1, 38, true},
		{proposeSome, 1, 43, true},
		{settleAll, 4, 119, true},
		{proposeSome, 2, 230, false},
		{deliverOldest, 2, 9, false},
	}},
}

func TestFoundSchedules(t *testing.T) {
	for name, s := range foundSchedules {
		if err := s.run(nil); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestPropertyAdoption compares what a new proposer offers with what a naive reader of the same promises would: in every
// slot the entry of the highest ballot that any promise told, a no-op in a hole, and nothing behind a seal.
func TestPropertyAdoption(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		const members, slots = 5, 8
		cfg := Config{Self: 1, Configuration: jury(members, slots), Window: 2 * slots, BatchCommands: 1, BatchBytes: 64}
		cfg.Configuration.Owner = 2
		r, err := New(cfg)
		if err != nil {
			t.Fatal(err)
		}
		r.seen = 8 // so that its ballot is above all that the others accepted in
		r.Campaign()
		own := r.Effects().SendDurable
		told := map[Slot][]Record{} // by slot
		for _, from := range []NodeNumber{2, 3} {
			promise := Message{Kind: MsgPromise, From: from, To: 1, Ballot: r.Promised(), Slot: 1}
			for s := Slot(1); s <= slots; s++ {
				if round := rapid.IntRange(0, 4).Draw(t, "accepted in round"); round > 0 {
					record := Record{Slot: s, Ballot: Ballot{Round(round), 2}, Entry: entryOf(s, round)}
					promise.Records = append(promise.Records, record)
					told[s] = append(told[s], record)
				}
			}
			r.Step(&promise)
		}
		r.Step(&own[slices.IndexFunc(own, func(m Message) bool { return m.Kind == MsgPromise })])
		var offered []Record
		for e := r.Effects(); len(e.Persist.Records) > 0; e = r.Effects() {
			offered = append(offered, e.Persist.Records...)
		}
		if want := naiveTail(told, r.ballot); !slices.EqualFunc(offered, want, func(a, b Record) bool {
			return a.Slot == b.Slot && a.Ballot == b.Ballot && a.Entry.Equal(b.Entry)
		}) {
			t.Fatalf("offers %v\nwant %v", offered, want)
		}
	})
}

// entryOf is the one entry that a round has for a slot; some are seals, as a proposer with an empty pipeline would send.
func entryOf(s Slot, round int) Entry {
	if round == 3 && s == 6 {
		return Entry{Kind: Seal}
	}
	return Entry{Kind: Commands, Commands: [][]byte{{byte(s), byte(round)}}}
}

// naiveTail is what has to be offered after these records were told.
func naiveTail(told map[Slot][]Record, b Ballot) (tail []Record) {
	last := Slot(0)
	for s := range told {
		last = max(last, s)
	}
	for s := Slot(1); s <= last; s++ {
		best := Record{Slot: s, Entry: Entry{Kind: NoOp}}
		for _, record := range told[s] {
			if best.Ballot.Less(record.Ballot) {
				best = record
			}
		}
		best.Ballot = b
		tail = append(tail, best)
		if best.Entry.Kind == Seal {
			break
		}
	}
	return tail
}
