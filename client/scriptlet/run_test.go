package scriptlet

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"stork/repo"
)

func newRunner(t *testing.T) (*Runner, *bytes.Buffer) {
	t.Helper()
	out := new(bytes.Buffer)
	return &Runner{Root: "/", Scratch: t.TempDir(), Output: out}, out
}

func sh(script string, args ...int) Call {
	return Call{Package: "p-1-1.noarch", Phase: repo.Post, Interpreter: []string{"/bin/sh"}, Script: script, Args: args}
}

// TestAsRPM holds what a scriptlet sees to what rpm 4.18 was seen to give it.
func TestAsRPM(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name string
		call Call
		want string
	}{
		{"one argument", sh("echo $# $1", 2), "1 2\n"},
		{"trigger's arguments", sh("echo $# $1 $2", 1, 0), "2 1 0\n"},
		{"directory and umask", sh("pwd; umask"), "/\n0022\n"},
		{"path", sh("echo $PATH"), scriptPath + "\n"},
		{"environment passes through", sh("echo $HOME"), os.Getenv("HOME") + "\n"},
		{"nothing to read", sh("cat; echo end"), "end\n"},
		{"files of a trigger", Call{Package: "p", Phase: repo.FileTriggerIn, Interpreter: []string{"/bin/sh"}, Script: "cat", Input: "/a\n/b\n"}, "/a\n/b\n"},
		{"both outputs", sh("echo one; echo two >&2"), "one\ntwo\n"},
		{"no other descriptors", sh("ls /proc/$$/fd; :"), "0\n1\n10\n2\n"},
		{"interpreter's arguments", Call{Package: "p", Phase: repo.Pre, Interpreter: []string{"/bin/sh", "-e"}, Script: "echo $-", Args: []int{1}}, "e\n"},
		{"no body, no arguments", Call{Package: "p", Phase: repo.Pre, Interpreter: []string{"/bin/echo", "x"}, Args: []int{1}}, "x\n"},
		{"a daemon stays", sh("sleep 5 & echo started"), "started\n"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			r, out := newRunner(t)
			if err := r.Run(context.Background(), tt.call); err != nil {
				t.Fatal(err)
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

func TestFailures(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	tests := []struct {
		name    string
		ctx     context.Context
		call    Call
		timeout time.Duration
		want    string
	}{
		{"status", context.Background(), sh("exit 3"), 0, "exit status 3"},
		{"signal", context.Background(), sh("kill -9 $$"), 0, "killed"},
		{"no interpreter", context.Background(), Call{Interpreter: []string{"/no/such"}, Script: "x"}, 0, "no such file"},
		{"none named", context.Background(), Call{}, 0, "names no interpreter"},
		{"relative", context.Background(), Call{Interpreter: []string{"sh"}}, 0, "unsupported interpreter sh"},
		{"too long", context.Background(), sh("sleep 60 & wait"), 50 * time.Millisecond, "longer than 50ms"},
		{"cancelled", ctx, sh("sleep 60"), 0, "canceled"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			r, _ := newRunner(t)
			r.Timeout = tt.timeout
			start := time.Now()
			err := r.Run(tt.ctx, tt.call)
			var failed *FailedError
			if !errors.As(err, &failed) || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got %v, want %q", err, tt.want)
			}
			if took := time.Since(start); took > 10*time.Second {
				t.Errorf("took %v", took)
			}
		})
	}
}

// TestKillsTheGroup: what a scriptlet has started goes with it when its time
// is up.
func TestKillsTheGroup(t *testing.T) {
	t.Parallel()
	r, _ := newRunner(t)
	r.Timeout = 200 * time.Millisecond
	mark := filepath.Join(t.TempDir(), "mark")
	if err := r.Run(context.Background(), sh("(sleep 1; echo late > "+mark+") & wait")); err == nil {
		t.Error("no error")
	}
	time.Sleep(1500 * time.Millisecond)
	if _, err := os.Stat(mark); err == nil {
		t.Error("a child of the scriptlet went on")
	}
}

func TestSupported(t *testing.T) {
	t.Parallel()
	for _, interpreter := range [][]string{nil, {"sh"}} {
		if err := Supported("p-1", repo.Pre, interpreter); err == nil || !strings.Contains(err.Error(), "p-1") {
			t.Errorf("%v: got %v, want an error that names the package", interpreter, err)
		}
	}
	if err := Supported("p-1", repo.Pre, slices.Clone([]string{"/bin/sh"})); err != nil {
		t.Error(err)
	}
}
