package lua

import (
	"cmp"
	"encoding/base64"
	"errors"
	"io"
	"path/filepath"
	"strconv"
	"strings"

	lua "github.com/yuin/gopher-lua"

	"stork/repo"
)

// openRPM makes the rpm table (rpm-lua(7), "rpm extension").
func (s *session) openRPM() {
	table := s.state.RegisterModule("rpm", map[string]lua.LGFunction{
		"b64decode": decode64, "b64encode": encode64,
		"define": s.define, "expand": s.expandCall, "isdefined": s.isDefined, "undefine": s.undefine,
		"execute": s.execute, "spawn": s.spawn, "redirect2null": s.redirect2null,
		"glob": glob, "next_file": s.nextFile, "open": s.openFile,
		"vercmp": compareVersions, "ver": s.newVersion,
	}).(*lua.LTable)
	for _, name := range []string{"call", "interactive", "load", "register", "unregister", "splitargs", "unsplitargs"} {
		table.RawSetString(name, s.state.NewFunction(unsupported("rpm."+name)))
	}
	s.openMacros()
	s.openVersions()
	s.openFiles()
}

// nextFile returns the next file of a file trigger, or nil: they are on
// standard input, one a line.
func (s *session) nextFile(l *lua.LState) int {
	line, err := s.input.ReadString('\n')
	if err != nil && (line == "" || !errors.Is(err, io.EOF)) {
		l.Push(lua.LNil)
		return 1
	}
	l.Push(lua.LString(strings.TrimSuffix(line, "\n")))
	return 1
}

// glob returns the paths that match; with the flag "c" the pattern itself if
// there are none.
func glob(l *lua.LState) int {
	pattern := l.CheckString(1)
	found, err := filepath.Glob(pattern)
	if err != nil {
		l.RaiseError("glob %s failed: %v", pattern, err)
	}
	if len(found) == 0 && strings.Contains(optString(l, 2, ""), "c") {
		found = []string{pattern}
	}
	t := l.NewTable()
	for _, f := range found {
		t.Append(lua.LString(f))
	}
	l.Push(t)
	return 1
}

// encode64 breaks lines after 64 characters, or as many as the second
// argument says, in whole groups of four; less is one line without an end.
func encode64(l *lua.LState) int {
	text := base64.StdEncoding.EncodeToString([]byte(l.CheckString(1)))
	width := l.OptInt(2, 64)
	if width < 0 {
		width = 64
	}
	if width = width / 4 * 4; width == 0 {
		l.Push(lua.LString(text))
		return 1
	}
	var lines strings.Builder
	for len(text) > 0 {
		n := min(width, len(text))
		lines.WriteString(text[:n] + "\n")
		text = text[n:]
	}
	l.Push(lua.LString(lines.String()))
	return 1
}

func decode64(l *lua.LState) int {
	text := strings.Join(strings.Fields(l.CheckString(1)), "")
	data, err := base64.StdEncoding.DecodeString(text)
	if err != nil {
		l.Push(lua.LNil)
		return 1
	}
	l.Push(lua.LString(data))
	return 1
}

const versionClass = "rpm.ver"

// openVersions makes the class of version objects.
func (s *session) openVersions() {
	class := s.state.NewTypeMetatable(versionClass)
	compare := func(want func(int) bool) lua.LGFunction {
		return func(l *lua.LState) int {
			l.Push(lua.LBool(want(checkVersion(l, 1).compare(checkVersion(l, 2)))))
			return 1
		}
	}
	s.set(class, map[string]lua.LGFunction{
		"__eq": compare(func(c int) bool { return c == 0 }),
		"__lt": compare(func(c int) bool { return c < 0 }),
		"__le": compare(func(c int) bool { return c <= 0 }),
		"__tostring": func(l *lua.LState) int {
			l.Push(lua.LString(checkVersion(l, 1).text))
			return 1
		},
		"__index": versionField,
	})
}

// version keeps the parts as they were given: no epoch is not epoch 0.
type version struct {
	repo.EVR
	text  string
	epoch string
}

// compare orders a version without a release before those with one.
func (v *version) compare(o *version) int {
	return cmp.Or(cmp.Compare(v.Epoch, o.Epoch), compareParts(v.Version, o.Version), compareParts(v.Release, o.Release))
}

// compareParts takes colons for the separators that they are to rpm here.
func compareParts(a, b string) int {
	return repo.CompareVersion(strings.ReplaceAll(a, ":", "."), strings.ReplaceAll(b, ":", "."))
}

// parseVersion reads any text, as rpm does: the release is behind the last
// dash, so that kernels' versions can be compared.
func parseVersion(text string) (*version, error) {
	if text == "" {
		return nil, errors.New("no version")
	}
	v := &version{text: text}
	rest := text
	if epoch, after, ok := strings.Cut(text, ":"); ok && strings.Trim(epoch, "0123456789") == "" {
		if epoch == "" {
			epoch = "0"
		}
		n, err := strconv.ParseUint(epoch, 10, 32)
		if err != nil {
			return nil, err
		}
		v.epoch, v.Epoch, rest = epoch, uint32(n), after
	}
	v.Version = rest
	if i := strings.LastIndexByte(rest, '-'); i >= 0 {
		v.Version, v.Release = rest[:i], rest[i+1:]
	}
	return v, nil
}

func checkVersion(l *lua.LState, n int) *version {
	v, ok := l.CheckUserData(n).Value.(*version)
	if !ok {
		l.ArgError(n, "rpm.ver expected")
	}
	return v
}

func versionField(l *lua.LState) int {
	v := checkVersion(l, 1)
	var text string
	switch key := l.CheckString(2); key {
	case "e":
		text = v.epoch
	case "v":
		text = v.Version
	case "r":
		text = v.Release
	default:
		l.RaiseError("invalid attribute: %s", key)
	}
	if text == "" {
		l.Push(lua.LNil)
	} else {
		l.Push(lua.LString(text))
	}
	return 1
}

// newVersion makes a version of one text, or of epoch, version and release.
func (s *session) newVersion(l *lua.LState) int {
	text := l.CheckString(1)
	switch l.GetTop() {
	case 1:
	case 3:
		if text = l.CheckString(2); l.Get(1) != lua.LNil {
			text = l.CheckString(1) + ":" + text
		}
		if l.Get(3) != lua.LNil {
			text += "-" + l.CheckString(3)
		}
	default:
		l.RaiseError("invalid number of arguments: %d", l.GetTop())
	}
	v, err := parseVersion(text)
	if err != nil {
		l.Push(lua.LNil)
		return 1
	}
	l.Push(&lua.LUserData{Value: v, Metatable: l.GetTypeMetatable(versionClass)})
	return 1
}

func compareVersions(l *lua.LState) int {
	var parsed [2]*version
	for i := range parsed {
		v, err := parseVersion(l.CheckString(i + 1))
		if err != nil {
			l.ArgError(i+1, "invalid version ")
		}
		parsed[i] = v
	}
	l.Push(lua.LNumber(parsed[0].compare(parsed[1])))
	return 1
}
