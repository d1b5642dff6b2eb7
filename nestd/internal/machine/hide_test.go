package machine

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"testing"
)

// TestHostIsHidden: who leaves virtiofsd's root directory finds nothing of the
// host's but its programs.
func TestHostIsHidden(t *testing.T) {
	t.Parallel()
	if os.Geteuid() != 0 {
		if os.Getenv("CI") == "true" {
			t.Fatal("needs root")
		}
		t.Skip("needs root")
	}
	dir, other := t.TempDir(), t.TempDir()
	for _, d := range []string{dir, other} {
		if err := os.WriteFile(filepath.Join(d, "file"), nil, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	done := make(chan error, 1)
	var found []string
	go func() {
		runtime.LockOSThread() // and ends with the goroutine, for its mounts are others
		err := bindDirectory(dir, "/usr/libexec/virtiofsd")
		for _, path := range []string{"/etc/passwd", "/usr/bin/env", "/proc/self/status", "/run/stork/file", filepath.Join(other, "file"), dir} {
			if _, err := os.Stat(path); !errors.Is(err, fs.ErrNotExist) {
				found = append(found, path)
			}
		}
		done <- err
	}()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	if len(found) != 3 || found[0] != "/usr/bin/env" || found[1] != "/proc/self/status" || found[2] != "/run/stork/file" {
		t.Errorf("found %q", found)
	}
}
