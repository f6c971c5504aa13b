package bench

import (
	"fmt"
	"syscall"

	"physalia/cell"
)

// inMemory are the magic numbers of file systems that keep nothing on a disk: tmpfs and ramfs.
var inMemory = map[int64]string{0x01021994: "tmpfs", 0x858458f6: "ramfs"}

// onDisk refuses a directory whose file system is in memory: a sync that costs nothing proves nothing.
func onDisk(dir string) error {
	var fs syscall.Statfs_t
	if err := syscall.Statfs(dir, &fs); err != nil {
		return fmt.Errorf("look at the file system of %s: %w", dir, err)
	}
	if name, ok := inMemory[int64(fs.Type)]; ok {
		return &cell.Error{Op: "bench", Kind: cell.Refused, Detail: fmt.Sprintf("%s is on %s, where syncs cost nothing", dir, name), Hint: "name a directory on the disk that you mean with --keep"}
	}
	return nil
}
