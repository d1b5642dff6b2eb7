package lua

import (
	"regexp"
	"strings"

	lua "github.com/yuin/gopher-lua"
)

// defaultMacros are the paths that scripts expand when they run, as rpm's own
// configuration has them; most macros were expanded when the package was
// built.
func defaultMacros() map[string][]string {
	out := map[string][]string{}
	for name, body := range map[string]string{
		"_prefix": "/usr", "_exec_prefix": "/usr", "_bindir": "/usr/bin", "_sbindir": "/usr/sbin",
		"_libexecdir": "/usr/libexec", "_datadir": "/usr/share", "_datarootdir": "/usr/share",
		"_sysconfdir": "/etc", "_localstatedir": "/var", "_sharedstatedir": "/var/lib", "_rundir": "/run",
		"_lib": "lib64", "_libdir": "/usr/lib64", "_includedir": "/usr/include", "_infodir": "/usr/share/info",
		"_mandir": "/usr/share/man", "_docdir": "/usr/share/doc", "_unitdir": "/usr/lib/systemd/system",
		"_tmppath": "/var/tmp", "_dbpath": "/var/lib/rpm", "_rpmconfigdir": "/usr/lib/rpm", "_usr": "/usr",
		"_var": "/var",
	} {
		out[name] = []string{body}
	}
	return out
}

func (s *session) openMacros() {
	class := s.state.NewTable()
	s.set(class, map[string]lua.LGFunction{
		"__index": func(l *lua.LState) int {
			if stack := s.macros[l.CheckString(2)]; len(stack) > 0 {
				l.Push(lua.LString(s.expand(l, stack[len(stack)-1])))
			} else {
				l.Push(lua.LNil)
			}
			return 1
		},
		"__newindex": func(l *lua.LState) int {
			if l.Get(3) == lua.LNil {
				s.popMacro(l.CheckString(2))
			} else {
				s.pushMacro(l.CheckString(2), l.CheckString(3))
			}
			return 0
		},
	})
	macros := s.state.NewTable()
	macros.Metatable = class
	s.state.SetGlobal("macros", macros)
}

func (s *session) pushMacro(name, body string) { s.macros[name] = append(s.macros[name], body) }

func (s *session) popMacro(name string) {
	if n := len(s.macros[name]); n > 0 {
		s.macros[name] = s.macros[name][:n-1]
	}
}

func (s *session) define(l *lua.LState) int {
	name, body, ok := strings.Cut(strings.TrimSpace(l.CheckString(1)), " ")
	if !ok || !wholeName.MatchString(name) {
		l.RaiseError("error defining macro")
	}
	s.pushMacro(name, strings.TrimSpace(body))
	l.Push(lua.LTrue)
	return 1
}

func (s *session) undefine(l *lua.LState) int {
	s.popMacro(l.CheckString(1))
	return 0
}

func (s *session) isDefined(l *lua.LState) int {
	l.Push(lua.LBool(len(s.macros[l.CheckString(1)]) > 0))
	l.Push(lua.LFalse) // parametric
	return 2
}

func (s *session) expandCall(l *lua.LState) int {
	l.Push(lua.LString(s.expand(l, l.CheckString(1))))
	return 1
}

var (
	wholeName = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]*$`)
	// macroUse is %%, %name, or %{name} with rpm's conditions.
	macroUse = regexp.MustCompile(`%%|%[A-Za-z_][A-Za-z0-9_]+|%\{([!?]*)([A-Za-z_][A-Za-z0-9_]*)(?::([^{}]*))?\}`)
)

// maxDepth, maxUses and maxExpansion bound macros that use themselves.
const (
	maxDepth     = 16
	maxUses      = 1000
	maxExpansion = 1 << 20
)

// expand replaces the macros that are defined; others stay as they are.
func (s *session) expand(l *lua.LState, text string) string {
	uses := 0
	var expand func(string, int) string
	expand = func(text string, depth int) string {
		if depth > maxDepth || len(text) > maxExpansion {
			l.RaiseError("too many levels of recursion in macro expansion")
		}
		return macroUse.ReplaceAllStringFunc(text, func(use string) string {
			if uses++; uses > maxUses {
				l.RaiseError("too many macros in one expansion")
			}
			body, again := s.replacement(use)
			if again {
				return expand(body, depth+1)
			}
			return body
		})
	}
	return expand(text, 0)
}

// replacement returns what stands for one use of a macro, and whether that is
// to be expanded in turn.
func (s *session) replacement(use string) (body string, again bool) {
	if use == "%%" {
		return "%", false
	}
	name, condition, then := use[1:], "", ""
	if m := macroUse.FindStringSubmatch(use); m[2] != "" {
		condition, name, then = m[1], m[2], m[3]
	}
	stack := s.macros[name]
	defined := len(stack) > 0
	negated := strings.Count(condition, "!")%2 == 1
	switch {
	case strings.Contains(condition, "?") && defined == negated:
		return "", false
	case strings.Contains(condition, "?") && (then != "" || negated):
		return then, true
	case !defined:
		return use, false
	}
	return stack[len(stack)-1], true
}
