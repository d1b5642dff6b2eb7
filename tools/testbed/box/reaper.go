package box

import (
	"os"
	"os/signal"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// reaper starts processes and waits for all children of this process, which
// as number 1 of its PID namespace inherits orphans too.
type reaper struct {
	mu      sync.Mutex // held while a process is started, so that its end can not come first
	waiting map[int]chan<- ended
}

type ended struct {
	status syscall.WaitStatus
	at     time.Time
	maxRSS int64 // bytes
}

func newReaper() *reaper {
	r := &reaper{waiting: map[int]chan<- ended{}}
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, syscall.SIGCHLD)
	go func() {
		for range signals {
			r.reap()
		}
	}()
	return r
}

// start runs fork, which starts a process, and tells of that process's end.
func (r *reaper) start(fork func() (pid int, err error)) (pid int, end <-chan ended, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	pid, err = fork()
	if err != nil {
		return 0, nil, err
	}
	ch := make(chan ended, 1)
	r.waiting[pid] = ch
	return pid, ch, nil
}

func (r *reaper) reap() {
	for {
		r.mu.Lock()
		var status unix.WaitStatus
		var usage unix.Rusage
		pid, err := unix.Wait4(-1, &status, unix.WNOHANG|unix.WALL, &usage)
		if err == unix.EINTR {
			r.mu.Unlock()
			continue
		}
		if err != nil || pid <= 0 {
			r.mu.Unlock()
			return
		}
		if ch := r.waiting[pid]; ch != nil && (status.Exited() || status.Signaled()) {
			delete(r.waiting, pid)
			ch <- ended{syscall.WaitStatus(status), time.Now(), usage.Maxrss << 10}
		}
		r.mu.Unlock()
	}
}

// exitStatus is the status as a shell counts it.
func exitStatus(s syscall.WaitStatus) int {
	if s.Signaled() {
		return 128 + int(s.Signal())
	}
	return s.ExitStatus()
}
