package core

import (
	"testing"
	"time"

	"physalia/internal/wire"
	"physalia/paxos"
)

// What is proposed while a notice is owed waits for as long as any proposal before it is repeated, not for what the notice has waited
// already: with many cells that are each written a few times a second, nearly every Accept would go out twice.
func TestNoRepeatForWhatTheNoticeWaited(t *testing.T) {
	c := newColony(t, 7)
	c.create("vol-1")
	c.wait(acquainted)
	c.mustCount(0, "vol-1", 1, 1)
	core := c.servers[0].core
	c.wait(core.cfg.NoticeAfter - 100*time.Millisecond)
	if !core.find("vol-1").hot.replica.OwesNotice() {
		t.Fatal("no notice is owed, so this test shows nothing")
	}
	asked := 0
	c.lost = func(_, _ int, m *paxos.Message) bool {
		if m.Kind == paxos.MsgAccept {
			asked++
		}
		return m.Kind == paxos.MsgAccepted
	}
	c.send(0, wire.MethodTxn, &wire.TxnRequest{Header: header("vol-1"), Request: requestOf(2), Txn: increment("n")})
	c.wait(core.cfg.NudgeAfter - 20*time.Millisecond)
	if asked != 6 {
		t.Errorf("%d Accepts in less than NudgeAfter, want one for each other member", asked)
	}
	c.wait(2 * core.cfg.NudgeAfter)
	if asked < 12 {
		t.Errorf("%d Accepts: what was lost is not repeated", asked)
	}
}
