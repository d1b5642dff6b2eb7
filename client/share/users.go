package share

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// users are the guest's own users and groups, from its files.
type users struct {
	ids, groups map[string]int
}

// maxPasswd bounds what is read of /etc/passwd and /etc/group, in bytes.
const maxPasswd = 16 << 20

func (r *Root) readUsers() (*users, error) {
	ids, err := r.readIDs("/etc/passwd")
	if err != nil {
		return nil, err
	}
	groups, err := r.readIDs("/etc/group")
	return &users{ids, groups}, err
}

// readIDs reads the first and third fields of passwd(5) or group(5). A guest
// without the file has only root.
func (r *Root) readIDs(p string) (map[string]int, error) {
	ids := map[string]int{"root": 0}
	f, err := openBelow(r.dir, p, unix.O_RDONLY|unix.O_NONBLOCK, unix.RESOLVE_IN_ROOT)
	if missing(err) {
		return ids, nil
	}
	if err != nil {
		return nil, fmt.Errorf("cannot read the guest's users: %w", err)
	}
	lines := bufio.NewScanner(io.LimitReader(f, maxPasswd))
	for lines.Scan() {
		fields := strings.Split(lines.Text(), ":")
		if len(fields) < 3 || fields[0] == "" {
			continue
		}
		id, err := strconv.ParseUint(fields[2], 10, 32)
		if _, have := ids[fields[0]]; err == nil && !have {
			ids[fields[0]] = int(id)
		}
	}
	return ids, errors.Join(lines.Err(), f.Close())
}

// owner looks up a file's user and group. As rpm does, one that the guest
// does not have becomes root, with a warning, and loses the set-ID bit that
// would then be root's.
func (a *applier) owner(f *File) (uid, gid int, mode uint32, err error) {
	mode = f.Mode
	if f.User == "" && f.Group == "" {
		return 0, 0, mode, nil
	}
	if a.users == nil {
		if a.users, err = a.root.readUsers(); err != nil {
			return 0, 0, 0, err
		}
	}
	var ok bool
	if uid, ok = a.users.ids[f.User]; !ok && f.User != "" {
		a.warnings = append(a.warnings, fmt.Sprintf("the guest has no user %s: %s belongs to root", f.User, f.Path))
		mode &^= unix.S_ISUID
	}
	if gid, ok = a.users.groups[f.Group]; !ok && f.Group != "" {
		a.warnings = append(a.warnings, fmt.Sprintf("the guest has no group %s: %s belongs to root", f.Group, f.Path))
		mode &^= unix.S_ISGID
	}
	return uid, gid, mode, nil
}

// setOwner gives an open file its owner, then its mode, which chown changes.
func (a *applier) setOwner(fd int, f *File) error {
	uid, gid, mode, err := a.owner(f)
	if err != nil {
		return err
	}
	if err := unix.Fchown(fd, uid, gid); err != nil {
		return fmt.Errorf("cannot set the owner of %s: %w", f.Path, err)
	}
	if err := unix.Fchmod(fd, mode); err != nil {
		return fmt.Errorf("cannot set the mode of %s: %w", f.Path, err)
	}
	return nil
}

// chown gives a symlink or node its owner.
func (a *applier) chown(at place, f *File) error {
	uid, gid, _, err := a.owner(f)
	if err != nil {
		return err
	}
	if uid == 0 && gid == 0 {
		return nil
	}
	if err := unix.Fchownat(int(at.dir.Fd()), at.name, uid, gid, unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return fmt.Errorf("cannot set the owner of %s: %w", f.Path, err)
	}
	return nil
}
