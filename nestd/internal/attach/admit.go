package attach

import (
	"fmt"
	"os"
	"strconv"

	"golang.org/x/sys/unix"
)

// Admit refuses a peer that is not its guest's root: anybody in a guest may
// connect to its socket, and most of what can be asked there concerns the guest
// as a whole. Its root is user 0 of the nest's own user namespace or of one
// right below it. One further below is what any user of a guest can make, and
// be the root of.
func (a *Attacher) Admit(peer *Peer) error {
	pid, err := peer.pid()
	if err != nil {
		return err
	}
	root, err := a.isRoot(peer, "/proc/"+strconv.Itoa(pid))
	if err == nil {
		err = peer.alive() // what was read was the peer's if it is still there
	}
	if err != nil {
		return fmt.Errorf("cannot find out who asks: %w", err)
	}
	if !root {
		return fmt.Errorf("cannot change the guest: only its root may: %w", ErrNotEntitled)
	}
	return nil
}

func (a *Attacher) isRoot(peer *Peer, proc string) (bool, error) {
	users, err := openProc(proc+"/ns/user", unix.O_RDONLY)
	if err != nil {
		return false, err
	}
	defer users.Close()
	mine, err := inodeOf(int(users.Fd()))
	if err != nil || mine == a.ownUsers {
		return peer.uid == 0, err
	}
	fd, err := unix.IoctlRetInt(int(users.Fd()), unix.NS_GET_PARENT)
	if err != nil {
		return false, nil // it is out of the nest's reach (ioctl_ns(2))
	}
	parent := os.NewFile(uintptr(fd), "userns")
	defer parent.Close()
	above, err := inodeOf(fd)
	if err != nil || above != a.ownUsers {
		return false, err
	}
	data, err := os.ReadFile(proc + "/uid_map")
	if err != nil {
		return false, fmt.Errorf("cannot read the guest's users (%w): %w", err, ErrNotAttached)
	}
	root, mapped := rootOf(string(data))
	return mapped && root == peer.uid, nil
}
