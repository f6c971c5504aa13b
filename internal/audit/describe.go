package audit

import (
	"fmt"
	"strings"

	"physalia/cell"
	"physalia/internal/wire"
)

// actions are the methods of the control plane that change something, or that let somebody in, and how to tell what they are about.
// Methods that only look are not recorded, but for denials.
var actions = map[string]func(params []byte) (Entry, error){
	wire.MethodCreateCells: about(func(m *wire.CreateCells, e *Entry) { e.What = names(m.Cells) }),
	wire.MethodDeleteCells: about(func(m *wire.DeleteCells, e *Entry) {
		for _, d := range m.Drops {
			e.What = append(e.What, incarnation(d.Cell, d.Incarnation))
		}
	}),
	wire.MethodReplaceMember: about(func(m *wire.ReplaceMember, e *Entry) {
		e.What = []string{string(m.Cell), "remove " + string(m.Remove)}
		if m.Add != "" {
			e.What = append(e.What, "add "+string(m.Add))
		}
	}),
	wire.MethodLocate: about(func(m *wire.LocateVolume, e *Entry) {
		e.What = []string{string(m.Cell), "client " + string(m.Client), "primary " + string(m.Primary), "replica " + string(m.Replica)}
	}),
	wire.MethodRecoverCells: about(func(m *wire.RecoverCells, e *Entry) {
		for _, c := range m.Cells {
			e.What = append(e.What, incarnation(c.Cell, c.Incarnation))
		}
		for _, s := range m.Dead {
			e.What = append(e.What, "dead "+string(s))
		}
	}),
	wire.MethodPause:  about(func(m *wire.ActionOrder, e *Entry) { e.What, e.Says, e.Why = orAll(m.Actions), m.By, m.Reason }),
	wire.MethodResume: about(func(m *wire.ActionOrder, e *Entry) { e.What, e.Says, e.Why = orAll(m.Actions), m.By, m.Reason }),
	wire.MethodDuty: about(func(m *wire.ServerDuty, e *Entry) {
		e.What, e.Says, e.Why = []string{string(m.Server), m.Duty}, m.By, m.Reason
	}),
	wire.MethodEndHold: about(func(m *wire.EndHold, e *Entry) { e.What = []string{m.Domain} }),
	wire.MethodRebuild: about(func(m *wire.Rebuild, e *Entry) {
		switch {
		case m.Action == wire.RebuildBegin:
			e.What = []string{"begin"}
		case m.Action == wire.RebuildEnd && m.Force:
			e.What = []string{"end", "force"}
		case m.Action == wire.RebuildEnd:
			e.What = []string{"end"}
		}
	}),
	wire.MethodBackup: about(func(m *wire.Backup, e *Entry) { e.What = []string{place(m.To)} }),
	wire.MethodInvite: about(func(m *wire.Invite, e *Entry) { e.What = []string{m.Identity} }),
}

// What is taken of a message is named field by field, so that a field that is added to it is not recorded unseen.
//
// about makes a description from a function that reads a message.
func about[T any, M interface {
	*T
	wire.Message
}](fill func(M, *Entry)) func([]byte) (Entry, error) {
	return func(params []byte) (e Entry, err error) {
		m := M(new(T))
		if err = wire.Unmarshal(params, m); err == nil {
			fill(m, &e)
		}
		return e, err
	}
}

// Describe says what a request to the control plane is about, and whether it is an action. An action whose parameters cannot be read is
// one all the same.
func Describe(method string, params []byte) (e Entry, action bool) {
	read, action := actions[method]
	if action {
		var err error
		if e, err = read(params); err != nil {
			e = Entry{What: []string{"parameters that cannot be read"}}
		}
	}
	e.Action = method
	// To look how far a rebuild is has the same method as to begin or end one, and is about nothing.
	return e, action && (method != wire.MethodRebuild || e.What != nil)
}

func names(ids []cell.ID) (list []string) {
	for _, id := range ids {
		list = append(list, string(id))
	}
	return list
}

func incarnation(id cell.ID, inc cell.Incarnation) string {
	if inc == 0 {
		return string(id)
	}
	return fmt.Sprintf("%s.%d", id, inc)
}

func orAll(list []string) []string {
	if len(list) == 0 {
		return []string{"all"}
	}
	return list
}

// place is a URL without what may be a secret in it: the user and the parameters.
func place(url string) string {
	url, _, _ = strings.Cut(url, "?")
	scheme, rest, ok := strings.Cut(url, "://")
	if !ok {
		return url
	}
	host, path, _ := strings.Cut(rest, "/")
	if i := strings.LastIndexByte(host, '@'); i >= 0 {
		host = host[i+1:]
	}
	return scheme + "://" + host + "/" + path
}
