package wire

import "physalia/cell"

// rebuildSamples has one sample of every message of the census, of a rebuild and of a backup.
func rebuildSamples() []sample {
	node := CensusNode{Handle: 12, Cell: "vol-17", Incarnation: 2, Node: 9, Configuration: 3, Alpha: 4, Owner: 1, Learner: true, Sealed: true,
		Quarantined: "assertion", Members: []CensusMember{{Node: 1, Server: "s1-k3v9q2xa"}, {Node: 9, Server: "s9-ffffffff"}}}
	grave := Grave{Cell: "vol-18", Incarnation: 3}
	finding := Finding{Kind: "undecided", Cell: "vol-17", Incarnation: 2, Detail: "3 of 7 members are known"}
	return []sample{
		of(Census{After: 12, Limit: 512}),
		of(node.Members[0]),
		of(node),
		of(CensusPage{Nodes: []CensusNode{node}, More: true}),
		of(grave),
		of(GravePage{Graves: []Grave{grave}, Next: 77, More: true}),
		of(Rebuild{Action: RebuildEnd, Force: true, After: 100, Limit: 1000}),
		of(finding),
		of(RebuildState{Rebuilding: true, Why: "asked for", Round: 2, Complete: true, Connected: 14, Scanned: 13, Nodes: 7000, Live: 1000,
			Adopted: 999, Deleted: 5, Silent: []cell.ServerID{"s4-cccccccc"}, Findings: []Finding{finding}, Found: 200, More: true}),
		of(Backup{To: "file:///var/backups/physalia"}),
		of(BackupDone{Name: "20261122T101500.000Z", Pairs: 1000, Bytes: 123456}),
	}
}
