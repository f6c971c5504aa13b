//go:build unix

package node

import (
	"errors"
	"os"
	"syscall"
	"unsafe"
)

// mapPage maps a small file into memory, and makes it first if it is not there. Its blocks are written before, so that a full disk shows
// here and not as a fault of memory.
func mapPage(path string) (*[3]uint64, func() error, error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, nil, err
	}
	defer f.Close() // the mapping stays
	info, err := f.Stat()
	if err == nil && info.Size() != suspicionBytes {
		if err = f.Truncate(0); err == nil {
			_, err = f.Write(make([]byte, suspicionBytes))
		}
		if err == nil {
			err = f.Sync()
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
