package client

import (
	"context"
	"errors"

	"physalia/cell"
	"physalia/internal/wire"
)

// Users tells where the users of a volume are, by the identities of servers there; what is empty is unknown.
type Users struct {
	Client  cell.ServerID // beside the client
	Primary cell.ServerID // of the primary copy
	Replica cell.ServerID // of the other copy
}

// Locate tells the control plane where the volume's users are; the nodes of its cell move there, one at a time, at the control
// plane's pace (NSDI 2020, section 3.2). It returns when that is noted, which no operation on the volume waits for or depends
// on. What is told replaces what was told before. Each address of Config.Control is asked in turn.
//
// Invalid: Config.Control is empty. NotFound: no such cell, or an unknown server. Denied: see the package. Unavailable: no address answered; the word may
// have been noted, and repeating it is harmless.
func (v *Volume) Locate(ctx context.Context, u Users) error {
	c := v.cell.client
	if len(c.cfg.Control) == 0 {
		return &cell.Error{Op: "volume.locate", Kind: cell.Invalid, Cell: v.cell.id, Detail: "the client knows no control plane", Hint: "set Config.Control"}
	}
	request := &wire.LocateVolume{Cell: v.cell.id, Client: u.Client, Primary: u.Primary, Replica: u.Replica}
	var all []error
	for _, addr := range c.cfg.Control {
		var reply wire.Outcomes
		err := c.query(addr, wire.MethodLocate, request, &reply)
		switch {
		case ctx.Err() != nil:
			return ctx.Err()
		case err == nil && len(reply.Outcomes) == 1:
			if e := reply.Outcomes[0].Err; e != nil {
				return e
			}
			return nil
		case cell.KindOf(err) == cell.Denied:
			return err // as it would be at every other address
		case err == nil:
			err = &cell.Error{Op: "volume.locate", Kind: cell.Internal, Detail: "an empty answer"}
		}
		all = append(all, err)
	}
	return &cell.Error{Op: "volume.locate", Kind: cell.Unavailable, Cell: v.cell.id, Detail: "no address of the control plane took it",
		Hint: "repeat it later; the volume serves without it", Err: errors.Join(all...)}
}
