package guest

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"stork/repo/durable"
	"stork/repo/program"
)

// errWhole stands for the whole program, which would not come back.
var errWhole = errors.New("the whole program ran")

// tried runs the program in a guest whose root is there and reports what it
// left to the whole one.
func tried(t *testing.T, args ...string) (left bool, status int, said string) {
	t.Helper()
	var out bytes.Buffer
	status = Run(context.Background(), args, program.Streams{In: strings.NewReader(""), Out: &out, Err: &out},
		func() error { left = true; return errWhole })
	return left, status, out.String()
}

// TestLeft: what this program lacks, or what needs something verified, is left
// to the whole one; what it can do by itself is not. Not parallel: the guest's
// root comes in the environment.
func TestLeft(t *testing.T) {
	root := t.TempDir()
	t.Setenv("STORK_SYSROOT", root)
	t.Setenv("STORK_DIR", filepath.Join(root, "nowhere"))
	for _, line := range []string{
		"", "--help", "--version", "--man", "list", "status", "publish x", "install --help", "nonsense",
		"install -y hello", "upgrade", // in a guest that has verified nothing
	} {
		if left, status, _ := tried(t, strings.Fields(line)...); !left || status != program.Failed {
			t.Errorf("%q: left %v, status %d", line, left, status)
		}
	}
	for line, want := range map[string]int{"remove": program.Usage, "remove --no-such-flag x": program.Usage, "remove -y nothing": ExitNotFound} {
		if os.Geteuid() != 0 && want == ExitNotFound {
			continue
		}
		if left, status, said := tried(t, strings.Fields(line)...); left || status != want {
			t.Errorf("%q: left %v, status %d: %s", line, left, status, said)
		}
	}
	t.Setenv("COMP_LINE", "stork rem")
	if left, _, _ := tried(t, "remove"); !left {
		t.Error("completion was not left to the whole program")
	}
}

// TestLeftLate: who finds out only after all has been parsed and opened that
// nothing is known of the repository leaves nothing behind, above all no lock.
func TestLeftLate(t *testing.T) {
	if os.Geteuid() != 0 {
		if os.Getenv("CI") == "true" {
			t.Fatal("needs root, and in CI everything is there")
		}
		t.Skip("a guest is changed by its root only")
	}
	root := t.TempDir()
	t.Setenv("STORK_SYSROOT", root)
	t.Setenv("STORK_DIR", filepath.Join(root, "nowhere"))
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	must(os.MkdirAll(filepath.Join(root, "etc/stork"), 0o755))
	must(os.MkdirAll(filepath.Join(root, statePath, trustName), 0o755))
	digest := "sha256:" + strings.Repeat("ab", 32)
	must(durable.Disk{}.WriteFile(filepath.Join(root, pinsPath),
		[]byte(`{"format":1,"owner":"`+digest+`","repositories":[{"root":"`+digest+`","url":"http://127.0.0.1:1"}]}`), 0o644))
	for range 2 {
		if left, status, said := tried(t, "install", "-y", "hello"); !left || status != program.Failed || strings.Count(said, "\n") != 1 || !strings.Contains(said, errWhole.Error()) {
			t.Errorf("left %v, status %d, says %q", left, status, said)
		}
	}
	lock, err := os.OpenFile(filepath.Join(root, statePath, "lock"), os.O_RDWR, 0)
	must(err)
	defer lock.Close()
	if err := durable.TryLock(lock); err != nil {
		t.Errorf("the guest's lock is held: %v", err)
	}
	entries, err := os.ReadDir(filepath.Join(root, statePath))
	must(err)
	if slices.ContainsFunc(entries, func(e os.DirEntry) bool { return strings.HasPrefix(e.Name(), "journal") }) {
		t.Errorf("it left a journal: %v", entries)
	}
}
