package rpc

import (
	"errors"
	"fmt"
	"net"

	"physalia/cell"
	"physalia/internal/refusal"
	"physalia/internal/wire"
)

// ReasonOf is why a connection was refused or ended, by the error of OnReject or OnClose; Welcome when nobody was refused: it was
// closed, or lost, or the guard of its certificates has counted it.
func ReasonOf(err error) refusal.Reason {
	if r := refusal.Of(err); r != refusal.Welcome {
		return r
	}
	var frame *wire.FrameError
	switch {
	case err == nil:
		return refusal.Welcome
	case errors.As(err, &frame):
		return reasonOfFrame(frame)
	case cell.KindOf(err) == cell.Invalid:
		return refusal.BadMessage
	}
	return refusal.Welcome
}

func reasonOfFrame(e *wire.FrameError) refusal.Reason {
	switch {
	case e.Fault == wire.FrameOversize:
		return refusal.LargeFrame
	case e.Fault != wire.FrameTruncated:
		return refusal.BadFrame
	case isTimeout(e):
		return refusal.SlowFrame
	}
	return refusal.Welcome // the connection was lost
}

func isTimeout(err error) bool {
	var timeout net.Error
	return errors.As(err, &timeout) && timeout.Timeout()
}

// because puts a reason into an error's chain.
func because(why refusal.Reason, err error) error { return fmt.Errorf("%w: %w", why, err) }
