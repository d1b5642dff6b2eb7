package share

import (
	"fmt"
	"io/fs"
	"os"
	"strings"

	"golang.org/x/sys/unix"
)

// moveMountBeneath is MOVE_MOUNT_BENEATH (Linux 6.5, mount.h).
const moveMountBeneath = 0x200

// layerPath is a file or directory in an open layer.
type layerPath struct {
	view *os.File
	path string
}

func (l layerPath) relative() string {
	if rel := strings.TrimPrefix(l.path, "/"); rel != "" {
		return rel
	}
	return "."
}

func (l layerPath) stat() (info, error) {
	if l.view == nil {
		return info{}, &fs.PathError{Op: "stat", Path: l.path, Err: fs.ErrNotExist} // not attached
	}
	return statAt(int(l.view.Fd()), l.relative())
}

// mountAt makes source appear at p. Where another layer's mount is in the way
// (swap), the new one goes beneath it before that is taken away, so that
// there is no moment without a file. What shows the right inode already
// stays.
func (r *Root) mountAt(source layerPath, p place, guestPath string, swap bool) error {
	want, err := source.stat()
	if err != nil {
		return fmt.Errorf("cannot find %s in its layer: %w", source.path, err)
	}
	have, err := p.stat()
	if err != nil {
		return fmt.Errorf("cannot mount on %s: %w", guestPath, err)
	}
	if have.isMounted() && have.same(want) {
		return nil
	}
	if want.kind() != have.kind() {
		return fmt.Errorf("cannot mount on %s: it is something else than in the package", guestPath)
	}
	return r.step(StepMount, guestPath, func() error {
		if have.isMounted() && swap {
			return swapMount(source, p, guestPath)
		}
		return moveClone(source, p, guestPath, 0)
	})
}

func moveClone(source layerPath, p place, guestPath string, flags int) error {
	tree, err := unix.OpenTree(int(source.view.Fd()), source.relative(),
		unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC|unix.AT_SYMLINK_NOFOLLOW)
	if err != nil {
		return fmt.Errorf("cannot clone the mount of %s: %w", source.path, err)
	}
	defer unix.Close(tree)
	if err := unix.MoveMount(tree, "", int(p.dir.Fd()), p.name, unix.MOVE_MOUNT_F_EMPTY_PATH|flags); err != nil {
		return fmt.Errorf("cannot mount on %s: %w", guestPath, err)
	}
	return nil
}

// swapMount replaces the topmost mount. Where the kernel can not mount
// beneath (a parent that propagates), there is a short moment in which what
// lies below shows.
func swapMount(source layerPath, p place, guestPath string) error {
	err := moveClone(source, p, guestPath, moveMountBeneath)
	if err == nil {
		return detach(p, guestPath)
	}
	if err := detach(p, guestPath); err != nil {
		return err
	}
	return moveClone(source, p, guestPath, 0)
}

func detach(p place, guestPath string) error {
	if err := unix.Unmount(p.path(), unix.MNT_DETACH|unix.UMOUNT_NOFOLLOW); err != nil {
		return fmt.Errorf("cannot unmount %s: %w", guestPath, err)
	}
	return nil
}

// maxStacked bounds how many mounts on one path unmountAt takes away: the
// guest's owner may have mounted something over ours.
const maxStacked = 8

// unmountAt takes away every mount on p. That there is none is no error:
// the guest may have been restarted.
func (r *Root) unmountAt(p place, guestPath string) error {
	for range maxStacked {
		have, err := p.stat()
		if missing(err) || err == nil && !have.isMounted() {
			return nil
		}
		if err != nil {
			return fmt.Errorf("cannot unmount %s: %w", guestPath, err)
		}
		if err := r.step(StepUnmount, guestPath, func() error { return detach(p, guestPath) }); err != nil {
			return err
		}
	}
	return fmt.Errorf("cannot unmount %s: too many mounts lie on it", guestPath)
}
