package wire

import (
	"math"

	"physalia/cell"
)

var (
	sampleAccepted = Accepted{Slot: 118, Round: 9, Node: 3, Entry: []byte{0x92, 1, 0xff}}
	sampleSurvivor = Survivor{Server: "s1-k3v9q2xa", Node: 1, Promised: "9.3", Applied: 117, Known: 119, Accepted: 1, Note: "no answer"}
	sampleRecovery = RecoveryCell{Cell: "vol-17", Incarnation: 2, Plan: 41, Brick: "b1", Color: "red", Lost: []cell.ServerID{"s4-cccccccc"},
		Survivors: []Survivor{sampleSurvivor}, Source: "s1-k3v9q2xa", Applied: 117, Slot: 118, Known: 119, Revision: 131,
		Members: sampleMembers, Owner: 1, Problem: "it has 4 of 7"}
)

// recoverySamples has one sample of every message of recovery.
func recoverySamples() []sample {
	founding := Founding{Cell: "vol-17", Incarnation: 2, Members: sampleMembers, Owner: 1, Alpha: 4}
	recovery := Recovery{Founding: founding, Applied: 117, StateHash: math.MaxUint64, State: []byte{1, 2, 3}, Kept: []Accepted{sampleAccepted}}
	return []sample{
		of(ExportNode{Cell: "vol-17", Incarnation: 2, Timeout: 5000, Content: true}),
		of(sampleAccepted),
		of(NodeExport{Cell: "vol-17", Incarnation: 2, Node: 9, Configuration: 3, Jury: []cell.ServerID{"s1-k3v9q2xa", "s2-aaaaaaaa"},
			Others: []cell.ServerID{"s3-bbbbbbbb"}, Promised: "9.3", Applied: 117, Known: 118, Revision: 131, StateHash: math.MaxUint64,
			Sealed: true, Accepted: []Accepted{sampleAccepted}, Cut: true, State: []byte{1, 2, 3}}),
		of(recovery),
		of(RecoverNodes{Recoveries: []Recovery{recovery}}),
		of(PlanRecovery{Dead: []cell.ServerID{"s4-cccccccc"}, Cells: []cell.ID{"vol-17"}, After: "vol-16", Limit: 64}),
		of(sampleSurvivor),
		of(sampleRecovery),
		of(RecoveryPlan{Cells: []RecoveryCell{sampleRecovery}, Last: "vol-17", More: true}),
		of(RecoverCells{Dead: []cell.ServerID{"s4-cccccccc"}, Cells: []RecoveryCell{sampleRecovery}, Wait: 10000}),
	}
}
