package share

import (
	"errors"
	"fmt"
	"os"
	"path"
	"strings"

	"golang.org/x/sys/unix"
)

// workName names the working directories of an environment's overlays. Two
// overlays that have the same upper directory for the moment of an exchange
// must not share one.
func workName(e *Environment) string {
	if e.Mark == "" {
		return e.ID.Hex()[:16]
	}
	return e.ID.Hex()[:16] + "-" + e.Mark
}

// overlay makes, but does not attach, an overlay for one of the guest's top
// directories over lower.
//
// The upper directory is the guest's own, so that its files win and what it
// writes stays its own; or, where that can not be one, the nest's, and the
// guest's own directory is the topmost of the lower ones.
func (o *own) overlay(source, work, dir string, lower *stack) (*os.File, error) {
	raw, err := openBelow(o.root, dir[1:], unix.O_PATH|unix.O_DIRECTORY, unix.RESOLVE_BENEATH|unix.RESOLVE_NO_SYMLINKS)
	if err != nil {
		return nil, fmt.Errorf("cannot open the guest's own directory: %w", err)
	}
	defer raw.Close()
	upper, at, layers := raw, storkDir+"/work/"+work+dir, lower.files()
	top := o.root
	if o.upper != nil {
		top, at = o.upper, dir+"/work/"+work
		if upper, err = o.makeUpper(dir, raw); err != nil {
			return nil, err
		}
		defer upper.Close()
		layers = append([]*os.File{raw}, layers...)
	}
	workDir, err := makeDirs(top, at)
	if err != nil {
		return nil, err
	}
	defer workDir.Close()
	return mountOverlay(source, upper, workDir, layers, raw)
}

func (s *stack) files() []*os.File {
	list := make([]*os.File, len(s.layers))
	for i, l := range s.layers {
		list[i] = l.dir
	}
	return list
}

// makeUpper makes the directory for the guest's changes, with the attributes
// that the merged directory shall have.
func (o *own) makeUpper(dir string, like *os.File) (*os.File, error) {
	st, err := statAt(int(like.Fd()), "")
	if err != nil {
		return nil, err
	}
	upper, err := makeDirs(o.upper, "/"+upperName(dir))
	if err != nil {
		return nil, err
	}
	err = unix.Fchownat(int(upper.Fd()), "", int(st.Uid), int(st.Gid), unix.AT_EMPTY_PATH)
	if err == nil {
		err = unix.Chmod(fdPath(int(upper.Fd())), st.permissions())
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("cannot set the owner of %s: %w", path.Join(o.upper.Name(), upperName(dir)), err), upper.Close())
	}
	return upper, nil
}

// mountOverlay makes an overlay of open directories. Whatever the kernel's
// defaults are, what it writes into the upper directory must make sense
// without the overlay: whole files, at their own names. What the mount that
// like is reached by forbids, it forbids too.
func mountOverlay(source string, upper, work *os.File, lower []*os.File, like *os.File) (*os.File, error) {
	fs, err := unix.Fsopen("overlay", unix.FSOPEN_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("cannot make an overlay: %w", err)
	}
	defer unix.Close(fs)
	user, err := inUserNamespace()
	if err != nil {
		return nil, err
	}
	options := [][2]string{{"source", source}, {"index", "off"}, {"uuid", "null"}, {"metacopy", "off"}, {"redirect_dir", "nofollow"}}
	if user { // the last two are so anyway
		options = options[:3]
	}
	for _, f := range lower {
		options = append(options, [2]string{"lowerdir+", fdPath(int(f.Fd()))})
	}
	options = append(options, [2]string{"upperdir", fdPath(int(upper.Fd()))}, [2]string{"workdir", fdPath(int(work.Fd()))})
	for _, option := range options {
		if err := unix.FsconfigSetString(fs, option[0], option[1]); err != nil {
			return nil, fmt.Errorf("cannot make an overlay: %s: %w%s", option[0], err, kernelSays(fs))
		}
	}
	if user { // trusted attributes are for the host's root only
		if err := unix.FsconfigSetFlag(fs, "userxattr"); err != nil {
			return nil, fmt.Errorf("cannot make an overlay: userxattr: %w%s", err, kernelSays(fs))
		}
	}
	if err := unix.FsconfigCreate(fs); err != nil {
		return nil, fmt.Errorf("cannot make an overlay: %w%s", err, kernelSays(fs))
	}
	attributes, err := mountAttributes(like)
	if err != nil {
		return nil, err
	}
	fd, err := unix.Fsmount(fs, unix.FSMOUNT_CLOEXEC, attributes)
	if err != nil {
		return nil, fmt.Errorf("cannot make an overlay: %w", err)
	}
	return os.NewFile(uintptr(fd), source), nil
}

// mountAttributes returns what the mount that f is reached by does not allow,
// so that the overlay does not allow it either.
func mountAttributes(f *os.File) (int, error) {
	var st unix.Statfs_t
	if err := unix.Fstatfs(int(f.Fd()), &st); err != nil {
		return 0, fmt.Errorf("cannot look at the guest's mount: %w", err)
	}
	attributes := 0
	for flag, attr := range map[int64]int{unix.ST_NOSUID: unix.MOUNT_ATTR_NOSUID, unix.ST_NODEV: unix.MOUNT_ATTR_NODEV,
		unix.ST_NOEXEC: unix.MOUNT_ATTR_NOEXEC} {
		if st.Flags&flag != 0 {
			attributes |= attr
		}
	}
	return attributes, nil
}

// kernelSays returns what the kernel has to say about a mount that failed.
func kernelSays(fs int) string {
	buf := make([]byte, 4096)
	n, err := unix.Read(fs, buf)
	if err != nil || n < 2 {
		return ""
	}
	return " (" + strings.TrimSpace(string(buf[2:n])) + ")" // after "e " or "w "
}

// initUserNamespace is the inode of the host's user namespace
// (PROC_USER_INIT_INO in the kernel's include/linux/proc_ns.h).
const initUserNamespace = 0xEFFFFFFD

func inUserNamespace() (bool, error) {
	var st unix.Stat_t
	if err := unix.Stat("/proc/self/ns/user", &st); err != nil {
		return false, fmt.Errorf("cannot find out the user namespace: %w", err)
	}
	return st.Ino != initUserNamespace, nil
}
