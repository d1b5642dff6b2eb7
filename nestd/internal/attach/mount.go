package attach

import (
	"context"
	"errors"
	"fmt"
	"os"
	"sync/atomic"

	"golang.org/x/sys/unix"
)

// clone is a layer on its way to the guest.
type clone struct {
	name string
	tree int // descriptor of the detached mount
}

// attach is Attach, on its thread.
func (j *job) attach() error {
	clones, err := j.cloneMissing()
	defer func() {
		for _, c := range clones {
			_ = unix.Close(c.tree)
		}
	}()
	if err != nil {
		return err
	}
	if len(clones) == 0 {
		return nil
	}
	if err := j.enterGuest(); err != nil {
		return err
	}
	for i, c := range clones {
		if err := j.move(c); err != nil {
			j.undo(clones[:i])
			return err
		}
		j.progress.Add(1)
	}
	if err := j.guest.peer.alive(); err != nil {
		j.undo(clones)
		return err
	}
	return nil
}

// cloneMissing makes a locked clone of each layer that is not in the view. The
// thread is in the locked namespace, whose root is the layers.
// It returns what it made also when it fails.
func (j *job) cloneMissing() ([]clone, error) {
	var clones []clone
	for _, name := range j.layers {
		tree, err := j.cloneLayer(name)
		if err != nil {
			return clones, fmt.Errorf("layer %s: %w", name, err)
		}
		j.progress.Add(1)
		if tree >= 0 {
			clones = append(clones, clone{name: name, tree: tree})
		}
	}
	return clones, nil
}

// cloneLayer returns -1 if the guest sees the layer already.
func (j *job) cloneLayer(name string) (tree int, err error) {
	path := "/" + name[:2] + "/" + name
	var layer unix.Stat_t
	err = unix.Lstat(path, &layer)
	if errors.Is(err, unix.ENOENT) || err == nil && layer.Mode&unix.S_IFMT != unix.S_IFDIR {
		return -1, ErrNoLayer
	}
	if err != nil {
		return -1, fmt.Errorf("cannot find it in the store: %w", err)
	}
	if seen, err := j.seen(name); err == nil && seen == (inode{layer.Dev, layer.Ino}) {
		return -1, nil
	}
	tree, err = unix.OpenTree(unix.AT_FDCWD, path, unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC|unix.AT_SYMLINK_NOFOLLOW)
	if err != nil {
		return -1, fmt.Errorf("cannot clone its mount: %w", err)
	}
	if err := mapIDs(tree, j.guest); err != nil {
		_ = unix.Close(tree)
		return -1, err
	}
	return tree, nil
}

// seen returns what the guest has at a name in its view.
func (j *job) seen(name string) (inode, error) {
	how := unix.OpenHow{
		Flags:   unix.O_PATH | unix.O_DIRECTORY | unix.O_NOFOLLOW | unix.O_CLOEXEC,
		Resolve: unix.RESOLVE_BENEATH | unix.RESOLVE_NO_SYMLINKS,
	}
	fd, err := openat2(int(j.view.Fd()), name, &how)
	if err != nil {
		return inode{}, err
	}
	defer unix.Close(fd)
	return inodeOf(fd)
}

// mapIDs maps the store's users to the guest's. Where the kernel can not, for
// the nest is itself in a user namespace, a guest with the same root does
// without.
func mapIDs(tree int, g *guest) error {
	if g.host {
		return nil
	}
	attr := unix.MountAttr{Attr_set: unix.MOUNT_ATTR_IDMAP, Userns_fd: uint64(g.users.Fd())}
	err := unix.MountSetattr(tree, "", unix.AT_EMPTY_PATH, &attr)
	if err == nil || g.sameID && (errors.Is(err, unix.EPERM) || errors.Is(err, unix.EINVAL)) {
		return nil
	}
	return fmt.Errorf("cannot map the guest's users, nor are they the nest's (%w): %w", err, ErrUnsupported)
}

// enterGuest enters the guest's mount namespace, with the view as the working
// directory.
func (j *job) enterGuest() error {
	if err := setMounts(j.guest.mounts); err != nil {
		return err
	}
	if err := unix.Fchdir(int(j.view.Fd())); err != nil {
		return fmt.Errorf("cannot enter the view: %w", err)
	}
	return nil
}

// setMounts enters a mount namespace. The thread's root must be its own, not
// shared with other threads.
func setMounts(ns *os.File) error {
	if err := unix.Setns(int(ns.Fd()), unix.CLONE_NEWNS); err != nil {
		return fmt.Errorf("cannot enter the mount namespace: %w", err)
	}
	return nil
}

// move mounts a clone at its name in the view. The mount point is made from
// the host's side, where the view can be written; the guest's side of it is
// the same directory.
func (j *job) move(c clone) error {
	err := unix.Mkdirat(int(j.host.Fd()), c.name, 0o755)
	if err != nil && !errors.Is(err, unix.EEXIST) {
		return fmt.Errorf("cannot make the mount point %s: %w", c.name, err)
	}
	made := err == nil
	err = unix.MoveMount(c.tree, "", int(j.view.Fd()), c.name, unix.MOVE_MOUNT_F_EMPTY_PATH)
	if errors.Is(err, unix.ENOENT) && unix.Unmount(c.name, unix.MNT_DETACH|unix.UMOUNT_NOFOLLOW) == nil {
		// What was mounted there has been removed from the store since, and
		// made anew: nothing can be mounted on a directory that is gone.
		err = unix.MoveMount(c.tree, "", int(j.view.Fd()), c.name, unix.MOVE_MOUNT_F_EMPTY_PATH)
	}
	if err == nil {
		return nil
	}
	if made {
		_ = unix.Unlinkat(int(j.host.Fd()), c.name, unix.AT_REMOVEDIR) // empty, and ours
	}
	switch {
	case errors.Is(err, unix.ENOSPC):
		// Not [unix.ENOSPC], which is the host's disk to whoever asks.
		return fmt.Errorf("cannot mount layer %s: the guest has as many mounts as fs.mount-max allows: %w", c.name, ErrNotAttached)
	case errors.Is(err, unix.EINVAL), errors.Is(err, unix.ENOENT), errors.Is(err, unix.EPERM):
		// The view is not, or no longer, in the guest's mount namespace.
		return fmt.Errorf("cannot mount layer %s (%w): %w", c.name, err, ErrNotAttached)
	}
	return fmt.Errorf("cannot mount layer %s: %w", c.name, err)
}

// undo takes what this call has attached away again. The thread is in the
// guest, in the view.
func (j *job) undo(attached []clone) {
	for _, c := range attached {
		err := unix.Unmount(c.name, unix.MNT_DETACH|unix.UMOUNT_NOFOLLOW)
		if err == nil {
			err = unix.Unlinkat(int(j.host.Fd()), c.name, unix.AT_REMOVEDIR)
		}
		if err != nil {
			j.log.Warn("cannot take a layer back", "layer", c.name, "err", err)
		}
		j.progress.Add(1)
	}
}

// detach unmounts the layers in the guest. Errors of single layers do not
// matter: removing the mount points, which follows, takes what is left.
func (j *job) detach() error {
	if err := j.enterGuest(); err != nil {
		return err
	}
	for _, name := range j.layers {
		// EINVAL: nothing is mounted there; ENOENT: no mount point.
		_ = unix.Unmount(name, unix.MNT_DETACH|unix.UMOUNT_NOFOLLOW)
		j.progress.Add(1)
	}
	return nil
}

// removePoints removes the layers' mount points, on a worker, for the guest may
// hold the lock of its view.
func (a *Attacher) removePoints(ctx context.Context, hostView string, layers []string) error {
	unlock, err := a.guests.lock(ctx, hostView)
	if err != nil {
		return err
	}
	host, err := openHostView(hostView)
	if err != nil {
		unlock()
		return err
	}
	done := make(chan error, 1)
	go func() {
		defer unlock()
		defer host.Close()
		var progress atomic.Int64
		a.workers.do(ctx, &progress, func() error {
			for _, name := range layers {
				if err := removePoint(host, name); err != nil {
					return err
				}
				progress.Add(1)
			}
			return nil
		}, done)
	}()
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
		return ctx.Err()
	}
}

// removePoint removes a mount point. The kernel thereby detaches whatever is
// mounted on it in mount namespaces other than the calling thread's, so that
// nothing is left behind in the guest's or in any copy of it.
func removePoint(host *os.File, name string) error {
	err := unix.Unlinkat(int(host.Fd()), name, unix.AT_REMOVEDIR)
	if err != nil && !errors.Is(err, unix.ENOENT) {
		return fmt.Errorf("cannot remove the mount point %s: %w", name, err)
	}
	return nil
}
