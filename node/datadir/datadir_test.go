package datadir

import (
	"bytes"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"
	"go.uber.org/goleak"

	"physalia/cell"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const testPath = "srv/physalia"

var s1 = Identity{Colony: "zone-a", Name: "s1", Brick: "b1", Rack: "r1", Power: "p1", Color: "red"}

// config describes server s1 on fs. The random bytes differ from call to call.
func config(fs vfs.FS, want Identity) Config {
	return Config{FS: fs, Path: testPath, Want: want, Random: &dice, Now: time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC),
		Logger: slog.New(slog.DiscardHandler)}
}

// counter is a source of bytes that never repeats five in a row.
type counter struct{ n atomic.Uint32 }

func (c *counter) Read(p []byte) (int, error) {
	n := c.n.Add(1)
	for i := range p {
		p[i] = byte(n >> (8 * (i % 4)))
	}
	return len(p), nil
}

var dice counter

// open opens and closes the directory, and returns what it said.
func open(t *testing.T, fs vfs.FS, want Identity) (Identity, uint64) {
	t.Helper()
	d, err := Open(config(fs, want))
	if err != nil {
		t.Fatal(err)
	}
	if err := d.Close(); err != nil {
		t.Fatal(err)
	}
	return d.Identity(), d.Boot()
}

func TestIdentityIsIssuedOnceAndBootsCount(t *testing.T) {
	fs := vfs.NewMem()
	cfg := config(fs, s1)
	cfg.Random = bytes.NewReader([]byte{0, 1, 2, 3, 255})
	d, err := Open(cfg)
	if err != nil {
		t.Fatal(err)
	}
	want := s1
	want.Server = "s1-aaaqea77"
	if d.Identity() != want || d.Boot() != 1 || d.StorePath() != testPath+"/store" {
		t.Errorf("first start: %+v boot %d store %s", d.Identity(), d.Boot(), d.StorePath())
	}
	if err := d.Close(); err != nil {
		t.Fatal(err)
	}
	for boot := uint64(2); boot <= 4; boot++ {
		if id, got := open(t, fs, Identity{}); id != want || got != boot {
			t.Errorf("start %d: %+v boot %d", boot, id, got)
		}
	}
	if id, _ := open(t, fs, want); id != want {
		t.Errorf("%+v", id)
	}
}

// TestMixUps: whatever differs from the flags is named with both values, the path and what to do.
func TestMixUps(t *testing.T) {
	fs := vfs.NewMem()
	have, _ := open(t, fs, s1)
	for name, change := range map[string]func(*Identity) (has, given string){
		"colony": func(id *Identity) (string, string) { id.Colony = "zone-b"; return "zone-a", "zone-b" },
		"name":   func(id *Identity) (string, string) { id.Name = "s2"; return "s1", "s2" },
		"brick":  func(id *Identity) (string, string) { id.Brick = "b2"; return "b1", "b2" },
		"color":  func(id *Identity) (string, string) { id.Color = "blue"; return "red", "blue" },
		"server identity": func(id *Identity) (string, string) {
			id.Server = "s1-other222"
			return string(have.Server), "s1-other222"
		},
	} {
		want := have
		has, given := change(&want)
		_, err := Open(config(fs, want))
		if cell.KindOf(err) != cell.Refused {
			t.Errorf("%s: %v", name, err)
			continue
		}
		for _, part := range []string{testPath, name, fmt.Sprintf("%q", has), fmt.Sprintf("%q", given), string(have.Server), "use an empty directory"} {
			if !strings.Contains(err.Error(), part) {
				t.Errorf("%s: %v does not contain %q", name, err, part)
			}
		}
	}
	if _, boot := open(t, fs, have); boot != 2 {
		t.Errorf("boot %d: a refused start counted, or left the lock", boot)
	}
}

func TestMovingToAnotherRackIsAdopted(t *testing.T) {
	fs := vfs.NewMem()
	open(t, fs, s1)
	open(t, fs, Identity{Rack: "r9", Power: "p9"})
	if id, _ := open(t, fs, Identity{}); id.Rack != "r9" || id.Power != "p9" || id.Name != "s1" {
		t.Errorf("%+v", id)
	}
}

func TestRefusesWhatItDoesNotKnow(t *testing.T) {
	put := func(name, content string) func(t *testing.T, fs vfs.FS) {
		return func(t *testing.T, fs vfs.FS) {
			if err := errors.Join(fs.MkdirAll(fs.PathDir(testPath+"/"+name), 0o700), WriteFileAtomic(fs, testPath+"/"+name, []byte(content))); err != nil {
				t.Fatal(err)
			}
		}
	}
	sealed := func(text string) func(t *testing.T, fs vfs.FS) { return put("superblock", string(seal([]byte(text)))) }
	for name, test := range map[string]struct {
		prepare func(t *testing.T, fs vfs.FS)
		want    Identity
		kind    cell.Kind
		says    string
	}{
		"pebble inside":       {put("MANIFEST-000001", "x"), s1, cell.Refused, `"MANIFEST-000001"`},
		"store without block": {put("store/MANIFEST-000001", "x"), s1, cell.Refused, `"store"`},
		"foreign block":       {put("superblock", "something else, of some length"), s1, cell.Refused, "do not begin like"},
		"empty block":         {put("superblock", ""), s1, cell.Refused, "0 bytes"},
		"later version":       {put("superblock", "physalia\x01\x02 with more behind it"), s1, cell.Refused, "version 2"},
		"unknown field":       {sealed(`{"Colony":"zone-a","Server":"s1-aaaaaaaa","Boot":1,"Fence":9}`), s1, cell.Refused, "Fence"},
		"block without id":    {sealed(`{"Colony":"zone-a","Boot":1}`), s1, cell.Refused, "0 bytes"},
		"identity of nothing": {nil, Identity{Colony: "zone-a", Name: "s1", Brick: "b1", Color: "red", Server: "s1-aaaaaaaa"}, cell.Refused, "is empty, but this server is said to be s1-aaaaaaaa"},
		"no colony":           {nil, Identity{Name: "s1", Brick: "b1", Color: "red"}, cell.Invalid, "no colony"},
		"no name":             {nil, Identity{Colony: "zone-a", Brick: "b1", Color: "red"}, cell.Invalid, "no name"},
		"path in the name":    {nil, Identity{Colony: "zone-a", Name: "../s1", Brick: "b1", Color: "red"}, cell.Invalid, `"../s1"`},
		"name too long":       {nil, Identity{Name: strings.Repeat("n", nameBytesMax+1)}, cell.Invalid, "56 bytes"},
	} {
		t.Run(name, func(t *testing.T) {
			fs := vfs.NewMem()
			if test.prepare != nil {
				test.prepare(t, fs)
			}
			for range 2 { // the second time meets what the first has left
				d, err := Open(config(fs, test.want))
				if cell.KindOf(err) != test.kind || !strings.Contains(err.Error(), test.says) {
					t.Fatalf("%v, want kind %v and %q", err, test.kind, test.says)
				}
				if d != nil {
					t.Error("a directory was returned with the error")
				}
			}
		})
	}
}

// TestEveryFlippedBitIsNoticed damages the superblock in every possible place.
func TestEveryFlippedBitIsNoticed(t *testing.T) {
	fs := vfs.NewMem()
	open(t, fs, s1)
	block, err := fs.UnsafeGetFileDataBuffer(testPath + "/superblock")
	if err != nil {
		t.Fatal(err)
	}
	for i := range len(block) * 8 {
		block[i/8] ^= 1 << (i % 8)
		if d, err := Open(config(fs, Identity{})); cell.KindOf(err) != cell.Refused {
			t.Fatalf("bit %d: %v %v", i, d, err)
		}
		block[i/8] ^= 1 << (i % 8)
	}
	if _, boot := open(t, fs, s1); boot != 2 {
		t.Errorf("boot %d", boot)
	}
}

func TestOneProcessAtATime(t *testing.T) {
	for name, fs := range map[string]vfs.FS{"memory": vfs.NewMem(), "disk": vfs.Default} {
		t.Run(name, func(t *testing.T) {
			cfg := config(fs, s1)
			if fs == vfs.Default {
				cfg.Path = filepath.Join(t.TempDir(), "a", "b")
			}
			d, err := Open(cfg)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := Open(cfg); cell.KindOf(err) != cell.Refused || !strings.Contains(err.Error(), "in use by another process") {
				t.Errorf("second process: %v", err)
			}
			if err := d.Close(); err != nil {
				t.Fatal(err)
			}
			if d, err = Open(cfg); err != nil {
				t.Fatal(err)
			}
			if err := d.Close(); err != nil {
				t.Error(err)
			}
		})
	}
}

// TestVanishedStore: once a store existed, a directory without it is not a new server, nor the old one.
func TestVanishedStore(t *testing.T) {
	fs := vfs.NewMem()
	d, err := Open(config(fs, s1))
	if err != nil {
		t.Fatal(err)
	}
	if d.Stored() {
		t.Error("a new directory claims to have a store")
	}
	if err := errors.Join(fs.MkdirAll(d.StorePath(), 0o700), WriteFileAtomic(fs, d.StorePath()+"/MANIFEST-000001", nil), d.MarkStored(), d.MarkStored(), d.Close()); err != nil {
		t.Fatal(err)
	}
	if d, err = Open(config(fs, s1)); err != nil || !d.Stored() || d.Boot() != 2 {
		t.Fatalf("%+v %v", d, err)
	}
	if err := errors.Join(d.Close(), fs.RemoveAll(d.StorePath())); err != nil {
		t.Fatal(err)
	}
	for _, prepare := range []func() error{func() error { return nil }, func() error { return fs.MkdirAll(d.StorePath(), 0o700) }} {
		if err := prepare(); err != nil {
			t.Fatal(err)
		}
		if _, err := Open(config(fs, s1)); cell.KindOf(err) != cell.Refused || !strings.Contains(err.Error(), "its store is gone") {
			t.Errorf("%v", err)
		}
	}
}

func TestFiles(t *testing.T) {
	fs := vfs.NewMem()
	d, err := Open(config(fs, s1))
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	if _, err := d.ReadFile("addresses"); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("missing file: %v", err)
	}
	for _, content := range []string{"first", "", "a longer one"} {
		if err := d.WriteFile("addresses", []byte(content)); err != nil {
			t.Fatal(err)
		}
		if got, err := d.ReadFile("addresses"); err != nil || string(got) != content {
			t.Errorf("%q %v, want %q", got, err, content)
		}
	}
	if err := d.WriteFile("superblock", nil); cell.KindOf(err) != cell.Invalid {
		t.Errorf("a reserved name: %v", err)
	}
	if err := d.WriteFile("addresses", make([]byte, fileBytesMax)); cell.KindOf(err) != cell.TooLarge {
		t.Errorf("a file too large: %v", err)
	}
	data, err := fs.UnsafeGetFileDataBuffer(testPath + "/addresses")
	if err != nil {
		t.Fatal(err)
	}
	data[len(data)-1] ^= 1
	if _, err := d.ReadFile("addresses"); cell.KindOf(err) != cell.Refused || errors.Is(err, os.ErrNotExist) {
		t.Errorf("damaged file: %v", err)
	}
}

// beforeChange calls f before the change with the given index, from 0 on, is made to the disk.
func beforeChange(fs vfs.FS, index int, f func()) vfs.FS {
	n := 0
	return errorfs.Wrap(fs, errorfs.InjectorFunc(func(op errorfs.Op) error {
		if op.Kind.ReadOrWrite() == errorfs.OpIsWrite {
			if n == index {
				f()
			}
			n++
		}
		return nil
	}))
}

// TestPowerLossAtEveryStep takes the power away before each change of a start, the first and a later one. The next start
// always succeeds, an identity that was in use stays, and no boot number that was returned comes again.
func TestPowerLossAtEveryStep(t *testing.T) {
	for _, earlier := range []uint64{0, 1, 2} {
		for _, percent := range []int{0, 50, 100} {
			steps := 0
			for ; powerLoss(t, earlier, percent, steps); steps++ {
			}
			if steps < 5 {
				t.Errorf("a start after %d others made only %d changes", earlier, steps)
			}
		}
	}
}

// powerLoss returns false when the start makes fewer changes.
func powerLoss(t *testing.T, earlier uint64, percent, step int) bool {
	t.Helper()
	fs := vfs.NewCrashableMem()
	var before Identity
	for range earlier {
		before, _ = open(t, fs, s1)
	}
	var after *vfs.MemFS
	started, _ := open(t, beforeChange(fs, step, func() {
		after = fs.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: percent, RNG: rand.New(rand.NewPCG(uint64(step), earlier))})
	}), s1)
	if after == nil {
		after = fs.CrashClone(vfs.CrashCloneCfg{})
		if id, boot := open(t, after, s1); id != started || boot != earlier+2 {
			t.Errorf("power lost after start %d: next is %v boot %d, want %v", earlier+1, id, boot, started)
		}
		return false
	}
	id, boot := open(t, after, s1)
	if earlier > 0 && id != before {
		t.Errorf("step %d of start %d: identity %v became %v", step, earlier+1, before, id)
	}
	if boot <= earlier || boot > earlier+2 {
		t.Errorf("step %d of start %d: the next is boot %d", step, earlier+1, boot)
	}
	return true
}

// TestDiskErrors: a start that could not make itself durable is no start.
func TestDiskErrors(t *testing.T) {
	fs := vfs.NewMem()
	open(t, fs, s1)
	for step := 0; ; step++ {
		n, hit := 0, false
		broken := errorfs.Wrap(fs, errorfs.InjectorFunc(func(op errorfs.Op) error {
			n++
			if hit = hit || n == step+1; n == step+1 {
				return errorfs.ErrInjected
			}
			return nil
		}))
		d, err := Open(config(broken, s1))
		if !hit {
			if err := errors.Join(err, d.Close()); err != nil {
				t.Fatal(err)
			}
			return
		}
		if err == nil {
			t.Fatalf("step %d: the error of the disk was swallowed", step)
		}
		if kind := cell.KindOf(err); kind != cell.Internal {
			t.Errorf("step %d: %v", step, err)
		}
	}
}

// TestSealGolden pins the bytes on disk.
func TestSealGolden(t *testing.T) {
	const golden = "physalia\x01\x01\x00\x00\x00\x00\x00\x02*\x02\xc47hi"
	if got := string(seal([]byte("hi"))); got != golden {
		t.Errorf("%q, want %q", got, golden)
	}
	if got, err := unseal([]byte(golden)); err != nil || string(got) != "hi" {
		t.Errorf("%q %v", got, err)
	}
}

func FuzzUnseal(f *testing.F) {
	f.Add([]byte(magic))
	f.Add(seal([]byte("payload")))
	f.Fuzz(func(t *testing.T, record []byte) {
		if payload, err := unseal(record); err == nil && !bytes.Equal(seal(payload), record) {
			t.Errorf("%q is read as %q, which is written differently", record, payload)
		}
	})
}
