package wire

// MethodListInstances asks a control process which control processes there are.
const MethodListInstances = "control.instances" // operator -> control: nothing -> InstanceList

// Bounds of an InstanceList.
const (
	InstancesMax    = 256
	ProblemBytesMax = 1024
)

// Instance is one live control process.
type Instance struct {
	Name   string
	Addr   string
	Active bool // it holds the lifecycle election
}

// InstanceList is who is there, as one of them knows it.
type InstanceList struct {
	Asked     string // name of the instance that answers
	Store     string // "embedded" or "etcd"
	Problem   string // why the store cannot be used, as far as the asked instance knows; empty: it can
	Instances []Instance
}

// Append adds [name, address, active].
func (m *Instance) Append(b []byte) []byte {
	return AppendBool(AppendString(AppendString(AppendArray(b, 3), m.Name), m.Addr), m.Active)
}

// Decode reads what Append wrote.
func (m *Instance) Decode(r *Reader) {
	r.Struct(3, "Instance")
	*m = Instance{Name: r.String(NameBytesMax, "name"), Addr: r.String(AddrBytesMax, "address"), Active: r.Bool()}
}

// Append adds [asked, store, problem, instances].
func (m *InstanceList) Append(b []byte) []byte {
	b = AppendString(AppendString(AppendArray(b, 4), m.Asked), m.Store)
	return appendList(AppendString(b, m.Problem), m.Instances)
}

// Decode reads what Append wrote.
func (m *InstanceList) Decode(r *Reader) {
	r.Struct(4, "InstanceList")
	*m = InstanceList{Asked: r.String(NameBytesMax, "name"), Store: r.String(NameBytesMax, "store"),
		Problem: r.String(ProblemBytesMax, "problem"), Instances: decodeList[Instance](r, InstancesMax, 4, "instances")}
}
