package paxos

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/cockroachdb/datadriven"
)

// TestTranscripts plays the stories under testdata. Run it with -rewrite after a change, and read the diff.
//
// Disks sync at once unless a member is slow, and nothing else happens by itself: messages stay under way until the
// story delivers or loses them. Commands that choose messages take from=, to=, kind= and slot=, and concern what is under
// way when they begin.
//
//	cell members=N [alpha=] [window=] [batch=]  founds a cell; member 1 owns ballot 1
//	propose N command...                        hands commands to member N in one turn
//	read N, seal N, campaign N, nudge N         ask member N for that
//	add N server [request=]                     asks member N to add a learner
//	replace N old new [number=], drop N learner asks member N for that change
//	create N                                    creates the learner that the log gave number N
//	hand-over N M, resign N                     asks member N for that
//	refuse                                      members refuse Prepares, standing by the ballot they promised
//	deliver [keep] [turn]                       delivers messages; keep: they stay under way; turn: in one turn
//	lose                                        loses messages
//	under-way                                   lists messages
//	stabilize [among=(N...)]                    delivers everything, and what follows, until nothing is under way
//	slow N, sync N                              stops a disk from syncing by itself; lets it sync once
//	crash N [keep=batches], restart N           loses what was not synced; comes back from what is durable
//	status [N...], disk N                       shows members, and what is durable
func TestTranscripts(t *testing.T) {
	datadriven.Walk(t, "testdata", func(t *testing.T, path string) {
		s := &story{}
		datadriven.RunTest(t, path, func(t *testing.T, d *datadriven.TestData) string {
			defer func() {
				if p := recover(); p != nil {
					d.Fatalf(t, "%v", p)
				}
			}()
			return s.play(t, d)
		})
	})
}

// story is one transcript in the making.
type story struct {
	w     *world
	lines []string
}

// refusals are the words for what a replica answers to a request.
var refusals = map[Refusal]string{NotProposer: "not the proposer", PipelineFull: "the pipeline is full", Sealed: "the cell is sealed",
	LearnerBehind: "the learner is behind", HandOverFirst: "hand over first", Malformed: "no such change"}

func (s *story) say(format string, args ...any) {
	s.lines = append(s.lines, fmt.Sprintf(format, args...))
}

// play plays one command and tells what happened.
func (s *story) play(t *testing.T, d *datadriven.TestData) string {
	s.lines = nil
	if d.Cmd == "cell" {
		s.found(t, d)
	} else if play, ok := storyCommands[d.Cmd]; ok {
		play(s, t, d)
	} else {
		d.Fatalf(t, "unknown command %s", d.Cmd)
	}
	if len(s.lines) == 0 {
		return "(nothing)\n"
	}
	return strings.Join(s.lines, "\n") + "\n"
}

var storyCommands = map[string]func(*story, *testing.T, *datadriven.TestData){
	"propose":   (*story).propose,
	"add":       (*story).reform,
	"replace":   (*story).reform,
	"drop":      (*story).reform,
	"hand-over": (*story).handOver,
	"spare":     (*story).spare,
	"refuse":    (*story).refuse,
	"create":    each(func(s *story, m *member) { s.w.create(m); m.replica.Nudge() }),
	"resign":    each(func(s *story, m *member) { m.replica.Resign() }),
	"deliver":   (*story).deliver,
	"lose":      (*story).lose,
	"under-way": (*story).underWay,
	"stabilize": (*story).stabilize,
	"crash":     (*story).crash,
	"status":    (*story).status,
	"disk":      (*story).disk,
	"read": each(func(s *story, m *member) {
		token, refusal := s.w.read(m)
		s.answer(fmt.Sprintf("read %d", token), refusal)
	}),
	"seal":     each(func(s *story, m *member) { s.answer("the seal", m.replica.ProposeSeal()) }),
	"campaign": each(func(s *story, m *member) { m.replica.Campaign() }),
	"nudge":    each(func(s *story, m *member) { m.replica.Nudge() }),
	"restart":  each(func(s *story, m *member) { s.w.restart(m) }),
	"slow":     each(func(s *story, m *member) { m.slow = true }),
	"sync":     each(func(s *story, m *member) { s.w.sync(m, len(m.disk.tail)) }),
}

// each makes a command that does something with the members it names, one after the other.
func each(do func(*story, *member)) func(*story, *testing.T, *datadriven.TestData) {
	return func(s *story, t *testing.T, d *datadriven.TestData) {
		for _, m := range s.named(t, d) {
			do(s, m)
			s.w.obey(m)
		}
	}
}

// answer tells a refusal.
func (s *story) answer(what string, refusal Refusal) {
	if refusal != Accepted {
		s.say("%s is refused: %s", what, refusals[refusal])
	}
}

// named lists the members that a command names.
func (s *story) named(t *testing.T, d *datadriven.TestData) (all []*member) {
	for _, arg := range d.CmdArgs {
		if n, err := strconv.Atoi(arg.Key); err == nil && n >= 1 && n <= len(s.w.members) {
			all = append(all, s.w.members[n-1])
		} else if len(arg.Vals) == 0 {
			d.Fatalf(t, "%s is no member", arg.Key)
		}
	}
	return all
}

func (s *story) found(t *testing.T, d *datadriven.TestData) {
	members, alpha, window, batch := 3, 2, 8, 4
	d.MaybeScanArgs(t, "members", &members)
	d.MaybeScanArgs(t, "alpha", &alpha)
	d.MaybeScanArgs(t, "window", &window)
	d.MaybeScanArgs(t, "batch", &batch)
	s.w = newWorld(Config{Configuration: jury(members, uint32(alpha)), Window: window, BatchCommands: batch, BatchBytes: BatchBytesMax})
	s.w.tell = s.say
	s.say("%s", s.w.members[0].cfg.Configuration.Describe())
}

func (s *story) propose(t *testing.T, d *datadriven.TestData) {
	n, err := strconv.Atoi(d.CmdArgs[0].Key)
	if err != nil {
		d.Fatalf(t, "%v", err)
	}
	for _, arg := range d.CmdArgs[1:] {
		command := strings.Join(append([]string{arg.Key}, arg.Vals...), "=")
		s.answer(command, s.w.propose(s.w.member(NodeNumber(n)), command))
	}
	s.w.obey(s.w.member(NodeNumber(n)))
}

// numbers are the plain numbers among a command's arguments.
func numbers(d *datadriven.TestData) (all []NodeNumber) {
	for _, arg := range d.CmdArgs {
		if n, err := strconv.Atoi(arg.Key); err == nil {
			all = append(all, NodeNumber(n))
		}
	}
	return append(all, 0, 0, 0)
}

// reform asks for a change.
func (s *story) reform(t *testing.T, d *datadriven.TestData) {
	n := numbers(d)
	m := s.w.member(n[0])
	change := Change{Kind: map[string]ChangeKind{"add": AddLearner, "drop": DropLearner, "replace": Replace}[d.Cmd]}
	switch change.Kind {
	case AddLearner:
		change.Server = ServerID(d.CmdArgs[1].Key)
	case DropLearner:
		change.New = n[1]
	case Replace:
		change.Old, change.New, change.Number = n[1], n[2], m.replica.Configuration().Number
	}
	request, number := int(change.Request), int(change.Number)
	d.MaybeScanArgs(t, "request", &request)
	d.MaybeScanArgs(t, "number", &number)
	change.Request, change.Number = uint64(request), ConfigurationNumber(number)
	s.answer("the change", s.w.reform(m, change))
	s.w.obey(m)
}

func (s *story) handOver(t *testing.T, d *datadriven.TestData) {
	n := numbers(d)
	m := s.w.member(n[0])
	m.replica.HandOver(n[1])
	s.w.obey(m)
}

// spare names the members that the first need not ask.
func (s *story) spare(t *testing.T, d *datadriven.TestData) {
	n := numbers(d)
	s.w.member(n[0]).replica.Spare(n[1:])
}

// refuse lets the receivers of the chosen Prepares refuse them.
func (s *story) refuse(t *testing.T, d *datadriven.TestData) {
	for _, message := range s.pick(t, d) {
		m := s.w.member(message.To)
		m.replica.Refuse(&message)
		s.w.obey(m)
	}
}

// chosen makes a filter of a command's arguments.
func chosen(t *testing.T, d *datadriven.TestData) func(m *Message) bool {
	return func(m *Message) bool {
		value := map[string]string{
			"from": fmt.Sprint(m.From), "to": fmt.Sprint(m.To), "kind": m.Kind.String(), "slot": fmt.Sprint(m.Slot),
		}
		for _, arg := range d.CmdArgs {
			if has, ok := value[arg.Key]; ok && !slices.Contains(arg.Vals, has) {
				return false
			}
		}
		return true
	}
}

// pick removes the messages that a command chooses.
func (s *story) pick(t *testing.T, d *datadriven.TestData) (picked []Message) {
	fits := chosen(t, d)
	for i := 0; i < len(s.w.network); {
		if fits(&s.w.network[i]) {
			picked = append(picked, s.w.take(i))
		} else {
			i++
		}
	}
	if len(picked) == 0 {
		d.Fatalf(t, "no such message is under way")
	}
	return picked
}

func (s *story) deliver(t *testing.T, d *datadriven.TestData) {
	picked := s.pick(t, d)
	if d.HasArg("keep") {
		s.w.network = append(slices.Clone(picked), s.w.network...)
	}
	for i, message := range picked {
		m := s.w.step(message)
		if !d.HasArg("turn") || i == len(picked)-1 {
			s.w.obey(m)
		}
	}
}

func (s *story) lose(t *testing.T, d *datadriven.TestData) {
	s.list(s.pick(t, d), " is lost")
}

// list tells of messages; copies of a broadcast share a line.
func (s *story) list(messages []Message, fate string) {
	receivers := map[string]string{}
	var order []string
	for _, message := range messages {
		to := fmt.Sprint(message.To)
		message.To = 0
		what := message.Describe()
		if receivers[what] == "" {
			order = append(order, what)
			receivers[what] = to
		} else {
			receivers[what] += "," + to
		}
	}
	for _, what := range order {
		s.say("%s%s", strings.Replace(what, "*", receivers[what], 1), fate)
	}
}

func (s *story) underWay(t *testing.T, d *datadriven.TestData) {
	fits := chosen(t, d)
	s.list(slices.DeleteFunc(slices.Clone(s.w.network), func(m Message) bool { return !fits(&m) }), "")
}

// stabilize tells only what comes out: who delivered what, and what clients were answered.
func (s *story) stabilize(t *testing.T, d *datadriven.TestData) {
	among := s.w.up()
	if arg, ok := d.Arg("among"); ok {
		among = nil
		for _, v := range arg.Vals {
			n, err := strconv.Atoi(v)
			if err != nil {
				d.Fatalf(t, "%v", err)
			}
			among = append(among, NodeNumber(n))
		}
	}
	s.w.tell = func(format string, args ...any) {
		line := fmt.Sprintf(format, args...)
		words := strings.Fields(line)
		if len(words) < 2 || !slices.Contains([]string{"delivers", "installs", "answers", "fails", "drops", "leads", "is"}, words[1]) {
			return
		}
		what := strings.Join(words[1:], " ")
		for i, told := range s.lines { // say once what several members did
			if who, ok := strings.CutSuffix(told, " "+what); ok {
				s.lines[i] = strings.Trim(who, "()") + " " + words[0]
				s.lines[i] = "(" + s.lines[i] + ") " + what
				return
			}
		}
		s.lines = append(s.lines, line)
	}
	s.w.settle(among)
	s.w.tell = s.say
}

func (s *story) crash(t *testing.T, d *datadriven.TestData) {
	keep := 0
	d.MaybeScanArgs(t, "keep", &keep)
	m := s.named(t, d)[0]
	s.say("%d loses %d batches", m.cfg.Self, len(m.disk.tail)-keep)
	s.w.crash(m, keep)
}

func (s *story) status(t *testing.T, d *datadriven.TestData) {
	named := s.named(t, d)
	if len(named) == 0 {
		named = s.w.members
	}
	for _, m := range named {
		switch {
		case m.pointer != nil:
			s.say("%d is a pointer to %s", m.cfg.Self, m.pointer.Describe())
		case m.unborn:
			s.say("%d is not created yet", m.cfg.Self)
		case m.replica == nil:
			s.say("%d is down", m.cfg.Self)
		default:
			s.say("%s", m.replica.Describe())
		}
	}
}

func (s *story) disk(t *testing.T, d *datadriven.TestData) {
	for _, m := range s.named(t, d) {
		rec := m.disk.image.recovery()
		state := Slot(0)
		if rec.Snapshot != nil {
			state = rec.Snapshot.Applied
		}
		s.say("%d promised %v state@%d applied-through %d", m.cfg.Self, rec.Promised, state, rec.Applied)
		slices.SortFunc(rec.Records, func(a, b Record) int { return int(a.Slot) - int(b.Slot) })
		for _, record := range rec.Records {
			s.say("  %s", record.Describe())
		}
	}
}
