package operator

import (
	"context"

	"physalia/internal/wire"
)

// Rebuild begins or ends a rebuild of the lifecycle manager's store, or only asks how far it is, with all that was found and does
// not fit. The pages of findings are of one round unless a round ends meanwhile.
func (o Operator) Rebuild(ctx context.Context, op string, action wire.RebuildAction, force bool) (*wire.RebuildState, error) {
	conn, err := o.Control(ctx, op)
	if err != nil {
		return nil, err
	}
	defer conn.Close(nil)
	var all wire.RebuildState
	// Only the first request acts; the others read on. What they tell besides findings is newer, and replaces what came before.
	for request := (wire.Rebuild{Action: action, Force: force, Limit: wire.ListLimitMax}); ; {
		var page wire.RebuildState
		if err := conn.Call(ctx, wire.MethodRebuild, &request, &page); err != nil {
			return nil, err
		}
		findings := append(all.Findings, page.Findings...)
		all = page
		all.Findings = findings
		if !page.More || len(page.Findings) == 0 {
			return &all, nil
		}
		request = wire.Rebuild{After: uint64(len(findings)), Limit: wire.ListLimitMax}
	}
}

// It is not idempotent, but harmless: asked for twice there are two backups, each complete.
//
// Backup has the control process write its store to the place that a URL names, which it must be able to reach.
func (o Operator) Backup(ctx context.Context, op, to string) (done wire.BackupDone, err error) {
	err = o.Ask(ctx, op, wire.MethodBackup, &wire.Backup{To: to}, &done)
	return done, err
}
