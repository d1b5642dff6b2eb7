package share

import (
	"math"
	"os"
	"runtime"
	"slices"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Whoever drops the last reference to an overlay waits until all of its upper
// file system is written to disk (ovl_sync_fs in the kernel's
// fs/overlayfs/super.c): everybody's dirty data, seconds of it. Nothing here
// needs that, for what is to be durable is made so by itself (rule G2). So the
// last reference is left to a process of its own, which does nothing else.

// letGo closes descriptors of overlays that are mounted nowhere any more. It
// does not wait for the disk if it can be helped.
func (r *Root) letGo(overlays []*os.File) {
	if len(overlays) == 0 {
		return
	}
	h := hold(overlays)
	for _, f := range overlays {
		f.Close() // only a reference
	}
	if pid := h.release(); pid > 0 {
		r.holders = append(r.holders, pid)
	}
}

// patience is how long closing a root waits for the processes that letGo has
// made, so that they leave no zombie behind in a guest whose first process
// does not wait for others. Nearly all have ended by then.
const patience = 5 * time.Millisecond

func (r *Root) reap() {
	for start := time.Now(); len(r.holders) > 0 && time.Since(start) < patience; time.Sleep(time.Millisecond / 2) {
		r.holders = slices.DeleteFunc(r.holders, func(pid int) bool {
			got, err := unix.Wait4(pid, nil, unix.WNOHANG, nil)
			return got != 0 || err != nil
		})
	}
}

// holder is a process that has copies of descriptors.
type holder struct {
	pid  int
	gate *os.File // it ends when this is closed
}

// release lets the process end, and returns its number; 0 if there is none.
func (h *holder) release() int {
	if h.gate != nil {
		h.gate.Close()
	}
	return h.pid
}

// hold makes the process. Where that fails nobody holds anything.
func hold(files []*os.File) *holder {
	wait, gate, err := os.Pipe()
	if err != nil {
		return &holder{}
	}
	keep := []uintptr{wait.Fd()}
	for _, f := range files {
		keep = append(keep, f.Fd())
	}
	slices.Sort(keep)
	pid := fork(keep, wait.Fd())
	runtime.KeepAlive(files)
	wait.Close()
	if pid <= 0 {
		gate.Close()
		return &holder{}
	}
	return &holder{pid: int(pid), gate: gate}
}

// fork makes a process that closes all descriptors but keep, waits for the end
// of wait, and ends. It runs none of Go's code but this function: no signal
// comes to it, and nothing here allocates or grows the stack.
func fork(keep []uintptr, wait uintptr) uintptr {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	all, before := unix.Sigset_t{}, unix.Sigset_t{}
	for i := range all.Val {
		all.Val[i]--
	}
	if unix.PthreadSigmask(unix.SIG_SETMASK, &all, &before) != nil {
		return 0
	}
	pid := forkRaw(keep, wait)
	_ = unix.PthreadSigmask(unix.SIG_SETMASK, &before, nil) // what was set can be set
	return pid
}

//go:norace
//go:nosplit
//go:noinline
func forkRaw(keep []uintptr, wait uintptr) uintptr {
	var b byte
	pid, _, errno := unix.RawSyscall6(unix.SYS_CLONE, uintptr(unix.SIGCHLD), 0, 0, 0, 0, 0)
	if errno != 0 {
		return 0
	}
	if pid != 0 {
		return pid
	}
	first := uintptr(0)
	for _, fd := range keep {
		if first < fd {
			unix.RawSyscall(unix.SYS_CLOSE_RANGE, first, fd-1, 0)
		}
		first = fd + 1
	}
	unix.RawSyscall(unix.SYS_CLOSE_RANGE, first, math.MaxUint32, 0)
	for {
		n, _, errno := unix.RawSyscall(unix.SYS_READ, wait, uintptr(unsafe.Pointer(&b)), 1)
		if errno != unix.EINTR || n == 0 {
			break
		}
	}
	for {
		unix.RawSyscall(unix.SYS_EXIT_GROUP, 0, 0, 0)
	}
}
