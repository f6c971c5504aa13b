package health

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/datadriven"
	"pgregory.net/rapid"

	"physalia/cell"
	"physalia/internal/wire"
)

func registration(id cell.ServerID, boot uint64) wire.Registration {
	return wire.Registration{Server: id, Name: "n-" + string(id), Colony: "c", Brick: "b1", Rack: "r1", Power: "p1", Color: "red", Boot: boot, Capacity: 100}
}

func tracker(t testing.TB, c Config) *Tracker {
	t.Helper()
	k, err := NewTracker(c)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

// TestStories runs the transcripts in testdata/stories: one input per line, "<time> <input> [server] [arguments]", and prints
// every verdict with its time. Ticks happen where they are written. Rewrite with -rewrite.
func TestStories(t *testing.T) {
	datadriven.Walk(t, "testdata/stories", func(t *testing.T, path string) {
		k := tracker(t, DefaultConfig())
		datadriven.RunTest(t, path, func(t *testing.T, d *datadriven.TestData) string {
			var b strings.Builder
			switch d.Cmd {
			case "step":
				for line := range strings.Lines(d.Input) {
					tell(t, &b, k, strings.Fields(line))
				}
			case "margin":
				var jury []cell.ServerID
				for _, a := range d.CmdArgs {
					jury = append(jury, cell.ServerID(a.Key))
				}
				live, margin := k.Margin(jury)
				fmt.Fprintf(&b, "%d of %d live, margin %d", live, len(jury), margin)
			default:
				d.Fatalf(t, "unknown command %s", d.Cmd)
			}
			if b.Len() == 0 {
				return "nothing changes"
			}
			return b.String()
		})
	})
}

// tell gives one line of a story to the tracker.
func tell(t *testing.T, b *strings.Builder, k *Tracker, f []string) {
	now, err := time.ParseDuration(f[0])
	if err != nil {
		t.Fatal(err)
	}
	id, boot := cell.ServerID(""), uint64(1)
	if len(f) > 2 {
		id = cell.ServerID(f[2])
	}
	if len(f) > 3 {
		if _, err := fmt.Sscanf(f[3], "boot=%d", &boot); err != nil && f[1] != "fail" && f[1] != "moved" {
			t.Fatal(err)
		}
	}
	var out []Verdict
	switch f[1] {
	case "seen":
		out, err = k.ServerSeen(now, registration(id, boot))
	case "moved":
		r := registration(id, boot)
		r.Rack = f[3]
		out, err = k.ServerSeen(now, r)
	case "recall":
		err = k.Recall(now, registration(id, boot))
	case "connected":
		k.Connected(now, id)
	case "disconnected":
		k.Disconnected(now, id)
	case "ping":
		k.PingSent(now, id)
	case "pong":
		out = k.PongHeard(now, id, boot, 0)
	case "fail":
		k.PingFailed(now, id, strings.Join(f[3:], " "))
	case "tick":
		out = k.Tick(now)
	default:
		t.Fatalf("unknown input %s", f[1])
	}
	if err != nil {
		fmt.Fprintf(b, "%s %v\n", f[0], err)
	}
	for _, v := range out {
		fmt.Fprintf(b, "%v %s\n", v.At, v)
	}
}

// TestVerdictsDoNotFlap: whatever happens, no server is up for less than the rule allows, nor down.
func TestVerdictsDoNotFlap(t *testing.T) {
	changes := 0
	rapid.Check(t, func(t *rapid.T) {
		c := Config{ServersMax: 10,
			DisconnectedMax: time.Duration(rapid.IntRange(1, 50).Draw(t, "disconnected")) * 100 * time.Millisecond,
			SilentMax:       time.Duration(rapid.IntRange(1, 50).Draw(t, "silent")) * 100 * time.Millisecond,
			ReturnMin:       time.Duration(rapid.IntRange(0, 50).Draw(t, "return")) * 100 * time.Millisecond}
		k, err := NewTracker(c)
		if err != nil {
			t.Fatal(err)
		}
		var now time.Duration
		last, boot := map[cell.ServerID]Verdict{}, uint64(1)
		for range rapid.IntRange(1, 200).Draw(t, "inputs") {
			now += time.Duration(rapid.SampledFrom([]int{0, 10, 100, 400, 1000, 3000}).Draw(t, "ms")) * time.Millisecond
			for _, v := range randomInput(t, k, now, &boot) {
				before, known := last[v.Server]
				least := min(c.DisconnectedMax, c.SilentMax)
				if v.Up {
					least = c.ReturnMin
				}
				if known && (before.Up == v.Up || v.At-before.At < least) {
					t.Fatalf("%v %s, after %v %s: allowed after %v", v.At, v, before.At, before, least)
				}
				if v.At != now || k.Up(v.Server) != v.Up {
					t.Fatalf("%v: verdict %v %s, but up is %v", now, v.At, v, k.Up(v.Server))
				}
				last[v.Server] = v
				changes++
			}
		}
		for _, s := range k.List(wire.ListServers{}, now).Servers {
			if v := last[s.Registration.Server]; v.Up != s.Up {
				t.Fatalf("list says up %v, the last verdict was %s", s.Up, v)
			}
		}
	})
	if changes == 0 {
		t.Fatal("no verdict was ever given")
	}
}

func randomInput(t *rapid.T, k *Tracker, now time.Duration, boot *uint64) []Verdict {
	id := rapid.SampledFrom([]cell.ServerID{"s1", "s2", "s3"}).Draw(t, "server")
	switch rapid.SampledFrom([]string{"seen", "recall", "connected", "disconnected", "ping", "pong", "pong", "fail", "tick", "tick", "tick"}).Draw(t, "input") {
	case "seen":
		*boot += uint64(rapid.IntRange(0, 1).Draw(t, "restart"))
		out, err := k.ServerSeen(now, registration(id, *boot))
		if err != nil {
			t.Fatal(err)
		}
		return out
	case "recall":
		if err := k.Recall(now, registration(id, *boot)); err != nil {
			t.Fatal(err)
		}
	case "connected":
		k.Connected(now, id)
	case "disconnected":
		k.Disconnected(now, id)
	case "ping":
		k.PingSent(now, id)
	case "pong":
		return k.PongHeard(now, id, *boot, 0)
	case "fail":
		k.PingFailed(now, id, "timeout")
	case "tick":
		return k.Tick(now)
	}
	return nil
}

// TestVerdictsSettle: after any past, a server that answers is up, and one that is gone is down, within the rule's times.
func TestVerdictsSettle(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		k, err := NewTracker(DefaultConfig())
		if err != nil {
			t.Fatal(err)
		}
		var now time.Duration
		boot := uint64(1)
		for range rapid.IntRange(0, 50).Draw(t, "inputs") {
			now += time.Duration(rapid.IntRange(0, 2000).Draw(t, "ms")) * time.Millisecond
			randomInput(t, k, now, &boot)
		}
		for _, id := range []cell.ServerID{"s1", "s2", "s3"} {
			if _, err := k.ServerSeen(now, registration(id, boot)); err != nil {
				t.Fatal(err)
			}
		}
		k.Disconnected(now, "s2")
		k.PingSent(now, "s3")
		for end := now + 5*time.Second; now < end; {
			now += 250 * time.Millisecond
			k.PingSent(now, "s1")
			k.PongHeard(now, "s1", boot, 0)
			k.Tick(now)
		}
		if !k.Up("s1") || k.Up("s2") || k.Up("s3") {
			t.Fatalf("up are s1 %v, s2 %v, s3 %v; want only s1", k.Up("s1"), k.Up("s2"), k.Up("s3"))
		}
		if live, margin := k.Margin([]cell.ServerID{"s1", "s2", "s3"}); live != 1 || margin != -1 {
			t.Fatalf("%d live, margin %d", live, margin)
		}
	})
}

func TestListPages(t *testing.T) {
	k := tracker(t, DefaultConfig())
	const n = 2*wire.ListLimitMax + 5
	for i := range n {
		id := cell.ServerID(fmt.Sprintf("s%04d", (i*7)%n)) // not in order
		if _, err := k.ServerSeen(time.Second, registration(id, 1)); err != nil {
			t.Fatal(err)
		}
	}
	for _, limit := range []uint32{0, 1 << 30, wire.ListLimitMax, 100} {
		var got []cell.ServerID
		req := wire.ListServers{Limit: limit}
		for more := true; more; {
			list := k.List(req, 3500*time.Millisecond)
			if len(list.Servers) == 0 || len(list.Servers) > wire.ListLimitMax || (limit == 100 && len(list.Servers) > 100) {
				t.Fatalf("page of %d servers", len(list.Servers))
			}
			for _, s := range list.Servers {
				if got = append(got, s.Registration.Server); !s.Up || s.Since != 2500 {
					t.Fatalf("%+v", s)
				}
			}
			req.After, more = got[len(got)-1], list.More
		}
		if len(got) != n || got[0] != "s0000" || got[n-1] != cell.ServerID(fmt.Sprintf("s%04d", n-1)) {
			t.Fatalf("limit %d: %d servers", limit, len(got))
		}
	}
	if list := k.List(wire.ListServers{After: "s00005"}, 0); list.Servers[0].Registration.Server != "s0001" || list.Servers[0].Since != 0 {
		t.Fatalf("after an unknown identity, in an earlier moment: %+v", list.Servers[0])
	}
}

func TestBounds(t *testing.T) {
	c := DefaultConfig()
	c.ServersMax = 1
	k := tracker(t, c)
	if _, err := k.ServerSeen(0, registration("s1", 1)); err != nil {
		t.Fatal(err)
	}
	if err := k.Recall(0, registration("s2", 1)); cell.KindOf(err) != cell.Refused || !strings.Contains(err.Error(), "1 servers are known") {
		t.Fatalf("got %v", err)
	}
	if !k.Forget("s1") || k.Forget("s1") || k.Len() != 0 || len(k.List(wire.ListServers{}, 0).Servers) != 0 {
		t.Fatalf("%d servers after the last was forgotten", k.Len())
	}
	if err := k.Recall(0, registration("s2", 1)); err != nil {
		t.Fatal(err)
	}
	for _, bad := range []Config{{}, {DisconnectedMax: 1, SilentMax: 1}, {DisconnectedMax: 1, SilentMax: 1, ReturnMin: -1, ServersMax: 1}} {
		if _, err := NewTracker(bad); cell.KindOf(err) != cell.Invalid {
			t.Errorf("%+v: got %v", bad, err)
		}
	}
}
