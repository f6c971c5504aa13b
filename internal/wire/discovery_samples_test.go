package wire

import (
	"math"

	"physalia/cell"
)

var (
	sampleContact = Contact{Server: "s1-k3v9q2xa", Brick: "b1", PeerAddr: "10.0.0.1:7100", ClientAddr: "10.0.0.1:7200", Boot: 3, Age: 70000}
	samplePart    = SnapshotPart{First: 7, Entries: 1000, Bytes: 123456, Sum: math.MaxUint32}
	sampleShare   = SnapshotShare{Server: 1, Sums: []uint64{1, math.MaxUint64}}
	sampleStored  = SnapshotCell{Cell: "vol-17", Incarnation: 2, Configuration: 300, Members: []SnapshotMember{{1, 0}, {9, 70000}}}
)

// discoverySamples has one sample of every message of discovery and its snapshots.
func discoverySamples() []sample {
	return []sample{
		of(DigestRequest{Known: math.MaxUint64}),
		of(Digests{Position: 118, Same: true, Sums: []uint64{0, 1, math.MaxUint64}}),
		of(PullRequest{Buckets: []uint32{0, 7, 511}, Cursor: []byte{1, 0xff}, Limit: PullRoutesMax}),
		of(Pulled{Position: 118, Sums: []uint64{9, 10}, Routes: []Route{sampleRoute}, Cursor: []byte{1}}),
		of(RoutePush{From: 117, To: 118, Lost: true, Routes: []Route{sampleRoute}, Buckets: []uint32{7}, Sums: []uint64{9}}),
		of(ChangesRequest{After: 117, Limit: 100}),
		of(sampleContact),
		of(ContactsRequest{After: "s1-k3v9q2xa", Limit: 100}),
		of(Contacts{Contacts: []Contact{sampleContact}, More: true}),
		of(samplePart),
		of(SnapshotHead{Copy: "control-1", Written: 1795305600000, Cells: 1000, Servers: []SnapshotPart{samplePart},
			Shares: []SnapshotPart{samplePart}, Routes: []SnapshotPart{samplePart, samplePart}}),
		of(SnapshotServers{Contacts: []Contact{sampleContact}}),
		of(SnapshotMember{Node: 9, Server: 70000}),
		of(sampleStored),
		of(SnapshotCells{Cells: []SnapshotCell{sampleStored, {Cell: cell.ID("gone"), Incarnation: 1}}}),
		of(sampleShare),
		of(SnapshotShares{Shares: []SnapshotShare{sampleShare}}),
	}
}
