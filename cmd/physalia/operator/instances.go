package operator

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"physalia/cell"
	"physalia/internal/rpc"
	"physalia/internal/wire"
)

// Instances asks which control processes there are. The first address that answers tells what it knows, also while none of
// them is active.
func (o Operator) Instances(ctx context.Context, op string) (*wire.InstanceList, error) {
	var list wire.InstanceList
	if err := o.Ask(ctx, op, wire.MethodListInstances, nil, &list); err != nil {
		return nil, err
	}
	return &list, nil
}

// Servers lists all servers that have registered, in order of their identities. Each control process watches the servers of some
// bricks, so all that are alive are asked; when one of them does not answer, the list would lack its bricks, and is an error.
func (o Operator) Servers(ctx context.Context, op string) ([]wire.ServerState, error) {
	instances, err := o.Instances(ctx, op)
	if err != nil {
		return nil, err
	}
	byID := map[cell.ServerID]wire.ServerState{}
	for _, i := range instances.Instances {
		if err := o.serversAt(ctx, i.Addr, byID); err != nil {
			return nil, &cell.Error{Op: op, Kind: cell.Unavailable, Detail: fmt.Sprintf("control instance %s at %s does not say which servers it watches", i.Name, i.Addr),
				Hint: "if it is down, others take its bricks over within seconds: ask again", Err: err}
		}
	}
	all := make([]wire.ServerState, 0, len(byID))
	for _, s := range byID {
		all = append(all, s)
	}
	slices.SortFunc(all, func(a, b wire.ServerState) int {
		return strings.Compare(string(a.Registration.Server), string(b.Registration.Server))
	})
	return all, nil
}

// serversAt adds what one instance watches. While a brick changes hands, two may list its servers: who sees one up is right,
// and otherwise who has seen it last.
func (o Operator) serversAt(ctx context.Context, addr string, byID map[cell.ServerID]wire.ServerState) error {
	conn, err := o.Dial(ctx, addr)
	if err != nil {
		return err
	}
	defer conn.Close(nil)
	return eachServer(ctx, conn, func(s wire.ServerState) {
		was, known := byID[s.Registration.Server]
		if !known || s.Up && !was.Up || s.Up == was.Up && s.Since < was.Since {
			byID[s.Registration.Server] = s
		}
	})
}

// eachServer reads all pages of one instance.
func eachServer(ctx context.Context, conn *rpc.Conn, visit func(wire.ServerState)) error {
	for request := (wire.ListServers{Limit: wire.ListLimitMax}); ; {
		var page wire.ServerList
		if err := conn.Call(ctx, wire.MethodListServers, &request, &page); err != nil {
			return err
		}
		for _, s := range page.Servers {
			visit(s)
		}
		if !page.More || len(page.Servers) == 0 {
			return nil
		}
		request.After = page.Servers[len(page.Servers)-1].Registration.Server
	}
}
