package wire

// operateSamples has one sample of every message of operating.
func operateSamples() []sample {
	pause := PauseState{Action: "move", By: "ann@desk", Reason: "power work", At: 1795348800000}
	limit := LimitState{Work: "repair", Scope: "server", Name: "s1-k3v9q2xa", Milli: 2500, Burst: 10, Left: 3}
	count := StatusCount{Workflow: "replace", State: "drain", Count: 7}
	drain := DrainState{Server: "s1-k3v9q2xa", Duty: "draining", By: "ann@desk", Reason: "old", At: 1795348800000, Nodes: 900, Moving: 4, Waiting: "the limit"}
	step := WaitingStep{Number: 9, Workflow: "replace", Cell: "vol-17", Incarnation: 2, State: "live", Since: 60000, Why: "waits for s9"}
	return []sample{
		of(ActionOrder{Actions: []string{"move", "repair"}, By: "ann@desk", Reason: "power work"}),
		of(ServerDuty{Server: "s1-k3v9q2xa", Duty: "draining", By: "ann@desk", Reason: "old"}),
		of(StatusRequest{After: 9, Limit: 100}),
		of(pause), of(limit), of(count), of(drain), of(step),
		of(ControlStatus{Uptime: 60000, Pauses: []PauseState{pause}, Limits: []LimitState{limit}, Counts: []StatusCount{count},
			Drains: []DrainState{drain}, Waiting: []WaitingStep{step}, Open: 12, More: true}),
	}
}
