package lua

import (
	"os"
	"strings"

	lua "github.com/yuin/gopher-lua"
	"golang.org/x/sys/unix"
)

// openCompat changes Lua 5.1's libraries to what scripts for later versions,
// and for rpm, expect.
func (s *session) openCompat() {
	table := s.library("table")
	table.RawSetString("unpack", s.state.GetGlobal("unpack"))
	s.set(table, map[string]lua.LGFunction{"pack": pack})
	s.set(s.library("string"), map[string]lua.LGFunction{"rep": repeat})
	s.set(s.library("os"), map[string]lua.LGFunction{
		"execute": s.osExecute, "exit": s.exit, "getenv": getenv,
		"remove": s.osRemove, "rename": s.osRename,
	})
	s.openIO()
	s.state.SetGlobal("load", s.state.NewFunction(s.loadFunction))
	s.state.SetGlobal("rawlen", s.state.NewFunction(rawLength))
	s.library("package").RawSetString("path", lua.LString("/usr/lib/rpm/lua/?.lua"))
}

func pack(l *lua.LState) int {
	n := l.GetTop()
	t := l.CreateTable(n, 1)
	for i := 1; i <= n; i++ {
		t.RawSetInt(i, l.Get(i))
	}
	t.RawSetString("n", lua.LNumber(n))
	l.Push(t)
	return 1
}

// maxRepeat bounds what string.rep makes.
const maxRepeat = 64 << 20

func repeat(l *lua.LState) int {
	text, n, between := l.CheckString(1), l.CheckInt(2), optString(l, 3, "")
	if n <= 0 {
		l.Push(lua.LString(""))
		return 1
	}
	if size := len(text) + len(between); size > 0 && n > maxRepeat/size {
		l.RaiseError("resulting string too large")
	}
	l.Push(lua.LString(strings.Repeat(text+between, n-1) + text))
	return 1
}

func rawLength(l *lua.LState) int {
	switch v := l.Get(1).(type) {
	case *lua.LTable:
		l.Push(lua.LNumber(v.Len()))
	default:
		l.Push(lua.LNumber(len(l.CheckString(1))))
	}
	return 1
}

// loadFunction is load of Lua 5.2 on: from text or from a function that
// returns pieces, with an environment of its own if there is a fourth
// argument.
func (s *session) loadFunction(l *lua.LState) int {
	var text strings.Builder
	switch chunk := l.Get(1).(type) {
	case *lua.LFunction:
		for {
			l.Push(chunk)
			l.Call(0, 1)
			piece := lua.LVAsString(l.Get(-1))
			l.Pop(1)
			if piece == "" {
				break
			}
			text.WriteString(piece)
		}
	default:
		text.WriteString(l.CheckString(1))
	}
	f, err := s.load(text.String(), optString(l, 2, "=(load)"))
	if err != nil {
		l.Push(lua.LNil)
		l.Push(lua.LString(message(err)))
		return 2
	}
	if env, ok := l.Get(4).(*lua.LTable); ok {
		f.Env = env
	}
	l.Push(f)
	return 1
}

func getenv(l *lua.LState) int {
	value, ok := os.LookupEnv(l.CheckString(1))
	if !ok {
		l.Push(lua.LNil)
		return 1
	}
	l.Push(lua.LString(value))
	return 1
}

// osRemove removes a file or an empty directory.
func (s *session) osRemove(l *lua.LState) int {
	path := l.CheckString(1)
	return s.truth(l, os.Remove(path), path)
}

func (s *session) osRename(l *lua.LState) int {
	from := l.CheckString(1)
	return s.truth(l, unix.Rename(from, l.CheckString(2)), "")
}

// truth pushes what Lua's own functions return: true, or what failed does.
func (s *session) truth(l *lua.LState, err error, what string) int {
	if err != nil {
		return s.failed(l, err, what)
	}
	l.Push(lua.LTrue)
	return 1
}
