package attach

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/moby/sys/mountinfo"
	"golang.org/x/sys/unix"
)

// checkPropagation refuses a guest in the nest's own user namespace whose
// view is in one peer group with a mount of the host: what is mounted in it
// would appear on the host as well, where mounts are not the guest's to have.
// A group that only the guest has is harmless, and common: systemd-nspawn and
// LXC make all of a container's mounts shared among themselves. The copy that
// a user namespace makes is never a peer of the original
// (mount_namespaces(7)), so other guests need no look.
func (j *job) checkPropagation() error {
	if !j.guest.host {
		return nil
	}
	var st unix.Statx_t
	if err := unix.Statx(int(j.view.Fd()), "", unix.AT_EMPTY_PATH, unix.STATX_MNT_ID, &st); err != nil {
		return fmt.Errorf("cannot identify the view's mount: %w", err)
	}
	pid, err := j.guest.peer.pid()
	if err != nil {
		return err
	}
	list, err := openProc("/proc/"+strconv.Itoa(pid)+"/mountinfo", unix.O_RDONLY)
	if err != nil {
		return err
	}
	defer list.Close()
	mounts, err := mountinfo.GetMountsFromReader(list, func(m *mountinfo.Info) (skip, stop bool) {
		found := uint64(m.ID) == st.Mnt_id
		return !found, found // a guest can have very many
	})
	if err != nil {
		return fmt.Errorf("cannot read the guest's mounts (%w): %w", err, ErrNotAttached)
	}
	for _, m := range mounts {
		if group := sharedGroup(m); group != "" {
			return checkGroup(group)
		}
		return nil
	}
	return fmt.Errorf("cannot find the view's mount %d in the guest: %w", st.Mnt_id, ErrNotAttached)
}

// checkGroup refuses a peer group from which a mount of the host receives.
func checkGroup(group string) error {
	own, err := mountinfo.GetMounts(func(m *mountinfo.Info) (skip, stop bool) {
		return !receives(m, group), false
	})
	if err != nil {
		return fmt.Errorf("cannot read the host's mounts: %w", err)
	}
	if len(own) == 0 {
		return nil
	}
	return fmt.Errorf("the view is a shared mount (group %s), and so is the host's %s: make it private in the guest (mount --make-rprivate /): %w",
		group, strconv.Quote(own[0].Mountpoint), ErrNotAttached)
}

// sharedGroup returns the number of a mount's peer group, empty if it has
// none (proc_pid_mountinfo(5)).
func sharedGroup(m *mountinfo.Info) string {
	for _, field := range strings.Fields(m.Optional) {
		if group, found := strings.CutPrefix(field, "shared:"); found {
			return group
		}
	}
	return ""
}

// receives says whether what is mounted in a peer group appears in a mount.
func receives(m *mountinfo.Info, group string) bool {
	for _, field := range strings.Fields(m.Optional) {
		if field == "shared:"+group || field == "master:"+group {
			return true
		}
	}
	return false
}
