package durable

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"
)

func TestWhiteout(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "gone")
	if err := (Disk{}).Whiteout(path); err != nil {
		if os.Getenv("CI") != "true" && errors.Is(err, unix.EPERM) {
			t.Skip(err) // mknod is not for everybody on old kernels
		}
		t.Fatal(err)
	}
	var stat unix.Stat_t
	if err := unix.Lstat(path, &stat); err != nil {
		t.Fatal(err)
	}
	if stat.Mode&unix.S_IFMT != unix.S_IFCHR || stat.Rdev != 0 {
		t.Errorf("got mode %o, device %d", stat.Mode, stat.Rdev)
	}
	if err := (Disk{}).Whiteout(path); !errors.Is(err, os.ErrExist) {
		t.Errorf("got %v, want: exists", err)
	}
	failing := Disk{Fault: func(step Step, _ string) (before, after error) {
		if step == StepWhiteout {
			return unix.EIO, nil
		}
		return nil, nil
	}}
	if err := failing.Whiteout(path + "2"); !errors.Is(err, unix.EIO) {
		t.Errorf("got %v, want the fault", err)
	}
}
