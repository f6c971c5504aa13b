package drill

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"os/exec"
	"strconv"
	"time"

	"physalia/cmd/physalia/colony"
	"physalia/cmd/physalia/crowd"
)

var upgradeDrill = Drill{
	Name:   "upgrade",
	Proves: "servers go to another version and come back, one by one, under load and without one failed request; and what an old version does not understand stops its nodes alone",
	cells:  30, span: 2 * time.Second,
	spec: shape(8, 4, 3),
	run:  runUpgrade,
}

// upgradeRate is requests per second to each cell.
const upgradeRate = 4

// notUnderstood is the reason of a node that met a command of a later version.
const notUnderstood = "not-understood"

// upgrade is one run: the two versions, and the load that goes on all the time.
type upgrade struct {
	*site
	ours, theirs build
	load         *crowd.Crowd
}

// build is what a binary says of itself.
type build struct {
	binary      string
	ProtocolMax uint32 `json:"protocol_max"`
	CommandSet  uint32 `json:"command_set"`
}

// The binaries are asked, and not the colony: which of them runs where is what changes.
//
// buildOf asks a binary.
func buildOf(ctx context.Context, binary string) (b build, err error) {
	out, err := exec.CommandContext(ctx, binary, "version", "-o", "json").Output()
	if err == nil {
		err = json.Unmarshal(out, &b)
	}
	if err != nil {
		return b, fmt.Errorf("ask %s for its version: %w", binary, err)
	}
	b.binary = binary
	return b, nil
}

// runUpgrade goes forth and back while the new version is held to what the old one understands, then forth for good, and then has one
// server of the old version come back all the same.
func runUpgrade(ctx context.Context, s *site) error {
	u := &upgrade{site: s}
	var err error
	if u.ours, err = buildOf(ctx, s.cfg.Binary); err != nil {
		return err
	}
	if u.theirs, err = buildOf(ctx, cmp.Or(s.cfg.Other, s.cfg.Binary)); err != nil {
		return err
	}
	s.cfg.Say("from command set %d to %d, from protocol %d to %d", u.ours.CommandSet, u.theirs.CommandSet, u.ours.ProtocolMax, u.theirs.ProtocolMax)
	ids := names("vol", max(s.cfg.Cells, 2))
	if err := s.create(ctx, ids); err != nil {
		return err
	}
	how := s.crowd(ids, upgradeRate, s.clients())
	if u.load, err = crowd.Start(ctx, how); err != nil {
		return err
	}
	// The judge looks at the data of the whole story at once, and at the requests: none may have failed, from the first restart to the last.
	began := s.now()
	err = u.story(ctx)
	logs, judgeErr := s.judge(ctx, "clients", u.load, how)
	if err != nil {
		return err
	}
	failed, kinds := errorsWithin(logs, began, s.now()+time.Hour)
	s.count("errors of clients", failed)
	s.wrong(failed > 0, "%d requests failed: %v", failed, kinds)
	return judgeErr
}

// story is what happens under load.
func (u *upgrade) story(ctx context.Context) error {
	// The hold is the newest set that both understand: what an operator gives while the old version may have to come back.
	hold := strconv.Itoa(int(min(u.ours.CommandSet, u.theirs.CommandSet)))
	for _, step := range []struct {
		what string
		to   build
		args []string
	}{
		{"to the other version, which proposes nothing new", u.theirs, []string{"--command-set", hold}},
		{"back", u.ours, nil},
		{"to the other version again", u.theirs, []string{"--command-set", hold}},
		{"and it may propose what is new", u.theirs, nil},
	} {
		u.cfg.Say("%s", step.what)
		for _, v := range u.Servers {
			if err := u.become(ctx, v, step.to, step.args...); err != nil {
				return err
			}
		}
		n, err := u.sick(ctx, notUnderstood)
		if err != nil {
			return err
		}
		u.wrong(n > 0, "%s: %v nodes met what they do not understand", step.what, n)
	}
	if u.theirs.CommandSet <= u.ours.CommandSet {
		return nil // nothing is new, so there is nothing not to understand
	}
	return u.tooOld(ctx)
}

// tooOld starts one server with the old version although commands are in use that it does not understand: it runs, the nodes that meet one
// stop, nobody else notices, and the new version finds them well.
func (u *upgrade) tooOld(ctx context.Context) error {
	u.cfg.Say("one server of the old version comes back too late")
	v := u.Servers[0]
	if err := u.become(ctx, v, u.ours); err != nil {
		return err
	}
	// Its nodes load what they stored, and are sent what is new; the first newer command that is to be applied stops each.
	stopped := 0.0
	if err := u.until(ctx, startMax, "its nodes meet what they do not understand", func(ctx context.Context) (bool, error) {
		var err error
		stopped, err = u.sick(ctx, notUnderstood)
		return stopped > 0, err
	}); err != nil {
		return err
	}
	u.count("nodes of the old version that stopped", int(stopped))
	if err := u.become(ctx, v, u.theirs); err != nil {
		return err
	}
	return u.until(ctx, startMax, "the new version finds its nodes well", func(ctx context.Context) (bool, error) {
		n, err := u.sick(ctx, notUnderstood)
		return n == 0, fmt.Errorf("%v are not: %w", n, err)
	})
}

// become restarts one server as another version, as an operator would: politely, and the next one only when all cells take writes
// and the control plane says that all servers are up.
func (u *upgrade) become(ctx context.Context, v *colony.Server, to build, args ...string) error {
	if err := v.Stop(ctx); err != nil {
		return err
	}
	v.Become(to.binary, args...)
	if err := v.Start(); err != nil {
		return err
	}
	if err := u.awaitServers(ctx); err != nil {
		return err
	}
	// From this moment on: a write that was called before may have been answered by the servers that were up all the time.
	from := u.now()
	return u.until(ctx, convergeMax, "every cell takes writes", func(context.Context) (bool, error) {
		return len(u.load.Waiting(from)) == 0, fmt.Errorf("not yet: %v", u.load.Waiting(from))
	})
}
