package lua

import (
	"bufio"
	"os"
	"os/exec"
	"syscall"

	lua "github.com/yuin/gopher-lua"
)

// session is one script's run: the interpreter, and what rpm keeps beside it.
type session struct {
	state    *lua.LState
	input    *bufio.Reader // of rpm.next_file
	errno    syscall.Errno // of the last call that failed, for posix.errno
	macros   map[string][]string
	child    *child         // while the script is in the child of a fork
	children map[int]*child // by process ID, those not waited for
	ended    int            // how many children ended without a program
}

// maxFrames and maxRegisters bound a runaway recursion, as Lua's own C stack
// limit does.
const (
	maxFrames    = 20_000
	maxRegisters = 1 << 20
)

func newSession() *session {
	s := &session{
		state: lua.NewState(lua.Options{SkipOpenLibs: true, CallStackSize: maxFrames, MinimizeStackMemory: true,
			RegistryMaxSize: maxRegisters}),
		input:    bufio.NewReader(os.Stdin),
		macros:   defaultMacros(),
		children: map[int]*child{},
	}
	for _, lib := range []struct {
		name string
		open lua.LGFunction
	}{
		{lua.LoadLibName, lua.OpenPackage}, {lua.BaseLibName, lua.OpenBase}, {lua.TabLibName, lua.OpenTable},
		{lua.IoLibName, lua.OpenIo}, {lua.OsLibName, lua.OpenOs}, {lua.StringLibName, lua.OpenString},
		{lua.MathLibName, lua.OpenMath}, {lua.DebugLibName, lua.OpenDebug}, {lua.CoroutineLibName, lua.OpenCoroutine},
	} {
		s.state.Push(s.state.NewFunction(lib.open))
		s.state.Push(lua.LString(lib.name))
		s.state.Call(1, 0)
	}
	s.openCompat()
	s.openRPM()
	s.openPosix()
	return s
}

func (s *session) close() { s.state.Close() }

// run runs the script with rpm's two locals: opt, which is empty, and arg,
// which has the interpreter's name first and then the counts, as numbers.
func (s *session) run(script, name string, counts []int) error {
	const locals = "local opt = select(1, ...); local arg = select(2, ...);"
	main, err := s.load(locals+script, `[string "`+name+`"]`)
	if err != nil {
		return err
	}
	arg := s.state.NewTable()
	arg.Append(lua.LString("<lua>"))
	for _, n := range counts {
		arg.Append(lua.LNumber(n))
	}
	s.state.Push(main)
	s.state.Push(s.state.NewTable())
	s.state.Push(arg)
	return s.state.PCall(2, 0, nil)
}

// set puts functions into a table.
func (s *session) set(table *lua.LTable, functions map[string]lua.LGFunction) {
	s.state.SetFuncs(table, functions)
}

// library returns one of Lua's own libraries, to be added to.
func (s *session) library(name string) *lua.LTable {
	return s.state.GetGlobal(name).(*lua.LTable)
}

// unsupported is the function behind a name that rpm has and this does not.
func unsupported(name string) lua.LGFunction {
	return func(l *lua.LState) int {
		l.RaiseError("%s is not supported", name)
		return 0
	}
}

// program returns a command that dies with this process.
func program(argv []string) *exec.Cmd {
	cmd := exec.Command(argv[0], argv[1:]...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	return cmd
}
