package drill

import (
	"strings"
	"testing"

	"physalia/cell"
	"physalia/internal/wire"
)

// picture is one live cell of three members on which both sides agree.
func picture() ([]wire.CellInfo, *hosted) {
	info := wire.CellInfo{Cell: "vol-1", Incarnation: 2, State: "live"}
	h := &hosted{nodes: map[cell.ID]map[cell.Incarnation][]seen{"vol-1": {}}, graves: map[cell.ID]cell.Incarnation{"vol-1": 1}}
	var jury []wire.CensusMember
	for i, s := range []cell.ServerID{"a", "b", "c"} {
		info.Members = append(info.Members, wire.Founder{Node: uint64(i + 1), Server: s})
		jury = append(jury, wire.CensusMember{Node: uint64(i + 1), Server: s})
	}
	for _, m := range jury {
		h.nodes["vol-1"][2] = append(h.nodes["vol-1"][2], seen{m.Server, wire.CensusNode{Cell: "vol-1", Incarnation: 2, Node: m.Node, Configuration: 1, Members: jury}})
	}
	return []wire.CellInfo{info}, h
}

// Every difference between the two sides is a reason, and where there is none there is no reason. A comparison that finds nothing
// proves something only because it would have found these.
func TestAgreeFindsDifferences(t *testing.T) {
	for _, c := range []struct {
		says string // part of a reason; empty: all is well
		harm func(cells []wire.CellInfo, h *hosted) []wire.CellInfo
	}{
		{"", func(c []wire.CellInfo, _ *hosted) []wire.CellInfo { return c }},
		{"does not know it", func(_ []wire.CellInfo, _ *hosted) []wire.CellInfo { return nil }},
		{"hosted in 2 incarnations", func(c []wire.CellInfo, h *hosted) []wire.CellInfo {
			h.nodes["vol-1"][3] = h.nodes["vol-1"][2]
			return c
		}},
		{"hosted in 0 incarnations", func(c []wire.CellInfo, h *hosted) []wire.CellInfo { delete(h.nodes, "vol-1"); return c }},
		{"hosted by 2 servers", func(c []wire.CellInfo, h *hosted) []wire.CellInfo {
			h.nodes["vol-1"][2] = h.nodes["vol-1"][2][:2]
			return c
		}},
		{"a learner", func(c []wire.CellInfo, h *hosted) []wire.CellInfo { h.nodes["vol-1"][2][0].Learner = true; return c }},
		{"sealed on a", func(c []wire.CellInfo, h *hosted) []wire.CellInfo { h.nodes["vol-1"][2][0].Sealed = true; return c }},
		{"has stopped itself", func(c []wire.CellInfo, h *hosted) []wire.CellInfo { h.nodes["vol-1"][2][1].Quarantined = "x"; return c }},
		{"lists node 9 on b", func(c []wire.CellInfo, _ *hosted) []wire.CellInfo { c[0].Members[1].Node = 9; return c }},
		{"lists 2 members", func(c []wire.CellInfo, _ *hosted) []wire.CellInfo { c[0].Members = c[0].Members[:2]; return c }},
		{"tombstone of 2", func(c []wire.CellInfo, h *hosted) []wire.CellInfo { h.graves["vol-1"] = 2; return c }},
		{"nobody asked for that", func(c []wire.CellInfo, h *hosted) []wire.CellInfo { c[0].State = "deleted"; return c }},
		{"still host", func(c []wire.CellInfo, h *hosted) []wire.CellInfo { c[0].State = "deleted"; return c }},
		{"but wiping", func(c []wire.CellInfo, h *hosted) []wire.CellInfo { c[0].State = "wiping"; return c }},
		{"nobody asked for its deletion", func(c []wire.CellInfo, h *hosted) []wire.CellInfo { h.graves["vol-2"] = 1; return c }},
	} {
		s := &site{report: Report{Verdict: "ok"}}
		cells, h := picture()
		s.agree(c.harm(cells, h), h, func(cell.ID) bool { return false })
		if all := strings.Join(s.report.Reasons, "\n"); !strings.Contains(all, c.says) || (s.report.Verdict == "ok") != (c.says == "") {
			t.Errorf("want %q, got %s: %s", c.says, s.report.Verdict, all)
		}
	}
}
