package wire

import "physalia/cell"

// healthSamples has one sample of every message of health.
func healthSamples() []sample {
	heard := PeerHeard{Lane: true, Age: 130, Gossip: true}
	hold := HoldInfo{Domain: "rack:b1/r2", Died: 5, Size: 6, Away: 4, Since: 60000, Left: 21540000}
	pool := PoolHealth{Brick: "b1", Color: "red", Owned: true, Waiting: 7, Held: 6, Lost: 5, Aged: 4, Urgent: 3, Brink: 2, Refused: "paused"}
	budget := BudgetInfo{Of: "brick b1", Repairs: 50000, Bytes: 2 << 20, RepairsLeft: 49000, BytesLeft: 1 << 20}
	member := MemberHealth{Server: "s1-k3v9q2xa", State: "dead", For: 130, Held: true}
	danger := CellHealth{Cell: "vol-17", Incarnation: 2, Class: "brink", Doing: "under way", Members: []MemberHealth{member}}
	since := ServerSince{Server: "s1-k3v9q2xa", State: "dead", For: 130}
	count := HealthCount{Name: "proposed", Value: 300}
	return []sample{
		of(ReportRequest{Peers: []cell.ServerID{"s1-k3v9q2xa", "s9-ffffffff"}}),
		of(heard),
		of(ServerReport{Peers: []PeerHeard{heard, {}}, Sampled: 256, Bytes: 1 << 20}),
		of(ListHealth{Limit: 100}),
		of(HealthReport{Control: "control-1", Holds: []HoldInfo{hold}, Pools: []PoolHealth{pool}, Budgets: []BudgetInfo{budget},
			Cells: []CellHealth{danger}, Cut: true, Unreachable: []ServerSince{since}, Dead: []ServerSince{since}, Counts: []HealthCount{count}}),
		of(hold),
		of(pool),
		of(budget),
		of(danger),
		of(member),
		of(since),
		of(count),
		of(EndHold{Domain: "rack:b1/r2"}),
	}
}
