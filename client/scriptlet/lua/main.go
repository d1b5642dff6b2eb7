package lua

import (
	"errors"
	"fmt"
	"io"
	"os"
	"runtime"
	"strconv"

	lua "github.com/yuin/gopher-lua"
	"golang.org/x/sys/unix"
)

// Command is the hidden first argument with which the program runs itself as
// the interpreter; the arguments after it are those of [Arguments].
const Command = "lua-scriptlet"

// maxScript is more than any header that rpm reads can hold.
const maxScript = 256 << 20

// Arguments returns the arguments of the interpreter's process, [Command]
// first: the guest's root, the script's path in the guest, its name in error
// messages, and the counts that the script has as arg[2] and arg[3].
func Arguments(root, path, name string, counts []int) []string {
	args := []string{Command, root, path, name}
	for _, n := range counts {
		args = append(args, strconv.Itoa(n))
	}
	return args
}

// Main is the interpreter's process; args is what follows [Command]. It
// returns the exit status: 1 with rpm's message on standard error when the
// script fails, 2 when it can not be run.
func Main(args []string) int {
	// What the script starts is killed with the thread that started it.
	runtime.LockOSThread()
	script, name, counts, err := prepare(args)
	if err != nil {
		fmt.Fprintf(os.Stderr, "error: %v\n", err)
		return 2
	}
	// No table "arg" in every function with "...": it would hide rpm's.
	lua.CompatVarArg = false
	s := newSession()
	defer s.close()
	if err := s.run(script, name, counts); err != nil {
		fmt.Fprintf(os.Stderr, "error: lua script failed: %s\n", message(err))
		return 1
	}
	return 0
}

// prepare enters the guest and reads the script in it.
func prepare(args []string) (script, name string, counts []int, err error) {
	if len(args) < 3 {
		return "", "", nil, errors.New("this command is for stork's own use")
	}
	for _, a := range args[3:] {
		n, err := strconv.Atoi(a)
		if err != nil {
			return "", "", nil, fmt.Errorf("cannot read the count %q", a)
		}
		counts = append(counts, n)
	}
	if args[0] != "/" {
		if err := unix.Chroot(args[0]); err != nil {
			return "", "", nil, fmt.Errorf("cannot enter %s: %w", args[0], err)
		}
	}
	if err := unix.Chdir("/"); err != nil {
		return "", "", nil, fmt.Errorf("cannot enter %s: %w", args[0], err)
	}
	f, err := os.Open(args[1])
	if err != nil {
		return "", "", nil, fmt.Errorf("cannot read the scriptlet: %w", err)
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, maxScript+1))
	if err == nil && len(text) > maxScript {
		err = errors.New("it is too long")
	}
	if err != nil {
		return "", "", nil, fmt.Errorf("cannot read the scriptlet: %w", err)
	}
	return string(text), args[2], counts, nil
}

// message is what rpm prints of an error: no stack trace, and the value of
// error() whatever its type.
func message(err error) string {
	var failed *lua.ApiError
	if !errors.As(err, &failed) {
		return err.Error()
	}
	switch v := failed.Object.(type) {
	case lua.LString, lua.LNumber:
		return v.String()
	case nil:
		return err.Error()
	default:
		return "(error object is a " + v.Type().String() + " value)"
	}
}
