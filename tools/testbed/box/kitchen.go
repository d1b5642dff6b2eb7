package box

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"
)

// Guests' users are mapped to a range of the host's that nothing else uses.
const (
	firstUser = 1 << 20
	userCount = 1 << 16
)

// GuestRoot is the host's user ID of the guests' root, where they have a user
// namespace of their own.
const GuestRoot = firstUser

// kitchen is where guests' roots are put together: a thread with a mount
// namespace of its own, of which each guest gets a copy. All its methods but
// do run on that thread.
type kitchen struct {
	spec  Spec
	once  sync.Once
	jobs  chan func()
	err   error // of setting up
	parts []part
}

// part is one overlay of a guest's root: usually the whole.
type part struct {
	name   string   // below the root; empty: the root itself
	lowers []string // uppermost first
}

// label names the part's folders among a guest's own.
func (p part) label() string {
	if p.name == "" {
		return "root"
	}
	return p.name
}

func newKitchen(spec Spec) *kitchen { return &kitchen{spec: spec, jobs: make(chan func())} }

// do runs job in the kitchen.
func (k *kitchen) do(job func() error) error {
	k.once.Do(func() {
		ready := make(chan error)
		go func() {
			runtime.LockOSThread() // for good: the thread is in another namespace
			ready <- k.setUp()
			for job := range k.jobs {
				job()
			}
		}()
		k.err = <-ready
	})
	if k.err != nil {
		return fmt.Errorf("cannot prepare guests' roots: %w", k.err)
	}
	done := make(chan error)
	k.jobs <- func() { done <- job() }
	return <-done
}

func (k *kitchen) dir(name string) string { return filepath.Join(k.spec.BaseDir, name) }

// mapped says whether guests' users are others than the host's.
func (k *kitchen) mapped() bool { return !k.spec.NoUserNS && !k.spec.Rootless }

// owner is who the guests' root is here.
func (k *kitchen) owner() int {
	if k.mapped() {
		return firstUser
	}
	return 0
}

func (k *kitchen) setUp() error {
	if err := unix.Unshare(unix.CLONE_FS | unix.CLONE_NEWNS); err != nil {
		return fmt.Errorf("cannot make a mount namespace: %w", err)
	}
	users := -1
	if k.mapped() {
		ns, err := userNamespace()
		if err != nil {
			return err
		}
		defer ns.Close()
		users = int(ns.Fd())
	}
	if err := k.setUpLayers(users); err != nil {
		return err
	}
	return k.setUpDevices()
}

// setUpLayers mounts the lower layers with the guests' users.
func (k *kitchen) setUpLayers(users int) error {
	layer := func(from, name string) (string, error) {
		at := k.dir(name)
		if err := os.MkdirAll(at, 0o755); err != nil {
			return "", err
		}
		return at, cloneTo(from, at, users)
	}
	if k.spec.Rootfs != "" {
		at, err := layer(k.spec.Rootfs, "lower")
		k.parts = []part{{lowers: []string{at}}}
		return err
	}
	masked, err := layer(k.spec.MaskDir, "mask")
	if err != nil {
		return err
	}
	if !k.spec.Rootless {
		at, err := layer("/", "lower")
		k.parts = []part{{lowers: []string{masked, at}}}
		return err
	}
	// In a user namespace, the host's root can not be a layer while anything
	// is mounted below it; its folders can.
	k.parts = []part{{lowers: []string{masked}}}
	for _, name := range kept {
		if info, err := os.Lstat("/" + name); err != nil || !info.IsDir() {
			continue
		}
		k.parts = append(k.parts, part{name: name, lowers: []string{filepath.Join(masked, name), "/" + name}})
	}
	return nil
}

// cloneTo mounts the file system of from, without what is mounted below it,
// at another place, read-only. users is a user namespace whose users it gets,
// or -1.
func cloneTo(from, at string, users int) error {
	tree, err := unix.OpenTree(unix.AT_FDCWD, from, unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC)
	if err != nil {
		return fmt.Errorf("cannot clone the mount of %s: %w", from, err)
	}
	defer unix.Close(tree)
	attr := unix.MountAttr{Attr_set: unix.MOUNT_ATTR_RDONLY}
	if users >= 0 {
		attr.Attr_set |= unix.MOUNT_ATTR_IDMAP
		attr.Userns_fd = uint64(users)
	}
	if err := unix.MountSetattr(tree, "", unix.AT_EMPTY_PATH, &attr); err != nil {
		return fmt.Errorf("cannot map the users of %s: %w", from, err)
	}
	if err := unix.MoveMount(tree, "", unix.AT_FDCWD, at, unix.MOVE_MOUNT_F_EMPTY_PATH); err != nil {
		return fmt.Errorf("cannot mount %s at %s: %w", from, at, err)
	}
	return nil
}

// setUpDevices makes the /dev that all guests see, read-only.
func (k *kitchen) setUpDevices() error {
	dev := k.dir("dev")
	if err := os.MkdirAll(dev, 0o755); err != nil {
		return err
	}
	owner := strconv.Itoa(k.owner())
	if err := unix.Mount("dev", dev, "tmpfs", unix.MS_NOSUID, "mode=755,uid="+owner+",gid="+owner); err != nil {
		return fmt.Errorf("cannot mount guests' devices: %w", err)
	}
	for _, name := range []string{"null", "zero", "full", "random", "urandom", "tty"} {
		at := filepath.Join(dev, name)
		if err := os.WriteFile(at, nil, 0o666); err != nil {
			return err
		}
		if err := unix.Mount("/dev/"+name, at, "", unix.MS_BIND, ""); err != nil {
			return fmt.Errorf("cannot bind /dev/%s: %w", name, err)
		}
	}
	for name, target := range map[string]string{"fd": "/proc/self/fd", "stdin": "/proc/self/fd/0",
		"stdout": "/proc/self/fd/1", "stderr": "/proc/self/fd/2", "ptmx": "pts/ptmx"} {
		if err := os.Symlink(target, filepath.Join(dev, name)); err != nil {
			return err
		}
	}
	err := errors.Join(os.Mkdir(filepath.Join(dev, "pts"), 0o755), os.Mkdir(filepath.Join(dev, "shm"), 0o755))
	if err != nil {
		return err
	}
	attr := unix.MountAttr{Attr_set: unix.MOUNT_ATTR_RDONLY}
	return unix.MountSetattr(unix.AT_FDCWD, dev, 0, &attr)
}

// userNamespace makes a user namespace with the guests' users. The process
// that it takes is stopped before its first instruction, and ended.
func userNamespace() (*os.File, error) {
	cmd := exec.Command("/proc/self/exe")
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: unix.CLONE_NEWUSER, Ptrace: true,
		UidMappings: guestUsers(), GidMappings: guestUsers()}
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("cannot make a user namespace: %w", err)
	}
	ns, err := os.Open("/proc/" + strconv.Itoa(cmd.Process.Pid) + "/ns/user")
	err = errors.Join(err, cmd.Process.Kill()) // the reaper waits for it
	if err != nil {
		return nil, fmt.Errorf("cannot hold a user namespace: %w", err)
	}
	return ns, nil
}

func guestUsers() []syscall.SysProcIDMap {
	return []syscall.SysProcIDMap{{ContainerID: 0, HostID: firstUser, Size: userCount}}
}
