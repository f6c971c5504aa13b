package faults

import (
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"unsafe"
)

// Disk is an ext4 file system in a file, mounted. Its methods are for one goroutine.
type Disk struct {
	Dir    string // where it is mounted
	image  string
	frozen *os.File // the mounted directory while it is frozen
	guard  *exec.Cmd
	pledge io.Closer // the guard thaws the disk when this is closed, as it is when this process dies
}

// NewDisk makes a file system of some bytes in image.img beside dir, and mounts it at dir. Call it inside a cage. Close
// unmounts it.
func NewDisk(dir string, size int64) (*Disk, error) {
	d := &Disk{Dir: dir, image: dir + ".img"}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	if err := os.WriteFile(d.image, nil, 0o600); err != nil {
		return nil, err
	}
	if err := os.Truncate(d.image, size); err != nil {
		return nil, err
	}
	if err := try("mkfs.ext4", "-q", "-F", "-m", "0", d.image); err != nil {
		return nil, err
	}
	if err := d.Mount(); err != nil {
		return nil, err
	}
	return d, os.Remove(filepath.Join(dir, "lost+found"))
}

// Mount mounts the disk, which repairs what a cut left behind.
func (d *Disk) Mount() error { return try("mount", "-o", "loop", d.image, d.Dir) }

// Unmount unmounts the disk; nobody may use it.
func (d *Disk) Unmount() error { return try("umount", d.Dir) }

// The requests of the kernel's file system interface: linux/fs.h, and for the last ext4's own.
const (
	fiFreeze    = 0xc0045877
	fiThaw      = 0xc0045878
	extShutdown = 0x8004587d
)

// noFlush is the way to shut an ext4 down that does not even write its journal.
const noFlush uint32 = 2

// Cut is a power failure: from now on nothing reaches the disk, and what no sync has forced there is lost. Whoever uses the disk
// gets errors. Kill them, Unmount and Mount to see what is left.
func (d *Disk) Cut() error {
	f, err := os.Open(d.Dir)
	if err != nil {
		return err
	}
	how := noFlush
	return errors.Join(control(f, extShutdown, unsafe.Pointer(&how)), f.Close())
}

// Freeze stalls the disk: whoever writes to it or syncs waits until Thaw, beyond the reach of any signal. Before, it starts a guard
// outside of Go that thaws the disk should this process die: a frozen disk would survive everything else.
func (d *Disk) Freeze() error {
	f, err := os.Open(d.Dir)
	if err != nil {
		return err
	}
	read, write, err := os.Pipe()
	if err != nil {
		return errors.Join(err, f.Close())
	}
	guard := exec.Command("sh", "-c", `read -r _; fsfreeze --unfreeze "$0" 2>/dev/null`, d.Dir)
	guard.Stdin = read
	guard.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // out of the reach of Ctrl-C
	err = guard.Start()
	if err = errors.Join(err, read.Close()); err != nil {
		return errors.Join(err, write.Close(), f.Close())
	}
	d.frozen, d.guard, d.pledge = f, guard, write
	var none int32
	if err := control(f, fiFreeze, unsafe.Pointer(&none)); err != nil {
		return errors.Join(err, d.Thaw())
	}
	return nil
}

// Thaw lets a frozen disk go on; one that is not frozen stays as it is.
func (d *Disk) Thaw() error {
	if d.frozen == nil {
		return nil
	}
	var none int32
	err := errors.Join(control(d.frozen, fiThaw, unsafe.Pointer(&none)), d.frozen.Close(), d.pledge.Close())
	d.frozen = nil
	if waited := d.guard.Wait(); waited != nil && !errors.As(waited, new(*exec.ExitError)) { // it found nothing to thaw
		err = errors.Join(err, waited)
	}
	return err
}

// Fill takes all space that is left, in a file of its own.
func (d *Disk) Fill() error { return d.FillBut(0) }

// FillBut takes the space that is left, but for about so many bytes.
func (d *Disk) FillBut(spare int64) error {
	var usage syscall.Statfs_t
	if err := syscall.Statfs(d.Dir, &usage); err != nil {
		return err
	}
	f, err := os.Create(d.filler())
	if err != nil {
		return err
	}
	defer f.Close() // every byte that counts was written
	if spare > 0 {
		if size := int64(usage.Bavail)*usage.Bsize - spare; size > 0 {
			err = syscall.Fallocate(int(f.Fd()), 0, 0, size)
		}
		return err
	}
	for step := int64(64 << 20); step >= 4096; {
		size, err := f.Seek(0, io.SeekEnd)
		if err != nil {
			return err
		}
		switch err := syscall.Fallocate(int(f.Fd()), 0, size, step); {
		case errors.Is(err, syscall.ENOSPC):
			step /= 4
		case err != nil:
			return fmt.Errorf("fill %s: %w", d.Dir, err)
		}
	}
	return nil
}

// Free gives back what Fill took.
func (d *Disk) Free() error { return os.Remove(d.filler()) }

func (d *Disk) filler() string { return filepath.Join(d.Dir, "filler") }

// Close thaws and unmounts the disk, and removes its file.
func (d *Disk) Close() error { return errors.Join(d.Thaw(), d.Unmount(), os.Remove(d.image)) }

// control asks the kernel something about the file system of an open file.
func control(f *os.File, request uintptr, argument unsafe.Pointer) error {
	if _, _, code := syscall.Syscall(syscall.SYS_IOCTL, f.Fd(), request, uintptr(argument)); code != 0 {
		return &os.PathError{Op: fmt.Sprintf("ioctl %#x", request), Path: f.Name(), Err: code}
	}
	return nil
}
