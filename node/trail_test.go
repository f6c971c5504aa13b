package node

import (
	"context"
	"fmt"
	"strings"
	"time"

	"physalia/cell"
	"physalia/internal/wire"
)

// trailMax is how many of the newest lines a trail keeps; as many of the oldest are kept, too.
const trailMax = 40

// trail is what a test tried, and when: how it began and how it went in the end, for when it waited in vain.
type trail struct {
	began         time.Time
	first, newest []string
	left          int // notes between the two
}

func (t *trail) note(format string, args ...any) {
	if t.began.IsZero() {
		t.began = time.Now()
	}
	line := fmt.Sprintf("%8.3fs ", time.Since(t.began).Seconds()) + fmt.Sprintf(format, args...)
	if len(t.first) < trailMax {
		t.first = append(t.first, line)
		return
	}
	if len(t.newest) == trailMax {
		t.newest = t.newest[1:]
		t.left++
	}
	t.newest = append(t.newest, line)
}

func (t *trail) String() string {
	return fmt.Sprintf("%s\n... %d more ...\n%s", strings.Join(t.first, "\n"), t.left, strings.Join(t.newest, "\n"))
}

// explain tells what every server that runs says of a cell: who leads, and whom each believes to be alive and supports.
func (c *testColony) explain(id cell.ID) string {
	var b strings.Builder
	for i, s := range c.servers {
		if s == nil || c.session(s) == nil {
			fmt.Fprintf(&b, "server %d is stopped\n", i+1)
			continue
		}
		fmt.Fprintf(&b, "server %d (%s): ", i+1, s.Identity().Server)
		x, err := c.explanation(i, id)
		if err != nil {
			fmt.Fprintf(&b, "%v; its loop last turned %v ago\n", err, s.vitals.sinceTurn())
			continue
		}
		fmt.Fprintf(&b, "%s %s, promised %s, leader %s, chosen %d, applied %d, revision %d %s;", x.State, x.Role, x.Promised, x.Leader,
			x.Chosen, x.Applied, x.Revision, x.Note)
		for _, m := range x.Members {
			fmt.Fprintf(&b, " %d:%s", m.Node, flags(m.Alive, "alive", m.Supported, "supported", m.Supports, "supports", m.Confirmed, "counts"))
		}
		b.WriteByte('\n')
	}
	return b.String()
}

// flags names those that are set.
func flags(pairs ...any) string {
	var set []string
	for i := 0; i < len(pairs); i += 2 {
		if pairs[i].(bool) {
			set = append(set, pairs[i+1].(string))
		}
	}
	return "[" + strings.Join(set, " ") + "]"
}

// explanation asks one server.
func (c *testColony) explanation(i int, id cell.ID) (*wire.Explanation, error) {
	conn, err := c.dial(i)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(context.Background(), patience/4)
	defer cancel()
	var x wire.Explanation
	return &x, conn.Call(ctx, wire.MethodExplain, &wire.ExplainRequest{Header: wire.Header{Cell: id, Timeout: 2000}}, &x)
}
