package lua

import (
	"os"
	"strings"

	lua "github.com/yuin/gopher-lua"
)

// openIO wraps what opens files for writing: gopher-lua makes files that only
// their owner may read, and its errors have no number.
func (s *session) openIO() {
	table := s.library("io")
	open := table.RawGetString("open")
	output := table.RawGetString("output")
	s.set(table, map[string]lua.LGFunction{
		"open": func(l *lua.LState) int {
			path, mode := l.CheckString(1), strings.ReplaceAll(optString(l, 2, "r"), "b", "")
			if err := tryFile(path, mode); err != nil {
				return s.failed(l, err, path)
			}
			return pass(l, open, lua.LString(path), lua.LString(mode))
		},
		"output": func(l *lua.LState) int {
			if path, ok := l.Get(1).(lua.LString); ok {
				if err := tryFile(string(path), "w"); err != nil {
					l.RaiseError("%s: %v", path, err)
				}
			}
			return pass(l, output, l.Get(1))
		},
	})
}

// tryFile opens a file as it will be opened and closes it. One that is
// written to is there afterwards, with the umask's mode.
func tryFile(path, mode string) error {
	flag := os.O_RDONLY
	if strings.ContainsAny(mode, "wa") {
		flag = os.O_WRONLY | os.O_CREATE
	}
	f, err := os.OpenFile(path, flag, 0o666)
	if err != nil {
		return err
	}
	return f.Close()
}

// pass calls another function and returns what it returns.
func pass(l *lua.LState, f lua.LValue, args ...lua.LValue) int {
	before := l.GetTop()
	l.Push(f)
	for _, a := range args {
		l.Push(a)
	}
	l.Call(len(args), lua.MultRet)
	return l.GetTop() - before
}
