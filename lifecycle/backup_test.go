package lifecycle

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"physalia/cell"
	"physalia/internal/wire"
)

// shelf is an object store in memory.
type shelf struct {
	objects map[string][]byte
	puts    int // succeed before everything fails; -1: all
}

func newShelf() *shelf { return &shelf{objects: map[string][]byte{}, puts: -1} }

func (s *shelf) Put(_ context.Context, name string, data []byte) error {
	if s.puts == 0 {
		return errors.New("the shelf is full")
	}
	s.puts--
	s.objects[name] = slices.Clone(data)
	return nil
}

func (s *shelf) Get(_ context.Context, name string) ([]byte, error) {
	if b, ok := s.objects[name]; ok {
		return slices.Clone(b), nil
	}
	return nil, &cell.Error{Kind: cell.NotFound, Detail: name}
}

func (s *shelf) List(_ context.Context, prefix string) (list []string, err error) {
	for name := range s.objects {
		if strings.HasPrefix(name, prefix) {
			list = append(list, name)
		}
	}
	slices.Sort(list)
	return list, nil
}

// full is a store with some thousand records, more than fits one chunk.
func full(t *testing.T) *MemStore {
	t.Helper()
	store := NewMemStore()
	x := mode{floor: 7}
	batch := []Write{x.write()}
	for i := range 20_000 {
		rec := Record{Cell: cell.ID(fmt.Sprintf("vol-%06d", i)), Incarnation: 1, State: Creating, Plan: 1, Brick: labelOf("b1"), Color: labelOf("red"), Configuration: 1,
			Alpha: 4, Owner: 1}
		for n := range 7 {
			rec.Members = append(rec.Members, NewMember(uint32(n)+1, cell.ServerID(fmt.Sprintf("s%d-%040d", n, i%50))))
		}
		batch = append(batch, Write{rec.key(), appendRecord(nil, &rec)})
	}
	if err := store.Put(batch); err != nil {
		t.Fatal(err)
	}
	return store
}

// A restored store holds what was backed up, begins with a rebuild, and keeps the number above which new names begin.
func TestBackupRestore(t *testing.T) {
	store, place := full(t), newShelf()
	for _, name := range []string{"1", "2"} {
		done, err := Backup(t.Context(), store, place, name)
		if err != nil || done.Pairs != 20_001 {
			t.Fatalf("%+v, %v", done, err)
		}
	}
	chunks := 0
	for name, b := range place.objects {
		if len(b) > chunkBytes+1000 {
			t.Errorf("%s has %d bytes", name, len(b))
		}
		if strings.HasPrefix(name, "backup/2/0") {
			chunks++
		}
	}
	if chunks < 2 {
		t.Fatalf("%d chunks, the test needs several", chunks)
	}
	fresh := NewMemStore()
	done, err := Restore(t.Context(), fresh, place, "")
	if err != nil || done.Name != "2" || done.Pairs != 20_001 {
		t.Fatalf("%+v, %v", done, err)
	}
	was, is := maps.Clone(store.pairs), maps.Clone(fresh.pairs)
	delete(was, string(rune(keyMode)))
	delete(is, string(rune(keyMode)))
	if !maps.EqualFunc(was, is, func(a, b []byte) bool { return string(a) == string(b) }) {
		t.Error("the restored store differs")
	}
	m := NewManager(Config{})
	if err := fresh.Scan(m.Restore); err != nil {
		t.Fatal(err)
	}
	if !m.mode.rebuilding || m.mode.floor != 7 || !strings.Contains(m.mode.why, "backup 2") {
		t.Errorf("mode %+v", m.mode)
	}
	if _, err := Restore(t.Context(), fresh, place, ""); !errors.Is(err, cell.Exists) {
		t.Errorf("into a store that is not empty: %v", err)
	}
	if _, err := Restore(t.Context(), NewMemStore(), newShelf(), ""); !errors.Is(err, cell.NotFound) {
		t.Errorf("without a backup: %v", err)
	}
}

// A backup that did not end is none, and a copy that did not end is no store.
func TestBackupInterrupted(t *testing.T) {
	store, place := full(t), newShelf()
	place.puts = 1
	if _, err := Backup(t.Context(), store, place, "1"); err == nil {
		t.Fatal("a backup to a full shelf succeeded")
	}
	if names, err := Backups(t.Context(), place); err != nil || len(names) != 0 {
		t.Errorf("half a backup is listed: %v, %v", names, err)
	}
	place.puts = -1
	if _, err := Backup(t.Context(), store, place, "1"); err != nil {
		t.Fatal(err)
	}
	delete(place.objects, chunkName("1", 2))
	half := NewMemStore()
	if _, err := Restore(t.Context(), half, place, ""); !errors.Is(err, cell.NotFound) {
		t.Fatalf("a chunk is missing: %v", err)
	}
	err := half.Scan(NewManager(Config{}).Restore)
	if !errors.Is(err, cell.Refused) || !strings.Contains(err.Error(), "did not end") {
		t.Errorf("half a copy is accepted: %v", err)
	}
}

// Every changed byte of a small backup is found.
func TestBackupDamage(t *testing.T) {
	place := newShelf()
	store := NewMemStore()
	x := Record{Cell: "a", Incarnation: 1, State: Deleted, Plan: 1, Ending: BySeal}
	if err := store.Put([]Write{{x.key(), appendRecord(nil, &x)}}); err != nil {
		t.Fatal(err)
	}
	if _, err := Backup(t.Context(), store, place, "1"); err != nil {
		t.Fatal(err)
	}
	for name, b := range place.objects {
		for i := range b {
			b[i] ^= 0x10
			if _, err := Restore(t.Context(), NewMemStore(), place, "1"); !errors.Is(err, ErrDamaged) {
				t.Fatalf("%s, byte %d: %v", name, i, err)
			}
			b[i] ^= 0x10
		}
		short := place.objects[name]
		place.objects[name] = short[:len(short)-1]
		if _, err := Restore(t.Context(), NewMemStore(), place, "1"); !errors.Is(err, ErrDamaged) {
			t.Fatalf("%s, cut: %v", name, err)
		}
		place.objects[name] = short
	}
}

// The service backs up beside its work, to where a URL says, and refuses when it has stopped.
func TestServiceBackup(t *testing.T) {
	h := newHosts(t, 7)
	place := newShelf()
	store, err := OpenPebble(PebbleConfig{Dir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	var s *Service
	var second error
	s = open(t, ServiceConfig{Store: store, Caller: h, Objects: func(url string) (Objects, error) {
		if second == nil {
			_, second = s.Backup(t.Context(), "here") // while the first is being made
		}
		if url != "here" {
			return nil, &cell.Error{Kind: cell.Invalid, Detail: url}
		}
		return place, nil
	}})
	h.join(s)
	if _, err := createAll(s, cellNames(50)...); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Backup(t.Context(), "there"); !errors.Is(err, cell.Invalid) {
		t.Errorf("to nowhere: %v", err)
	}
	if !errors.Is(second, cell.Overloaded) {
		t.Errorf("two at a time: %v", second)
	}
	done, backupErr := s.Backup(t.Context(), "here")
	closeService(t, s)
	if backupErr != nil || done.Pairs < 50+7 {
		t.Fatalf("%+v, %v", done, backupErr)
	}
	if _, err := s.Backup(t.Context(), "here"); !errors.Is(err, cell.Unavailable) {
		t.Errorf("after the end: %v", err)
	}
	fresh := NewMemStore()
	if _, err := Restore(t.Context(), fresh, place, ""); err != nil {
		t.Fatal(err)
	}
	again := open(t, ServiceConfig{Store: fresh, Caller: h})
	h.join(again)
	if _, err := createAll(again, "vol-new"); err == nil || err.Kind != cell.Unavailable {
		t.Errorf("creation in a restored store: %v", err)
	}
	waitFor(t, again, func(r *wire.RebuildState) bool { return r.Complete && r.Live == 50 && r.Found == 0 })
	closeService(t, again)
}

// waitFor asks how far a rebuild is until it is as wanted.
func waitFor(t *testing.T, s *Service, holds func(*wire.RebuildState) bool) {
	t.Helper()
	ticker := time.NewTicker(5 * time.Millisecond)
	defer ticker.Stop()
	for ; ; <-ticker.C {
		got := make(chan *wire.RebuildState, 1)
		s.Rebuild(wire.Rebuild{Limit: 10}, func(r *wire.RebuildState, _ *cell.Error) { got <- r })
		r := <-got
		if r == nil || t.Context().Err() != nil {
			t.Fatalf("in vain: %+v", r)
		}
		if holds(r) {
			return
		}
	}
}
