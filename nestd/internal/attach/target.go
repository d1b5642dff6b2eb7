package attach

import (
	"fmt"
	"io"
	"os"
	"slices"

	"github.com/moby/sys/mountinfo"
	"golang.org/x/sys/unix"
)

// target is what a guest has at a path, held open: what is checked is what is
// acted on, whatever the guest renames meanwhile.
type target struct {
	file  *os.File // O_PATH
	inode inode
	kind  uint32
	root  bool // a mount begins here
	mount int  // its number
}

// openTarget resolves a path below the guest's root, through no symlink.
func (p *placer) openTarget(path string) (*target, error) {
	how := unix.OpenHow{
		Flags:   unix.O_PATH | unix.O_NOFOLLOW | unix.O_CLOEXEC,
		Resolve: unix.RESOLVE_IN_ROOT | unix.RESOLVE_NO_MAGICLINKS | unix.RESOLVE_NO_SYMLINKS,
	}
	fd, err := openat2(int(p.root.Fd()), path, &how)
	if err != nil {
		return nil, fmt.Errorf("cannot open %q in the guest (%w): %w", path, err, ErrTarget)
	}
	t := &target{file: os.NewFile(uintptr(fd), path)}
	var st unix.Statx_t
	err = unix.Statx(fd, "", unix.AT_EMPTY_PATH, unix.STATX_BASIC_STATS|unix.STATX_MNT_ID, &st)
	if err == nil {
		t.inode, err = inodeOf(fd)
	}
	if err != nil {
		t.close()
		// Not the nest's failure: the file system may be a program of the guest's.
		return nil, fmt.Errorf("cannot look at %q in the guest (%w): %w", path, err, ErrTarget)
	}
	t.kind = uint32(st.Mode) & unix.S_IFMT
	t.root = st.Attributes&unix.STATX_ATTR_MOUNT_ROOT != 0
	t.mount = int(st.Mnt_id)
	return t, nil
}

func (t *target) close() {
	_ = t.file.Close() // opened for its path only
}

// mountTable is the guest's mounts by number, as far as its root directory
// leads to them.
type mountTable map[int]*mountinfo.Info

// maxTable bounds the list of a guest's mounts, in bytes: a hundred thousand
// mounts, of which a kernel allows no more, have 20 MB. A guest can make each
// of them take 30 KB.
const maxTable = 32 << 20

// readTable must be called after the targets were opened, so that it has
// their mounts.
func (p *placer) readTable() error {
	list := io.LimitedReader{R: p.mountinfo, N: maxTable}
	mounts, err := mountinfo.GetMountsFromReader(&list, nil)
	if list.N == 0 {
		return fmt.Errorf("the guest's mounts take over %d bytes to list: %w", maxTable, ErrTarget)
	}
	if err != nil {
		return fmt.Errorf("cannot read the guest's mounts: %w", err)
	}
	p.table = mountTable{}
	for _, m := range mounts {
		p.table[m.ID] = m
	}
	return nil
}

// placeable are the types of file systems on which a guest has files. Others,
// proc above all, are interfaces: programs of the host that enter the guest
// rely on what they find there.
func placeable(fsType string) bool {
	return slices.Contains([]string{
		"ext2", "ext3", "ext4", "xfs", "btrfs", "bcachefs", "f2fs", "zfs", "overlay", "tmpfs", "ramfs", "squashfs", "erofs",
	}, fsType)
}

// check refuses targets that are not in the guest's own tree of files: each
// mount from the target's up to the guest's root must be listed, of a type
// that is placeable, and not the directory that the nest has bound into the
// guest.
func (p *placer) check(path string, t *target) error {
	for id, n := t.mount, 0; ; n++ {
		m := p.table[id]
		switch {
		case m == nil || n > len(p.table):
			return fmt.Errorf("%q is not below the guest's root: %w", path, ErrTarget)
		case !placeable(m.FSType):
			return fmt.Errorf("%q lies on a file system of type %s: %w", path, m.FSType, ErrTarget)
		case id == p.shared:
			return fmt.Errorf("%q lies in the nest's own directory: %w", path, ErrTarget)
		case id == p.rootMount:
			return nil
		}
		id = m.Parent
	}
}

// checkPropagation refuses targets from which the mount would reach the host.
func (p *placer) checkPropagation(t *target) error {
	ids := []int{t.mount}
	if t.root {
		ids = append(ids, p.table[t.mount].Parent)
	}
	for _, id := range ids {
		m := p.table[id]
		if m == nil {
			continue // above the guest's root
		}
		group := sharedGroup(m)
		if group == "" {
			continue
		}
		if p.hostMounts == nil {
			var err error
			if p.hostMounts, err = mountinfo.GetMountsFromReader(p.hostInfo, nil); err != nil {
				return fmt.Errorf("cannot read the host's mounts: %w", err)
			}
		}
		if i := slices.IndexFunc(p.hostMounts, func(m *mountinfo.Info) bool { return receives(m, group) }); i >= 0 {
			return fmt.Errorf("%q is on a mount that is shared with the host's %q: %w", t.file.Name(), p.hostMounts[i].Mountpoint, ErrTarget)
		}
	}
	return nil
}

// ours reports whether the target is the root of a mount of the store's.
func (p *placer) ours(t *target) bool {
	m := p.table[t.mount]
	return t.root && m != nil && p.request.inStore(m)
}

// errForeign: what is mounted there is somebody else's.
func errForeign(path string) error {
	return fmt.Errorf("what is mounted on %q is not of the nest: %w", path, ErrTarget)
}
