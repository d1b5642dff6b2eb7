package durable

import (
	"io/fs"

	"golang.org/x/sys/unix"
)

// StepWhiteout is the step of [Disk.Whiteout].
const StepWhiteout Step = "whiteout"

// Whiteout makes what tells an overlay that nothing is at path, whatever the
// layers below have: a character device 0:0
// (Documentation/filesystems/overlayfs.rst, "Whiteouts and opaque
// directories"). SyncDir or SyncFS makes it durable.
func (d Disk) Whiteout(path string) error {
	return d.do(StepWhiteout, path, func() error {
		if err := unix.Mknod(path, unix.S_IFCHR, 0); err != nil {
			return &fs.PathError{Op: "mknod", Path: path, Err: err}
		}
		return nil
	})
}
