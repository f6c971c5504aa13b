package wire

import "physalia/cell"

// MethodLocate tells where the users of a volume are.
const MethodLocate = "lifecycle.locate" // operator or client -> control: LocateVolume -> Outcomes, of one element

// LocateVolume tells the lifecycle manager where the users of a volume are, so that the nodes of its cell are moved there. What
// is named replaces what was told before; all three empty means that nothing is known any more. It is answered when no single
// replacement would bring the cell nearer, or after Wait with what is missing; asked again, it goes on where it is. With no
// Wait it is answered when it is noted.
type LocateVolume struct {
	Cell    cell.ID
	Client  cell.ServerID // the server that the volume is used from, or beside; empty: unknown
	Primary cell.ServerID // the server of its primary copy; empty: unknown
	Replica cell.ServerID // the server of its other copy; empty: unknown
	Wait    uint32        // milliseconds
}

// Append adds [cell, client, primary, replica, wait].
func (m *LocateVolume) Append(b []byte) []byte {
	b = AppendString(AppendString(AppendArray(b, 5), string(m.Cell)), string(m.Client))
	b = AppendString(AppendString(b, string(m.Primary)), string(m.Replica))
	return AppendUint(b, uint64(m.Wait))
}

// Decode reads what Append wrote.
func (m *LocateVolume) Decode(r *Reader) {
	r.Struct(5, "LocateVolume")
	*m = LocateVolume{Cell: decodeID(r), Client: decodeServer(r), Primary: decodeServer(r), Replica: decodeServer(r), Wait: r.Uint32("wait")}
}
