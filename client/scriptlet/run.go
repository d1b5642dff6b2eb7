package scriptlet

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"stork/client/scriptlet/lua"
	"stork/repo"
)

// Lua is the interpreter that stands for RPM's embedded one.
const Lua = "<lua>"

// self is this program, whatever became of its file since it was started: it
// runs itself as the interpreter of Lua.
const self = "/proc/self/exe"

// scriptPath is what rpm sets PATH to (%_install_script_path).
const scriptPath = "/sbin:/bin:/usr/sbin:/usr/bin:/usr/X11R6/bin"

// DefaultTimeout ends a scriptlet that does not end itself.
const DefaultTimeout = 10 * time.Minute

// lingering is how long the output of processes that a scriptlet leaves
// behind is waited for.
const lingering = 500 * time.Millisecond

// Runner runs scriptlets in one guest, one at a time.
type Runner struct {
	Root    string        // the guest's root; "/" in production, any other is entered by chroot(2)
	Scratch string        // a directory in the guest for the bodies, below Root, which only root may enter
	Output  io.Writer     // what scriptlets print; nil: discarded
	Timeout time.Duration // 0: DefaultTimeout
	Environ []string      // nil: this process's; PATH is always rpm's
}

// Call is one run of a scriptlet.
type Call struct {
	Package     string     // for messages
	Phase       repo.Phase // for messages
	Interpreter []string   // as in [repo.Scriptlet]
	Script      string
	Args        []int  // $1 and, for triggers, $2
	Input       string // standard input: the files of a file trigger, one a line
}

// FailedError says that a scriptlet ran and failed.
type FailedError struct {
	Package string
	Phase   repo.Phase
	Err     error
}

// Error implements error.
func (e *FailedError) Error() string {
	return fmt.Sprintf("cannot run %%%s of %s: %v", e.Phase, e.Package, e.Err)
}

// Unwrap returns the cause.
func (e *FailedError) Unwrap() error { return e.Err }

// Supported reports whether a scriptlet can be run here at all.
func Supported(pkg string, phase repo.Phase, interpreter []string) error {
	switch {
	case len(interpreter) == 0:
		return fmt.Errorf("cannot run %%%s of %s: it names no interpreter", phase, pkg)
	case interpreter[0] == Lua:
		if len(interpreter) > 1 {
			return fmt.Errorf("cannot run %%%s of %s: unsupported arguments of %s", phase, pkg, Lua)
		}
	case !filepath.IsAbs(interpreter[0]):
		return fmt.Errorf("cannot run %%%s of %s: unsupported interpreter %s", phase, pkg, interpreter[0])
	}
	return nil
}

// Run runs a scriptlet and waits for it. Its processes are killed when ctx
// ends or time is up. All errors are [FailedError].
func (r *Runner) Run(ctx context.Context, call Call) error {
	err := Supported(call.Package, call.Phase, call.Interpreter)
	if err != nil {
		return &FailedError{call.Package, call.Phase, err}
	}
	timeout := r.Timeout
	if timeout == 0 {
		timeout = DefaultTimeout
	}
	ctx, cancel := context.WithTimeoutCause(ctx, timeout, fmt.Errorf("it took longer than %v", timeout))
	defer cancel()
	err = r.runProgram(ctx, call)
	if cause := context.Cause(ctx); err != nil && cause != nil {
		err = cause
	}
	if err != nil {
		return &FailedError{call.Package, call.Phase, err}
	}
	return nil
}

func (r *Runner) runProgram(ctx context.Context, call Call) error {
	args := call.Interpreter[1:]
	isLua := call.Interpreter[0] == Lua
	if call.Script == "" && !isLua {
		return r.start(ctx, command{call.Interpreter[0], call.Interpreter[0], args, r.Root}, call.Input)
	}
	body, err := r.writeBody(call.Script)
	if err != nil {
		return err
	}
	defer os.Remove(filepath.Join(r.Root, body))
	if isLua {
		name := fmt.Sprintf("%%%s(%s)", call.Phase, call.Package)
		// This program's file is not in the guest: it starts here, and enters
		// the guest itself.
		return r.start(ctx, command{Lua, self, lua.Arguments(r.Root, body, name, call.Args), "/"}, call.Input)
	}
	args = append(append([]string(nil), args...), body)
	for _, n := range call.Args {
		args = append(args, strconv.Itoa(n))
	}
	return r.start(ctx, command{call.Interpreter[0], call.Interpreter[0], args, r.Root}, call.Input)
}

// command is what start starts.
type command struct {
	name string // in messages
	path string
	args []string
	root string // "/", or where it is started by chroot(2)
}

// writeBody writes the script where the interpreter reads it and returns its
// path in the guest.
func (r *Runner) writeBody(script string) (string, error) {
	f, err := os.CreateTemp(filepath.Join(r.Root, r.Scratch), "scriptlet-")
	if err != nil {
		return "", fmt.Errorf("cannot write the scriptlet: %w", err)
	}
	if _, err = f.WriteString(script); err == nil && !strings.HasSuffix(script, "\n") {
		_, err = f.WriteString("\n")
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return "", errors.Join(fmt.Errorf("cannot write the scriptlet: %w", err), os.Remove(f.Name()))
	}
	return filepath.Join("/", r.Scratch, filepath.Base(f.Name())), nil
}

// start runs a program in the guest, in a process group of its own, with
// standard input from input and all descriptors but the first three closed.
func (r *Runner) start(ctx context.Context, c command, input string) error {
	cmd := exec.CommandContext(ctx, c.path, c.args...)
	cmd.Env = r.environ()
	cmd.Dir = "/"
	cmd.Stdout, cmd.Stderr = r.Output, r.Output
	if input != "" {
		cmd.Stdin = strings.NewReader(input)
	}
	// A scriptlet must not outlive stork: recovery would run it again beside
	// itself. The signal comes when the thread ends that started it.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	if c.root != "/" {
		cmd.SysProcAttr.Chroot = c.root
	}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	cmd.WaitDelay = lingering
	// What this process was itself started with does not go on either, as rpm
	// sees to (rpmSetCloseOnExec); a kernel that can not is no reason to fail.
	_ = unix.CloseRange(3, math.MaxInt32, unix.CLOSE_RANGE_CLOEXEC)
	// A child has its parent's umask from the start; rpm's is 022.
	defer syscall.Umask(syscall.Umask(0o022))
	err := cmd.Run()
	if errors.Is(err, exec.ErrWaitDelay) {
		return nil // it ended well; a daemon that it started holds the output
	}
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		return fmt.Errorf("%s: %s", c.name, exit.ProcessState)
	}
	return err
}

func (r *Runner) environ() []string {
	from := r.Environ
	if from == nil {
		from = os.Environ()
	}
	var env []string
	for _, v := range from {
		if !strings.HasPrefix(v, "PATH=") && !strings.HasPrefix(v, "PWD=") {
			env = append(env, v)
		}
	}
	return append(env, "PATH="+scriptPath, "PWD=/")
}
