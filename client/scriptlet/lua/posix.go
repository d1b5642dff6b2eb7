package lua

import (
	"os"
	"strings"
	"syscall"
	"time"

	lua "github.com/yuin/gopher-lua"
	"golang.org/x/sys/unix"
)

// openPosix makes the posix table (rpm-lua(7), "posix extension").
func (s *session) openPosix() {
	table := s.state.RegisterModule("posix", map[string]lua.LGFunction{
		"access": s.access, "chdir": s.onPath(unix.Chdir), "chmod": s.chmod, "chown": s.chown, "dir": s.dir,
		"files": s.files, "getcwd": s.getcwd, "link": s.onPaths(unix.Link), "mkdir": s.onPath(mkdir),
		"mkfifo": s.onPath(mkfifo), "readlink": s.readlink, "rmdir": s.onPath(unix.Rmdir), "stat": s.stat,
		"symlink": s.onPaths(unix.Symlink), "umask": umask, "unlink": s.onPath(unix.Unlink), "utime": s.utime,

		"errno": s.lastError, "exec": s.exec, "fork": s.fork, "getenv": posixGetenv, "getprocessid": processIDs,
		"kill": s.kill, "putenv": s.putenv, "redirect2null": s.redirect2null, "setenv": s.setenv, "sleep": sleep,
		"uname": uname, "unsetenv": s.unsetenv, "wait": s.wait,

		"getgroup": getgroup, "getpasswd": getpasswd,
	}).(*lua.LTable)
	table.RawSetString("version", lua.LString("posix library for Lua 5.1"))
	for _, name := range []string{"ctermid", "getlogin", "mkstemp", "pathconf", "setgid", "setuid", "sysconf", "times", "ttyname"} {
		table.RawSetString(name, s.state.NewFunction(unsupported("posix."+name)))
	}
}

// onPath is a function of one path.
func (s *session) onPath(call func(string) error) lua.LGFunction {
	return func(l *lua.LState) int {
		path := l.CheckString(1)
		return s.done(l, call(path), path)
	}
}

// onPaths is a function of two paths, of which rpm's messages name neither.
func (s *session) onPaths(call func(from, to string) error) lua.LGFunction {
	return func(l *lua.LState) int {
		return s.done(l, call(l.CheckString(1), l.CheckString(2)), "")
	}
}

func (s *session) lastError(l *lua.LState) int {
	text := "Success"
	if s.errno != 0 {
		text = strerror(s.errno)
	}
	l.Push(lua.LString(text))
	l.Push(lua.LNumber(s.errno))
	return 2
}

func posixGetenv(l *lua.LState) int {
	if l.GetTop() > 0 {
		return getenv(l)
	}
	all := l.NewTable()
	for _, e := range os.Environ() {
		name, value, _ := strings.Cut(e, "=")
		all.RawSetString(name, lua.LString(value))
	}
	l.Push(all)
	return 1
}

func (s *session) putenv(l *lua.LState) int {
	name, value, ok := strings.Cut(l.CheckString(1), "=")
	if !ok {
		return s.done(l, os.Unsetenv(name), name)
	}
	return s.done(l, os.Setenv(name, value), name)
}

func (s *session) setenv(l *lua.LState) int {
	name, value := l.CheckString(1), l.CheckString(2)
	overwrite := l.Get(3) == lua.LNil || lua.LVAsBool(l.Get(3))
	if _, ok := os.LookupEnv(name); ok && !overwrite {
		return s.done(l, nil, name)
	}
	return s.done(l, os.Setenv(name, value), name)
}

func (s *session) unsetenv(l *lua.LState) int {
	name := l.CheckString(1)
	return s.done(l, os.Unsetenv(name), name)
}

func processIDs(l *lua.LState) int {
	fields := []field{}
	for _, id := range []struct {
		name string
		get  func() int
	}{
		{"egid", os.Getegid}, {"euid", os.Geteuid}, {"gid", os.Getgid}, {"uid", os.Getuid},
		{"pgrp", syscall.Getpgrp}, {"pid", os.Getpid}, {"ppid", os.Getppid},
	} {
		fields = append(fields, field{id.name, lua.LNumber(id.get())})
	}
	return selected(l, 1, fields)
}

func (s *session) kill(l *lua.LState) int {
	return s.done(l, unix.Kill(l.CheckInt(1), syscall.Signal(l.OptInt(2, int(unix.SIGTERM)))), "")
}

func sleep(l *lua.LState) int {
	time.Sleep(time.Duration(max(l.CheckInt(1), 0)) * time.Second)
	l.Push(lua.LNumber(0))
	return 1
}

func uname(l *lua.LState) int {
	var u unix.Utsname
	if err := unix.Uname(&u); err != nil {
		l.RaiseError("cannot get the system's name: %v", err)
	}
	values := map[byte][]byte{'m': u.Machine[:], 'n': u.Nodename[:], 'r': u.Release[:], 's': u.Sysname[:], 'v': u.Version[:]}
	format := optString(l, 1, "%s %n %r %v %m")
	var out strings.Builder
	for i := 0; i < len(format); i++ {
		if format[i] != '%' || i+1 == len(format) {
			out.WriteByte(format[i])
			continue
		}
		i++
		if format[i] == '%' {
			out.WriteByte('%')
			continue
		}
		value, ok := values[format[i]]
		if !ok {
			l.ArgError(1, "unknown format option `"+format[i:i+1]+"'")
		}
		out.WriteString(unix.ByteSliceToString(value))
	}
	l.Push(lua.LString(out.String()))
	return 1
}
