package lua

import (
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"syscall"

	lua "github.com/yuin/gopher-lua"
)

// stringsFrom returns the arguments from the n-th on, of which there must be
// one; numbers are strings, too.
func stringsFrom(l *lua.LState, n int) []string {
	out := []string{l.CheckString(n)}
	for i := n + 1; i <= l.GetTop(); i++ {
		out = append(out, l.CheckString(i))
	}
	return out
}

// startError is the system's reason for a program that did not start.
func startError(err error) error {
	if errors.Is(err, exec.ErrNotFound) || errors.Is(err, fs.ErrNotExist) {
		return syscall.ENOENT
	}
	return err
}

// execute is rpm.execute: 0, or nil, a text and the wait status.
func (s *session) execute(l *lua.LState) int {
	return s.runProgram(l, program(stringsFrom(l, 1)))
}

func (s *session) runProgram(l *lua.LState, cmd *exec.Cmd) int {
	if err := cmd.Start(); err != nil {
		return s.failed(l, startError(err), "posix_spawnp")
	}
	status := wait(cmd)
	if status == 0 {
		return s.done(l, nil, "")
	}
	l.Push(lua.LNil)
	switch {
	case status.Signaled():
		l.Push(lua.LString("exit signal"))
		l.Push(lua.LNumber(status.Signal()))
	default:
		l.Push(lua.LString("exit code"))
		l.Push(lua.LNumber(status.ExitStatus()))
	}
	return 3
}

func wait(cmd *exec.Cmd) syscall.WaitStatus {
	_ = cmd.Wait() // the status says it all
	status, _ := cmd.ProcessState.Sys().(syscall.WaitStatus)
	return status
}

// spawn is rpm.spawn: the program and its arguments in a table, and in
// another the files that its first three descriptors are.
func (s *session) spawn(l *lua.LState) int {
	var argv []string
	list := l.CheckTable(1)
	for i := 1; i <= list.Len(); i++ {
		argv = append(argv, lua.LVAsString(list.RawGetInt(i)))
	}
	if len(argv) == 0 {
		l.ArgError(1, "command not supplied")
	}
	cmd := program(argv)
	actions := l.OptTable(2, l.NewTable())
	for _, stream := range []struct {
		name string
		flag int
		to   func(*os.File)
	}{
		{"stdin", os.O_RDONLY, func(f *os.File) { cmd.Stdin = f }},
		{"stdout", os.O_WRONLY | os.O_APPEND | os.O_CREATE, func(f *os.File) { cmd.Stdout = f }},
		{"stderr", os.O_WRONLY | os.O_APPEND | os.O_CREATE, func(f *os.File) { cmd.Stderr = f }},
	} {
		path, ok := actions.RawGetString(stream.name).(lua.LString)
		if !ok {
			continue
		}
		f, err := os.OpenFile(string(path), stream.flag, 0o644)
		if err != nil {
			return s.failed(l, err, string(path))
		}
		defer f.Close()
		stream.to(f)
	}
	return s.runProgram(l, cmd)
}

// osExecute is os.execute of Lua 5.2 on: how the command ended, in three
// values.
func (s *session) osExecute(l *lua.LState) int {
	if l.GetTop() == 0 {
		_, err := os.Stat("/bin/sh")
		l.Push(lua.LBool(err == nil))
		return 1
	}
	cmd := program([]string{"/bin/sh", "-c", l.CheckString(1)})
	how, code, ok := "exit", 127, false
	if cmd.Start() == nil {
		status := wait(cmd)
		how, code, ok = "exit", status.ExitStatus(), status == 0
		if status.Signaled() {
			how, code = "signal", int(status.Signal())
		}
	}
	if ok {
		l.Push(lua.LTrue)
	} else {
		l.Push(lua.LNil)
	}
	l.Push(lua.LString(how))
	l.Push(lua.LNumber(code))
	return 3
}
