package objects

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"physalia/cell"
)

// directory keeps each object in a file. A new value is written beside the old one under a name that no object can have,
// synced, and renamed over it; then the directory is synced, since a power loss can undo a rename that was not.
type directory struct{ root string }

func openDirectory(root string) (Store, error) {
	root = filepath.Clean(root)
	if err := os.MkdirAll(root, 0o700); err != nil {
		return nil, diskError("objects.open", "", err)
	}
	return &directory{root: root}, nil
}

// diskError says what a file system refused.
func diskError(op, name string, err error) error {
	e := &cell.Error{Op: op, Kind: cell.Unavailable, Detail: name, Err: err, Hint: "check the directory, its owner and the space on its disk"}
	if errors.Is(err, fs.ErrPermission) {
		e.Kind, e.Hint = cell.Refused, "give this user the right to read and write the directory"
	}
	return e
}

// tempPattern is the name of a file that is being written; an object's name cannot begin with a dot.
const tempPattern = ".writing-*"

func (d *directory) path(name string) string { return filepath.Join(d.root, filepath.FromSlash(name)) }

// Put implements Store.
func (d *directory) Put(ctx context.Context, name string, data []byte) error {
	const op = "objects.put"
	if err := checkName(op, name); err != nil {
		return err
	}
	if len(data) > ObjectBytesMax {
		return tooLarge(op, name, int64(len(data)))
	}
	if err := ctx.Err(); err != nil {
		return &cell.Error{Op: op, Kind: cell.Unavailable, Detail: name, Err: err}
	}
	path := d.path(name)
	if err := d.makeParents(filepath.Dir(path)); err != nil {
		return diskError(op, name, err)
	}
	if err := writeAtomic(path, data); err != nil {
		return diskError(op, name, err)
	}
	return nil
}

// makeParents makes the directories above an object and makes their names durable.
func (d *directory) makeParents(dir string) error {
	if _, err := os.Stat(dir); err == nil {
		return nil
	}
	if dir != d.root {
		if err := d.makeParents(filepath.Dir(dir)); err != nil {
			return err
		}
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	return syncDirectory(filepath.Dir(dir))
}

// writeAtomic replaces a file; the temporary one goes away when anything fails.
func writeAtomic(path string, data []byte) error {
	f, err := os.CreateTemp(filepath.Dir(path), tempPattern)
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		return errors.Join(err, os.Remove(f.Name()))
	}
	return syncDirectory(filepath.Dir(path))
}

func syncDirectory(path string) error {
	dir, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(dir.Sync(), dir.Close())
}

// Get implements Store.
func (d *directory) Get(ctx context.Context, name string) ([]byte, error) {
	const op = "objects.get"
	if err := checkName(op, name); err != nil {
		return nil, err
	}
	if err := ctx.Err(); err != nil {
		return nil, &cell.Error{Op: op, Kind: cell.Unavailable, Detail: name, Err: err}
	}
	// The size is looked at first, so that a foreign file of any size is refused without being read.
	info, err := os.Stat(d.path(name))
	switch {
	case errors.Is(err, fs.ErrNotExist) || err == nil && info.IsDir():
		return nil, notFound(op, name)
	case err != nil:
		return nil, diskError(op, name, err)
	case info.Size() > ObjectBytesMax:
		return nil, tooLarge(op, name, info.Size())
	}
	data, err := os.ReadFile(d.path(name))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, notFound(op, name) // removed since
	}
	if err != nil {
		return nil, diskError(op, name, err)
	}
	return data, nil
}

// List implements Store. It walks only the directory that the prefix names.
func (d *directory) List(ctx context.Context, prefix string) ([]string, error) {
	const op = "objects.list"
	if err := checkPrefix(op, prefix); err != nil {
		return nil, err
	}
	from := d.root
	if i := strings.LastIndexByte(prefix, '/'); i >= 0 {
		from = d.path(prefix[:i])
	}
	var names []string
	err := filepath.WalkDir(from, func(path string, entry fs.DirEntry, err error) error {
		switch {
		case errors.Is(err, fs.ErrNotExist):
			return nil // removed since its directory was read, or there never was one
		case err != nil:
			return err
		case ctx.Err() != nil:
			return ctx.Err()
		case entry.IsDir() || strings.HasPrefix(entry.Name(), "."):
			return nil
		}
		inside, err := filepath.Rel(d.root, path)
		if err != nil {
			return err
		}
		if name := filepath.ToSlash(inside); strings.HasPrefix(name, prefix) {
			names = append(names, name)
		}
		return nil
	})
	if err != nil {
		return nil, diskError(op, prefix, err)
	}
	slices.Sort(names)
	return names, nil
}

// Delete implements Store. Directories that become empty stay.
func (d *directory) Delete(ctx context.Context, name string) error {
	const op = "objects.delete"
	if err := checkName(op, name); err != nil {
		return err
	}
	if err := ctx.Err(); err != nil {
		return &cell.Error{Op: op, Kind: cell.Unavailable, Detail: name, Err: err}
	}
	if info, err := os.Stat(d.path(name)); err == nil && info.IsDir() {
		return nil // not an object
	}
	if err := os.Remove(d.path(name)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return diskError(op, name, err)
	}
	return nil
}

// String names the store for people.
func (d *directory) String() string { return fmt.Sprintf("directory %s", d.root) }
