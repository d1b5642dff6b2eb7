package share

import (
	"context"
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// This file has every system call that mounts, but for those that compose an
// overlay (overlaymount.go).

// moveMountBeneath is MOVE_MOUNT_BENEATH (Linux 6.5, mount.h).
const moveMountBeneath = 0x200

// kernel mounts in the caller's own namespace, for which it needs
// CAP_SYS_ADMIN there.
type kernel struct{ root *Root }

// Change implements [Mounter].
func (k kernel) Change(ctx context.Context, changes []MountChange) error {
	for i := range changes {
		if err := ctx.Err(); err != nil {
			return err
		}
		if err := k.one(&changes[i]); err != nil {
			return err
		}
	}
	return nil
}

func (k kernel) one(c *MountChange) error {
	switch c.Kind {
	case MountPlace:
		return k.root.step(StepMount, c.Path, func() error { return moveClone(c.source, c.at, c.Path, 0) })
	case MountReplace:
		return k.root.step(StepMount, c.Path, func() error { return swapMount(c.source, c.at, c.Path) })
	case MountRemove:
		return k.root.step(StepUnmount, c.Path, func() error { return detach(c.at, c.Path) })
	}
	return k.root.unmountAt(c.at, c.Path)
}

func moveClone(source layerPath, p place, guestPath string, flags int) error {
	tree, err := cloneTree(source.view, source.relative(), unix.AT_SYMLINK_NOFOLLOW)
	if err != nil {
		return fmt.Errorf("cannot clone the mount of %s: %w", source.path, err)
	}
	defer tree.Close()
	if err := moveTree(tree, p, flags); err != nil {
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

// cloneTree makes a mount, attached nowhere, of what dir has at name; an empty
// name is dir itself. flags are those of open_tree(2) beside the usual ones.
func cloneTree(dir *os.File, name string, flags uint) (*os.File, error) {
	if name == "" {
		flags |= unix.AT_EMPTY_PATH
	}
	fd, err := unix.OpenTree(int(dir.Fd()), name, flags|unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC)
	if err != nil {
		return nil, err
	}
	return os.NewFile(uintptr(fd), "clone"), nil
}

// moveTree attaches a mount at p; an empty name is the directory itself.
func moveTree(tree *os.File, p place, flags int) error {
	if p.name == "" {
		flags |= unix.MOVE_MOUNT_T_EMPTY_PATH
	}
	return unix.MoveMount(int(tree.Fd()), "", int(p.dir.Fd()), p.name, unix.MOVE_MOUNT_F_EMPTY_PATH|flags)
}

// makePrivate keeps what others mount from appearing in a clone. flags may be
// AT_RECURSIVE.
func makePrivate(tree *os.File, flags uint) error {
	attr := unix.MountAttr{Propagation: unix.MS_PRIVATE}
	return unix.MountSetattr(int(tree.Fd()), "", unix.AT_EMPTY_PATH|flags, &attr)
}

// MayMount says whether this process may place mounts: whether it has
// CAP_SYS_ADMIN in the user namespace that owns its mounts, and nothing else
// forbids it, such as a system call filter. It tries, for no other answer
// knows all reasons, and leaves nothing behind.
func MayMount() bool {
	root, err := os.OpenFile("/", unix.O_PATH|unix.O_DIRECTORY, 0)
	if err != nil {
		return false
	}
	defer root.Close()
	tree, err := cloneTree(root, "", 0)
	if err == nil {
		tree.Close() // the clone goes with it
		return true
	}
	// Any other error comes after the permission was given: EINVAL, for
	// example, where "/" has mounts below it that are locked.
	return !errors.Is(err, unix.EPERM) && !errors.Is(err, unix.EACCES) && !errors.Is(err, unix.ENOSYS)
}
