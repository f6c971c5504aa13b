package wire

// instanceSamples has one sample of every message between control processes, and about them.
func instanceSamples() []sample {
	instance := Instance{Name: "c1", Addr: "10.0.0.9:7300", Active: true}
	return []sample{
		of(instance),
		of(InstanceList{Asked: "c2", Store: "etcd", Problem: "etcd does not answer", Instances: []Instance{instance}}),
		of(ProposeRepair{Cell: "vol-17", Incarnation: 2, Remove: "s1-k3v9q2xa", Raise: true, Why: "s1 is dead"}),
		of(WithdrawRepair{Cell: "vol-17", Remove: "s1-k3v9q2xa"}),
		of(Withdrawn{Given: true}),
	}
}
