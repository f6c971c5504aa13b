package etcdstore

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"sync"
	"testing"

	"physalia/internal/etcdtest"
	"physalia/lifecycle"
)

// A snapshot that is taken beside batches of every size holds each of them whole or not at all, and is in order.
func TestSnapshotBesidePuts(t *testing.T) {
	w := newWorld(t, connect(t, etcdtest.Start(t)), "/snapshot")
	s := w.mustOpen()
	batch := func(n int) (list []lifecycle.Write) {
		for i := range 3 * writesMax {
			list = append(list, lifecycle.Write{Key: fmt.Appendf(nil, "%05d", i), Value: strconv.AppendInt(nil, int64(n), 10)})
		}
		return list
	}
	if err := s.Put(batch(0)); err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	var writer sync.WaitGroup
	writer.Go(func() {
		for n := 1; ctx.Err() == nil; n++ {
			if err := s.Put(batch(n)); err != nil {
				t.Error(err)
				return
			}
		}
	})
	distinct := map[string]bool{}
	for range 30 {
		var keys, values []string
		if err := s.Snapshot(t.Context(), func(k, v []byte) error {
			keys, values = append(keys, string(k)), append(values, string(v))
			return nil
		}); err != nil {
			t.Error(err)
			break
		}
		if len(keys) != 3*writesMax || !slices.IsSorted(keys) || len(slices.Compact(values)) != 1 {
			t.Errorf("%d keys, sorted %v, values %v", len(keys), slices.IsSorted(keys), slices.Compact(values))
			break
		}
		distinct[values[0]] = true
	}
	stop()
	writer.Wait()
	if len(distinct) < 2 {
		t.Errorf("nothing was written beside the snapshots: %v", distinct)
	}
}
