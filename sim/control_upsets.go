package sim

import (
	"fmt"
	"slices"
	"time"
)

// ControlPlan gives a world a control plane of its own, in place of the small one that creates cells and replaces members.
type ControlPlan struct {
	Scratch  int           // cells without clients that are created and deleted all the time; at most 5
	Wishes   int           // replacements, drains and locations that are asked for
	Patience time.Duration // of repair with one dead member
	Scan     time.Duration // least pause between rounds of the census
	Upsets   []Upset       // in any order
}

// UpsetKind says what happens to the control plane.
type UpsetKind uint8

// The kinds of upsets; each says which fields it uses beside At.
const (
	ControlCrash UpsetKind = iota // For: the process dies, and another starts after For
	ControlPause                  // For: it stands still
	ControlCut                    // Who, For: servers do not reach it
	ControlTwins                  // For: another one starts, and both believe to be active
	StoreLost                     // For: as ControlCrash, and the store is empty then
	StoreOld                      // Share, For: as ControlCrash, and the store is put back to a backup: Share before the newest
	upsetKinds
)

var upsetNames = [upsetKinds]string{"control crash", "control pause", "control cut", "control twins", "store lost", "store old"}

// String names the kind.
func (k UpsetKind) String() string { return upsetNames[k] }

// MarshalText writes the name.
func (k UpsetKind) MarshalText() ([]byte, error) { return []byte(k.String()), nil }

// UnmarshalText reads the name.
func (k *UpsetKind) UnmarshalText(name []byte) error {
	i := slices.Index(upsetNames[:], string(name))
	if i < 0 {
		return fmt.Errorf("sim: no upset is called %q", name)
	}
	*k = UpsetKind(i)
	return nil
}

// Upset is one thing that goes wrong with the control plane.
type Upset struct {
	Kind  UpsetKind
	At    time.Duration `json:",omitempty"`
	For   time.Duration `json:",omitempty"`
	Who   Servers       `json:",omitempty"`
	Share int           `json:",omitempty"`
}

// check bounds a plan from outside.
func (p *ControlPlan) check() error {
	if p == nil {
		return nil
	}
	if p.Scratch < 0 || p.Scratch > 5 || p.Wishes < 0 || p.Wishes > 1000 || p.Patience < 100*time.Millisecond || p.Scan < 10*time.Millisecond {
		return fmt.Errorf("sim: %d scratch cells, %d wishes, patience %v, a census every %v: out of range", p.Scratch, p.Wishes, p.Patience, p.Scan)
	}
	for _, u := range p.Upsets {
		if u.Kind >= upsetKinds || u.At < 0 || u.For < 0 || u.Share < 0 {
			return fmt.Errorf("sim: upset out of range: %+v", u)
		}
	}
	return nil
}

// giveControl draws a control plane. The world lives longer then, since managers think in hundreds of milliseconds, and has servers
// to move to.
func giveControl(s Source, p *Schedule) {
	c := &ControlPlan{Scratch: s.Draw("scratch cells", 4), Wishes: s.Draw("wishes", 12), Patience: 600*time.Millisecond + ms(s, "control patience", 600),
		Scan: 200*time.Millisecond + ms(s, "scan", 300)}
	p.Servers, p.Span, p.Control = serversMax, 2*time.Second, c
	for range s.Draw("upsets", 5) {
		u := Upset{Kind: UpsetKind(s.Draw("upset", int(upsetKinds))), At: ms(s, "upset at", 2000), For: 5*time.Millisecond + ms(s, "upset for", 500)}
		switch u.Kind {
		case ControlCut:
			u.Who = drawServers(s, p.Servers, 4)
		case StoreOld:
			u.Share = s.Draw("backup", 4)
		}
		c.Upsets = append(c.Upsets, u)
	}
}

// copyEvery is between two backups.
const copyEvery = 200 * time.Millisecond

func (c *control) keepCopies() {
	c.world.after(copyEvery, func() {
		if !c.world.healed && !c.vault.restored {
			c.vault.copy()
			c.keepCopies()
		}
	})
}

// upset makes an upset happen, and plans its end. Healing ends all of them, so none ends by itself after that. Twins are two at most:
// the older of them lives until the upset is over, or until it is fenced, which it learns only when it wants to write.
func (c *control) upset(u *Upset) {
	w := c.world
	if w.healed {
		return
	}
	w.trace.note(w.now, "%s for %v at %09b, share %d", u.Kind, u.For, u.Who, u.Share)
	until := func(end func()) {
		w.after(u.For, func() {
			if !w.healed {
				end()
			}
		})
	}
	w.report.Upsets[u.Kind]++
	switch u.Kind {
	case ControlPause:
		c.pauses++
		if p := c.active; p != nil {
			p.paused++
			until(func() { p.goOn() })
		}
		until(func() { c.pauses-- })
	case ControlCut:
		w.each(u.Who, func(s *server) { c.cut[s.at]++ })
		until(func() { w.each(u.Who, func(s *server) { c.cut[s.at]-- }) })
	case ControlTwins:
		if c.active == nil || c.active.dead || c.rival != nil && !c.rival.dead {
			return
		}
		c.rival = c.active
		c.active = c.run()
		until(func() { c.rival.kill() })
	default:
		if u.Kind != ControlCrash && !c.mayLoseStore() {
			return
		}
		c.downs++
		for _, p := range c.living() {
			p.kill()
		}
		if u.Kind == StoreLost {
			c.vault.lose(-1)
		} else if u.Kind == StoreOld {
			c.vault.lose(u.Share)
		}
		until(func() { c.downs--; c.start() })
	}
}

// mayLoseStore reports whether every cell with clients exists: names of which only the store knew would begin anew. That is no
// harm, since nothing was acknowledged, but then the cell would not be the one that the watchers know.
func (c *control) mayLoseStore() bool {
	for _, x := range c.people.wanted {
		if !isScratch(x.id) && !(x.settled || x.ended || !x.exists) {
			return false
		}
	}
	return true
}

// goOn ends one pause of a process.
func (p *process) goOn() {
	if p.paused--; p.paused == 0 && !p.dead {
		late := p.late
		p.late = nil
		for _, do := range late {
			do()
		}
		p.wake()
	}
}

// heal ends all upsets: one process runs, and reaches everybody.
func (c *control) heal() {
	w := c.world
	c.cut, c.pauses, c.downs = [siteMax]int{}, 0, 0
	if c.rival != nil {
		c.rival.kill()
	}
	if p := c.active; p != nil && !p.dead {
		p.paused = 1
		p.goOn()
	}
	c.start()
	for _, s := range w.servers {
		c.people.restore(s.id)
	}
}
