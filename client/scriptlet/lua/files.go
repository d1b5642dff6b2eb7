package lua

import (
	"os"
	"strings"
	"time"

	lua "github.com/yuin/gopher-lua"
	"golang.org/x/sys/unix"
)

func mkdir(path string) error  { return unix.Mkdir(path, 0o777) }
func mkfifo(path string) error { return unix.Mkfifo(path, 0o777) }

func (s *session) access(l *lua.LState) int {
	path := l.CheckString(1)
	var mode uint32
	for _, c := range optString(l, 2, "f") {
		switch c {
		case 'r':
			mode |= unix.R_OK
		case 'w':
			mode |= unix.W_OK
		case 'x':
			mode |= unix.X_OK
		case 'f', ' ':
		default:
			l.ArgError(2, "unknown mode option `"+string(c)+"'")
		}
	}
	return s.done(l, unix.Access(path, mode), path)
}

// chmod follows symbolic links, and so does chown.
func (s *session) chmod(l *lua.LState) int {
	path, text := l.CheckString(1), l.CheckString(2)
	var st unix.Stat_t
	if err := unix.Stat(path, &st); err != nil {
		return s.failed(l, err, path)
	}
	mode, ok := parseMode(text, st.Mode&0o7777)
	if !ok {
		l.ArgError(2, "bad mode")
	}
	return s.done(l, unix.Chmod(path, mode), path)
}

func (s *session) chown(l *lua.LState) int {
	path := l.CheckString(1)
	return s.done(l, unix.Chown(path, checkUser(l, 2), checkGroup(l, 3)), path)
}

func umask(l *lua.LState) int {
	mask := unix.Umask(0)
	mode := ^uint32(mask) & 0o777
	text := optString(l, 1, "")
	wanted, ok := parseMode(text, mode)
	if text == "" {
		wanted, ok = mode, true
	}
	if !ok {
		unix.Umask(mask)
		l.Push(lua.LNil)
		return 1
	}
	wanted &= 0o777
	unix.Umask(int(^wanted & 0o777))
	l.Push(lua.LString(modeText(wanted)))
	return 1
}

// listing returns a directory's names, with those of itself and its parent,
// as readdir(3) gives them.
func listing(l *lua.LState) ([]string, string, error) {
	path := optString(l, 1, ".")
	d, err := os.Open(path)
	if err != nil {
		return nil, path, err
	}
	defer d.Close()
	names, err := d.Readdirnames(-1)
	return append([]string{".", ".."}, names...), path, err
}

func (s *session) dir(l *lua.LState) int {
	names, path, err := listing(l)
	if err != nil {
		return s.failed(l, err, path)
	}
	t := l.NewTable()
	for _, name := range names {
		t.Append(lua.LString(name))
	}
	l.Push(t)
	return 1
}

// files returns an iterator. It has read the directory before the first
// step, so a script may change the directory while it goes on.
func (s *session) files(l *lua.LState) int {
	names, path, err := listing(l)
	if err != nil {
		return s.failed(l, err, path)
	}
	l.Push(l.NewFunction(func(l *lua.LState) int {
		if len(names) == 0 {
			l.Push(lua.LNil)
			return 1
		}
		l.Push(lua.LString(names[0]))
		names = names[1:]
		return 1
	}))
	return 1
}

func (s *session) getcwd(l *lua.LState) int {
	path, err := unix.Getwd()
	if err != nil {
		return s.failed(l, err, ".")
	}
	l.Push(lua.LString(path))
	return 1
}

func (s *session) readlink(l *lua.LState) int {
	path := l.CheckString(1)
	target, err := os.Readlink(path)
	if err != nil {
		return s.failed(l, err, path)
	}
	l.Push(lua.LString(target))
	return 1
}

// stat does not follow symbolic links: rpm's calls lstat(2).
func (s *session) stat(l *lua.LState) int {
	path := l.CheckString(1)
	var st unix.Stat_t
	if err := unix.Lstat(path, &st); err != nil {
		return s.failed(l, err, path)
	}
	return selected(l, 2, []field{
		{"mode", lua.LString(modeText(st.Mode))},
		{"ino", lua.LNumber(st.Ino)}, {"dev", lua.LNumber(st.Dev)}, {"nlink", lua.LNumber(st.Nlink)},
		{"uid", lua.LNumber(st.Uid)}, {"gid", lua.LNumber(st.Gid)}, {"size", lua.LNumber(st.Size)},
		{"atime", lua.LNumber(st.Atim.Sec)}, {"mtime", lua.LNumber(st.Mtim.Sec)}, {"ctime", lua.LNumber(st.Ctim.Sec)},
		{"type", lua.LString(fileType(st.Mode))}, {"_mode", lua.LNumber(st.Mode)},
	})
}

func fileType(mode uint32) string {
	switch mode & unix.S_IFMT {
	case unix.S_IFREG:
		return "regular"
	case unix.S_IFLNK:
		return "link"
	case unix.S_IFDIR:
		return "directory"
	case unix.S_IFCHR:
		return "character device"
	case unix.S_IFBLK:
		return "block device"
	case unix.S_IFIFO:
		return "fifo"
	case unix.S_IFSOCK:
		return "socket"
	}
	return "?"
}

// utime takes the time of modification first, then that of access.
func (s *session) utime(l *lua.LState) int {
	path, now := l.CheckString(1), time.Now().Unix()
	modified, accessed := l.OptInt64(2, now), l.OptInt64(3, now)
	times := []unix.Timespec{unix.NsecToTimespec(accessed * 1e9), unix.NsecToTimespec(modified * 1e9)}
	return s.done(l, unix.UtimesNanoAt(unix.AT_FDCWD, path, times, 0), path)
}

// parseMode reads a mode as octal digits, as nine letters or dashes, or as
// chmod(1) does; old is what is changed.
func parseMode(text string, old uint32) (mode uint32, ok bool) {
	switch {
	case text == "":
		return 0, false
	case text[0] >= '0' && text[0] <= '7':
		for _, c := range text {
			if c < '0' || c > '7' || mode > 0o777 {
				return 0, false
			}
			mode = mode<<3 | uint32(c-'0')
		}
		return mode, true
	case strings.ContainsAny(text[:1], "rwx-") && (len(text) == 1 || strings.ContainsAny(text[1:2], "rwx-")):
		return letterMode(text, old)
	}
	mode = old
	for clause := range strings.SplitSeq(text, ",") {
		if mode, ok = changeMode(clause, mode); !ok {
			return 0, false
		}
	}
	return mode, true
}

const modeLetters = "rwxrwxrwx"

// letterMode is "rwxr-xr-x"; fewer letters leave the rest as it is.
func letterMode(text string, old uint32) (uint32, bool) {
	if len(text) > len(modeLetters) {
		return 0, false
	}
	for i := range len(text) {
		bit := uint32(0o400) >> i
		set := uint32(0)
		switch i % 3 {
		case 2:
			switch {
			case text[i] == 's' && i < 6:
				set = bit
				old |= 0o4000 >> (i / 3)
			case text[i] == 'x':
				set = bit
			case text[i] != '-':
				return 0, false
			}
		default:
			switch text[i] {
			case modeLetters[i]:
				set = bit
			case '-':
			default:
				return 0, false
			}
		}
		old = old&^bit | set
	}
	return old, true
}

// changeMode applies a clause like "go-w".
func changeMode(clause string, mode uint32) (uint32, bool) {
	at := strings.IndexAny(clause, "+-=")
	if at < 0 {
		return 0, false
	}
	var who, what uint32
	for _, c := range clause[:at] {
		mask, ok := map[rune]uint32{'u': 0o4700, 'g': 0o2070, 'o': 0o1007, 'a': 0o7777}[c]
		if !ok {
			return 0, false
		}
		who |= mask
	}
	if at == 0 {
		who = 0o7777
	}
	for _, c := range clause[at+1:] {
		bits, ok := map[rune]uint32{'r': 0o444, 'w': 0o222, 'x': 0o111, 's': 0o6000, 't': 0o1000}[c]
		if !ok {
			return 0, false
		}
		what |= bits
	}
	switch clause[at] {
	case '+':
		return mode | who&what, true
	case '-':
		return mode &^ (who & what), true
	}
	return who & what, true // all other bits go: rpm's, unlike chmod(1)'s
}

// modeText is the mode as ls(1) shows it, without the type.
func modeText(mode uint32) string {
	text := []byte(modeLetters)
	for i := range text {
		if mode&(0o400>>i) == 0 {
			text[i] = '-'
		}
	}
	if mode&unix.S_ISUID != 0 {
		text[2] = map[bool]byte{true: 's', false: 'S'}[text[2] == 'x']
	}
	if mode&unix.S_ISGID != 0 {
		text[5] = map[bool]byte{true: 's', false: 'S'}[text[5] == 'x']
	}
	return string(text)
}
