package confine

import (
	"bufio"
	"fmt"
	"os"
	"syscall"

	"golang.org/x/sys/unix"
)

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

// attributes says how the child is cloned and whom it runs as. Changing from
// root to another user before the exec takes all capabilities away, but for
// the one that the child needs for its own /proc, and gives up in settle.
func (c Child) attributes() *syscall.SysProcAttr {
	attr := &syscall.SysProcAttr{
		Cloneflags:  unix.CLONE_NEWPID | unix.CLONE_NEWIPC | unix.CLONE_NEWUTS | unix.CLONE_NEWNS,
		Pdeathsig:   syscall.SIGKILL,
		Setsid:      true,
		AmbientCaps: []uintptr{unix.CAP_SYS_ADMIN},
	}
	if !c.Network {
		attr.Cloneflags |= unix.CLONE_NEWNET
	}
	if uid, gid := User(c.UID, c.GID); uid != os.Geteuid() {
		attr.Credential = &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid), Groups: []uint32{}}
	}
	return attr
}

// rootIsNobody are the securebits (capabilities(7)) with which uid 0 is a
// user like any other: an exec gives it no capabilities, and it can not take
// the bits back.
const rootIsNobody = 1<<0 | 1<<1 // SECBIT_NOROOT, SECBIT_NOROOT_LOCKED

// dropRoot is for a nest that runs without root, in a user namespace of one
// user. Its children have its own uid there, and so whatever that user may do
// outside; they lose the namespace's capabilities, and Landlock and their own
// namespaces keep them from the rest. It changes this thread only.
func (c Child) dropRoot() error {
	if uid, _ := User(c.UID, c.GID); uid != os.Geteuid() {
		return nil
	}
	if err := unix.Prctl(unix.PR_SET_SECUREBITS, rootIsNobody, 0, 0, 0); err != nil {
		return fmt.Errorf("cannot take capabilities away: %w", err)
	}
	return nil
}
