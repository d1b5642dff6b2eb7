package attach

import (
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// mountAttacks go for the mount itself, with the system calls that mount(8)
// does not use.
func mountAttacks() []attack {
	list := []attack{
		{group: clones, name: "mount_setattr on a clone that is mounted nowhere", uncontrolled: "there is no mount", try: func(a *arena) error {
			fd, err := unix.OpenTree(unix.AT_FDCWD, a.At, unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC)
			if err != nil {
				return err
			}
			defer unix.Close(fd)
			return setWritable(fd)
		}},
		{group: clones, name: "mount_setattr on a clone with all below it", uncontrolled: "there is no mount", try: func(a *arena) error {
			fd, err := unix.OpenTree(unix.AT_FDCWD, a.View, unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC|unix.AT_RECURSIVE)
			if err != nil {
				return err
			}
			defer unix.Close(fd)
			attr := unix.MountAttr{Attr_clr: unix.MOUNT_ATTR_RDONLY}
			return unix.MountSetattr(fd, "", unix.AT_EMPTY_PATH|unix.AT_RECURSIVE, &attr)
		}},
		{group: clones, name: "idmap a clone anew", uncontrolled: "there is no mount", try: func(a *arena) error {
			fd, err := unix.OpenTree(unix.AT_FDCWD, a.Layer, unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC)
			if err != nil {
				return err
			}
			defer unix.Close(fd)
			users, err := os.Open("/proc/self/ns/user")
			if err != nil {
				return err
			}
			defer users.Close()
			attr := unix.MountAttr{Attr_set: unix.MOUNT_ATTR_IDMAP, Userns_fd: uint64(users.Fd())}
			return unix.MountSetattr(fd, "", unix.AT_EMPTY_PATH, &attr)
		}},
		{group: clones, name: "out of a clone by ..", uncontrolled: "there is no mount", reads: true, try: func(a *arena) error {
			fd, err := unix.OpenTree(unix.AT_FDCWD, a.Layer, unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC)
			if err != nil {
				return err
			}
			defer unix.Close(fd)
			return readsSecret(a, fd, "../"+a.Hidden+"/file", "../../"+a.Hidden[:2]+"/"+a.Hidden+"/file")
		}},
		{group: tree, name: "out of the layer by ..", uncontrolled: "there is no mount", reads: true, try: func(a *arena) error {
			fd, err := unix.Open(a.Layer, unix.O_PATH|unix.O_DIRECTORY, 0)
			if err != nil {
				return err
			}
			defer unix.Close(fd)
			return readsSecret(a, fd, "../"+a.Hidden+"/file", "../../"+a.Hidden[:2]+"/"+a.Hidden+"/file")
		}},
		{group: remounts, name: "reconfigure the file system", destroys: true, try: func(a *arena) error {
			fd, err := unix.Fspick(unix.AT_FDCWD, a.Layer, unix.FSPICK_CLOEXEC)
			if err != nil {
				return err
			}
			defer unix.Close(fd)
			if err := unix.FsconfigSetFlag(fd, "rw"); err != nil {
				return err
			}
			return unix.FsconfigReconfigure(fd)
		}},
	}
	for name, flag := range map[string]uint64{"RDONLY": unix.MOUNT_ATTR_RDONLY, "NODEV": unix.MOUNT_ATTR_NODEV, "IDMAP": unix.MOUNT_ATTR_IDMAP} {
		list = append(list, attack{group: clones, name: "mount_setattr clears " + name, uncontrolled: "there is no mount", try: func(a *arena) error {
			attr := unix.MountAttr{Attr_clr: flag}
			return unix.MountSetattr(unix.AT_FDCWD, a.Layer, 0, &attr)
		}})
	}
	return list
}

func setWritable(fd int) error {
	attr := unix.MountAttr{Attr_clr: unix.MOUNT_ATTR_RDONLY}
	if err := unix.MountSetattr(fd, "", unix.AT_EMPTY_PATH, &attr); err != nil {
		return err
	}
	return closed(unix.Openat(fd, "new", unix.O_CREAT|unix.O_RDWR, 0o600))
}

// readsSecret says whether one of the paths leads to what is another guest's.
func readsSecret(a *arena, dir int, paths ...string) error {
	var failed error
	for _, path := range paths {
		fd, err := unix.Openat(dir, path, unix.O_RDONLY|unix.O_CLOEXEC, 0)
		if err == nil {
			err = hasSecret(a, fd)
		}
		if err == nil {
			return nil
		}
		failed = errors.Join(failed, fmt.Errorf("%s: %w", path, err))
	}
	return failed
}

// hasSecret reads from a descriptor and closes it.
func hasSecret(a *arena, fd int) error {
	defer unix.Close(fd)
	buf := make([]byte, 1024)
	n, err := unix.Read(fd, buf)
	if err == nil && string(buf[:n]) != a.Secret {
		err = fmt.Errorf("it has %q", buf[:n])
	}
	return err
}
