package testbed

import (
	"bytes"
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"
)

// leftovers are processes of a testbed: those whose command line or working
// files name its folder, and its own.
func leftovers(t *testing.T, tb *Testbed) []string {
	t.Helper()
	var left []string
	entries, err := os.ReadDir("/proc")
	must(t, err)
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil || pid == os.Getpid() {
			continue
		}
		mounts, err := os.ReadFile("/proc/" + e.Name() + "/mountinfo")
		if err == nil && bytes.Contains(mounts, []byte(tb.dir)) {
			left = append(left, e.Name())
		}
	}
	return left
}

func TestDownLeavesNothing(t *testing.T) {
	t.Parallel()
	tb := bare(t, Options{}, 2, 2)
	must(t, os.WriteFile(filepath.Join(tb.dir, "..", "neighbour"), nil, 0o600))
	for _, guest := range tb.Guests("") {
		sh(t, tb, guest, "mkdir -p /tmp/m && mount -t tmpfs x /tmp/m; setsid sleep 1000 >/dev/null 2>&1 </dev/null & exit 0")
	}
	if len(leftovers(t, tb)) < 7 {
		t.Fatal("the testbed's own processes are not found")
	}
	must(t, Down(context.Background(), tb.dir))
	if left := leftovers(t, tb); len(left) != 0 {
		t.Errorf("processes %v are left", left)
	}
	if _, err := os.Stat(tb.dir); !os.IsNotExist(err) {
		t.Errorf("the folder is left: %v", err)
	}
	if err := Down(context.Background(), tb.dir); err == nil {
		t.Error("ended a testbed that is not there")
	}
}

// TestHubKilled: everything ends with the hub, and down still clears up.
func TestHubKilled(t *testing.T) {
	t.Parallel()
	tb := bare(t, Options{}, 1, 2)
	hub, err := os.FindProcess(tb.state.Hub.PID)
	must(t, err)
	must(t, hub.Kill())
	must(t, Down(context.Background(), tb.dir))
	if left := leftovers(t, tb); len(left) != 0 {
		t.Errorf("processes %v are left", left)
	}
}

// TestUpKilled kills the program that makes a testbed at many moments.
func TestUpKilled(t *testing.T) {
	t.Parallel()
	if os.Getenv(upVariable) != "" {
		bare(t, Options{Dir: os.Getenv(upVariable)}, 1, 3)
		time.Sleep(time.Hour)
	}
	if !privileged() {
		skipOrFail(t, "needs root")
	}
	for i := range 6 {
		dir := filepath.Join(t.TempDir(), "bed")
		cmd := exec.Command("/proc/self/exe", "-test.run=^TestUpKilled$")
		cmd.Env = append(os.Environ(), upVariable+"="+dir)
		must(t, cmd.Start())
		time.Sleep(time.Duration(i*i) * 12 * time.Millisecond)
		must(t, cmd.Process.Kill())
		_ = cmd.Wait()
		err := Down(context.Background(), dir)
		if err != nil && !strings.Contains(err.Error(), errNone.Error()) {
			t.Errorf("after %d: %v", i, err)
		}
		if left := leftovers(t, &Testbed{dir: dir}); len(left) != 0 {
			t.Errorf("after %d: processes %v are left", i, left)
		}
	}
}

const upVariable = "STORK_TEST_UP"

// TestDownSparesOthers: a process that has taken over the recorded number is
// left alone.
func TestDownSparesOthers(t *testing.T) {
	t.Parallel()
	cmd := exec.Command("sleep", "1000")
	must(t, cmd.Start())
	defer func() { _ = cmd.Process.Kill(); _ = cmd.Wait() }()
	p, err := processOf(cmd.Process.Pid)
	must(t, err)
	p.Start++
	must(t, p.kill(context.Background()))
	if _, err := processOf(cmd.Process.Pid); err != nil {
		t.Error("another process was killed")
	}
}

func TestTwoTestbeds(t *testing.T) {
	t.Parallel()
	a, b := bare(t, Options{}, 1, 1), bare(t, Options{}, 1, 1)
	sh(t, a, "n1g1", "echo a > /etc/which")
	sh(t, b, "n1g1", "echo b > /etc/which")
	must(t, Down(context.Background(), a.dir))
	if got, _ := sh(t, b, "n1g1", "cat /etc/which"); got != "b" {
		t.Errorf("the second testbed's guest reads %q", got)
	}
}

func TestUpRefuses(t *testing.T) {
	t.Parallel()
	full := t.TempDir()
	must(t, os.WriteFile(filepath.Join(full, "file"), nil, 0o600))
	for name, o := range map[string]Options{
		"folder not empty": {Dir: full},
		"rate":             {Dir: t.TempDir(), Rate: "fast"},
		"nests":            {Dir: t.TempDir(), Nests: maxNests + 1},
		"guests":           {Dir: t.TempDir(), Guests: -1},
		"rootfs":           {Dir: t.TempDir(), Rootfs: "/nonexistent"},
	} {
		if _, err := Up(context.Background(), o); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
	if _, err := os.Stat(filepath.Join(full, "file")); err != nil {
		t.Error("somebody else's file is gone")
	}
}
