package core

import (
	"testing"
	"time"

	"physalia/cell"
	"physalia/internal/wire"
)

// A report says of every server that was asked about when it was last heard: lately while it lives, ever longer ago when it is cut
// off, never when it refuses connections; and there is no lane to whom nothing is shared with.
func TestReportOfPeers(t *testing.T) {
	c := supportedColony(t)
	ask := func() []wire.PeerHeard {
		return c.servers[0].core.Report(&wire.ReportRequest{Peers: []cell.ServerID{serverID(1), serverID(2), "s-stranger", serverID(0)}}).Peers
	}
	got := ask()
	if !got[0].Lane || got[0].Age > 1000 || !got[1].Lane || got[1].Age > 1000 || got[2].Lane || got[3].Lane {
		t.Fatalf("all well: %+v", got)
	}
	c.apart(1)
	c.wait(10 * time.Second)
	if got = ask(); got[0].Age < 9000 || got[0].Age > 11000 || got[1].Age > 1000 {
		t.Fatalf("one cut off for 10 s: %+v", got)
	}
	c.servers[0].core.Gone(serverID(1))
	if got = ask(); !got[0].Lane || got[0].Age != neverHeard {
		t.Fatalf("nothing listens there: %+v", got)
	}
}

// A node that went out of service since the last Tick is not weighed.
func TestReportAfterQuarantine(t *testing.T) {
	c := supportedColony(t)
	b := c.servers[0].core
	b.quarantine(b.find("vol-1"), Violated, "test")
	if report := b.Report(&wire.ReportRequest{}); report.Sampled != 0 || report.Bytes != 0 {
		t.Fatalf("%+v", report)
	}
}

// A report weighs nodes that are in memory, as many as it may.
func TestReportOfBytes(t *testing.T) {
	c := supportedColony(t)
	report := c.servers[0].core.Report(&wire.ReportRequest{})
	if n, _, _ := c.servers[0].core.Counts(); n != 1 || report.Sampled != 1 || report.Bytes == 0 || len(report.Peers) != 0 {
		t.Fatalf("%d nodes, %+v", n, report)
	}
}

// A node that has just been quarantined or wiped is still in the list of those in memory, and has nothing there any more.
func TestReportWithoutWhatIsGone(t *testing.T) {
	for name, lose := range map[string]func(c *colony, core *Core){
		"quarantined": func(_ *colony, core *Core) { core.quarantine(core.find("vol-1"), Violated, "test") },
		"wiped": func(c *colony, _ *Core) {
			if err := c.dropAt(0, "vol-1", 1, true); err != nil {
				t.Fatal(err)
			}
		},
	} {
		c := supportedColony(t)
		core := c.servers[0].core
		lose(c, core)
		if len(core.hotList) != 1 || core.hotList[0].hot != nil {
			t.Fatalf("%s: %d nodes are listed as in memory; the case is not met", name, len(core.hotList))
		}
		if r := core.Report(&wire.ReportRequest{}); r.Sampled != 0 || r.Bytes != 0 {
			t.Errorf("%s: %+v", name, r)
		}
	}
}
