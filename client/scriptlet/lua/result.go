package lua

import (
	"errors"
	"strings"
	"syscall"

	lua "github.com/yuin/gopher-lua"
)

// done pushes what posix functions return: 0, or nil, "what: why" and the
// error's number.
func (s *session) done(l *lua.LState, err error, what string) int {
	if err != nil {
		return s.failed(l, err, what)
	}
	l.Push(lua.LNumber(0))
	return 1
}

// failed pushes an error as rpm does; what may be empty.
func (s *session) failed(l *lua.LState, err error, what string) int {
	if !errors.As(err, &s.errno) {
		s.errno = syscall.EIO
	}
	text := strerror(s.errno)
	if what != "" {
		text = what + ": " + text
	}
	l.Push(lua.LNil)
	l.Push(lua.LString(text))
	l.Push(lua.LNumber(s.errno))
	return 3
}

// strerror is the C library's text, which differs from Go's in the capital.
func strerror(errno syscall.Errno) string {
	text := errno.Error()
	return strings.ToUpper(text[:1]) + text[1:]
}

// field is one of the values that a selector chooses from.
type field struct {
	name  string
	value lua.LValue
}

// selected pushes the field that the n-th argument names, or a table of all
// if there is no such argument.
func selected(l *lua.LState, n int, fields []field) int {
	if l.GetTop() < n {
		all := l.NewTable()
		for _, f := range fields {
			all.RawSetString(f.name, f.value)
		}
		l.Push(all)
		return 1
	}
	want := l.CheckString(n)
	for _, f := range fields {
		if f.name == want {
			l.Push(f.value)
			return 1
		}
	}
	l.ArgError(n, "invalid option '"+want+"'")
	return 0
}

// optString is an optional argument; numbers are strings, too.
func optString(l *lua.LState, n int, otherwise string) string {
	if l.Get(n) == lua.LNil {
		return otherwise
	}
	return l.CheckString(n)
}
