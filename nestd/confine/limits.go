package confine

import (
	"fmt"
	"os"
	"strconv"

	"golang.org/x/sys/unix"
)

// Limits bound what a child may use; a field of 0 sets no limit.
type Limits struct {
	Memory    uint64 // bytes of writable memory, a process
	FileSize  uint64 // bytes a file that it writes may have
	CPU       uint64 // seconds of processor time, a process
	OpenFiles uint64
}

// reserved is how much address space, in bytes, a process may reserve beside
// the memory that it writes to: stacks of threads and arenas of the C library.
const reserved = 2 << 30

// SetLimits sets the resource limits of this process and of those it starts.
//
// Memory is RLIMIT_DATA, for Go reserves address space without ever writing to
// it. But the kernel does not count what is mapped over a reservation of the
// same size (mmap(2), MAP_FIXED) before the next mapping comes, so one who
// means harm gets around it: RLIMIT_AS, well above, ends that.
func SetLimits(l Limits) error {
	space := l.Memory
	if space != 0 {
		have, err := addressSpace()
		if err != nil {
			return fmt.Errorf("cannot limit memory: %w", err)
		}
		space += have + reserved
	}
	for _, set := range []struct {
		name     string
		resource int
		value    uint64
	}{
		{"memory", unix.RLIMIT_DATA, l.Memory},
		{"address space", unix.RLIMIT_AS, space},
		{"file size", unix.RLIMIT_FSIZE, l.FileSize},
		{"processor time", unix.RLIMIT_CPU, l.CPU},
		{"open files", unix.RLIMIT_NOFILE, l.OpenFiles},
	} {
		if set.value == 0 {
			continue
		}
		limit := unix.Rlimit{Cur: set.value, Max: set.value}
		if err := unix.Setrlimit(set.resource, &limit); err != nil {
			return fmt.Errorf("cannot limit %s: %w", set.name, err)
		}
	}
	if err := unix.Setrlimit(unix.RLIMIT_CORE, &unix.Rlimit{}); err != nil {
		return fmt.Errorf("cannot limit core dumps: %w", err)
	}
	return nil
}

// addressSpace returns how many bytes of it this process has (proc_pid_statm(5)).
func addressSpace() (uint64, error) {
	b, err := os.ReadFile("/proc/self/statm")
	if err != nil {
		return 0, err
	}
	var pages uint64
	if _, err := fmt.Sscan(string(b), &pages); err != nil {
		return 0, err
	}
	return pages * uint64(os.Getpagesize()), nil
}

// CloseInherited closes every descriptor from first on that came through the
// exec. The Go runtime marks all of its own close-on-exec, so those without
// the mark are inherited: from a service manager, or from a C library in the
// parent.
func CloseInherited(first int) error {
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		return fmt.Errorf("cannot list descriptors: %w", err)
	}
	for _, entry := range entries {
		fd, err := strconv.Atoi(entry.Name())
		if err != nil || fd < first {
			continue
		}
		flags, err := unix.FcntlInt(uintptr(fd), unix.F_GETFD, 0)
		if err != nil || flags&unix.FD_CLOEXEC != 0 {
			continue // gone, or the runtime's
		}
		if err := unix.Close(fd); err != nil {
			return fmt.Errorf("cannot close descriptor %d: %w", fd, err)
		}
	}
	return nil
}
