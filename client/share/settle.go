package share

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"strings"

	"golang.org/x/sys/unix"

	"stork/repo/durable"
)

// leave takes an environment away for good. What the guest has written into the
// nest's directory is moved to its own, one top directory after the other, so
// that a directory that is done is not moved again, over what the guest has
// written since, where another one fails. It can be repeated.
func (a *applier) leave(o *own, from *Environment) error {
	for _, dir := range from.roots() {
		if err := a.leaveDir(o, from, dir); err != nil {
			return err
		}
	}
	return nil
}

func (a *applier) leaveDir(o *own, from *Environment, dir string) error {
	m, err := o.settle(a.root, dir)
	if err != nil {
		return fmt.Errorf("cannot move what was changed in %s: %w", dir, err)
	}
	part := *from
	part.Roots = []string{dir}
	if err := a.root.exchange(o, &part, &Environment{}); err != nil {
		t, topErr := (&exchanger{root: a.root, own: o}).top(dir)
		if topErr == nil && t.mounted && t.entry.isOurs() {
			err = errors.Join(err, m.takeBack(o, dir))
		}
		return err
	}
	return o.emptied(dir)
}

// settle moves what the guest has written into the nest's directory to its
// own, where the environment is about to go and the guest's root is itself an
// overlay. It can be repeated, and where it fails takes back what it has added;
// what is durable is removed from the nest's directory by [own.emptied].
func (o *own) settle(r *Root, dir string) (*merger, error) {
	m := &merger{disk: r.disk, links: map[uint64]moved{}}
	if o.upper == nil {
		return m, nil
	}
	up, err := openBelow(o.upper, upperName(dir), unix.O_RDONLY|unix.O_DIRECTORY, unix.RESOLVE_BENEATH|unix.RESOLVE_NO_SYMLINKS)
	if missing(err) {
		return m, nil
	}
	if err != nil {
		return nil, err
	}
	defer up.Close()
	raw, err := o.openRaw(dir)
	if err != nil {
		return nil, err
	}
	defer raw.Close()
	if err := roomFor(up, raw); err != nil {
		return nil, err
	}
	if err := m.all(r, dir, up, raw); err != nil {
		return nil, errors.Join(err, m.takeBack(o, dir))
	}
	return m, nil
}

// openRaw opens one of the guest's own top directories.
func (o *own) openRaw(dir string) (*os.File, error) {
	return openBelow(o.root, dir, unix.O_RDONLY|unix.O_DIRECTORY, unix.RESOLVE_BENEATH|unix.RESOLVE_NO_SYMLINKS)
}

// roomFor refuses to begin what could not end: both directories are on one
// disk as a rule, and all is there twice before it is there once.
func roomFor(up, raw *os.File) error {
	need, err := blocksBelow(up, map[uint64]bool{})
	if err != nil {
		return err
	}
	var st unix.Statfs_t
	if err := unix.Fstatfs(int(raw.Fd()), &st); err != nil {
		return err
	}
	if have := st.Bavail * uint64(st.Bsize); need > have {
		return fmt.Errorf("it takes %d MB for a moment, and %d MB are free: %w", need>>20+1, have>>20, unix.ENOSPC)
	}
	return nil
}

// blocksBelow returns how many bytes of the disk the files in a directory take,
// each inode once.
func blocksBelow(dir *os.File, seen map[uint64]bool) (uint64, error) {
	names, err := dir.Readdirnames(-1)
	if err != nil {
		return 0, err
	}
	var sum uint64
	for _, name := range names {
		st, err := statAt(int(dir.Fd()), name)
		if missing(err) {
			continue
		}
		if err != nil {
			return 0, err
		}
		if st.Nlink > 1 && !st.isDir() {
			if seen[st.Ino] {
				continue
			}
			seen[st.Ino] = true
		}
		sum += st.Blocks * 512
		if !st.isDir() {
			continue
		}
		sub, err := openBelow(dir, name, unix.O_RDONLY|unix.O_DIRECTORY, unix.RESOLVE_BENEATH|unix.RESOLVE_NO_SYMLINKS)
		if missing(err) {
			continue
		}
		if err != nil {
			return 0, err
		}
		n, err := blocksBelow(sub, seen)
		if err = errors.Join(err, sub.Close()); err != nil {
			return 0, err
		}
		sum += n
	}
	return sum, nil
}

// emptied removes what settle has moved. From its first step on nothing of it
// is moved again.
func (o *own) emptied(dir string) error {
	if o.upper == nil {
		return nil
	}
	all := fdPath(int(o.upper.Fd())) + dir
	err := os.RemoveAll(all + "/gone") // of one that was killed
	if err == nil {
		err = unix.Renameat(int(o.upper.Fd()), upperName(dir), int(o.upper.Fd()), dir[1:]+"/gone")
	}
	if err == nil || missing(err) {
		err = os.RemoveAll(all)
	}
	return wrap(err, "cannot clear up in %s", o.upper.Name())
}

// merger makes durable what it writes, one by one while that is not much; if
// it is, it is left to one syncfs.
type merger struct {
	disk    durable.Disk
	root    *os.File         // all that is written is below
	written int              // files and directories
	links   map[uint64]moved // files with several names, by their inode
	added   []string         // what was not there before, relative to root; of a directory not what is in it
}

// moved is where the first name of a file is now.
type moved struct {
	path string // relative to root
	is   info
}

// all is dir for a whole top directory.
func (m *merger) all(r *Root, dir string, up, raw *os.File) error {
	m.root = raw
	err := r.step(StepPlace, dir, func() error { return m.dir(up, raw, ".") })
	if err == nil {
		err = m.sync(m.disk.SyncDir, raw)
	}
	if err == nil && m.written >= manyFiles {
		err = r.disk.SyncFS(fdPath(int(raw.Fd())))
	}
	return err
}

func (m *merger) sync(sync func(path string) error, f *os.File) error {
	if m.written++; m.written >= manyFiles {
		return nil
	}
	return sync(fdPath(int(f.Fd())))
}

// dir does to a directory what an overlay shows: to has what from has, and not
// what from has whiteouts for. at is the path of to.
func (m *merger) dir(from, to *os.File, at string) error {
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
			err = m.below(from, to, path.Join(at, name), st, there)
		default:
			err = m.file(from, to, path.Join(at, name), st)
			if err == nil && !there {
				m.add(path.Join(at, name))
			}
		}
		if err != nil && !missing(err) {
			return fmt.Errorf("%s: %w", name, err)
		}
	}
	return nil
}

func (m *merger) below(from, to *os.File, at string, st info, there bool) error {
	name := path.Base(at)
	if !there {
		if err := unix.Mkdirat(int(to.Fd()), name, 0o700); err != nil {
			return err
		}
		m.add(at)
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
	if err := m.dir(a, b, at); err != nil {
		return err
	}
	if err := attributes(b, a, st); err != nil {
		return err
	}
	return m.sync(m.disk.SyncDir, b)
}

// settling is the name of what is not complete yet.
const settling = ".stork-settle"

// file replaces a file by a copy, or by a link to that of another of its names.
func (m *merger) file(from, to *os.File, at string, st info) error {
	name, temp := path.Base(at), place{to, settling}
	if err := os.RemoveAll(temp.path()); err != nil {
		return err
	}
	linked, err := m.link(temp, st)
	if err == nil && !linked {
		err = m.copy(from, name, temp, st)
	}
	if err == nil && st.Nlink > 1 && !linked {
		var is info
		is, err = temp.stat()
		m.links[st.Ino] = moved{at, is}
	}
	if err == nil {
		err = unix.Renameat(int(to.Fd()), settling, int(to.Fd()), name)
	}
	if err != nil {
		_ = os.RemoveAll(temp.path()) // the next attempt does, too
	}
	return err
}

// link makes a link if the file has been moved by another name, and that is
// still what it was.
func (m *merger) link(temp place, st info) (bool, error) {
	first, ok := m.links[st.Ino]
	if !ok || st.Nlink < 2 {
		return false, nil
	}
	f, err := openBelow(m.root, first.path, unix.O_PATH|unix.O_NOFOLLOW, unix.RESOLVE_BENEATH|unix.RESOLVE_NO_SYMLINKS)
	if err != nil && !missing(err) && !errors.Is(err, unix.ELOOP) {
		return false, err
	}
	if err != nil {
		return false, nil
	}
	defer f.Close()
	if is, err := statAt(int(f.Fd()), ""); err != nil || !is.same(first.is) {
		return false, err
	}
	err = unix.Linkat(unix.AT_FDCWD, fdPath(int(f.Fd())), int(temp.dir.Fd()), temp.name, unix.AT_SYMLINK_FOLLOW)
	if errors.Is(err, unix.EMLINK) {
		return false, nil
	}
	return err == nil, err
}

// add notes what is to go if the rest fails.
func (m *merger) add(at string) {
	if n := len(m.added); n > 0 && strings.HasPrefix(at, m.added[n-1]+"/") {
		return
	}
	m.added = append(m.added, at)
}

// takeBack removes what was added: the environment stays, and the guest would
// see it again below what it removes there.
func (m *merger) takeBack(o *own, dir string) error {
	if len(m.added) == 0 {
		return nil
	}
	raw, err := o.openRaw(dir)
	if err != nil {
		return wrap(err, "cannot take back what was moved")
	}
	defer raw.Close()
	var failed error
	for _, at := range m.added {
		parent, err := openBelow(raw, path.Dir(at), unix.O_RDONLY|unix.O_DIRECTORY, unix.RESOLVE_BENEATH|unix.RESOLVE_NO_SYMLINKS)
		if missing(err) {
			continue
		}
		if err == nil {
			err = errors.Join(os.RemoveAll(place{parent, path.Base(at)}.path()), parent.Close())
		}
		failed = errors.Join(failed, err)
	}
	return wrap(failed, "cannot take back what was moved")
}

// copy copies a file to temp.
func (m *merger) copy(from *os.File, name string, temp place, st info) error {
	to := temp.dir
	switch st.kind() {
	case unix.S_IFREG:
		return m.content(from, name, temp, st)
	case unix.S_IFLNK:
		link, err := readlinkAt(int(from.Fd()), name)
		if err == nil {
			err = unix.Symlinkat(link, int(to.Fd()), temp.name)
		}
		if err == nil {
			err = unix.Fchownat(int(to.Fd()), temp.name, int(st.Uid), int(st.Gid), unix.AT_SYMLINK_NOFOLLOW)
		}
		return err
	}
	dev := unix.Mkdev(st.Rdev_major, st.Rdev_minor)
	err := unix.Mknodat(int(to.Fd()), temp.name, uint32(st.Mode), int(dev))
	if err == nil {
		err = unix.Fchownat(int(to.Fd()), temp.name, int(st.Uid), int(st.Gid), unix.AT_SYMLINK_NOFOLLOW)
	}
	if err == nil {
		err = unix.Fchmodat(int(to.Fd()), temp.name, st.permissions(), 0)
	}
	return err
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
