package attach

import (
	"errors"
	"fmt"
	"os"
	"strconv"

	"golang.org/x/sys/unix"
)

// Identity is what the nest's register says about a guest.
type Identity struct {
	// HostUserNS allows the guest's mount namespace to belong to the user
	// namespace of the nest itself. Such a guest can mount the host's disk
	// if it has CAP_SYS_ADMIN: it is no boundary.
	HostUserNS bool
}

// inode identifies a file, directory or namespace.
type inode struct{ dev, ino uint64 }

func inodeOf(fd int) (inode, error) {
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return inode{}, err
	}
	return inode{st.Dev, st.Ino}, nil
}

// guest is a peer's mount namespace, checked, with its root and the user
// namespace that owns it.
type guest struct {
	peer   *Peer
	mounts *os.File // mount namespace
	users  *os.File // user namespace that owns mounts
	root   *os.File // O_PATH: the peer's root directory
	host   bool     // users is the nest's own
	sameID bool     // root of users is the nest's root, so no idmap is needed
	byRoot bool     // the peer connected as root of users
}

func (g *guest) close() {
	for _, f := range []*os.File{g.mounts, g.users, g.root} {
		if f != nil {
			_ = f.Close() // opened for reading
		}
	}
}

// openGuest opens the peer's namespaces and refuses those that are not a
// guest's. The caller closes the guest; the peer stays the caller's.
func (a *Attacher) openGuest(peer *Peer, want Identity) (_ *guest, err error) {
	pid, err := peer.pid()
	if err != nil {
		return nil, err
	}
	g := &guest{peer: peer}
	defer func() {
		if err != nil {
			g.close()
		}
	}()
	proc := "/proc/" + strconv.Itoa(pid)
	if g.mounts, err = openProc(proc+"/ns/mnt", unix.O_RDONLY); err != nil {
		return nil, err
	}
	if g.root, err = openProc(proc+"/root", unix.O_PATH|unix.O_DIRECTORY); err != nil {
		return nil, err
	}
	if err := a.checkOwner(g, want); err != nil {
		return nil, err
	}
	if err := a.lookAtUsers(g, proc); err != nil {
		return nil, err
	}
	// Everything below proc was the peer's if the peer is still there.
	if err := peer.alive(); err != nil {
		return nil, err
	}
	return g, nil
}

func openProc(path string, flags int) (*os.File, error) {
	fd, err := unix.Open(path, flags|unix.O_CLOEXEC, 0)
	// EINVAL: it is ending, and has left its mount namespace.
	if errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ESRCH) || errors.Is(err, unix.EINVAL) {
		return nil, fmt.Errorf("the process is gone: %w", ErrNotAttached)
	}
	if err != nil {
		return nil, fmt.Errorf("cannot open %s: %w", path, err)
	}
	return os.NewFile(uintptr(fd), path), nil
}

// checkOwner refuses the nest's own mount namespace, and those owned by a
// user namespace that is not below the nest's.
func (a *Attacher) checkOwner(g *guest, want Identity) error {
	mounts, err := inodeOf(int(g.mounts.Fd()))
	if err != nil {
		return fmt.Errorf("cannot identify the guest's mount namespace: %w", err)
	}
	if mounts == a.ownMounts {
		return fmt.Errorf("the process is in the nest's own mount namespace: %w", ErrNotEntitled)
	}
	fd, err := unix.IoctlRetInt(int(g.mounts.Fd()), unix.NS_GET_USERNS)
	if err != nil {
		return fmt.Errorf("the owner of the mount namespace is out of the nest's reach (%w): %w", err, ErrNotEntitled)
	}
	g.users = os.NewFile(uintptr(fd), "userns")
	owner, err := inodeOf(fd)
	if err != nil {
		return fmt.Errorf("cannot identify the guest's user namespace: %w", err)
	}
	// NS_GET_USERNS succeeds only for the caller's user namespace and those
	// below it (ioctl_ns(2)), so whatever is not the nest's own is below.
	g.host = owner == a.ownUsers
	if g.host && !want.HostUserNS {
		return fmt.Errorf("the guest has no user namespace of its own and is not registered so: %w", ErrNotEntitled)
	}
	return nil
}

// lookAtUsers finds out whether user 0 of the guest is the nest's user 0, and
// whether the peer connected as it: anybody in a guest may connect to its
// socket.
func (a *Attacher) lookAtUsers(g *guest, proc string) error {
	if g.host {
		g.sameID, g.byRoot = true, g.peer.uid == 0
		return nil
	}
	users, err := openProc(proc+"/ns/user", unix.O_RDONLY)
	if err != nil {
		return err
	}
	defer users.Close()
	mine, err := inodeOf(int(users.Fd()))
	if err != nil {
		return fmt.Errorf("cannot identify the guest's user namespace: %w", err)
	}
	owner, err := inodeOf(int(g.users.Fd()))
	if err != nil {
		return fmt.Errorf("cannot identify the guest's user namespace: %w", err)
	}
	if mine != owner {
		return nil // its map is not to be seen from here
	}
	var roots [2]uint32
	var mapped [2]bool
	for i, name := range []string{"/uid_map", "/gid_map"} {
		data, err := os.ReadFile(proc + name)
		if err != nil {
			return fmt.Errorf("cannot read the guest's users (%w): %w", err, ErrNotAttached)
		}
		roots[i], mapped[i] = rootOf(string(data))
	}
	g.sameID = mapped == [2]bool{true, true} && roots == [2]uint32{}
	g.byRoot = mapped[0] && roots[0] == g.peer.uid
	return nil
}

// openView resolves the guest's path of its view, in the guest's root, and
// returns it if it is the very directory that the nest made.
// resolve adds to how the path is resolved (openat2(2)).
func (g *guest) openView(path string, want inode, resolve uint64) (*os.File, error) {
	how := unix.OpenHow{
		Flags:   unix.O_PATH | unix.O_DIRECTORY | unix.O_NOFOLLOW | unix.O_CLOEXEC,
		Resolve: unix.RESOLVE_IN_ROOT | unix.RESOLVE_NO_MAGICLINKS | resolve,
	}
	fd, err := openat2(int(g.root.Fd()), path, &how)
	if err != nil {
		return nil, fmt.Errorf("cannot open the view %q in the guest (%w): %w", path, err, ErrNotAttached)
	}
	view := os.NewFile(uintptr(fd), path)
	got, err := inodeOf(fd)
	if err == nil && got != want {
		err = fmt.Errorf("cannot use the view %q: it is not the directory that the nest made: %w", path, ErrNotAttached)
	}
	if err != nil {
		_ = view.Close() // opened for its path only
		return nil, err
	}
	return view, nil
}

// openat2 repeats what a concurrent rename or signal interrupted: EAGAIN is
// the kernel's answer when it could not prove that the path stays inside.
func openat2(dir int, path string, how *unix.OpenHow) (fd int, err error) {
	for range 64 {
		fd, err = unix.Openat2(dir, path, how)
		if !errors.Is(err, unix.EAGAIN) && !errors.Is(err, unix.EINTR) {
			break
		}
	}
	return fd, err
}
