package lifecycle

import (
	"context"
	"errors"
	"time"

	"physalia/cell"
	"physalia/internal/fleet"
	"physalia/internal/wire"
)

// count carries out one page of the census and posts how it ended.
func (s *Service) count(ctx context.Context, c Call) {
	var nodes *wire.CensusPage
	var graves *wire.GravePage
	var into wire.Message
	if c.Method == wire.MethodCensus {
		nodes = new(wire.CensusPage)
		into = nodes
	} else {
		graves = new(wire.GravePage)
		into = graves
	}
	err := s.cfg.Caller.Call(ctx, c.Server, c.Method, c.Params, into)
	s.post(func(now time.Duration) {
		if err != nil {
			s.m.Heard(now, c.ID, nil, nil, asError(err))
			return
		}
		s.m.Heard(now, c.ID, nodes, graves, nil)
	})
}

// Rebuild asks to begin or end a rebuild of the store, or how far it is; reply as of Create.
func (s *Service) Rebuild(req wire.Rebuild, reply func(*wire.RebuildState, *cell.Error)) {
	s.request("lifecycle.rebuild", func(r Reply) { reply(r.Rebuild, r.Err) }, func(now time.Duration, id RequestID) {
		s.m.Rebuild(now, id, req)
	})
}

// rebuild answers wire.MethodRebuild. Whoever begins or ends one leaves a trace in the log.
func (s *Service) rebuild(r fleet.Request) {
	var req wire.Rebuild
	if r.Decode(&req) {
		if req.Action != wire.RebuildLook {
			s.cfg.Log.Warn("rebuild of the store", "begin", req.Action == wire.RebuildBegin, "end", req.Action == wire.RebuildEnd, "force", req.Force)
		}
		s.Rebuild(req, func(state *wire.RebuildState, err *cell.Error) { answer(&r, state, err) })
	}
}

// Backup writes the store, as it is now, to the place that a URL names; see Backup. The service goes on meanwhile.
func (s *Service) Backup(ctx context.Context, url string) (wire.BackupDone, error) {
	const op = "lifecycle.backup"
	if s.cfg.Objects == nil {
		return wire.BackupDone{}, &cell.Error{Op: op, Kind: cell.Refused, Detail: "this process has no object store"}
	}
	s.mu.Lock()
	if s.closed || s.failure != nil {
		s.mu.Unlock()
		return wire.BackupDone{}, &cell.Error{Op: op, Kind: cell.Unavailable, Detail: "the lifecycle manager has stopped"}
	}
	if s.backing {
		s.mu.Unlock()
		return wire.BackupDone{}, &cell.Error{Op: op, Kind: cell.Overloaded, Detail: "another backup is being written", RetryAfter: 10 * time.Second,
			Hint: "one at a time: each reads the whole store"}
	}
	s.backing = true
	s.calls.Add(1) // the store stays open until it is done
	s.mu.Unlock()
	defer func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.backing = false
	}()
	defer s.calls.Done()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(s.ctx, cancel)()
	to, err := s.cfg.Objects(url)
	if err != nil {
		return wire.BackupDone{}, err
	}
	return Backup(ctx, s.cfg.Store, to, time.Now().UTC().Format("20060102T150405.000Z"))
}

// backup answers wire.MethodBackup, on a goroutine of its own.
func (s *Service) backup(r fleet.Request) {
	var req wire.Backup
	if !r.Decode(&req) {
		return
	}
	go func() {
		done, err := s.Backup(s.ctx, req.To)
		if err == nil {
			s.cfg.Log.Info("backup", "to", req.To, "name", done.Name, "pairs", done.Pairs, "bytes", done.Bytes)
			answer(&r, &done, nil)
			return
		}
		var e *cell.Error
		if !errors.As(err, &e) {
			e = &cell.Error{Op: "lifecycle.backup", Kind: cell.Unavailable, Detail: err.Error(), Err: err, Hint: "see the log of the control process"}
		}
		s.cfg.Log.Error("backup failed", "to", req.To, "error", err)
		answer[wire.BackupDone](&r, nil, e)
	}()
}
