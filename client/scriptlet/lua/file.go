package lua

import (
	"io"
	"os"
	"strings"

	lua "github.com/yuin/gopher-lua"
)

const fileClass = "rpm.fd"

// openFiles makes the class of rpm.open's objects.
func (s *session) openFiles() {
	class := s.state.NewTypeMetatable(fileClass)
	class.RawSetString("__index", class)
	s.set(class, map[string]lua.LGFunction{
		"read": readFile, "write": writeFile, "seek": seekFile, "close": closeFile,
		"flush": func(l *lua.LState) int {
			checkFile(l)
			l.Push(lua.LNumber(0)) // nothing is buffered
			return 1
		},
		"reopen": unsupported("reopen"),
	})
}

// openFile opens with C's modes; of rpm's ways to read and write only the
// plain ones are here.
func (s *session) openFile(l *lua.LState) int {
	path := l.CheckString(1)
	mode, kind, _ := strings.Cut(optString(l, 2, "r"), ".")
	flags := map[string]int{
		"r": os.O_RDONLY, "w": os.O_WRONLY | os.O_CREATE | os.O_TRUNC, "a": os.O_WRONLY | os.O_CREATE | os.O_APPEND,
		"r+": os.O_RDWR, "w+": os.O_RDWR | os.O_CREATE | os.O_TRUNC, "a+": os.O_RDWR | os.O_CREATE | os.O_APPEND,
	}
	flag, ok := flags[strings.ReplaceAll(mode, "x", "")]
	if !ok || kind != "" && kind != "fdio" && kind != "ufdio" {
		l.RaiseError("%s open failed: mode %s is not supported", path, optString(l, 2, "r"))
	}
	if strings.Contains(mode, "x") {
		flag |= os.O_EXCL
	}
	f, err := os.OpenFile(path, flag, 0o666)
	if err != nil {
		s.failed(l, err, "")
		l.RaiseError("%s open failed: %s", path, strerror(s.errno))
	}
	l.Push(&lua.LUserData{Value: f, Metatable: l.GetTypeMetatable(fileClass)})
	return 1
}

func checkFile(l *lua.LState) *os.File {
	f, ok := l.CheckUserData(1).Value.(*os.File)
	if !ok {
		l.ArgError(1, "rpm.fd expected")
	}
	return f
}

// maxRead bounds one read, which a script asks for without a length.
const maxRead = 256 << 20

func readFile(l *lua.LState) int {
	f := checkFile(l)
	n := int64(l.OptInt(2, maxRead))
	data, err := io.ReadAll(io.LimitReader(f, min(max(n, 0), maxRead)))
	if err != nil {
		l.RaiseError("error reading %s: %v", f.Name(), err)
	}
	l.Push(lua.LString(data))
	return 1
}

func writeFile(l *lua.LState) int {
	f, data := checkFile(l), l.CheckString(2)
	n := min(max(l.OptInt(3, len(data)), 0), len(data))
	if _, err := f.WriteString(data[:n]); err != nil {
		l.RaiseError("error writing %s: %v", f.Name(), err)
	}
	l.Push(lua.LNumber(n))
	return 1
}

func seekFile(l *lua.LState) int {
	f := checkFile(l)
	whence, ok := map[string]int{"set": io.SeekStart, "cur": io.SeekCurrent, "end": io.SeekEnd}[optString(l, 2, "cur")]
	if !ok {
		l.ArgError(2, "invalid option '"+l.CheckString(2)+"'")
	}
	at, err := f.Seek(l.OptInt64(3, 0), whence)
	if err != nil {
		l.RaiseError("%s: seek failed: %v", f.Name(), err)
	}
	l.Push(lua.LNumber(at))
	return 1
}

func closeFile(l *lua.LState) int {
	rc := 0
	if checkFile(l).Close() != nil {
		rc = -1
	}
	l.Push(lua.LNumber(rc))
	return 1
}
