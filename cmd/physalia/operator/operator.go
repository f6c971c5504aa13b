// Package operator asks the control plane what people and trials ask of it: create and delete cells, list cells and
// servers, find members. Its connections live as long as one question; the client library, which keeps connections,
// routes and sessions for programs, is for the cells themselves.
package operator

import (
	"context"
	"errors"
	"fmt"
	"time"

	"physalia/cell"
	"physalia/internal/access"
	"physalia/internal/pki"
	"physalia/internal/rpc"
	"physalia/internal/wire"
)

// Operator says whom to ask. It is a plain value, safe for concurrent use.
type Operator struct {
	Colony    string   // name of the installation; empty: whichever answers
	Addresses []string // of the control plane, tried in order

	// Certs is how to prove who asks; the zero value is plain text, on loopback only. They are read anew for every connection.
	Certs pki.Settings

	Token  string // file of a token that allows what is asked; empty: none. It is read anew for every connection
	Reason string // why it is asked, for the control plane's record
}

// Dial opens a connection to one address of the colony, of the control plane or of a server.
func (o Operator) Dial(ctx context.Context, addr string) (*rpc.Conn, error) {
	guard, err := pki.Open(o.Certs, nil, nil)
	if err != nil {
		return nil, err
	}
	var show wire.Present
	if show.Reason = o.Reason; o.Token != "" {
		if !guard.Secure() {
			return nil, &cell.Error{Op: "token", Kind: cell.Invalid, Detail: "a token would cross in plain text", Hint: "set --certs, or drop --token: nobody asks for it in plain text"}
		}
		if show.Token, err = access.ReadToken(o.Token); err != nil {
			return nil, err
		}
	}
	conn, err := rpc.Dial(ctx, addr, rpc.Config{Hello: wire.Hello{Purpose: wire.ForClient, Colony: o.Colony}, FrameMax: wire.ControlFrameMax,
		DialContext: guard.Dialer(pki.AnyPort, nil)})
	if err == nil && show != (wire.Present{}) {
		if err = conn.Call(ctx, wire.MethodPresent, &show, nil); err != nil {
			conn.Close(nil)
			return nil, err
		}
	}
	return conn, err
}

// Ask sends one request to the control plane. Nothing is repeated: creating and deleting are idempotent, so the caller,
// who sees the error, may.
func (o Operator) Ask(ctx context.Context, op, method string, request, result wire.Message) error {
	conn, err := o.Control(ctx, op)
	if err != nil {
		return err
	}
	defer conn.Close(nil)
	return conn.Call(ctx, method, request, result)
}

// Create asks for cells, at most wire.BatchMax of them, and returns one outcome each. The control plane waits for their
// founding until shortly before ctx ends, so that its answer, which can say what is missing, arrives in time.
func (o Operator) Create(ctx context.Context, op string, request wire.CreateCells) ([]wire.Outcome, error) {
	request.Wait = waitFor(ctx)
	return o.outcomes(ctx, op, wire.MethodCreateCells, &request, len(request.Cells))
}

// CreateAll asks for any number of cells, batch after batch, and insists on every one of them.
func (o Operator) CreateAll(ctx context.Context, op string, ids []cell.ID) error {
	for from := 0; from < len(ids); from += wire.BatchMax {
		part := ids[from:min(from+wire.BatchMax, len(ids))]
		outcomes, err := o.Create(ctx, op, wire.CreateCells{Cells: part})
		if err != nil {
			return err
		}
		for i := range outcomes {
			if failure := outcomes[i].Err; failure != nil {
				return fmt.Errorf("create %s: %w", part[i], failure)
			}
		}
	}
	return nil
}

// Delete asks for the deletion of cells, at most wire.BatchMax of them, and waits for their seals as Create does.
func (o Operator) Delete(ctx context.Context, op string, request wire.DeleteCells) ([]wire.Outcome, error) {
	request.Wait = waitFor(ctx)
	return o.outcomes(ctx, op, wire.MethodDeleteCells, &request, len(request.Drops))
}

// Replace asks for one member of a cell to be replaced, and waits until the cell does without the old one; an empty add leaves
// the choice to placement.
func (o Operator) Replace(ctx context.Context, op string, id cell.ID, remove, add cell.ServerID) error {
	request := &wire.ReplaceMember{Cell: id, Remove: remove, Add: add, Wait: waitFor(ctx)}
	outcomes, err := o.outcomes(ctx, op, wire.MethodReplaceMember, request, 1)
	if err == nil && outcomes[0].Err != nil {
		return outcomes[0].Err // not assigned to err, in which a nil pointer would not be nil
	}
	return err
}

// Locate tells where the users of a volume are, and waits until its cell's nodes are as near as they can be.
func (o Operator) Locate(ctx context.Context, op string, request wire.LocateVolume) error {
	request.Wait = waitFor(ctx)
	outcomes, err := o.outcomes(ctx, op, wire.MethodLocate, &request, 1)
	if err == nil && outcomes[0].Err != nil {
		return outcomes[0].Err // as in Replace
	}
	return err
}

// outcomes asks for a batch and insists on one answer per element.
func (o Operator) outcomes(ctx context.Context, op, method string, request wire.Message, n int) ([]wire.Outcome, error) {
	var reply wire.Outcomes
	if err := o.Ask(ctx, op, method, request, &reply); err != nil {
		return nil, err
	}
	if len(reply.Outcomes) != n {
		return nil, &cell.Error{Op: op, Kind: cell.UnknownResult, Detail: fmt.Sprintf("%d answers for %d cells", len(reply.Outcomes), n),
			Hint: "see `physalia cell list`"}
	}
	return reply.Outcomes, nil
}

// waitMax bounds what the control plane is asked to wait.
const waitMax = 5 * time.Minute

// waitFor is how many milliseconds the control plane may take: nine tenths of what ctx leaves.
func waitFor(ctx context.Context) uint32 {
	left := waitMax
	if deadline, ok := ctx.Deadline(); ok {
		left = min(time.Until(deadline)*9/10, waitMax)
	}
	return uint32(max(left, time.Millisecond) / time.Millisecond)
}

// Cells lists all cells whose name begins with a prefix, in order. The pages are not one snapshot: a cell that is created
// meanwhile may or may not be there, but none is listed twice.
func (o Operator) Cells(ctx context.Context, op, prefix string) (all []wire.CellInfo, err error) {
	err = o.EachCell(ctx, op, prefix, func(page []wire.CellInfo) error {
		all = append(all, page...)
		return nil
	})
	return all, err
}

// EachCell visits the cells as Cells lists them, page by page, for who does not want to hold a million of them. An error of visit ends it.
func (o Operator) EachCell(ctx context.Context, op, prefix string, visit func(page []wire.CellInfo) error) error {
	conn, err := o.Control(ctx, op)
	if err != nil {
		return err
	}
	defer conn.Close(nil)
	for request := (wire.ListCells{Prefix: prefix, Limit: wire.ListLimitMax}); ; {
		var page wire.CellList
		if err := conn.Call(ctx, wire.MethodListCells, &request, &page); err != nil {
			return err
		}
		if err := visit(page.Cells); err != nil {
			return err
		}
		if !page.More || len(page.Cells) == 0 {
			return nil
		}
		request.After = page.Cells[len(page.Cells)-1].Cell
	}
}

// Cell asks the lifecycle manager for one cell; one that it does not know is NotFound.
func (o Operator) Cell(ctx context.Context, op string, id cell.ID) (*wire.CellInfo, error) {
	if err := id.Check(); err != nil {
		return nil, err
	}
	var page wire.CellList
	if err := o.Ask(ctx, op, wire.MethodListCells, &wire.ListCells{Prefix: string(id), Limit: 1}, &page); err != nil {
		return nil, err
	}
	// The name itself is the first in the order of all names that begin with it.
	// So a page of one entry is enough to know.
	if len(page.Cells) == 0 || page.Cells[0].Cell != id {
		return nil, &cell.Error{Op: op, Kind: cell.NotFound, Cell: id, Detail: "the lifecycle manager does not know this cell",
			Hint: "see `physalia cell list`"}
	}
	return &page.Cells[0], nil
}

// Members asks discovery for the members of a cell; a cell that it does not know is NotFound.
func (o Operator) Members(ctx context.Context, op string, id cell.ID) ([]wire.Founder, error) {
	var routes wire.Routes
	if err := o.Ask(ctx, op, wire.MethodLookup, &wire.LookupRequest{Cells: []cell.ID{id}}, &routes); err != nil {
		return nil, err
	}
	if len(routes.Routes) != 1 || len(routes.Routes[0].Members) == 0 {
		return nil, &cell.Error{Op: op, Kind: cell.NotFound, Cell: id, Detail: "discovery does not know this cell",
			Hint: "see `physalia cell show " + string(id) + "`, or name a server that hosts it with --server"}
	}
	return routes.Routes[0].Members, nil
}

// pollEvery is how often a condition is looked at. The control plane has no way to tell a command that something happened,
// and a trial asks for a few seconds only.
const pollEvery = 50 * time.Millisecond

// AwaitServers waits until at least n servers are up, or ctx ends, or check fails; check runs before every look. The
// error tells how many there were.
func (o Operator) AwaitServers(ctx context.Context, n int, check func() error) error {
	const op = "operator.await"
	ticker := time.NewTicker(pollEvery)
	defer ticker.Stop()
	var last error
	for up := 0; ; {
		if err := check(); err != nil {
			return err
		}
		servers, err := o.Servers(ctx, op)
		if err == nil {
			up = 0
			for _, s := range servers {
				if s.Up {
					up++
				}
			}
			if up >= n {
				return nil
			}
		}
		last = err
		select {
		case <-ctx.Done():
			return &cell.Error{Op: op, Kind: cell.Unavailable, Detail: fmt.Sprintf("%d of %d servers are up", up, n),
				Hint: "look at the logs of the others", Err: errors.Join(ctx.Err(), last)}
		case <-ticker.C:
		}
	}
}
