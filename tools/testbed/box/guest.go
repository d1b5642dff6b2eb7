package box

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"syscall"

	"golang.org/x/sys/unix"
)

// startGuest puts a guest's root together and starts its box in it.
func (b *box) startGuest(g *Guest) (pid int, err error) {
	c, err := prepare(Spec{Kind: KindGuest, Name: g.Name, Loopback: true}, g.Socket)
	if err != nil {
		return 0, fmt.Errorf("cannot start guest %s: %w", g.Name, err)
	}
	defer c.close()
	k := b.guests
	err = k.do(func() error {
		root := k.dir("root")
		if err := k.mountRoot(root, g); err != nil {
			return err
		}
		// The guest has its own copy of the mounts when it has started.
		defer func() { _ = unix.Unmount(root, unix.MNT_DETACH) }()
		// Its first directory is the root, by which it finds it: the way
		// there is not open to its users.
		if err := unix.Chdir(root); err != nil {
			return err
		}
		defer func() { _ = unix.Chdir("/") }()
		pid, err = b.fork(c, k.attributes())
		return err
	})
	if err == nil {
		err = waitReady(c, pid)
	}
	if err != nil {
		return 0, fmt.Errorf("cannot start guest %s: %w", g.Name, err)
	}
	return pid, nil
}

func (k *kitchen) attributes() *syscall.SysProcAttr {
	attr := &syscall.SysProcAttr{Cloneflags: unix.CLONE_NEWNS | unix.CLONE_NEWPID | unix.CLONE_NEWUTS |
		unix.CLONE_NEWIPC | unix.CLONE_NEWNET}
	if k.spec.NoUserNS {
		return attr
	}
	attr.Cloneflags |= unix.CLONE_NEWUSER
	attr.UidMappings, attr.GidMappings = guestUsers(), guestUsers()
	attr.GidMappingsEnableSetgroups = true
	attr.Credential = &syscall.Credential{}
	if k.spec.Rootless {
		one := []syscall.SysProcIDMap{{ContainerID: 0, HostID: 0, Size: 1}}
		attr.UidMappings, attr.GidMappings = one, one
		attr.GidMappingsEnableSetgroups = false
		attr.Credential.NoSetGroups = true
	}
	return attr
}

// mountRoot mounts everything of a guest's root that its own user namespace
// can not, which it can not take away either: mounts that are copied into a
// user namespace are locked together (mount_namespaces(7)).
func (k *kitchen) mountRoot(root string, g *Guest) (err error) {
	if err := os.MkdirAll(root, 0o755); err != nil {
		return err
	}
	for i, p := range k.parts {
		if err := k.mountPart(p, filepath.Join(root, p.name), g); err != nil {
			if i > 0 {
				_ = unix.Unmount(root, unix.MNT_DETACH) // of the parts before
			}
			return err
		}
	}
	if err := k.mountRest(root, g); err != nil {
		return errors.Join(err, unix.Unmount(root, unix.MNT_DETACH))
	}
	return nil
}

// mountPart mounts one overlay.
func (k *kitchen) mountPart(p part, at string, g *Guest) error {
	upper, work := filepath.Join(g.Upper, p.label()), filepath.Join(g.Work, p.label())
	for _, dir := range []string{upper, work} {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return err
		}
	}
	if err := os.Chown(upper, k.owner(), k.owner()); err != nil {
		return err
	}
	options := [][2]string{}
	for _, lower := range p.lowers {
		options = append(options, [2]string{"lowerdir+", lower})
	}
	options = append(options, [2]string{"upperdir", upper}, [2]string{"workdir", work})
	if err := mountOverlay(at, options, k.spec.Rootless); err != nil {
		return fmt.Errorf("cannot mount the overlay over %v with its own files in %s: %w", p.lowers, upper, err)
	}
	return nil
}

func mountOverlay(at string, options [][2]string, userxattr bool) error {
	fd, err := unix.Fsopen("overlay", unix.FSOPEN_CLOEXEC)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	for _, o := range options {
		if err := unix.FsconfigSetString(fd, o[0], o[1]); err != nil {
			return fmt.Errorf("%s=%s: %w", o[0], o[1], err)
		}
	}
	if userxattr {
		if err := unix.FsconfigSetFlag(fd, "userxattr"); err != nil {
			return err
		}
	}
	if err := unix.FsconfigCreate(fd); err != nil {
		return err
	}
	mount, err := unix.Fsmount(fd, unix.FSMOUNT_CLOEXEC, unix.MOUNT_ATTR_NODEV)
	if err != nil {
		return err
	}
	defer unix.Close(mount)
	return unix.MoveMount(mount, "", unix.AT_FDCWD, at, unix.MOVE_MOUNT_F_EMPTY_PATH)
}

// mountRest mounts devices, temporary files and the nest's directory.
func (k *kitchen) mountRest(root string, g *Guest) error {
	for _, name := range []string{"proc", "dev", "tmp", "run"} {
		if err := os.MkdirAll(filepath.Join(root, name), 0o755); err != nil {
			return err
		}
	}
	owner := strconv.Itoa(k.owner())
	for name, mode := range map[string]string{"tmp": "1777", "run": "755"} {
		err := unix.Mount("tmpfs", filepath.Join(root, name), "tmpfs", unix.MS_NOSUID|unix.MS_NODEV,
			"mode="+mode+",uid="+owner+",gid="+owner)
		if err != nil {
			return fmt.Errorf("cannot mount /%s: %w", name, err)
		}
	}
	tree, err := unix.OpenTree(unix.AT_FDCWD, k.dir("dev"), unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC|unix.AT_RECURSIVE)
	if err != nil {
		return fmt.Errorf("cannot clone /dev: %w", err)
	}
	defer unix.Close(tree)
	if err := unix.MoveMount(tree, "", unix.AT_FDCWD, filepath.Join(root, "dev"), unix.MOVE_MOUNT_F_EMPTY_PATH); err != nil {
		return fmt.Errorf("cannot mount /dev: %w", err)
	}
	if g.Nest == "" {
		return nil
	}
	at := filepath.Join(root, "run", "stork")
	if err := os.Mkdir(at, 0o755); err != nil {
		return err
	}
	return cloneTo(g.Nest, at, -1)
}

// enterRoot makes the working directory the root, in the guest's own
// namespaces.
func enterRoot() error {
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("cannot make mounts private: %w", err)
	}
	// A locked mount can not become the root; a clone of it can, and what
	// is mounted below it stays locked.
	tree, err := unix.OpenTree(unix.AT_FDCWD, ".", unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC|unix.AT_RECURSIVE)
	if err != nil {
		return fmt.Errorf("cannot clone the root: %w", err)
	}
	defer unix.Close(tree)
	if err := unix.MoveMount(tree, "", unix.AT_FDCWD, ".", unix.MOVE_MOUNT_F_EMPTY_PATH); err != nil {
		return fmt.Errorf("cannot mount the root: %w", err)
	}
	if err := unix.Fchdir(tree); err != nil {
		return fmt.Errorf("cannot enter the root: %w", err)
	}
	// A new /proc is allowed only while one is to be seen, the starter's.
	if err := mountProc("proc"); err != nil {
		return err
	}
	if err := unix.Mount("devpts", "dev/pts", "devpts", unix.MS_NOSUID|unix.MS_NOEXEC, "newinstance,ptmxmode=0666,mode=620"); err != nil {
		return fmt.Errorf("cannot mount /dev/pts: %w", err)
	}
	if err := unix.Mount("tmpfs", "dev/shm", "tmpfs", unix.MS_NOSUID|unix.MS_NODEV, "mode=1777"); err != nil {
		return fmt.Errorf("cannot mount /dev/shm: %w", err)
	}
	if err := unix.PivotRoot(".", "."); err != nil {
		return fmt.Errorf("cannot make it the root: %w", err)
	}
	if err := unix.Unmount(".", unix.MNT_DETACH); err != nil {
		return fmt.Errorf("cannot leave the old root: %w", err)
	}
	return unix.Chdir("/")
}
