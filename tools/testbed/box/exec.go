package box

import (
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// Statuses of a command that could not be run, as a shell reports them.
const (
	statusNotFound      = 127
	statusNotExecutable = 126
)

// exec runs a command with the descriptors as its standard streams. Bytes
// that come over the connection are numbers of signals for it; when the
// connection ends, so does the command.
func (b *box) exec(conn *net.UnixConn, e *Exec, files []*os.File) Answer {
	if len(files) != 3 || len(e.Args) == 0 {
		return Answer{Error: "cannot run a command: want arguments and three descriptors"}
	}
	path, status := lookPath(e)
	if status != 0 {
		fmt.Fprintf(files[2], "%s: %v\n", e.Args[0], map[int]string{
			statusNotFound: "command not found", statusNotExecutable: "permission denied"}[status])
		return Answer{Status: status}
	}
	attr := &syscall.ProcAttr{Dir: e.Dir, Env: e.Env, Sys: &syscall.SysProcAttr{Setsid: true}}
	for _, f := range files {
		attr.Files = append(attr.Files, f.Fd())
	}
	if e.UID != 0 || e.GID != 0 {
		attr.Sys.Credential = &syscall.Credential{Uid: uint32(e.UID), Gid: uint32(e.GID)}
	}
	began := time.Now()
	pid, end, err := b.reaper.start(func() (int, error) { return syscall.ForkExec(path, e.Args, attr) })
	closeAll(files) // the command alone decides when its pipes end
	if errors.Is(err, unix.EACCES) || errors.Is(err, unix.ENOEXEC) {
		return Answer{Status: statusNotExecutable}
	}
	if err != nil {
		return Answer{Error: fmt.Sprintf("cannot run %s: %v", e.Args[0], err)}
	}
	if e.Detach {
		return Answer{PID: pid}
	}
	var over atomic.Bool
	go forwardSignals(conn, pid, &over)
	done := <-end
	over.Store(true)
	return Answer{Status: exitStatus(done.status), Elapsed: int64(done.at.Sub(began)), MaxRSS: done.maxRSS}
}

// forwardSignals ends with the connection. A command whose connection ends
// first is killed. It leads a session, so that its children get the signals
// too.
func forwardSignals(conn *net.UnixConn, pid int, over *atomic.Bool) {
	buf := make([]byte, 1)
	for {
		n, err := conn.Read(buf)
		if over.Load() {
			return
		}
		if err != nil || n == 0 {
			_ = syscall.Kill(-pid, syscall.SIGKILL) // it may just have ended
			return
		}
		_ = syscall.Kill(-pid, syscall.Signal(buf[0])) // the same
	}
}

// lookPath finds the program by the PATH of the command's own environment.
func lookPath(e *Exec) (path string, status int) {
	name := e.Args[0]
	if strings.Contains(name, "/") {
		if !filepath.IsAbs(name) {
			name = filepath.Join(e.Dir, name)
		}
		return name, runnable(name)
	}
	var search string
	for _, v := range e.Env {
		if value, found := strings.CutPrefix(v, "PATH="); found {
			search = value
		}
	}
	status = statusNotFound
	for _, dir := range filepath.SplitList(search) {
		candidate := filepath.Join(dir, name)
		switch runnable(candidate) {
		case 0:
			return candidate, 0
		case statusNotExecutable:
			status = statusNotExecutable
		}
	}
	return "", status
}

func runnable(path string) int {
	info, err := os.Stat(path)
	switch {
	case err != nil:
		return statusNotFound
	case info.IsDir() || info.Mode()&0o111 == 0:
		return statusNotExecutable
	}
	return 0
}
