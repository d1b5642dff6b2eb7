package lua

import (
	"bufio"
	"os"
	"strconv"
	"strings"

	lua "github.com/yuin/gopher-lua"
)

// account is a line of /etc/passwd or /etc/group, whose first and third
// fields are the name and the number.
type account []string

// The fields of passwd(5) and group(5).
const (
	passwdFile, passwdFields = "/etc/passwd", 7
	groupFile, groupFields   = "/etc/group", 4
)

// find returns the line that has the name or number; nil if there is none.
func find(file string, fields int, key lua.LValue) account {
	f, err := os.Open(file)
	if err != nil {
		return nil
	}
	defer f.Close()
	want := lua.LVAsString(key)
	at := 0
	if _, ok := key.(lua.LNumber); ok {
		at = 2
	} else if _, err := strconv.ParseUint(want, 10, 32); err == nil {
		at = 2
	}
	lines := bufio.NewScanner(f)
	for lines.Scan() {
		a := strings.Split(lines.Text(), ":")
		if len(a) == fields && a[at] == want {
			if _, err := strconv.ParseUint(a[2], 10, 32); err == nil {
				return a
			}
		}
	}
	return nil
}

func (a account) id(field int) lua.LNumber {
	n, err := strconv.ParseUint(a[field], 10, 32)
	if err != nil {
		return -1
	}
	return lua.LNumber(n)
}

// checkID is a user's or group's number from an argument that is a number or
// a name; -1, which changes nothing, if there is none of that name.
func checkID(l *lua.LState, n int, file string, fields int) int {
	if l.GetTop() < n {
		return -1
	}
	if number, ok := l.Get(n).(lua.LNumber); ok {
		return int(number)
	}
	name := l.CheckString(n)
	if number, err := strconv.ParseUint(name, 10, 32); err == nil {
		return int(number)
	}
	a := find(file, fields, lua.LString(name))
	if a == nil {
		return -1
	}
	return int(a.id(2))
}

func checkUser(l *lua.LState, n int) int  { return checkID(l, n, passwdFile, passwdFields) }
func checkGroup(l *lua.LState, n int) int { return checkID(l, n, groupFile, groupFields) }

func getpasswd(l *lua.LState) int {
	key := l.Get(1)
	if key == lua.LNil {
		key = lua.LNumber(os.Geteuid())
	} else {
		l.CheckString(1)
	}
	a := find(passwdFile, passwdFields, key)
	if a == nil {
		l.Push(lua.LNil)
		return 1
	}
	text := func(i int) lua.LString { return lua.LString(a[i]) }
	return selected(l, 2, []field{
		{"name", text(0)}, {"uid", a.id(2)}, {"gid", a.id(3)}, {"dir", text(5)}, {"shell", text(6)},
		{"gecos", text(4)}, {"passwd", text(1)},
	})
}

func getgroup(l *lua.LState) int {
	l.CheckString(1)
	a := find(groupFile, groupFields, l.Get(1))
	if a == nil {
		l.Push(lua.LNil)
		return 1
	}
	t := l.NewTable()
	t.RawSetString("name", lua.LString(a[0]))
	t.RawSetString("gid", a.id(2))
	for member := range strings.SplitSeq(a[3], ",") {
		if member != "" {
			t.Append(lua.LString(member))
		}
	}
	l.Push(t)
	return 1
}
