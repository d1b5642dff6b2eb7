package durable

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/iotest"
)

var errDisk = errors.New("disk error")

// failAt returns a disk whose n-th step fails (from 0), and which says
// through fired whether it came to that.
func failAt(n int, after bool) (d Disk, fired *bool) {
	fired = new(bool)
	d.Fault = func(Step, string) (error, error) {
		n--
		if n != -1 {
			return nil, nil
		}
		*fired = true
		if after {
			return nil, errDisk
		}
		return errDisk, nil
	}
	return d, fired
}

// TestWriteFileFaults fails each step of replacing a file: the old content or
// the new is there, whole, and at most a temporary file beside it.
func TestWriteFileFaults(t *testing.T) {
	t.Parallel()
	for _, after := range []bool{false, true} {
		for n := 0; ; n++ {
			dir := t.TempDir()
			path := filepath.Join(dir, "state")
			if err := (Disk{}).WriteFile(path, []byte("old"), 0o640); err != nil {
				t.Fatal(err)
			}
			disk, fired := failAt(n, after)
			err := disk.WriteFile(path, []byte("new"), 0o600)
			content, readErr := os.ReadFile(path)
			if readErr != nil {
				t.Fatal(readErr)
			}
			if !*fired {
				if n != 4 {
					t.Errorf("%d steps, want 4: write, sync, rename, sync of the directory", n)
				}
				if err != nil || string(content) != "new" {
					t.Errorf("undisturbed: %v, content %q", err, content)
				}
				break
			}
			if !errors.Is(err, errDisk) {
				t.Errorf("step %d, after=%v: %v, want %v", n, after, err, errDisk)
			}
			if string(content) != "old" && string(content) != "new" {
				t.Errorf("step %d, after=%v: content %q", n, after, content)
			}
			checkOnly(t, dir, "state")
		}
	}
}

// checkOnly fails if the directory has anything but name and temporary files.
func checkOnly(t *testing.T, dir, name string) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, entry := range entries {
		if entry.Name() != name && !strings.HasPrefix(entry.Name(), TempPrefix) {
			t.Errorf("%s is left", entry.Name())
		}
	}
}

// TestWriteCache: nothing waits for the disk, and a failed write leaves the old
// content.
func TestWriteCache(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	path := filepath.Join(dir, "cache")
	var asked []Step
	count := Disk{Fault: func(s Step, _ string) (error, error) { asked = append(asked, s); return nil, nil }}
	if err := count.WriteCache(path, []byte("old"), 0o640); err != nil || !slices.Equal(asked, []Step{StepWrite, StepRename}) {
		t.Errorf("%v, steps %v", err, asked)
	}
	for n := range 2 {
		disk, _ := failAt(n, false)
		if err := disk.WriteCache(path, []byte("new"), 0o640); !errors.Is(err, errDisk) {
			t.Errorf("step %d: %v", n, err)
		}
		if b, err := os.ReadFile(path); err != nil || string(b) != "old" {
			t.Errorf("step %d: %q, %v", n, b, err)
		}
		checkOnly(t, dir, "cache")
	}
}

func TestModes(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	var d Disk
	deep := filepath.Join(dir, "a", "b")
	err := errors.Join(
		d.WriteFile(filepath.Join(dir, "file"), []byte("x"), 0o666),
		d.Mkdir(filepath.Join(dir, "dir"), 0o777),
		d.MkdirAll(deep, 0o757),
		d.MkdirAll(deep, 0o700))
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]fs.FileMode{"file": 0o666, "dir": 0o777, "a": 0o757, "a/b": 0o757} {
		info, err := os.Stat(filepath.Join(dir, name))
		if err != nil || info.Mode().Perm() != want {
			t.Errorf("%s: mode %o (%v), want %o whatever the umask is", name, info.Mode().Perm(), err, want)
		}
	}
	if err := d.Mkdir(deep, 0o700); !errors.Is(err, fs.ErrExist) {
		t.Errorf("mkdir of what is there: %v", err)
	}
	if err := d.MkdirAll(filepath.Join(dir, "file", "x"), 0o700); err == nil {
		t.Error("made a directory in a file")
	}
}

// TestSteps says that every method asks Fault first, with its own step, and
// that "before" leaves everything undone and "after" has it done.
func TestSteps(t *testing.T) {
	t.Parallel()
	exists := func(path string) bool { _, err := os.Lstat(path); return err == nil }
	tests := []struct {
		step Step
		act  func(d Disk, dir string) error
		done func(dir string) bool // nil: can not be seen
	}{
		{StepRename, func(d Disk, dir string) error { return d.Rename(dir+"/old", dir+"/new") }, func(dir string) bool { return exists(dir + "/new") }},
		{StepLink, func(d Disk, dir string) error { return d.Link(dir+"/old", dir+"/new") }, func(dir string) bool { return exists(dir + "/new") }},
		{StepSymlink, func(d Disk, dir string) error { return d.Symlink("old", dir+"/new") }, func(dir string) bool { return exists(dir + "/new") }},
		{StepMkdir, func(d Disk, dir string) error { return d.Mkdir(dir+"/new", 0o700) }, func(dir string) bool { return exists(dir + "/new") }},
		{StepRemove, func(d Disk, dir string) error { return d.Remove(dir + "/old") }, func(dir string) bool { return !exists(dir + "/old") }},
		{StepRemove, func(d Disk, dir string) error { return d.RemoveAll(dir + "/old") }, func(dir string) bool { return !exists(dir + "/old") }},
		{StepSync, func(d Disk, dir string) error { return d.SyncFile(dir + "/old") }, nil},
		{StepSyncDir, func(d Disk, dir string) error { return d.SyncDir(dir) }, nil},
		{StepSyncFS, func(d Disk, dir string) error { return d.SyncFS(dir) }, nil},
		{StepWrite, func(d Disk, dir string) error {
			_, err := d.WriteFrom(dir+"/new", strings.NewReader("x"), 0o600)
			return err
		}, nil},
	}
	for _, tt := range tests {
		for _, after := range []bool{false, true} {
			dir := t.TempDir()
			if err := os.WriteFile(filepath.Join(dir, "old"), []byte("x"), 0o600); err != nil {
				t.Fatal(err)
			}
			var asked []Step
			d := Disk{Fault: func(step Step, _ string) (error, error) {
				asked = append(asked, step)
				if after {
					return nil, errDisk
				}
				return errDisk, nil
			}}
			if err := tt.act(d, dir); !errors.Is(err, errDisk) {
				t.Errorf("%s: %v, want %v", tt.step, err, errDisk)
			}
			if len(asked) != 1 || asked[0] != tt.step {
				t.Errorf("%s: asked %v", tt.step, asked)
			}
			if tt.done != nil && tt.done(dir) != after {
				t.Errorf("%s: done is %v with after=%v", tt.step, !after, after)
			}
		}
	}
}

func TestRemoveMissing(t *testing.T) {
	t.Parallel()
	var d Disk
	path := filepath.Join(t.TempDir(), "nothing")
	if err := errors.Join(d.Remove(path), d.RemoveAll(path)); err != nil {
		t.Error(err)
	}
}

func TestWriteFrom(t *testing.T) {
	t.Parallel()
	var d Disk
	path := filepath.Join(t.TempDir(), "blob")
	if n, err := d.WriteFrom(path, iotest.ErrReader(errDisk), 0o644); !errors.Is(err, errDisk) || n != 0 {
		t.Errorf("%d bytes, %v", n, err)
	}
	if n, err := d.WriteFrom(path, strings.NewReader("content"), 0o644); err != nil || n != 7 {
		t.Errorf("%d bytes, %v: an earlier error must leave no file", n, err)
	}
	if _, err := d.WriteFrom(path, strings.NewReader("other"), 0o644); !errors.Is(err, fs.ErrExist) {
		t.Errorf("over a file: %v", err)
	}
	if b, err := os.ReadFile(path); err != nil || string(b) != "content" {
		t.Errorf("content %q, %v", b, err)
	}
}
