package store

import (
	"errors"
	"os"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"stork/repo"
)

// TestFullDisk fills stores on disks that are too small: the error is the
// disk's and not the package's, and nothing is left.
func TestFullDisk(t *testing.T) {
	t.Parallel()
	needRoot(t)
	large := newPack(t, repo.File{Path: "/opt/large", Mode: 0o644, Link: strings.Repeat("large", 1<<20)})
	var files []repo.File
	for _, letter := range strings.Split("abcdefghijklmnopqrstuvwxyz", "") {
		files = append(files, repo.File{Path: "/opt/" + letter, Mode: 0o644, Link: strings.Repeat(letter, largeFile-1)})
	}
	tests := []struct {
		name, options string
		pack          *pack
	}{
		{"large file", "size=2m", large},
		{"many files", "size=2m", newPack(t, files...)},
		{"no inodes", "size=64m,nr_inodes=40", newPack(t, files...)},
		{"no inodes for directories", "size=64m,nr_inodes=40", newPack(t, repo.File{Path: strings.Repeat("/d", 60), Type: repo.Dir, Mode: 0o755})},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			if err := unix.Mount("tmpfs", dir, "tmpfs", 0, tt.options); err != nil {
				if os.Getenv("CI") == "true" {
					t.Fatalf("needs to mount: %v", err)
				}
				t.Skipf("needs to mount: %v", err)
			}
			t.Cleanup(func() {
				if err := unix.Unmount(dir, unix.MNT_DETACH); err != nil {
					t.Error(err)
				}
			})
			s := openedIn(t, dir)
			st := stage(t, s)
			_, err := st.Fill(t.Context(), &tt.pack.list, isPrivate, tt.pack.unpacked(), nil)
			if !errors.Is(err, unix.ENOSPC) || errors.Is(err, ErrContent) {
				t.Errorf("fill: %v, want %v", err, unix.ENOSPC)
			}
			if err := st.Discard(); err != nil {
				t.Fatal(err)
			}
			mustBeSound(t, s)
		})
	}
}
