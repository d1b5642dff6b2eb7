package share

import (
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"golang.org/x/sys/unix"

	"stork/repo/durable"
)

// settle moves what the guest has written into the nest's directory to its
// own, where the environment is about to go and the guest's root is itself an
// overlay. It can be repeated; what is durable is removed from the nest's
// directory by [own.emptied].
func (o *own) settle(r *Root, e *Environment) error {
	if o.upper == nil {
		return nil
	}
	for _, dir := range e.roots() {
		up, err := openBelow(o.upper, upperName(dir), unix.O_RDONLY|unix.O_DIRECTORY, unix.RESOLVE_BENEATH|unix.RESOLVE_NO_SYMLINKS)
		if missing(err) {
			continue
		}
		if err != nil {
			return fmt.Errorf("cannot move what was changed in %s: %w", dir, err)
		}
		raw, err := openBelow(o.root, dir, unix.O_RDONLY|unix.O_DIRECTORY, unix.RESOLVE_BENEATH|unix.RESOLVE_NO_SYMLINKS)
		if err == nil {
			m := &merger{disk: r.disk}
			err = r.step(StepPlace, dir, func() error { return m.dir(up, raw) })
			if err == nil {
				err = m.sync(m.disk.SyncDir, raw)
			}
			if err == nil && m.written >= manyFiles {
				err = r.disk.SyncFS(fdPath(int(raw.Fd())))
			}
			err = errors.Join(err, raw.Close())
		}
		if err = errors.Join(err, up.Close()); err != nil {
			return fmt.Errorf("cannot move what was changed in %s: %w", dir, err)
		}
	}
	return nil
}

// emptied removes what settle has moved.
func (o *own) emptied(e *Environment) error {
	if o.upper == nil {
		return nil
	}
	var failed error
	for _, dir := range e.roots() {
		failed = errors.Join(failed, os.RemoveAll(fdPath(int(o.upper.Fd()))+dir))
	}
	return wrap(failed, "cannot clear up in %s", o.upper.Name())
}

// merger makes durable what it writes, one by one while that is not much; if
// it is, it is left to one syncfs.
type merger struct {
	disk    durable.Disk
	written int // files and directories
}

func (m *merger) sync(sync func(path string) error, f *os.File) error {
	if m.written++; m.written >= manyFiles {
		return nil
	}
	return sync(fdPath(int(f.Fd())))
}

// dir does to a directory what an overlay shows: to has what from has, and not
// what from has whiteouts for.
func (m *merger) dir(from, to *os.File) error {
	if _, err := from.Seek(0, io.SeekStart); err != nil {
		return err
	}
	names, err := from.Readdirnames(-1)
	if err != nil {
		return err
	}
	for _, name := range names {
		st, err := statAt(int(from.Fd()), name)
		if err != nil {
			return err
		}
		target := fdPath(int(to.Fd())) + "/" + name
		have, err := statAt(int(to.Fd()), name)
		there := err == nil
		switch {
		case err != nil && !missing(err):
			return err
		case st.isWhiteout() || there && (have.isDir() != st.isDir() || st.isDir() && isOpaque(from, name)):
			if err := os.RemoveAll(target); err != nil {
				return err
			}
			there = false
		}
		switch {
		case st.isWhiteout():
		case st.isDir():
			err = m.below(from, to, name, st, there)
		default:
			err = m.file(from, to, name, st)
		}
		if err != nil && !missing(err) {
			return fmt.Errorf("%s: %w", name, err)
		}
	}
	return nil
}

func (m *merger) below(from, to *os.File, name string, st info, there bool) error {
	if !there {
		if err := unix.Mkdirat(int(to.Fd()), name, 0o700); err != nil {
			return err
		}
	}
	const resolve = unix.RESOLVE_BENEATH | unix.RESOLVE_NO_SYMLINKS
	a, err := openBelow(from, name, unix.O_RDONLY|unix.O_DIRECTORY, resolve)
	if err != nil {
		return err
	}
	defer a.Close()
	b, err := openBelow(to, name, unix.O_RDONLY|unix.O_DIRECTORY, resolve)
	if err != nil {
		return err
	}
	defer b.Close()
	if err := m.dir(a, b); err != nil {
		return err
	}
	if err := attributes(b, a, st); err != nil {
		return err
	}
	return m.sync(m.disk.SyncDir, b)
}

// file replaces a file by a copy.
func (m *merger) file(from, to *os.File, name string, st info) error {
	temp := ".stork-settle"
	at := place{to, temp}
	if err := os.RemoveAll(at.path()); err != nil {
		return err
	}
	switch st.kind() {
	case unix.S_IFREG:
		if err := m.content(from, name, at, st); err != nil {
			return err
		}
	case unix.S_IFLNK:
		link, err := readlinkAt(int(from.Fd()), name)
		if err == nil {
			err = unix.Symlinkat(link, int(to.Fd()), temp)
		}
		if err == nil {
			err = unix.Fchownat(int(to.Fd()), temp, int(st.Uid), int(st.Gid), unix.AT_SYMLINK_NOFOLLOW)
		}
		if err != nil {
			return err
		}
	default:
		dev := unix.Mkdev(st.Rdev_major, st.Rdev_minor)
		err := unix.Mknodat(int(to.Fd()), temp, uint32(st.Mode), int(dev))
		if err == nil {
			err = unix.Fchownat(int(to.Fd()), temp, int(st.Uid), int(st.Gid), unix.AT_SYMLINK_NOFOLLOW)
		}
		if err == nil {
			err = unix.Fchmodat(int(to.Fd()), temp, st.permissions(), 0)
		}
		if err != nil {
			return err
		}
	}
	return unix.Renameat(int(to.Fd()), temp, int(to.Fd()), name)
}

func (m *merger) content(from *os.File, name string, at place, st info) error {
	in, err := openBelow(from, name, unix.O_RDONLY|unix.O_NONBLOCK, unix.RESOLVE_BENEATH|unix.RESOLVE_NO_SYMLINKS)
	if err != nil {
		return err
	}
	defer in.Close()
	fd, err := unix.Openat(int(at.dir.Fd()), at.name, unix.O_WRONLY|unix.O_CREAT|unix.O_EXCL|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0o600)
	if err != nil {
		return err
	}
	out := os.NewFile(uintptr(fd), name)
	err = copyData(out, in)
	if err == nil {
		err = attributes(out, in, st)
	}
	if err == nil {
		err = m.sync(m.disk.SyncFile, out)
	}
	return errors.Join(err, out.Close())
}

// copyData copies a file with its holes: a file of a guest's may say that it
// is larger than the disk.
func copyData(out, in *os.File) error {
	size, err := in.Seek(0, io.SeekEnd)
	if err != nil {
		return err
	}
	for at := int64(0); at < size; {
		data, err := in.Seek(at, unix.SEEK_DATA)
		if errors.Is(err, unix.ENXIO) {
			break // nothing but a hole
		}
		if err != nil {
			return err
		}
		if at, err = in.Seek(data, unix.SEEK_HOLE); err != nil {
			return err
		}
		for _, f := range []*os.File{in, out} {
			if _, err := f.Seek(data, io.SeekStart); err != nil {
				return err
			}
		}
		if _, err := io.CopyN(out, in, at-data); err != nil && err != io.EOF { // it is shorter by now
			return err
		}
	}
	return out.Truncate(size)
}

// attributes gives out what in has: owner, mode, extended attributes but for
// the overlay's own, and time.
func attributes(out, in *os.File, st info) error {
	fd := int(out.Fd())
	if err := unix.Fchown(fd, int(st.Uid), int(st.Gid)); err != nil {
		return err
	}
	if err := unix.Fchmod(fd, st.permissions()); err != nil {
		return err
	}
	list := make([]byte, 64<<10) // XATTR_LIST_MAX
	n, err := unix.Flistxattr(int(in.Fd()), list)
	if err != nil && !errors.Is(err, unix.ENOTSUP) {
		return err
	}
	value := make([]byte, 64<<10) // XATTR_SIZE_MAX
	for name := range strings.SplitSeq(string(list[:max(n, 0)]), "\x00") {
		if name == "" || strings.Contains(name, ".overlay.") {
			continue
		}
		n, err := unix.Fgetxattr(int(in.Fd()), name, value)
		if err == nil {
			err = unix.Fsetxattr(fd, name, value[:n], 0)
		}
		if err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
	}
	times := []unix.Timespec{{Sec: st.Atime.Sec, Nsec: int64(st.Atime.Nsec)}, {Sec: st.Mtime.Sec, Nsec: int64(st.Mtime.Nsec)}}
	return unix.UtimesNanoAt(unix.AT_FDCWD, fdPath(fd), times, 0)
}
