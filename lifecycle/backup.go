package lifecycle

import (
	"context"
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"strings"

	"physalia/cell"
	"physalia/internal/wire"
)

// A backup is one consistent picture of a store, as objects under backup/NAME/: chunks of pairs, numbered from 1, and the
// manifest, which is written last. What has no manifest is no backup. Neither writing nor reading it holds more than one chunk
// in memory.
//
//	chunk:    'K', version, (length, key, length, value)*, CRC32C of all that
//	manifest: the frame of a record around [name, pairs, [[bytes, CRC32C of a chunk], ...]]
const (
	formatChunk    = 'K'
	formatManifest = 'I'
	backupPrefix   = "backup/"
	chunkBytes     = 4 << 20  // a chunk is closed when it has so many; it may have one pair more
	chunkBytesMax  = 16 << 20 // no chunk is longer: a pair has a few hundred kilobytes at most
	chunksMax      = 1 << 20
	restoreBytes   = 1 << 20 // of one batch of a restoration
)

// Objects is where backups are kept; internal/objects has them.
type Objects interface {
	Put(ctx context.Context, name string, data []byte) error
	Get(ctx context.Context, name string) ([]byte, error)
	List(ctx context.Context, prefix string) ([]string, error)
}

// chunkSum is what the manifest says of one chunk.
type chunkSum struct{ bytes, sum uint64 }

// Backup writes everything that the store holds at one moment. Names are chosen by the caller, so that they sort by age; one
// that exists is overwritten. It is safe beside everything that Service does.
func Backup(ctx context.Context, store Store, to Objects, name string) (wire.BackupDone, error) {
	done := wire.BackupDone{Name: name}
	var sums []chunkSum
	chunk := newChunk()
	flush := func() error {
		b := appendSum(chunk, 0)
		sums = append(sums, chunkSum{uint64(len(b)), uint64(crc32.Checksum(b, castagnoli))})
		done.Bytes += uint64(len(b))
		chunk = newChunk()
		if len(sums) > chunksMax {
			return &cell.Error{Op: "lifecycle.backup", Kind: cell.TooLarge, Detail: fmt.Sprintf("more than %d chunks", chunksMax)}
		}
		return to.Put(ctx, chunkName(name, len(sums)), b)
	}
	scan := store.Scan
	if x, ok := store.(Snapshotter); ok {
		scan = func(visit func(key, value []byte) error) error { return x.Snapshot(ctx, visit) }
	}
	err := scan(func(key, value []byte) error {
		chunk = append(binary.AppendUvarint(chunk, uint64(len(key))), key...)
		chunk = append(binary.AppendUvarint(chunk, uint64(len(value))), value...)
		done.Pairs++
		if len(chunk) < chunkBytes {
			return ctx.Err()
		}
		return flush()
	})
	if err == nil && len(chunk) > len(newChunk()) {
		err = flush()
	}
	if err == nil {
		err = to.Put(ctx, backupPrefix+name+"/manifest", appendManifest(&done, sums))
	}
	return done, err
}

func newChunk() []byte { return []byte{formatChunk, storedVersion} }

func chunkName(name string, n int) string { return fmt.Sprintf("%s%s/%08d", backupPrefix, name, n) }

func appendManifest(d *wire.BackupDone, sums []chunkSum) []byte {
	b := []byte{formatManifest, storedVersion}
	b = wire.AppendUint(wire.AppendString(wire.AppendArray(b, 3), d.Name), d.Pairs)
	b = wire.AppendArray(b, len(sums))
	for _, s := range sums {
		b = wire.AppendUint(wire.AppendUint(wire.AppendArray(b, 2), s.bytes), s.sum)
	}
	return appendSum(b, 0)
}

func decodeManifest(b []byte) (d wire.BackupDone, sums []chunkSum, err error) {
	r, err := storedBody(formatManifest, b)
	if err != nil {
		return d, nil, err
	}
	r.Struct(3, "manifest")
	d.Name, d.Pairs = r.String(wire.DetailBytesMax, "name"), r.Uint()
	sums = make([]chunkSum, r.Array(chunksMax, "chunks"))
	for i := range sums {
		r.Struct(2, "chunk")
		sums[i] = chunkSum{r.UintMax(chunkBytesMax, "bytes of a chunk"), r.Uint()}
		d.Bytes += sums[i].bytes
	}
	if err := r.Done(); err != nil {
		return d, nil, damaged(err.Error())
	}
	return d, sums, nil
}

// Backups lists the names of complete backups, the oldest first.
func Backups(ctx context.Context, from Objects) (names []string, err error) {
	all, err := from.List(ctx, backupPrefix)
	for _, object := range all {
		if name, ok := strings.CutSuffix(strings.TrimPrefix(object, backupPrefix), "/manifest"); ok {
			names = append(names, name)
		}
	}
	return names, err
}

// Restore copies a backup, or the newest when name is empty, into an empty store. A manager that starts from it rebuilds:
// what happened since the backup only the servers know. A copy that is interrupted leaves a store that no manager accepts.
func Restore(ctx context.Context, store Store, from Objects, name string) (wire.BackupDone, error) {
	const op = "lifecycle.restore"
	if err := store.Scan(func(key, _ []byte) error {
		return &cell.Error{Op: op, Kind: cell.Exists, Detail: fmt.Sprintf("the store is not empty: it holds %q", key), Hint: "restore into an empty directory"}
	}); err != nil {
		return wire.BackupDone{}, err
	}
	if name == "" {
		names, err := Backups(ctx, from)
		if err != nil {
			return wire.BackupDone{}, err
		}
		if len(names) == 0 {
			return wire.BackupDone{}, &cell.Error{Op: op, Kind: cell.NotFound, Detail: "there is no complete backup", Hint: "check --from"}
		}
		name = names[len(names)-1]
	}
	b, err := from.Get(ctx, backupPrefix+name+"/manifest")
	if err != nil {
		return wire.BackupDone{}, err
	}
	done, sums, err := decodeManifest(b)
	if err != nil {
		return done, err
	}
	x := mode{rebuilding: true, restoring: true, why: "restored from the backup " + done.Name}
	if err := store.Put([]Write{x.write()}); err != nil {
		return done, err
	}
	pairs := uint64(0)
	for i, want := range sums {
		b, err := from.Get(ctx, chunkName(name, i+1))
		if err != nil {
			return done, err
		}
		if uint64(len(b)) != want.bytes || uint64(crc32.Checksum(b, castagnoli)) != want.sum {
			return done, damaged(fmt.Sprintf("chunk %d of %s is not what the manifest says", i+1, name))
		}
		n, err := restoreChunk(store, b, &x)
		if pairs += n; err != nil {
			return done, err
		}
	}
	if pairs != done.Pairs {
		return done, damaged(fmt.Sprintf("%d pairs in the chunks of %s, %d in the manifest", pairs, name, done.Pairs))
	}
	x.restoring = false
	return done, store.Put([]Write{x.write()})
}

// restoreChunk stores the pairs of one chunk; of the mode that was stored it keeps the floor.
func restoreChunk(store Store, b []byte, x *mode) (pairs uint64, err error) {
	if len(b) < 2+4 || b[0] != formatChunk || b[1] != storedVersion || binary.BigEndian.Uint32(b[len(b)-4:]) != crc32.Checksum(b[:len(b)-4], castagnoli) {
		return 0, damaged("a chunk of the backup")
	}
	field := func(b []byte) (value, rest []byte, ok bool) {
		n, k := binary.Uvarint(b)
		if k <= 0 || n > uint64(len(b)-k) {
			return nil, nil, false
		}
		return b[k : k+int(n)], b[k+int(n):], true
	}
	var batch []Write
	size := 0
	for b = b[2 : len(b)-4]; len(b) > 0; pairs++ {
		key, rest, ok := field(b)
		value, rest, ok2 := field(rest)
		if !ok || !ok2 || len(key) == 0 {
			return pairs, damaged("a pair of the backup")
		}
		if b = rest; key[0] == keyMode {
			old, err := decodeMode(value)
			if err != nil {
				return pairs, err
			}
			x.floor = old.floor
			continue
		}
		batch, size = append(batch, Write{key, value}), size+len(key)+len(value)
		if size >= restoreBytes {
			if err := store.Put(batch); err != nil {
				return pairs, err
			}
			batch, size = nil, 0
		}
	}
	if len(batch) == 0 {
		return pairs, nil
	}
	return pairs, store.Put(batch)
}
