package node

import (
	"errors"
	"os"
	"path/filepath"
	"syscall"
	"unsafe"
)

// sharedMemory is where files lie in memory, on every Linux.
const sharedMemory = "/dev/shm"

// tmpfs is the kernel's number of the file system that is nothing but memory.
const tmpfs = 0x01021994

// memoryFor is the path of a file in memory, for one server. It must not be on a disk: a store into a page of a file waits for the disk now
// and then, and while a disk stalls it does not end; the loop would hang in it, and with it the whole process.
func memoryFor(server string) (string, error) {
	var fs syscall.Statfs_t
	if err := syscall.Statfs(sharedMemory, &fs); err != nil || fs.Type != tmpfs {
		return "", errors.Join(errors.New("there is no file system in memory at "+sharedMemory), err)
	}
	return filepath.Join(sharedMemory, "physalia-"+server), nil
}

// mapPage maps a small file into memory, and makes it first if it is not there. Its blocks are written before, so that lack of room shows
// here and not as a fault of memory. Everybody may make files in shared memory, so one of somebody else's is refused.
func mapPage(path string) (*[3]uint64, func() error, error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|syscall.O_NOFOLLOW, 0o600)
	if err != nil {
		return nil, nil, err
	}
	defer f.Close() // the mapping stays
	info, err := f.Stat()
	if err == nil {
		if owner, ok := info.Sys().(*syscall.Stat_t); !ok || int(owner.Uid) != os.Getuid() || !info.Mode().IsRegular() {
			err = errors.New(path + " belongs to somebody else")
		}
	}
	if err == nil && info.Size() != suspicionBytes {
		if err = f.Truncate(0); err == nil {
			_, err = f.Write(make([]byte, suspicionBytes))
		}
	}
	if err != nil {
		return nil, nil, err
	}
	page, err := syscall.Mmap(int(f.Fd()), 0, suspicionBytes, syscall.PROT_READ|syscall.PROT_WRITE, syscall.MAP_SHARED)
	if err != nil {
		return nil, nil, errors.Join(errors.New("map "+path), err)
	}
	return (*[3]uint64)(unsafe.Pointer(&page[0])), func() error { return syscall.Munmap(page) }, nil
}
