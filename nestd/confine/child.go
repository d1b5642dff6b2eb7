package confine

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"runtime"

	"golang.org/x/sys/unix"
)

// Child describes a confined process.
type Child struct {
	Exe      string
	Args     []string   // without the program's name
	UID, GID int        // whom it runs as: see [User]
	Network  bool       // it keeps the network namespace of its parent
	Stdin    *os.File   // nil: /dev/null
	Stdout   *os.File   // nil: /dev/null
	Stderr   io.Writer  // nil: /dev/null
	Files    []*os.File // its descriptors 3, 4, …
	Env      []string   // the whole environment
}

// Process is a running [Child].
type Process struct {
	cmd  *exec.Cmd
	done chan struct{}
	err  error
}

// Start starts the child, and kills it when ctx ends. The child is the first
// process of its own pid namespace: when it is dead, so is everything that it
// started.
//
// The program is executed through a descriptor, so the child's user need not
// be able to reach its path, only to execute it.
func (c Child) Start(ctx context.Context) (*Process, error) {
	exe, err := unix.Open(c.Exe, unix.O_PATH|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("cannot start %s: %w", c.Exe, err)
	}
	program := os.NewFile(uintptr(exe), c.Exe)
	defer program.Close()
	cmd := exec.CommandContext(ctx, fmt.Sprintf("/proc/self/fd/%d", firstFile+len(c.Files)), c.Args...)
	cmd.Args[0] = c.Exe
	cmd.Env = append([]string{}, c.Env...)
	cmd.ExtraFiles = append(append([]*os.File{}, c.Files...), program)
	cmd.Dir = "/"
	cmd.Stderr = c.Stderr
	if c.Stdin != nil {
		cmd.Stdin = c.Stdin
	}
	if c.Stdout != nil {
		cmd.Stdout = c.Stdout
	}
	cmd.SysProcAttr = c.attributes()
	p := &Process{cmd: cmd, done: make(chan struct{})}
	started := make(chan error)
	go c.run(p, started)
	if err := <-started; err != nil {
		return nil, fmt.Errorf("cannot start %s: %w", c.Exe, err)
	}
	return p, nil
}

// run starts the command and waits for it on one thread, since the kernel
// sends the parent-death signal when the thread that forked ends, not the
// process (PR_SET_PDEATHSIG(2const)). The thread stays locked, for dropRoot
// may have changed it: the runtime ends it with this goroutine.
func (c Child) run(p *Process, started chan<- error) {
	runtime.LockOSThread()
	err := c.dropRoot()
	if err == nil {
		err = p.cmd.Start()
	}
	started <- err
	if err != nil {
		return
	}
	p.err = p.cmd.Wait()
	close(p.done)
}

// PID returns the child's process number in the parent's pid namespace.
func (p *Process) PID() int { return p.cmd.Process.Pid }

// Kill ends the child and everything that it started; Wait says when.
func (p *Process) Kill() {
	if err := p.cmd.Process.Kill(); err != nil && !errors.Is(err, os.ErrProcessDone) {
		// Only a process that is already reaped can not be killed by its parent.
		return
	}
}

// Done is closed when every process of the child's pid namespace is dead: the
// kernel reaps the first of them last (pid_namespaces(7)).
func (p *Process) Done() <-chan struct{} { return p.done }

// Wait waits for Done and returns how the child ended, as [exec.Cmd.Wait].
func (p *Process) Wait() error {
	<-p.done
	return p.err
}

// Status describes how the child ended, for messages.
func (p *Process) Status() string {
	<-p.done
	return p.cmd.ProcessState.String()
}

// ExitCode returns the child's exit status, or -1 if a signal ended it.
func (p *Process) ExitCode() int {
	<-p.done
	return p.cmd.ProcessState.ExitCode()
}

// firstFile is the descriptor of the first of Child.Files.
const firstFile = 3
