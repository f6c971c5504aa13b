package grant

import (
	"physalia/cell"
	"physalia/internal/wire"
)

// scope is what a method of the control plane is about.
type scope uint8

const (
	forAll  scope = iota + 1 // any certificate will do: routes are needed to do anything, and tell where members are
	ofCells                  // the cells that it names, each one
	ofNames                  // all cells whose names begin with a prefix
	ofAll                    // the whole colony
	forTool                  // control processes and operators only, whatever a token grants
)

// method is what a method of the control plane needs. cells and prefix read it from the parameters.
type method struct {
	scope  scope
	need   Verbs
	cells  func(params []byte) ([]cell.ID, error)
	prefix func(params []byte) (string, error)
}

// methods has every method that the control plane serves to clients; one that is not here is refused to all but operators and control
// processes. A test compares it with what is served.
var methods = map[string]method{
	wire.MethodLookup:  {scope: forAll},
	wire.MethodPresent: {scope: forAll}, // it is how tokens get there

	wire.MethodLocate:        {scope: ofCells, need: Locate, cells: named(func(m *wire.LocateVolume) []cell.ID { return []cell.ID{m.Cell} })},
	wire.MethodCreateCells:   {scope: ofCells, need: Manage, cells: named(func(m *wire.CreateCells) []cell.ID { return m.Cells })},
	wire.MethodReplaceMember: {scope: ofCells, need: Manage, cells: named(func(m *wire.ReplaceMember) []cell.ID { return []cell.ID{m.Cell} })},
	wire.MethodDeleteCells: {scope: ofCells, need: Manage, cells: named(func(m *wire.DeleteCells) (ids []cell.ID) {
		for _, d := range m.Drops {
			ids = append(ids, d.Cell)
		}
		return ids
	})},
	wire.MethodListCells: {scope: ofNames, need: Manage | View, prefix: func(params []byte) (string, error) {
		var m wire.ListCells
		err := wire.Unmarshal(params, &m)
		return m.Prefix, err
	}},

	wire.MethodListServers:   {scope: ofAll, need: View},
	wire.MethodListInstances: {scope: ofAll, need: View},
	wire.MethodHealth:        {scope: ofAll, need: View},
	wire.MethodStatus:        {scope: ofAll, need: View},

	wire.MethodPause:        {scope: ofAll, need: Admin},
	wire.MethodResume:       {scope: ofAll, need: Admin},
	wire.MethodDuty:         {scope: ofAll, need: Admin},
	wire.MethodEndHold:      {scope: ofAll, need: Admin},
	wire.MethodRebuild:      {scope: ofAll, need: Admin},
	wire.MethodBackup:       {scope: ofAll, need: Admin},
	wire.MethodPlanRecovery: {scope: ofAll, need: Admin},
	wire.MethodRecoverCells: {scope: ofAll, need: Admin},
	wire.MethodAudit:        {scope: ofAll, need: Admin},

	wire.MethodInvite:   {scope: forTool}, // it lets others in, as what they were not
	wire.MethodDigest:   {scope: forTool},
	wire.MethodPull:     {scope: forTool},
	wire.MethodChanges:  {scope: forTool},
	wire.MethodContacts: {scope: forTool},
	wire.MethodPropose:  {scope: forTool},
	wire.MethodWithdraw: {scope: forTool},
	wire.MethodKnown:    {scope: forTool},
}

// named reads the cells that a request names.
func named[T any, M interface {
	*T
	wire.Message
}](list func(M) []cell.ID) func([]byte) ([]cell.ID, error) {
	return func(params []byte) ([]cell.ID, error) {
		m := M(new(T))
		if err := wire.Unmarshal(params, m); err != nil {
			return nil, err
		}
		return list(m), nil
	}
}

// Known tells whether a method has a rule of its own.
func Known(name string) bool { _, ok := methods[name]; return ok }

// Control decides about one request to the control plane, by its method and its encoded parameters. The error says that the parameters
// cannot be read. now is in Unix seconds.
func (r *Rights) Control(now int64, name string, params []byte) (*Refusal, error) {
	m, known := methods[name]
	if r.All || known && m.scope == forAll {
		return nil, nil
	}
	if why := r.general(now); why != Allowed {
		return r.refuse(why, 0, "", ""), nil
	}
	switch m.scope {
	case ofCells:
		ids, err := m.cells(params)
		if err != nil {
			return nil, err
		}
		for _, id := range ids {
			if why := r.touches(m.need, id); why != Allowed {
				return r.refuse(why, m.need, id, ""), nil
			}
		}
		return nil, nil
	case ofNames:
		prefix, err := m.prefix(params)
		if err != nil {
			return nil, err
		}
		if why := r.everywhere(m.need, prefix); why != Allowed {
			return r.refuse(why, m.need, "", ""), nil
		}
		return nil, nil
	case ofAll:
		if why := r.everywhere(m.need, ""); why != Allowed {
			return r.refuse(why, m.need, "", ""), nil
		}
		return nil, nil
	}
	return r.refuse(ControlOnly, 0, "", ""), nil
}
