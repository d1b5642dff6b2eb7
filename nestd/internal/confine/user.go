package confine

import (
	"bufio"
	"fmt"
	"os"
	"syscall"

	"golang.org/x/sys/unix"
)

// nobody is the user that a child is to itself where its parent has no other
// user to give it: the overflow uid, which owns nothing.
const nobody = 65534

// User returns the user and group, as the caller sees them, to whom the files
// of a child that is to run as uid and gid belong. They are uid and gid,
// unless the caller lives in a user namespace that does not map them, as when
// nestd runs without root: then they are the caller's own.
func User(uid, gid int) (int, int) {
	if !mapped("/proc/self/uid_map", uid) || !mapped("/proc/self/gid_map", gid) {
		return os.Geteuid(), os.Getegid()
	}
	return uid, gid
}

// mapped reports whether a user namespace's map (user_namespaces(7)) has id.
func mapped(path string, id int) bool {
	f, err := os.Open(path)
	if err != nil {
		return true // a kernel without user namespaces
	}
	defer f.Close()
	for lines := bufio.NewScanner(f); lines.Scan(); {
		var inside, outside, count int64
		if _, err := fmt.Sscan(lines.Text(), &inside, &outside, &count); err != nil {
			return false
		}
		if int64(id) >= inside && int64(id) < inside+count {
			return true
		}
	}
	return false
}

// attributes says how the child is cloned. Changing from root to another user
// before the exec takes all capabilities away. Where there is no other user
// to change to, the child gets a user namespace of its own, in which it is
// nobody: it has no capabilities there either, but its files are its
// parent's, and only namespaces and Landlock keep it from what the parent's
// user may do.
func (c Child) attributes() *syscall.SysProcAttr {
	attr := &syscall.SysProcAttr{
		Cloneflags: isolated,
		Pdeathsig:  syscall.SIGKILL,
		Setsid:     true,
	}
	if !c.Network {
		attr.Cloneflags |= unix.CLONE_NEWNET
	}
	uid, gid := User(c.UID, c.GID)
	if os.Geteuid() == 0 && uid != 0 {
		attr.Credential = &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid), Groups: []uint32{}}
		return attr
	}
	attr.Cloneflags |= unix.CLONE_NEWUSER
	attr.UidMappings = []syscall.SysProcIDMap{{ContainerID: nobody, HostID: os.Geteuid(), Size: 1}}
	attr.GidMappings = []syscall.SysProcIDMap{{ContainerID: nobody, HostID: os.Getegid(), Size: 1}}
	attr.Credential = &syscall.Credential{Uid: nobody, Gid: nobody, NoSetGroups: true}
	return attr
}
