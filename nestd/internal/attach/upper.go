package attach

import (
	"context"
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// AttachUpper mounts a directory of the guest's own, hostDir on the host, in
// its view at <view>/<name>, where it can be written; one that is there
// already is left. The rest is as with [Attacher.Attach].
//
// The mount is nodev and nosuid, and idmapped like a layer's. These flags are
// not locked: what clearing them gives to a guest with a user namespace of its
// own it has without, for the kernel lets it make no device nodes anywhere,
// and its set-user-ID programs become nobody outside of its namespace. What
// it writes is, on the host, root's: hostDir must be out of reach of all users
// there.
func (a *Attacher) AttachUpper(ctx context.Context, peer *Peer, want Identity, hostView, guestView, hostDir, name string) error {
	c := call{
		peer: peer, want: want, hostView: hostView, guestView: guestView,
		check: func(j *job) error { return j.cloneUpper(hostDir, name) },
		do:    func(j *job) error { return j.moveUpper(name) },
	}
	if err := a.inGuest(ctx, c); err != nil {
		return fmt.Errorf("cannot attach to the guest: %w", err)
	}
	return nil
}

// cloneUpper makes the mount, if the guest does not see it yet. It runs in the
// nest's own mount namespace: the locked one has nothing but layers.
func (j *job) cloneUpper(hostDir, name string) error {
	if err := j.checkPropagation(); err != nil {
		return err
	}
	dir, err := openHostView(hostDir)
	if err != nil {
		return err
	}
	defer dir.Close()
	own, err := inodeOf(int(dir.Fd()))
	if err != nil {
		return fmt.Errorf("cannot identify the upper: %w", err)
	}
	if seen, err := j.seen(name); err == nil && seen == own {
		return nil
	}
	tree, err := unix.OpenTree(int(dir.Fd()), "", unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC|unix.AT_EMPTY_PATH)
	if err != nil {
		return fmt.Errorf("cannot clone the mount of the upper: %w", err)
	}
	j.upper = os.NewFile(uintptr(tree), name)
	attr := unix.MountAttr{Attr_set: unix.MOUNT_ATTR_NODEV | unix.MOUNT_ATTR_NOSUID}
	if err := unix.MountSetattr(tree, "", unix.AT_EMPTY_PATH, &attr); err != nil {
		return fmt.Errorf("cannot restrict the upper: %w", err)
	}
	return mapIDs(tree, j.guest)
}

// moveUpper is AttachUpper, on its thread.
func (j *job) moveUpper(name string) error {
	if j.upper == nil {
		return nil // it is there
	}
	if err := j.enterGuest(); err != nil {
		return err
	}
	c := clone{name: name, tree: int(j.upper.Fd())}
	if err := j.move(c); err != nil {
		return err
	}
	if err := j.guest.peer.alive(); err != nil {
		j.undo([]clone{c})
		return err
	}
	return nil
}

// AttachedLayers lists the layers and merged trees for which there is a mount
// point in the view, whether or not something is mounted there.
func AttachedLayers(hostView string) ([]string, error) {
	entries, err := os.ReadDir(hostView)
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("cannot list the view: %w", err)
	}
	var names []string
	for _, entry := range entries {
		if isLayerName(entry.Name()) {
			names = append(names, entry.Name())
		}
	}
	return names, nil
}
