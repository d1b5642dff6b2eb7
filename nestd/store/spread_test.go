package store

import (
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"
)

// TestSpread says that the hint is given where the file system knows it.
func TestSpread(t *testing.T) {
	t.Parallel()
	s := openedIn(t, t.TempDir())
	f, err := os.Open(filepath.Join(s.dir, stagingName))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	flags, err := unix.IoctlGetUint32(int(f.Fd()), unix.FS_IOC_GETFLAGS)
	var fs unix.Statfs_t
	if err := unix.Fstatfs(int(f.Fd()), &fs); err != nil {
		t.Fatal(err)
	}
	if fs.Type != unix.EXT4_SUPER_MAGIC {
		t.Skip("not on ext4")
	}
	if err != nil || flags&topDir == 0 {
		t.Errorf("flags %x, %v", flags, err)
	}
}
