package attach

import (
	"fmt"
	"strconv"

	"github.com/moby/sys/mountinfo"
	"golang.org/x/sys/unix"
)

// checkPropagation refuses a guest in the nest's own user namespace whose
// view is a shared mount: what is mounted in it could appear on the host as
// well, where mounts are not the guest's to have. The copy that a user
// namespace makes is never a peer of the original (mount_namespaces(7)), so
// other guests need no look.
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
	mounts, err := mountinfo.PidMountInfo(pid)
	if err != nil {
		return fmt.Errorf("cannot read the guest's mounts (%w): %w", err, ErrNotAttached)
	}
	for _, m := range mounts {
		if uint64(m.ID) != st.Mnt_id {
			continue
		}
		if len(m.Optional) >= 7 && m.Optional[:7] == "shared:" {
			return fmt.Errorf("the view is a shared mount (group %s): make it private in the guest (mount --make-rprivate /): %w",
				strconv.Quote(m.Optional), ErrNotAttached)
		}
		return nil
	}
	return fmt.Errorf("cannot find the view's mount %d in the guest: %w", st.Mnt_id, ErrNotAttached)
}
