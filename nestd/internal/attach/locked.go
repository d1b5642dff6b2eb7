package attach

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"syscall"

	"golang.org/x/sys/unix"
)

// lockedNamespace returns a mount namespace that has the layers as its root,
// and nothing else, mounted read-only and nodev with these flags locked. The
// calling thread, which must be locked to its goroutine, is in it afterwards.
//
// Nothing is mounted in the nest's own namespace, where the store goes on
// writing below layersDir: the bind is made in a private copy of it, which
// ends when the thread leaves it. A nest that is killed leaves nothing behind.
func lockedNamespace(layersDir string) (*os.File, error) {
	if err := bindReadOnly(layersDir); err != nil {
		return nil, fmt.Errorf("cannot lock the store's mount: %w", err)
	}
	ns, err := copyIntoUserNamespace()
	if err != nil {
		return nil, fmt.Errorf("cannot lock the store's mount: %w", err)
	}
	if err := makeRoot(ns, layersDir); err != nil {
		return nil, fmt.Errorf("cannot lock the store's mount: %w", errors.Join(err, ns.Close()))
	}
	return ns, nil
}

// bindReadOnly gives the thread a mount namespace of its own, in which dir is
// a read-only mount.
func bindReadOnly(dir string) error {
	if err := unix.Unshare(unix.CLONE_FS | unix.CLONE_NEWNS); err != nil {
		return fmt.Errorf("cannot make a mount namespace: %w", err)
	}
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("cannot make mounts private: %w", err)
	}
	if err := unix.Mount(dir, dir, "", unix.MS_BIND, ""); err != nil {
		return fmt.Errorf("cannot bind %s: %w", dir, err)
	}
	// mount_setattr adds to the flags the mount has; a remount would drop,
	// or in a user namespace fail to drop, those of the file system.
	attr := unix.MountAttr{Attr_set: unix.MOUNT_ATTR_RDONLY | unix.MOUNT_ATTR_NODEV}
	if err := unix.MountSetattr(unix.AT_FDCWD, dir, 0, &attr); err != nil {
		return fmt.Errorf("cannot make %s read-only: %w", dir, err)
	}
	return nil
}

// copyIntoUserNamespace copies the thread's mount namespace into a new user
// namespace, which locks the flags of all its mounts. It takes a process to
// make a user namespace; this one is stopped before its first instruction and
// ended when the descriptor holds the namespace.
func copyIntoUserNamespace() (*os.File, error) {
	cmd := exec.Command("/proc/self/exe")
	cmd.Env = []string{}
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags:  unix.CLONE_NEWUSER | unix.CLONE_NEWNS,
		UidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Geteuid(), Size: 1}},
		GidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getegid(), Size: 1}},
		Ptrace:      true, // stops at execve
		Pdeathsig:   unix.SIGKILL,
	}
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("cannot make a user namespace: %w", err)
	}
	ns, err := os.Open("/proc/" + strconv.Itoa(cmd.Process.Pid) + "/ns/mnt")
	killErr := cmd.Process.Kill()
	_ = cmd.Wait() // says that it was killed
	if err := errors.Join(err, killErr); err != nil {
		return nil, fmt.Errorf("cannot hold the mount namespace: %w", err)
	}
	return ns, nil
}

// makeRoot enters the namespace and makes dir its only mount, so that it does
// not keep the host's other file systems from being unmounted.
func makeRoot(ns *os.File, dir string) error {
	if err := unix.Setns(int(ns.Fd()), unix.CLONE_NEWNS); err != nil {
		return fmt.Errorf("cannot enter the mount namespace: %w", err)
	}
	// The copied mount itself can not be moved; a bind of it can, and has
	// its locks.
	if err := unix.Mount(dir, dir, "", unix.MS_BIND, ""); err != nil {
		return fmt.Errorf("cannot bind %s: %w", dir, err)
	}
	if err := unix.Chdir(dir); err != nil {
		return fmt.Errorf("cannot enter %s: %w", dir, err)
	}
	if err := unix.PivotRoot(".", "."); err != nil {
		return fmt.Errorf("cannot make %s the root: %w", dir, err)
	}
	if err := unix.Unmount(".", unix.MNT_DETACH); err != nil {
		return fmt.Errorf("cannot leave the old root: %w", err)
	}
	return nil
}
