package confine

import (
	"fmt"
	"slices"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Offsets in struct seccomp_data (seccomp(2)): the number of the system call,
// the architecture, and the low half of the first argument.
const (
	offsetNumber   = 0
	offsetArch     = 4
	offsetArgument = 16
)

// x32Bit marks the numbers of the x32 interface, which would go around the
// list on x86-64. No other architecture has numbers as high.
const x32Bit = 0x40000000

// denied returns the system calls that a process which only reads one file and
// writes to one pipe never makes: programs, processes, sockets, other
// processes' memory, namespaces, mounts, keys, changes of what it has open,
// and interfaces of the kernel with a history.
func denied() []uint32 {
	return append(deniedHere(),
		unix.SYS_EXECVE, unix.SYS_EXECVEAT,
		unix.SYS_SOCKET, unix.SYS_SOCKETPAIR, unix.SYS_IO_URING_SETUP,
		unix.SYS_PTRACE, unix.SYS_PROCESS_VM_READV, unix.SYS_PROCESS_VM_WRITEV, unix.SYS_PIDFD_GETFD,
		unix.SYS_UNSHARE, unix.SYS_SETNS, unix.SYS_MOUNT, unix.SYS_UMOUNT2, unix.SYS_PIVOT_ROOT, unix.SYS_CHROOT,
		unix.SYS_OPEN_TREE, unix.SYS_MOVE_MOUNT, unix.SYS_FSOPEN, unix.SYS_FSPICK, unix.SYS_MOUNT_SETATTR,
		unix.SYS_ADD_KEY, unix.SYS_REQUEST_KEY, unix.SYS_KEYCTL,
		unix.SYS_BPF, unix.SYS_PERF_EVENT_OPEN, unix.SYS_USERFAULTFD,
		unix.SYS_SETXATTR, unix.SYS_LSETXATTR, unix.SYS_FSETXATTR,
		unix.SYS_FCHMOD, unix.SYS_FCHMODAT, unix.SYS_FCHOWN, unix.SYS_FCHOWNAT, unix.SYS_FTRUNCATE, unix.SYS_UTIMENSAT,
		unix.SYS_MEMFD_CREATE,
	)
}

// Filter takes the system calls in denied, but for those that are needed, from
// this process and all its threads, for good, and every way to make a process
// that is not a thread. Without privileges it needs no_new_privs, which
// [Landlock] and [Seal] set.
func Filter(needed ...uint32) error {
	if auditArch == 0 {
		return nil // an architecture without a list: namespaces and Landlock stay
	}
	program := filter(needed)
	prog := unix.SockFprog{Len: uint16(len(program)), Filter: &program[0]}
	_, _, errno := unix.Syscall(unix.SYS_SECCOMP, unix.SECCOMP_SET_MODE_FILTER,
		unix.SECCOMP_FILTER_FLAG_TSYNC, uintptr(unsafe.Pointer(&prog)))
	if errno != 0 {
		return fmt.Errorf("cannot filter system calls: %w", errno)
	}
	return nil
}

func filter(needed []uint32) []unix.SockFilter {
	refuse := statement(unix.BPF_RET|unix.BPF_K, unix.SECCOMP_RET_ERRNO|uint32(unix.EPERM))
	program := []unix.SockFilter{
		statement(unix.BPF_LD|unix.BPF_W|unix.BPF_ABS, offsetArch),
		jump(unix.BPF_JEQ, auditArch, 1, 0),
		statement(unix.BPF_RET|unix.BPF_K, unix.SECCOMP_RET_KILL_PROCESS),
		statement(unix.BPF_LD|unix.BPF_W|unix.BPF_ABS, offsetNumber),
		jump(unix.BPF_JGE, x32Bit, 0, 1),
		refuse,
		// clone3 takes its flags from memory, which a filter can not read.
		// C libraries fall back to clone when it does not exist.
		jump(unix.BPF_JEQ, unix.SYS_CLONE3, 0, 1),
		statement(unix.BPF_RET|unix.BPF_K, unix.SECCOMP_RET_ERRNO|uint32(unix.ENOSYS)),
	}
	for _, number := range denied() {
		if slices.Contains(needed, number) {
			continue
		}
		program = append(program, jump(unix.BPF_JEQ, number, 0, 1), refuse)
	}
	return append(program,
		jump(unix.BPF_JEQ, unix.SYS_CLONE, 0, 3),
		statement(unix.BPF_LD|unix.BPF_W|unix.BPF_ABS, offsetArgument),
		jump(unix.BPF_JSET, unix.CLONE_THREAD, 1, 0),
		refuse,
		statement(unix.BPF_RET|unix.BPF_K, unix.SECCOMP_RET_ALLOW),
	)
}

func statement(code uint16, k uint32) unix.SockFilter { return unix.SockFilter{Code: code, K: k} }

// jump compares what was loaded with k and skips that many instructions.
func jump(test uint16, k uint32, ifTrue, ifFalse uint8) unix.SockFilter {
	return unix.SockFilter{Code: unix.BPF_JMP | test | unix.BPF_K, K: k, Jt: ifTrue, Jf: ifFalse}
}
