package operator

import (
	"context"
	"errors"
	"fmt"

	"physalia/cell"
	"physalia/internal/rpc"
	"physalia/internal/wire"
)

// hopsMax is how many pointers to the active instance are followed for one question; more of them in a row mean that the
// instances disagree, which ends within seconds.
const hopsMax = 3

// Plane is the control plane as one operator reaches it: a connection to one of its instances, and where to go instead. It is
// for one goroutine.
type Plane struct {
	operator Operator
	op       string
	conn     *rpc.Conn
	rest     []string // addresses that were not tried yet
}

// Control opens a connection to the first address of the control plane that answers; op is for the error, which tells
// what each address said.
func (o Operator) Control(ctx context.Context, op string) (*Plane, error) {
	p := &Plane{operator: o, op: op, rest: o.Addresses}
	if err := p.next(ctx); err != nil {
		return nil, err
	}
	return p, nil
}

// next goes on to the next address that answers. An address that is down costs a refused connection, one that is silent the
// timeout.
func (p *Plane) next(ctx context.Context) error {
	var all []error
	for len(p.rest) > 0 {
		addr := p.rest[0]
		p.rest = p.rest[1:]
		conn, err := p.operator.Dial(ctx, addr)
		if err == nil {
			p.move(conn)
			return nil
		}
		// A token that does not count here, or cannot be read, is no better at the next address.
		if kind := cell.KindOf(err); kind == cell.Denied || kind == cell.Invalid {
			return cell.AsError(p.op, kind, err)
		}
		all = append(all, fmt.Errorf("%s: %w", addr, err))
	}
	return &cell.Error{Op: p.op, Kind: cell.Unavailable, Detail: "no address of the control plane answers",
		Hint: "is it running, and is --control-plane right? Cells that exist serve without it", Err: errors.Join(all...)}
}

// move goes on with another connection.
func (p *Plane) move(conn *rpc.Conn) {
	if p.conn != nil {
		p.conn.Close(nil)
	}
	p.conn = conn
}

// Call asks as rpc.Conn.Call does. An instance that stands by names the active one, which is asked instead; one that knows of
// none may be cut off, so another address is tried. In both cases nothing was done by who was asked first.
func (p *Plane) Call(ctx context.Context, method string, request, result wire.Message) error {
	for hops := 0; ; {
		err := p.conn.Call(ctx, method, request, result)
		var e *cell.Error
		switch {
		case !errors.As(err, &e):
			return err
		case e.Kind == cell.NotProposer && e.LeaderAddr != "" && hops < hopsMax:
			hops++
			conn, failure := p.operator.Dial(ctx, e.LeaderAddr)
			if failure != nil {
				return &cell.Error{Op: p.op, Kind: cell.Unavailable, Detail: fmt.Sprintf("control instance %s at %s is said to be active and does not answer", e.Leader, e.LeaderAddr),
					Hint: "if it is down, another takes over within seconds: ask again", Err: failure}
			}
			p.move(conn)
		case e.Kind == cell.Unavailable && p.conn.Err() == nil && len(p.rest) > 0:
			if p.next(ctx) != nil {
				return err // what the one that answers says is more useful
			}
		default:
			return err
		}
	}
}

// Close ends the connection.
func (p *Plane) Close(why error) { p.conn.Close(why) }
