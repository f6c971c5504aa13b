package node

import (
	"cmp"
	"time"

	"physalia/node/core"
)

// A disk that is full to the last byte takes its server with it: Pebble cannot go on without room for its next file. So the server
// stops writing while there is a reserve left, and that is enough for what is under way, a few memtables and a compaction.
const (
	reserveMost  = 2 << 30                // of the default reserve
	reserveShare = 20                     // of the file system: a twentieth, if that is less
	roomEvery    = 250 * time.Millisecond // between two looks; a look costs microseconds
	fullShare    = 4                      // below a quarter of the reserve nothing is voted for any more
)

// room judges how much space there is, so that a disk at the edge does not change its mind with every file.
type room struct {
	reserve uint64 // bytes; below, the disk is low
	level   core.Space
}

// reserveOf is the reserve of a file system of so many bytes: what was configured, or the default.
func reserveOf(configured, total uint64) uint64 {
	return cmp.Or(configured, min(reserveMost, total/reserveShare))
}

// judge takes the free bytes and tells the level: down at once, up again only with a margin.
func (r *room) judge(free uint64) core.Space {
	margin := r.reserve + r.reserve/4
	switch {
	case free < r.reserve/fullShare:
		r.level = core.Full
	case r.level == core.Full && free < r.reserve/2:
	case free < r.reserve, r.level != core.Ample && free < margin:
		r.level = core.Low
	default:
		r.level = core.Ample
	}
	return r.level
}

// keepRoom looks at the disk until the server is closed, and tells the loop when the level has changed.
func (s *Server) keepRoom() {
	ticker := time.NewTicker(roomEvery)
	defer ticker.Stop()
	told, failed := s.room.level, false
	for {
		select {
		case <-s.ctx.Done():
			return
		case <-ticker.C:
		}
		free, total, err := s.dir.Space()
		if err != nil {
			if !failed {
				s.cfg.Logger.Warn("cannot tell how much space the disk has", "err", err)
			}
			failed = true
			continue
		}
		failed = false
		s.metrics.space(free, total)
		level := s.room.judge(free)
		if level == told {
			continue
		}
		s.cfg.Logger.Warn("disk space", "level", level.String(), "was", told.String(), "free", free, "reserve", s.room.reserve, "of", total)
		if s.inbox.ask("server.space", func(c *core.Core) { c.SetSpace(level) }) == nil {
			told = level // else the loop is overrun or stopped: the next look tells it
		}
	}
}

// openRoom looks at the disk for the first time, before the loop begins.
func (s *Server) openRoom(c *core.Core) error {
	free, total, err := s.dir.Space()
	if err != nil {
		return err
	}
	s.room.reserve = reserveOf(s.cfg.DiskReserve, total)
	s.metrics.space(free, total)
	level := s.room.judge(free)
	if level != core.Ample {
		s.cfg.Logger.Warn("disk space", "level", level.String(), "free", free, "reserve", s.room.reserve, "of", total)
	}
	c.SetSpace(level)
	return nil
}
