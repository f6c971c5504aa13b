package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/spf13/cobra"

	"physalia/cell"
	"physalia/internal/wire"
)

// `cell explain` is the command for three in the morning. It believes nobody but the members: it asks each of them, prints what
// each says side by side, and draws no conclusion that the columns do not show. Equal hashes at equal revisions mean equal
// states; a lag that does not shrink, or a promise far above the others', is where to look.

// view is what one member answered, or why it did not.
type view struct {
	member wire.Founder
	said   wire.Explanation
	err    error
}

// explanationDocument is one member's view under -o json.
type explanationDocument struct {
	Node          uint64         `json:"node"`                 // number within the cell
	Server        string         `json:"server"`               // identity
	State         string         `json:"state,omitempty"`      // hot, cold, loading, sealed or quarantined
	Role          string         `json:"role,omitempty"`       // proposer, candidate or follower
	Promised      string         `json:"promised,omitempty"`   // highest ballot promised
	Proposer      string         `json:"proposer,omitempty"`   // who this member believes proposes
	Chosen        uint64         `json:"chosen"`               // highest slot known to be chosen
	Applied       uint64         `json:"applied"`              // highest slot applied
	Floor         uint64         `json:"floor"`                // highest slot held only as state
	Configuration uint64         `json:"configuration"`        // number of the jury
	Revision      uint64         `json:"revision"`             // of the cell, at this member
	Keys          uint64         `json:"keys"`                 // number of keys
	Bytes         uint64         `json:"bytes"`                // of keys and values
	StateHash     string         `json:"state_hash,omitempty"` // equal at equal revisions
	Lease         string         `json:"lease,omitempty"`      // what the proposer says: counts, supports or no
	Note          string         `json:"note,omitempty"`       // for people
	Error         *errorDocument `json:"error,omitempty"`      // why there is nothing else
}

// cellExplain finds the members, asks them, and shows the answers.
func (a *app) cellExplain() *cobra.Command {
	var servers []string
	cmd := &cobra.Command{
		Use:   "explain CELL",
		Short: "Ask every member what it knows of the cell: who proposes, who lags, who is silent",
		Long: "Ask every member of a cell what it knows of it. The members come from the control plane; with --server, one live\n" +
			"server is asked instead, so that this works while the control plane is down.",
		Args:        args("CELL", 1, 1),
		Annotations: readOnly,
		RunE: func(cmd *cobra.Command, given []string) error {
			ctx, cancel := a.limited(cmd.Context())
			defer cancel()
			id := cell.ID(given[0])
			members, err := a.members(ctx, cmd.CommandPath(), id, servers)
			if err != nil {
				return err
			}
			return a.showViews(id, a.askMembers(ctx, id, members))
		},
	}
	cmd.Flags().StringSliceVar(&servers, "server", nil, "client `addresses` of servers to take the members from")
	return cmd
}

// members finds the members of a cell: from given servers, else from discovery. A server that hosts a node knows all members
// of the cell and usually their addresses, so with --server no control plane is needed.
func (a *app) members(ctx context.Context, op string, id cell.ID, servers []string) ([]wire.Founder, error) {
	if err := id.Check(); err != nil {
		return nil, err
	}
	// Any member will do: it knows the jury that it votes in.
	var failures []error
	for _, addr := range servers {
		v := a.explainAt(ctx, id, wire.Founder{ClientAddr: addr})
		if v.err != nil {
			failures = append(failures, fmt.Errorf("%s: %w", addr, v.err))
			continue
		}
		var members []wire.Founder
		for _, m := range v.said.Members {
			members = append(members, wire.Founder{Node: m.Node, Server: m.Server, ClientAddr: m.Addr})
		}
		return members, nil
	}
	if len(servers) > 0 {
		return nil, &cell.Error{Op: op, Kind: cell.Unavailable, Cell: id, Detail: "none of the given servers could tell the members",
			Hint: "name a server that hosts a node of the cell", Err: errors.Join(failures...)}
	}
	return a.operator().Members(ctx, op, id)
}

// askMembers asks all members at once; the answers are of nearly one moment, not of one.
func (a *app) askMembers(ctx context.Context, id cell.ID, members []wire.Founder) []view {
	views := make([]view, len(members))
	var wait sync.WaitGroup
	for i, m := range members {
		wait.Go(func() { views[i] = a.explainAt(ctx, id, m) })
	}
	wait.Wait()
	return views
}

// explainAt asks one server.
func (a *app) explainAt(ctx context.Context, id cell.ID, m wire.Founder) view {
	v := view{member: m}
	if m.ClientAddr == "" {
		v.err = &cell.Error{Kind: cell.Unavailable, Detail: "its client address is not known"}
		return v
	}
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second) // a dead member must not use up the whole timeout
	defer cancel()
	conn, err := a.operator().Dial(ctx, m.ClientAddr)
	if err != nil {
		v.err = err
		return v
	}
	defer conn.Close(nil)
	request := wire.ExplainRequest{Header: wire.Header{Cell: id, Timeout: 2000}}
	v.err = conn.Call(ctx, wire.MethodExplain, &request, &v.said)
	return v
}

// The margin here counts members that answered, by the jury that discovery or a member told; the health tracker's margin in
// `cell show` counts servers that are up.
//
// showViews prints the members' views: first whether the cell has a quorum and a proposer, then who knows what.
func (a *app) showViews(id cell.ID, views []view) error {
	// More than one member may believe that it proposes; the last one listed is shown above, and all of them in the column.
	answered, chosen, proposer := 0, uint64(0), cell.ServerID("")
	lease := map[uint64]string{} // by node, as the proposer sees it
	reads := ""                  // how it answers linearizable reads
	for i := range views {
		if v := &views[i]; v.err == nil {
			answered++
			chosen = max(chosen, v.said.Chosen)
			if v.said.Role == "proposer" {
				proposer = v.said.Server
				reads = leaseOf(&v.said, lease)
			}
		}
	}
	documents, rows := []explanationDocument{}, [][]string{}
	for i := range views {
		document := views[i].document()
		document.Lease = lease[document.Node]
		documents = append(documents, document)
		rows = append(rows, slices.Insert(views[i].row(chosen), 4, cmp.Or(lease[document.Node], "-")))
	}
	// A majority of all members, not of those that answered.
	margin := answered - (len(views)/2 + 1)
	if a.output == asJSON {
		return a.emit(map[string]any{"cell": id, "members": len(views), "answered": answered, "margin": margin,
			"proposer": proposer, "reads": reads, "nodes": documents}, nil, nil)
	}
	verdict := fmt.Sprintf("margin %d: it can lose %d more", margin, margin)
	if margin < 0 {
		verdict = fmt.Sprintf("NO QUORUM: %d more members must answer", -margin)
	}
	who := "proposer " + string(proposer) + " " + reads
	if proposer == "" {
		who = "no proposer now; the next request makes a member campaign"
	}
	if _, err := fmt.Fprintf(a.stdout, "%s  %d of %d members answer  %s  %s\n", id, answered, len(views), verdict, who); err != nil {
		return err
	}
	return table(a.stdout, []string{"NODE", "SERVER", "ROLE", "STATE", "LEASE", "PROMISED", "CHOSEN", "APPLIED", "LAG", "REVISION", "HASH", "NOTE"}, rows)
}

// leaseOf tells how a proposer answers reads, and notes what it thinks of each member: "counts" towards its read lease,
// "supports" its server but has not confirmed the ballot since that began, or "no". A proposer with fewer than a majority that
// count still serves: it asks its jury for every read, and the answers make the members count. One that stays without is cut
// off from them in one direction at least.
func leaseOf(x *wire.Explanation, lease map[uint64]string) string {
	for i := range x.Members {
		m := &x.Members[i]
		switch {
		case m.Confirmed:
			lease[m.Node] = "counts"
		case m.Supports:
			lease[m.Node] = "supports"
		default:
			lease[m.Node] = "no"
		}
	}
	if x.ReadLease {
		return "reads locally"
	}
	return "asks its jury for reads"
}

// document is a member's view under -o json.
func (v *view) document() explanationDocument {
	s := &v.said
	if v.err != nil {
		described := document(v.err, exitOf(v.err, true))
		return explanationDocument{Node: v.member.Node, Server: string(v.member.Server), Error: &described}
	}
	return explanationDocument{Node: s.Node, Server: string(s.Server), State: s.State, Role: s.Role, Promised: s.Promised,
		Proposer: string(s.Leader), Chosen: s.Chosen, Applied: s.Applied, Floor: s.Floor, Configuration: s.Configuration,
		Revision: uint64(s.Revision), Keys: s.Keys, Bytes: s.Bytes, StateHash: fmt.Sprintf("%016x", s.StateHash), Note: s.Note}
}

// row shows a member; its lag is against the furthest member that answered.
func (v *view) row(chosen uint64) []string {
	if v.err != nil {
		return []string{fmt.Sprint(v.member.Node), string(v.member.Server), "-", "SILENT", "-", "-", "-", "-", "-", "-", v.err.Error()}
	}
	s := &v.said
	return []string{fmt.Sprint(s.Node), string(s.Server), s.Role, s.State, s.Promised, fmt.Sprint(s.Chosen), fmt.Sprint(s.Applied),
		fmt.Sprint(chosen - min(chosen, s.Applied)), fmt.Sprint(s.Revision), fmt.Sprintf("%016x", s.StateHash), s.Note}
}
