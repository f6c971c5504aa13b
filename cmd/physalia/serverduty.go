package main

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"physalia/cell"
	"physalia/internal/wire"
)

// serverDuties are the commands about servers that run, beside the one that runs one.
func (a *app) serverDuties() []*cobra.Command {
	return []*cobra.Command{
		a.serverList(),
		a.serverDuty("drain SERVER", "draining", "Empty a server: its cells move elsewhere, and it gets no new ones",
			"Have the control plane move every cell off a server, within its limits, one member per cell at a time. The server keeps\n"+
				"serving meanwhile. The order is durable; undrain takes it back."),
		a.serverDuty("decommission SERVER", "decommissioning", "Empty a server and retire its identity for good",
			"As drain; once the server hosts nothing, its identity is retired: it may never register again, and its process can be\n"+
				"stopped and its disk wiped. Until then undrain takes the order back."),
		a.serverDuty("undrain SERVER", "serving", "Use a server again that was drained",
			"Take back drain, or decommission as long as the server is not empty. What has moved away stays where it is."),
	}
}

// Emptying takes as long as the limits make it, so a command only gives the order; whoever wants to wait looks at the list.
//
// An order is told to the control plane, never to the server: what empties itself is the lifecycle manager's book, at its pace.
//
// serverDuty orders what a server is to be.
func (a *app) serverDuty(use, duty, short, long string) *cobra.Command {
	var by string
	cmd := &cobra.Command{
		Use:   use,
		Short: short,
		Long:  long + " SERVER is an identity, or a name\nthat only one server has. `physalia server list` and `physalia control status` show how far it is.",
		Args:  args("SERVER", 1, 1),
		RunE: func(cmd *cobra.Command, given []string) error {
			op := cmd.CommandPath()
			ctx, cancel := a.limited(cmd.Context())
			defer cancel()
			id, err := a.resolveServer(ctx, op, given[0])
			if err != nil {
				return err
			}
			// Health and the lifecycle manager may know different servers; the latter decides whether the order makes sense.
			if err := a.operator().SetDuty(ctx, op, wire.ServerDuty{Server: id, Duty: duty, By: orderer(by), Reason: a.reason}); err != nil {
				return err
			}
			return a.emitServers(ctx, op, id)
		},
	}
	orderFlags(cmd, &by)
	return cmd
}

// resolveServer finds a server by identity or by name. An identity that nobody knows is left for the control plane to refuse.
func (a *app) resolveServer(ctx context.Context, op, text string) (cell.ServerID, error) {
	servers, err := a.operator().Servers(ctx, op)
	if err != nil {
		return "", err
	}
	// An identity wins over a name: somebody may have named a server like another one's identity.
	var named []string
	for _, s := range servers {
		switch {
		case string(s.Registration.Server) == text:
			return s.Registration.Server, nil
		case s.Registration.Name == text:
			named = append(named, string(s.Registration.Server))
		}
	}
	switch len(named) {
	case 0:
		return cell.ServerID(text), nil
	case 1:
		return cell.ServerID(named[0]), nil
	}
	return "", usage(op, "give the identity", "%d servers have the name %q: %s", len(named), text, strings.Join(named, " "))
}

// serverList shows the servers that have registered.
func (a *app) serverList() *cobra.Command {
	return &cobra.Command{
		Use:         "list",
		Short:       "List the servers, where they stand, and what is ordered of them",
		Long:        "List every server that the control plane knows, in order of identities.",
		Args:        args("", 0, 0),
		Annotations: readOnly,
		RunE: func(cmd *cobra.Command, _ []string) error {
			ctx, cancel := a.limited(cmd.Context())
			defer cancel()
			return a.emitServers(ctx, cmd.CommandPath(), "")
		},
	}
}

// serverView is one server as -o json shows it.
type serverView struct {
	Server       string  `json:"server"`        // identity, which the data directory keeps
	Name         string  `json:"name"`          // for people; several may have one
	Brick        string  `json:"brick"`         // where it stands, as it registered
	Rack         string  `json:"rack"`          // inside the brick
	Power        string  `json:"power"`         // domain that feeds it
	Color        string  `json:"color"`         // of the software that it runs
	Up           bool    `json:"up"`            // as health sees it
	SinceSeconds float64 `json:"since_seconds"` // that it has been up, or down
	Nodes        uint64  `json:"nodes"`         // that it hosts, by its own count
	Capacity     uint64  `json:"capacity"`      // that it is willing to host
	Duty         string  `json:"duty"`          // serving, draining, decommissioning or retired
	NodesLeft    uint64  `json:"nodes_left"`    // to be moved, of a server that is emptied
	Waiting      string  `json:"waiting"`       // why no more of them is moved now
}

// Two parts of the control plane know half of it each: health, who is up, and the lifecycle manager, what is ordered. The two
// answers are not of one moment.
//
// emitServers shows all servers, or one.
func (a *app) emitServers(ctx context.Context, op string, only cell.ServerID) error {
	servers, err := a.operator().Servers(ctx, op)
	if err != nil {
		return err
	}
	s, err := a.operator().Status(ctx, op, 0)
	if err != nil {
		return err
	}
	// A server without an entry serves: orders are the exception.
	drains := map[cell.ServerID]*wire.DrainState{}
	for i := range s.Drains {
		drains[s.Drains[i].Server] = &s.Drains[i]
	}
	views, rows := []serverView{}, [][]string{}
	for _, x := range servers {
		g := x.Registration
		// After an order only the server in question is shown.
		if only != "" && g.Server != only {
			continue
		}
		v := serverView{Server: string(g.Server), Name: g.Name, Brick: g.Brick, Rack: g.Rack, Power: g.Power, Color: g.Color, Up: x.Up,
			SinceSeconds: float64(x.Since) / 1000, Nodes: g.Nodes, Capacity: g.Capacity, Duty: "serving"}
		left := ""
		if d := drains[g.Server]; d != nil {
			v.Duty, v.NodesLeft, v.Waiting = d.Duty, d.Nodes, d.Waiting
			left = strconv.FormatUint(d.Nodes, 10)
		}
		up := "down"
		if x.Up {
			up = "up"
		}
		since := time.Duration(x.Since) * time.Millisecond
		rows = append(rows, []string{v.Server, v.Name, v.Brick, v.Rack, v.Power, v.Color, fmt.Sprintf("%s %s", up, since.Round(time.Second)), strconv.FormatUint(g.Nodes, 10), v.Duty, left, v.Waiting})
		views = append(views, v)
	}
	return a.emit(map[string]any{"servers": views}, []string{"SERVER", "NAME", "BRICK", "RACK", "POWER", "COLOR", "STATE", "NODES", "DUTY", "LEFT", "WAITS FOR"}, rows)
}
