package lua

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"syscall"

	lua "github.com/yuin/gopher-lua"
	"github.com/yuin/gopher-lua/ast"
	"golang.org/x/sys/unix"
)

// maxForks is how many forks one block may have: the rest of the block is
// compiled twice for each.
const maxForks = 6

// noProcess is above every process ID (PID_MAX_LIMIT, 2^22); children that
// end without a program are numbered from it.
const noProcess = 1 << 22

// child is a child of the script: a program, or one that ended before it
// could become one.
type child struct {
	cmd  *exec.Cmd
	null map[int]bool // descriptors that go to /dev/null
	lost bool         // its program could not be started
}

// forkStatements gives forks the meaning of vfork(2). A process with many
// threads can not fork, but scripts fork only to run a program:
//
//	local pid = posix.fork()
//	if pid == 0 then
//	    posix.exec("/sbin/ldconfig")
//	elseif pid > 0 then
//	    posix.wait(pid)
//	end
//
// The rest of the block becomes a function that fork gets as argument and
// calls as the child, with pid 0; it ends at posix.exec, which starts the
// program, at os.exit, at an error, or at the end of the block if the program
// could not be started (rpm's child goes on as a second rpm there). Then the rest of the block runs as the
// parent. What the child assigns to the script's variables is seen by the
// parent; its directory, umask, environment and redirections are not.
func (r rewriter) forkStatements(block []ast.Stmt) {
	forks := 0
	for i := len(block) - 1; i >= 0 && forks < maxForks; i-- {
		name, call := forkCall(block[i])
		if call == nil {
			continue
		}
		forks++
		rest := &ast.FunctionExpr{
			ParList: &ast.ParList{Names: []string{name}, HasVargs: r.vararg},
			Stmts:   append([]ast.Stmt(nil), block[i+1:]...),
		}
		rest.SetLine(call.Line())
		rest.SetLastLine(call.Line())
		call.Args = []ast.Expr{rest}
		if r.vararg {
			call.Args = append(call.Args, &ast.Comma3Expr{})
		}
	}
}

// forkCall returns the call in "pid = posix.fork()", local or not.
func forkCall(s ast.Stmt) (name string, call *ast.FuncCallExpr) {
	var right []ast.Expr
	switch s := s.(type) {
	case *ast.LocalAssignStmt:
		if len(s.Names) == 1 {
			name, right = s.Names[0], s.Exprs
		}
	case *ast.AssignStmt:
		if id, ok := s.Lhs[0].(*ast.IdentExpr); ok && len(s.Lhs) == 1 {
			name, right = id.Value, s.Rhs
		}
	}
	if len(right) != 1 {
		return "", nil
	}
	call, ok := right[0].(*ast.FuncCallExpr)
	if !ok || call.Func == nil || len(call.Args) != 0 {
		return "", nil
	}
	get, ok := call.Func.(*ast.AttrGetExpr)
	if !ok {
		return "", nil
	}
	object, _ := get.Object.(*ast.IdentExpr)
	key, _ := get.Key.(*ast.StringExpr)
	if object == nil || key == nil || object.Value != "posix" || key.Value != "fork" {
		return "", nil
	}
	return name, call
}

// endOfChild is thrown where the child ends; scripts have no use for it.
type endOfChild struct{}

func endChild(l *lua.LState) {
	l.Error(&lua.LUserData{Value: endOfChild{}}, 0)
}

func (s *session) fork(l *lua.LState) int {
	rest, ok := l.Get(1).(*lua.LFunction)
	if !ok || s.child != nil || l != s.state {
		l.RaiseError("posix.fork is supported only as a statement \"pid = posix.fork()\", followed in its block by a child that calls posix.exec; use rpm.execute")
	}
	restore, err := s.keep()
	if err != nil {
		return s.failed(l, err, "")
	}
	c := &child{null: map[int]bool{}}
	s.child = c
	arguments := l.GetTop() - 1
	l.Push(rest)
	l.Push(lua.LNumber(0))
	for i := range arguments {
		l.Push(l.Get(i + 2))
	}
	err = l.PCall(arguments+1, 0, nil)
	s.child = nil
	restore()
	if err == nil && !c.lost {
		l.RaiseError("the child of posix.fork did not end with posix.exec or os.exit; use rpm.execute")
	}
	pid := noProcess + s.ended
	if c.cmd != nil {
		pid = c.cmd.Process.Pid
	} else {
		s.ended++
		if err != nil && !isEnd(err) {
			fmt.Fprintf(os.Stderr, "error: lua script failed: %s\n", message(err))
		}
	}
	s.children[pid] = c
	l.Push(lua.LNumber(pid))
	return 1
}

func isEnd(err error) bool {
	var failed *lua.ApiError
	if !errors.As(err, &failed) {
		return false
	}
	u, ok := failed.Object.(*lua.LUserData)
	if !ok {
		return false
	}
	_, ok = u.Value.(endOfChild)
	return ok
}

// keep notes what a child may change of the process and returns the function
// that puts it back.
func (s *session) keep() (restore func(), err error) {
	here, err := unix.Open(".", unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	environ := os.Environ()
	mask := unix.Umask(0)
	unix.Umask(mask)
	return func() {
		_ = unix.Fchdir(here) // it was the directory: this can not fail
		_ = unix.Close(here)
		unix.Umask(mask)
		os.Clearenv()
		for _, e := range environ {
			name, value, _ := strings.Cut(e, "=")
			_ = os.Setenv(name, value) // it was set
		}
	}, nil
}

// exec is the end of a child: it starts the program, with the child's
// directory, umask, environment and redirections.
func (s *session) exec(l *lua.LState) int {
	argv := stringsFrom(l, 1)
	if s.child == nil {
		l.RaiseError("exec not permitted in this context")
	}
	cmd := program(argv)
	cmd.SysProcAttr = nil // a daemon may outlive the script that does not wait for it
	if s.child.null[0] {
		cmd.Stdin = nil
	}
	if s.child.null[1] {
		cmd.Stdout = nil
	}
	if s.child.null[2] {
		cmd.Stderr = nil
	}
	if err := cmd.Start(); err != nil {
		s.child.lost = true
		return s.failed(l, startError(err), argv[0])
	}
	s.child.cmd = cmd
	endChild(l)
	return 0
}

// redirect2null takes effect in the program that the child becomes.
func (s *session) redirect2null(l *lua.LState) int {
	if s.child == nil {
		l.RaiseError("redirect2null not permitted in this context")
	}
	fd := l.CheckInt(1)
	s.child.null[fd] = true
	l.Push(lua.LNumber(fd))
	return 1
}

// exit is os.exit: rpm permits it to children only, for scripts ran in rpm.
func (s *session) exit(l *lua.LState) int {
	if s.child == nil {
		l.RaiseError("exit not permitted in this context")
	}
	endChild(l)
	return 0
}

// wait waits for one child, or for any; how it ended is not told.
func (s *session) wait(l *lua.LState) int {
	pid := l.OptInt(1, -1)
	if pid == -1 {
		for pid = range s.children {
			break
		}
	}
	c := s.children[pid]
	if c == nil {
		return s.failed(l, syscall.ECHILD, "")
	}
	delete(s.children, pid)
	if c.cmd != nil {
		_ = c.cmd.Wait()
	}
	l.Push(lua.LNumber(pid))
	return 1
}
