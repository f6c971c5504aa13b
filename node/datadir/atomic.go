package datadir

import (
	"errors"
	"os"
	"strings"
	"syscall"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// WriteFileAtomic replaces the file at path by data. After a crash at any time the path holds all of the old content or
// all of the new, and once WriteFileAtomic has returned nil, the new. The data goes to a temporary file beside it, is
// synced, renamed over the old, and then the directory is synced too: without that, a power loss can undo the rename.
// Two writers of one path must not overlap.
func WriteFileAtomic(fs vfs.FS, path string, data []byte) error {
	temp := path + tempSuffix
	f, err := fs.Create(temp, vfs.WriteCategoryUnspecified)
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	if err == nil {
		err = f.Sync()
	}
	if err := errors.Join(err, f.Close()); err != nil {
		return err
	}
	if err := fs.Rename(temp, path); err != nil {
		return err
	}
	return syncDir(fs, fs.PathDir(path))
}

// makeDir makes the directory and its missing parents, for the owner only, and makes their names durable. The parent of
// the directory is always synced, since a start that was stopped between the two steps has left a name that is not.
func makeDir(fs vfs.FS, path string) error {
	if err := fs.MkdirAll(path, 0o700); err != nil {
		return err
	}
	for at := path; ; {
		parent := fs.PathDir(at)
		if parent == at {
			return nil
		}
		if err := syncDir(fs, parent); err != nil {
			// A parent that we may not read was there before, "/srv" for example: not ours to sync.
			if errors.Is(err, os.ErrPermission) {
				return nil
			}
			return err
		}
		at = parent
	}
}

func syncDir(fs vfs.FS, path string) error {
	dir, err := fs.OpenDir(path)
	if err != nil {
		return err
	}
	return errors.Join(dir.Sync(), dir.Close())
}

// lockHeld tells from a failed lock whether somebody holds it; the file system has no better word for this process.
func lockHeld(err error) bool {
	return errors.Is(err, syscall.EAGAIN) || errors.Is(err, syscall.EACCES) && !isPathError(err) ||
		strings.Contains(err.Error(), "held by current process")
}

// isPathError tells an error of opening the lock file from one of locking it.
func isPathError(err error) bool {
	var e *os.PathError
	return errors.As(err, &e)
}
