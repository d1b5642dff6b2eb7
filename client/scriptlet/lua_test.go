package scriptlet

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"stork/client/scriptlet/lua"
	"stork/fixtures"
	"stork/repo"
)

// TestMain is the program that runs itself as the interpreter of Lua.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 && os.Args[1] == lua.Command {
		os.Exit(lua.Main(os.Args[2:]))
	}
	os.Exit(m.Run())
}

func luaCall(script string, args ...int) Call {
	return Call{Package: "p-1-1.noarch", Phase: repo.Pre, Interpreter: []string{Lua}, Script: script, Args: args}
}

// witnessed are pieces of Lua that must do and print the same as in rpm. Each
// starts in an empty directory of its own. Numbers print with ".0" in rpm's
// Lua and without in ours, which the comparison overlooks. What is buffered
// when rpm forks comes twice: pieces flush before.
var witnessed = []struct{ name, script string }{
	{"arguments", `print(#arg, arg[1], arg[2], arg[3], type(arg[2]), type(opt), next(opt))`},
	{"write", `io.write("a", 1, "\n") print(1, nil, true, "x")`},
	{"mkdir", `print(posix.mkdir("d")) print(posix.mkdir("d")) print(posix.mkdir("no/d"))`},
	{"umask of mkdir", `posix.umask("rwx------") posix.mkdir("d") print(posix.stat("d").mode)`},
	{"umask", `for _, m in ipairs{777, "022", "rwxr-x---", "a-x,u+x", "rw-", "+w", "zz", 755} do print(m, posix.umask(m)) end print(posix.umask())`},
	{"chmod", `posix.mkdir("d") for _, m in ipairs{700, 0555, "rwxr-x---", "g+w", "a-x", "o=r", "u+s", "go-rwx", "1777"} do
		print(m, posix.chmod("d", m), posix.stat("d", "mode")) end print(posix.chmod("no", 600)) print((pcall(posix.chmod, "d", "zz")))`},
	{"leading zeros", `print(0555, 010, 08, 0x10, 0.5, 00)`},
	{"stat", `posix.symlink("nowhere", "l") local s = posix.stat("l") print(s.type, s.size, s.uid, s.gid, s.nlink, s.mode, s._mode)
		print(posix.stat("l", "type"), posix.stat("/dev/null", "type"), posix.stat("/", "type")) print(posix.stat("no")) print(pcall(posix.stat, "l", "x") == false)`},
	{"links", `io.open("f", "w"):close() print(posix.link("f", "g"), posix.stat("f").nlink) print(posix.link("no", "x")) print(posix.readlink("f"))
		print(posix.symlink("a/b", "l"), posix.readlink("l")) print(posix.symlink("a/b", "l")) print(posix.readlink("no"))`},
	{"removal", `posix.mkdir("d") io.open("f", "w"):close() print(posix.rmdir("f")) print(posix.rmdir("d")) print(posix.unlink("f")) print(posix.unlink("f"))
		print(os.remove("no")) print(os.rename("no", "x")) posix.mkdir("d") posix.mkdir("d/e") print(os.remove("d")) print(os.remove("d/e"), os.remove("d"))`},
	{"rename", `posix.mkdir("d") print(os.rename("d", "d.rpmmoved")) io.open("f", "w"):close() print((os.rename("f", "d.rpmmoved")))`},
	{"access", `print(posix.access("/etc", "rx"), posix.access("/etc")) print(posix.access("no")) print((pcall(posix.access, "/etc", "q")))`},
	{"fifo and times", `print(posix.mkfifo("p")) print(posix.utime("p", 1000, 2000), posix.stat("p", "mtime"), posix.stat("p", "atime")) print(posix.utime("no"))`},
	{"chown", `io.open("f", "w"):close() print(posix.chown("f", 1, 2), posix.stat("f", "uid"), posix.stat("f", "gid")) print(posix.chown("f", "root", "root"), posix.stat("f", "uid")) print(posix.chown("no", 0, 0))`},
	{"listing", `posix.mkdir("a") posix.mkdir("b") local t = posix.dir(".") table.sort(t) print(table.concat(t, " ")) t = {} for f in posix.files() do t[#t+1] = f end table.sort(t) print(table.concat(t, " "))
		print(posix.dir("no")) print(posix.files("no"))`},
	{"directory", `posix.mkdir("a") print(posix.chdir("a"), posix.getcwd():match("[^/]*$")) print(posix.chdir("no")) posix.mkdir("b")`},
	{"errno", `posix.unlink("no") print(posix.errno())`},
	{"environment", `print(posix.setenv("A", "1"), os.getenv("A"), posix.setenv("A", "2", false), posix.getenv("A"), posix.putenv("A=3"), posix.getenv("A"), posix.getenv().A) posix.unsetenv("A") print(os.getenv("A"))`},
	{"accounts", `print(posix.getpasswd("root", "uid"), posix.getpasswd("root").dir, posix.getpasswd(0, "name"), posix.getpasswd("nonesuch"), posix.getpasswd().name) print(posix.getgroup("root").gid, posix.getgroup(0).name, posix.getgroup("nonesuch"))`},
	{"processes", `print(posix.getprocessid("uid"), posix.getprocessid().euid) print(posix.uname("%s.%m")) print(posix.uname() == posix.uname("%s %n %r %v %m")) print(posix.sleep(0)) print(posix.kill(9999999, 0)) print(posix.wait(1))`},
	{"execute", `print(rpm.execute("sh", "-c", "echo said; echo x > f")) print((rpm.execute("sh", "-c", "exit 3"))) print(rpm.execute("/no/such"))`},
	{"os.execute", `print(os.execute("exit 3")) print(os.execute("true")) print(os.execute("kill -9 $$")) print(os.execute())`},
	{"exit and exec", `print((pcall(os.exit, 0))) print((pcall(posix.exec, "/bin/true"))) print((pcall(rpm.redirect2null, 1)))`},
	{"fork", `local pid = posix.fork() if pid == 0 then posix.exec("/bin/sh", "-c", "echo child; echo $1 > f", "sh", "written") elseif pid > 0 then print(posix.wait(pid) == pid) end print(posix.wait(pid))`},
	{"fork of a function", `local function run(program, ...)
			local pid = posix.fork()
			if pid == 0 then posix.exec(program, ...) os.exit(1)
			elseif pid > 0 then posix.wait(pid) end
		end
		run("/bin/sh", "-c", "echo 1 $0", "x") io.stdout:flush() run("/no/such") run("/bin/echo", "2") print("parent")`},
	{"fork without a program", `pid = posix.fork() if pid == 0 then posix.chdir("/") posix.umask("rwx------") posix.setenv("B", "1") os.exit(1) end print(posix.wait(pid) == pid, posix.umask(), os.getenv("B")) posix.mkdir("here")`},
	{"fork to null", `local pid = posix.fork() if pid == 0 then posix.redirect2null(1) posix.exec("/bin/echo", "unseen") else posix.wait(pid) end`},
	{"versions", `for _, p in ipairs{{"1.2-1", "2.0-1"}, {"1:1", "2"}, {"1~a", "1"}, {"1^a", "1"}, {"1", "1"}, {"1", "1-2"}, {"1:", "1"}, {":1", "1"}, {"a:1", "1"}, {"6.8.12", "3.2"}, {"6.1.0-13-amd64", "3.2"}} do print(rpm.vercmp(p[1], p[2])) end
		local v = rpm.ver("1:2-3") print(v, v.e, v.v, v.r, v < rpm.ver("1:2-4"), v == rpm.ver(1, "2", "3"), v >= v, rpm.ver("1").e) print((pcall(rpm.vercmp, "", "1")))`},
	{"base64", `for _, n in ipairs{0, 1, 2, 47, 48, 49, 100} do for _, w in ipairs{-1, 0, 3, 18, 20} do if n > 0 then print(n, w, rpm.b64encode(string.rep("a", n), w)) end end end
		print(rpm.b64decode("aGVsbG8="), rpm.b64decode("aGVs\nbG8="), rpm.b64decode(rpm.b64encode("x\1y")))`},
	{"macros", `rpm.define("foo bar %{?baz}x") print(rpm.expand("%{foo} %{?nope} %{?nope:a} %{!?nope:b} %{?foo:c} %foo %nope %{nope} 100% %%")) print(macros.foo, macros.nope, rpm.isdefined("foo"), rpm.isdefined("nope")) rpm.undefine("foo") print(rpm.expand("%foo")) print(rpm.expand("%{_sysconfdir} %{_bindir} %{_datadir} %{_localstatedir}"))`},
	{"rpm.open", `local f = rpm.open("f", "w") print(f:write("hello"), f:write("xyz", 1), f:flush(), f:close()) f = rpm.open("f") print(f:read(2), f:read(), f:seek("set", 1), f:read(1)) f:close() print((pcall(rpm.open, "no")))`},
	{"io", `local f = io.open("f", "w") f:write("a\nb\n") f:close() for l in io.lines("f") do print(l) end print(io.open("f"):read("*a")) print(io.open("no")) local p = io.popen("echo x") print(p:read("*l")) p:close()`},
	{"leading zeros of fractions", `print(00.5, 01.5, 0e1 == 0, 0x0A)`},
	{"text", `print(("%s|%5.2f|%03d|%q|%x"):format("a", 1.005, 7, "q", 255), ("libm-2.17.so"):match("libm%-[2-9]%.[0-9]+%.so$"), (("a,b"):gsub(",", ";")), #("é"))
		for w in ("one two"):gmatch("%a+") do io.write(w, ";") end print(("x"):byte(), string.char(65), ("AbC"):lower(), ("abc"):find("b", 1, true))`},
	{"a file rewritten", `local f = io.open("conf", "w") f:write("a\nb\n") f:close()
		local found = false for line in io.lines("conf") do if line:match("^include conf.d/%*%.conf$") then found = true end end
		if not found then local new = io.open("conf.new", "w") new:write("include conf.d/*.conf\n") for line in io.lines("conf") do new:write(line .. "\n") end new:close()
		if not os.rename("conf.new", "conf") then print("no") end end
		repeat local names = posix.files("nonesuch") if names ~= nil then print("no") end until true
		local n = 0 for name in posix.files(".") do if name ~= "." and name ~= ".." and posix.access("./" .. name, "r") then n = n + 1 end end print(n)
		f = io.open("conf", "a+") f:write("c\n") f:seek("set") print(f:read("*a")) f:close() f = io.open("conf", "r+b") f:write("I") f:close()`},
	{"directory to link", `posix.mkdir("d") posix.mkdir("d/e") local st = posix.stat("d") if st and st.type == "directory" then local ok, n = os.rename("d", "d.rpmmoved"), 0
		while not ok do n = n + 1 ok = os.rename("d", "d.rpmmoved." .. n) end end posix.symlink("d.rpmmoved", "d") if posix.stat("d", "type") == "link" then print(posix.readlink("d"), os.remove("d")) end`},
	{"later Lua", `print(table.unpack({1, 2})) print(table.pack(1, nil).n, string.rep("a", 3, "-"), load("return 7")(), (load("="))) goto done do print("no") end ::done:: print(rawlen({1, 2}))`},
	{"modules", `print(require("posix") == posix, require("rpm") == rpm, require("os") == os) require "posix" require "io"`},
	{"errors", `print(pcall(error, "x", 0)) print(select(2, pcall(error, {1}))[1]) print((pcall(function() return nil + 1 end)))`},
}

// TestLuaAsRPM runs every piece in rpm and here, and compares what they print
// and what they leave behind.
func TestLuaAsRPM(t *testing.T) {
	t.Parallel()
	if _, err := exec.LookPath("rpm"); err != nil || os.Geteuid() != 0 {
		if os.Getenv("CI") == "true" {
			t.Fatal("this test needs rpm and root")
		}
		t.Skip("rpm or root is missing")
	}
	var script strings.Builder
	script.WriteString("local top = os.getenv(\"WITNESS\")\n")
	for i, w := range witnessed {
		fmt.Fprintf(&script, "print('=== %d') posix.mkdir(top .. '/%d') posix.chdir(top .. '/%d') posix.umask(755) io.stdout:flush()\n", i, i, i)
		fmt.Fprintf(&script, "do local ok, why = pcall(function(...) %s\nend, ...) if not ok then print('failed:', why) end end\n", w.script)
	}
	wantOut, wantTree := byRPM(t, script.String())
	gotOut, gotTree := byUs(t, script.String())
	if len(wantOut) != len(witnessed) || len(gotOut) != len(witnessed) {
		t.Fatalf("rpm printed %d pieces and we %d, want %d", len(wantOut), len(gotOut), len(witnessed))
	}
	for i, w := range witnessed {
		if d := cmp.Diff(wantOut[i], gotOut[i]); d != "" {
			t.Errorf("%s: printed (-rpm +here):\n%s", w.name, d)
		}
		if strings.Contains(gotOut[i], "failed:") {
			t.Errorf("%s: %s", w.name, gotOut[i])
		}
	}
	if d := cmp.Diff(wantTree, gotTree); d != "" {
		t.Errorf("left behind (-rpm +here):\n%s", d)
	}
}

func byRPM(t *testing.T, script string) (pieces []string, left map[string]string) {
	t.Helper()
	dir := t.TempDir()
	spec := fixtures.Spec{Name: "witness", Version: "1", Scriptlets: []repo.Scriptlet{
		{Interpreter: []string{Lua}, Phase: repo.Pre, Script: script}}}
	file := filepath.Join(dir, "witness.rpm")
	if err := os.WriteFile(file, fixtures.MustRPM(t, spec), 0o644); err != nil {
		t.Fatal(err)
	}
	top := filepath.Join(dir, "top")
	if err := os.Mkdir(top, 0o755); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("rpm", "--dbpath", filepath.Join(dir, "db"), "-i", "--nodeps", "--nosignature", "--nodigest", file)
	cmd.Env = append(os.Environ(), "WITNESS="+top)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("rpm: %v\n%s\n%s", err, out, stderr.String())
	}
	return cut(string(out)), remains(t, top)
}

func byUs(t *testing.T, script string) (pieces []string, left map[string]string) {
	t.Helper()
	r, out := newRunner(t)
	top := t.TempDir()
	r.Environ = append(os.Environ(), "WITNESS="+top)
	if err := r.Run(context.Background(), luaCall(script, 1)); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	return cut(out.String()), remains(t, top)
}

var (
	pieceMark = regexp.MustCompile(`(?m)^=== \d+\n`)
	wholeReal = regexp.MustCompile(`\b(\d+)\.0\b`)
	complaint = regexp.MustCompile(`(?m)^error: lua script failed: .*\n`) // of a child, on standard error
)

func cut(out string) []string {
	out = wholeReal.ReplaceAllString(complaint.ReplaceAllString(out, ""), "$1")
	return pieceMark.Split(out, -1)[1:]
}

// remains describes a tree: types, modes, owners, targets and content.
func remains(t *testing.T, top string) map[string]string {
	t.Helper()
	out := map[string]string{}
	err := filepath.WalkDir(top, func(path string, d fs.DirEntry, err error) error {
		if err != nil || path == top {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		text := info.Mode().String()
		if target, err := os.Readlink(path); err == nil {
			text += " " + target
		}
		if info.Mode().IsRegular() {
			data, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			text += " " + string(data)
		}
		out[strings.TrimPrefix(path, top)] = text
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func TestLua(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name string
		call Call
		want string
	}{
		{"as shell's", luaCall(`print(posix.getcwd(), posix.umask(), os.getenv("PATH"), arg[2], arg[3])`, 2, 1), "/\trwxr-xr-x\t" + scriptPath + "\t2\t1\n"},
		{"files of a trigger", Call{Package: "p", Phase: repo.TransFileTriggerIn, Interpreter: []string{Lua}, Input: "/a\n/b c\n",
			Script: `local f = rpm.next_file() while f do print(f) f = rpm.next_file() end print(rpm.next_file())`}, "/a\n/b c\nnil\n"},
		{"no files", luaCall(`print(rpm.next_file())`), "nil\n"},
		{"both outputs", luaCall(`io.stdout:write("one\n") io.stderr:write("two\n")`), "one\ntwo\n"},
		{"nothing", luaCall(``, 1), ""},
		{"no other descriptors", luaCall(`rpm.execute("ls", "/proc/self/fd")`), "0\n1\n2\n3\n"},
		{"spawn", luaCall(`print(rpm.spawn({"sh", "-c", "echo unseen; exit 3"}, {stdout = "/dev/null"})) print(rpm.spawn({"true"}))`), "nil\texit code\t3\n0\n"},
		{"glob", luaCall(`print(table.concat(rpm.glob("/etc/passw[d]"))) print(#rpm.glob("/no/*"), rpm.glob("/no/*", "c")[1])`), "/etc/passwd\n0\t/no/*\n"},
		{"a program that is not there", luaCall(`local pid = posix.fork() if pid == 0 then posix.exec("/no/such") elseif pid > 0 then print(posix.wait(pid) == pid) end`), "true\n"},
		{"a daemon stays", luaCall(`local pid = posix.fork() if pid == 0 then posix.exec("sleep", "2") end print("started")`), "started\n"},
		{"a break after a fork", luaCall(`for i = 1, 1 do if i then break end local pid = posix.fork() break end print("ran")`), "ran\n"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			r, out := newRunner(t)
			if err := r.Run(context.Background(), tt.call); err != nil {
				t.Fatalf("%v\n%s", err, out)
			}
			if out.String() != tt.want {
				t.Errorf("got %q, want %q", out, tt.want)
			}
			if left, err := os.ReadDir(r.Scratch); err != nil || len(left) > 0 {
				t.Errorf("left behind: %v, %v", left, err)
			}
		})
	}
}

func TestLuaFailures(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name, script string
		timeout      time.Duration
		err, out     string
	}{
		{"error", `print("before") error("boom", 0)`, 0, "cannot run %pre of p-1-1.noarch: <lua>: exit status 1", "before\nerror: lua script failed: boom\n"},
		{"error with a place", "\nerror('boom')", 0, "exit status 1", `[string "%pre(p-1-1.noarch)"]:2: boom`},
		{"error that is no text", `error({})`, 0, "exit status 1", "table value"},
		{"syntax", "\nx = = 1", 0, "exit status 1", "line:2"},
		{"exit", `os.exit(0)`, 0, "exit status 1", "exit not permitted in this context"},
		{"recursion", `local function f() return 1 + f() end f()`, 0, "exit status 1", "stack overflow"},
		{"unknown function", `rpm.nonesuch()`, 0, "exit status 1", "non-function"},
		{"unsupported", `rpm.interactive()`, 0, "exit status 1", "rpm.interactive is not supported"},
		{"fork elsewhere", `if posix.fork() == 0 then end`, 0, "exit status 1", "use rpm.execute"},
		{"fork that goes on", `local pid = posix.fork() if pid == 0 then print("child") end`, 0, "exit status 1", "did not end with posix.exec"},
		{"too long", `while true do end`, 200 * time.Millisecond, "longer than 200ms", ""},
		{"too long a program", `rpm.execute("sleep", "60")`, 200 * time.Millisecond, "longer than 200ms", ""},
		{"too long a sleep", `posix.sleep(60)`, 200 * time.Millisecond, "longer than 200ms", ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			r, out := newRunner(t)
			r.Timeout = tt.timeout
			start := time.Now()
			err := r.Run(context.Background(), luaCall(tt.script))
			var failed *FailedError
			if !errors.As(err, &failed) || !strings.Contains(err.Error(), tt.err) {
				t.Errorf("got %v, want %q", err, tt.err)
			}
			if !strings.Contains(out.String(), tt.out) {
				t.Errorf("printed %q, want %q", out, tt.out)
			}
			if took := time.Since(start); took > 10*time.Second {
				t.Errorf("took %v", took)
			}
		})
	}
}

// TestLuaInAnotherRoot: an empty root has neither this program nor a shell,
// which is where packages need Lua.
func TestLuaInAnotherRoot(t *testing.T) {
	t.Parallel()
	if os.Geteuid() != 0 {
		if os.Getenv("CI") == "true" {
			t.Fatal("this test needs root")
		}
		t.Skip("this test needs root")
	}
	root := t.TempDir()
	if err := os.MkdirAll(filepath.Join(root, "var/scratch"), 0o700); err != nil {
		t.Fatal(err)
	}
	out := new(bytes.Buffer)
	r := &Runner{Root: root, Scratch: "var/scratch", Output: out}
	script := `posix.mkdir("/usr") posix.mkdir("/usr/lib64") posix.symlink("usr/lib64", "/lib64") posix.mkdir("/proc") posix.chmod("/proc", 0555)
		print(posix.getcwd(), (rpm.execute("/bin/sh", "-c", "true")), posix.getpasswd("root"), posix.stat("/etc"))`
	if err := r.Run(context.Background(), luaCall(script, 1)); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	if want := "/\tnil\tnil\tnil\t/etc: No such file or directory\t2\n"; out.String() != want {
		t.Errorf("printed %q, want %q", out, want)
	}
	want := map[string]string{"/usr": "drwxr-xr-x", "/usr/lib64": "drwxr-xr-x", "/lib64": "Lrwxrwxrwx usr/lib64",
		"/proc": "dr-xr-xr-x", "/var": "drwx------", "/var/scratch": "drwx------"}
	if d := cmp.Diff(want, remains(t, root)); d != "" {
		t.Errorf("left behind (-want +got):\n%s", d)
	}
}
