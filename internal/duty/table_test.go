package duty

import (
	"fmt"
	"testing"

	"physalia/internal/roster"
	"physalia/internal/wire"
)

func instances(n, active int) (list []roster.Instance) {
	for i := range n {
		name := fmt.Sprintf("control-%d", i+1)
		list = append(list, roster.Instance{Name: name, Addr: name + ":7300", Active: i == active})
	}
	return list
}

func without(list []roster.Instance, name string) (rest []roster.Instance) {
	for _, i := range list {
		if i.Name != name {
			rest = append(rest, i)
		}
	}
	return rest
}

const bricks = 3000

func owners(list []roster.Instance) map[string]string {
	t, m := NewTable("", list), map[string]string{}
	for b := range bricks {
		brick := fmt.Sprintf("b%d", b)
		if h, ok := t.Holder(wire.DutyHealth, brick); ok {
			m[brick] = h.Name
		}
	}
	return m
}

// Only the bricks of an instance that comes or goes change hands, and each instance has about its share.
func TestOnlyTheBricksConcernedMove(t *testing.T) {
	five := instances(5, 0)
	before, count := owners(five), map[string]int{}
	for _, name := range before {
		count[name]++
	}
	for _, i := range five {
		if n := count[i.Name]; n < bricks/5*8/10 || n > bricks/5*12/10 {
			t.Errorf("%s has %d of %d bricks", i.Name, n, bricks)
		}
		after := owners(without(five, i.Name))
		for brick, name := range before {
			if name == i.Name && after[brick] == i.Name {
				t.Fatalf("brick %s stays with %s, which is dead", brick, name)
			}
			if name != i.Name && after[brick] != name {
				t.Fatalf("brick %s moves from %s to %s because %s dies", brick, name, after[brick], i.Name)
			}
		}
	}
}

// The weights are part of what instances of different versions have to agree on.
func TestOwnersNeverChangeWithTheVersion(t *testing.T) {
	table := NewTable("", instances(3, 0))
	got := ""
	for _, brick := range []string{"b1", "b2", "b3", "b4", "b5", "b6", "brick-east-17", ""} {
		h, _ := table.Holder(wire.DutyDiscovery, brick)
		got += h.Name[len("control-"):]
	}
	if want := "11123121"; got != want {
		t.Errorf("owners are %s, want %s", got, want)
	}
}

func TestTableNamesHolders(t *testing.T) {
	three := instances(3, 1)
	owner := owners(three)["b7"]
	for _, self := range three {
		table := NewTable(self.Name, three)
		mine, seen := table.Mine("b7"), wire.Duties(0)
		for _, h := range table.Elsewhere(wire.AllDuties, "b7") {
			if h.Name == self.Name || h.Addr != h.Name+":7300" || h.Duties&seen != 0 {
				t.Errorf("%s: holder %+v", self.Name, h)
			}
			seen |= h.Duties
		}
		if mine&seen != 0 || mine|seen != wire.AllDuties {
			t.Errorf("%s has %v and names holders of %v", self.Name, mine, seen)
		}
		if (mine&wire.DutyLifecycle != 0) != self.Active || (mine&wire.DutyHealth != 0) != (self.Name == owner) {
			t.Errorf("%s has %v; the owner is %s", self.Name, mine, owner)
		}
		if table.Addr() != self.Addr {
			t.Errorf("%s is at %q", self.Name, table.Addr())
		}
	}
	table := NewTable("control-1", instances(2, -1)) // an election is under way
	if h := table.Elsewhere(wire.DutyLifecycle, "b7"); len(h) != 0 || table.Mine("b7")&wire.DutyLifecycle != 0 {
		t.Errorf("nobody is active, yet %+v", h)
	}
	if table := NewTable("control-1", nil); table.Mine("b7") != 0 || table.Addr() != "" || len(table.Elsewhere(wire.AllDuties, "b7")) != 0 {
		t.Error("an instance that its roster does not list has a duty")
	}
}
