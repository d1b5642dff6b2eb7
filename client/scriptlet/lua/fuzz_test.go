package lua

import (
	"testing"

	lua "github.com/yuin/gopher-lua"
)

// FuzzLoad: no script breaks the rewriting, and what is valid Lua stays so.
func FuzzLoad(f *testing.F) {
	for _, seed := range []string{
		``, `print(0555, 00.5, 0x0F, 08e1)`, `x = = 1`,
		`local pid = posix.fork() if pid == 0 then posix.exec("a", ...) end`,
		`pid = posix.fork() pid = posix.fork() pid = posix.fork() pid = posix.fork() pid = posix.fork() pid = posix.fork() pid = posix.fork()`,
		`function a.b:c(...) local pid = posix.fork() return pid, ... end`,
		`while true do local pid = posix.fork() break end`, `a, b = posix.fork(), 1`,
		`for i = 1, 010 do goto done local pid = posix.fork() ::done:: end`,
		`t = {[01] = function() pid = posix.fork() end, 02; x = not -03}`,
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, script string) {
		if len(script) > 4096 {
			t.Skip("long scripts find nothing more")
		}
		plain := lua.NewState(lua.Options{SkipOpenLibs: true})
		defer plain.Close()
		_, want := plain.LoadString(script)
		s := &session{state: plain}
		_, got := s.load(script, "fuzz")
		if (want == nil) != (got == nil) {
			t.Errorf("alone: %v; rewritten: %v", want, got)
		}
	})
}

// FuzzMode: a mode that is taken is one, and its text reads back.
func FuzzMode(f *testing.F) {
	for _, seed := range []string{"", "755", "0", "77777", "rwxr-x---", "r", "u+x,go-w", "=", "+", "a=rwxst", "rws--s--x", "8", "-"} {
		f.Add(seed, uint32(0o644))
	}
	f.Fuzz(func(t *testing.T, text string, old uint32) {
		mode, ok := parseMode(text, old&0o7777)
		if !ok {
			return
		}
		if mode > 0o7777 {
			t.Errorf("%q gives %o", text, mode)
		}
		again, ok := parseMode(modeText(mode&0o777), 0)
		if !ok || again != mode&0o777 {
			t.Errorf("%o is %s, which reads as %o, %v", mode, modeText(mode), again, ok)
		}
	})
}

// FuzzExpand: macros that use themselves end.
func FuzzExpand(f *testing.F) {
	for _, seed := range []string{"%{_libdir}", "%%", "%foo", "%{?foo:%bar}", "%{!?foo:x}", "%{foo", "%"} {
		f.Add(seed, seed)
	}
	f.Fuzz(func(t *testing.T, text, body string) {
		s := newSession()
		defer s.close()
		s.pushMacro("foo", body)
		call := s.state.NewFunction(s.expandCall)
		// An error is allowed; hanging and panics are not.
		_ = s.state.CallByParam(lua.P{Fn: call, NRet: 1, Protect: true}, lua.LString(text))
	})
}
