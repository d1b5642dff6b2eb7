package share

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path"

	"golang.org/x/sys/unix"

	"stork/repo"
)

// manyFiles is the number from which on one syncfs is cheaper than an fsync
// for every file.
const manyFiles = 64

// putAll writes files and puts them in their places. Rule G2: first all new
// files are written beside their targets and what they replace gets a second
// name; when that is durable, each is renamed to its target.
func (a *applier) putAll(ops []Op) error {
	for i := range ops {
		if err := a.ctx.Err(); err != nil {
			return err
		}
		if err := a.prepare(&ops[i]); err != nil {
			return err
		}
	}
	if err := a.syncPrepared(ops); err != nil {
		return err
	}
	for i := range ops {
		at, err := a.dirs.at(ops[i].Path)
		if err == nil {
			err = a.rename(at, &ops[i])
		}
		if err != nil {
			return fmt.Errorf("cannot write %s: %w", ops[i].Path, err)
		}
		if !ops[i].restorable() {
			a.touched(ops[i].Path)
		}
	}
	return nil
}

// restorable reports whether [Restore] makes the file again: then it need not
// be durable.
func (op *Op) restorable() bool {
	return op.File != nil && op.File.Type == repo.Symlink && len(op.File.Flags) == 0
}

// simple reports whether the file is a symlink where nothing was: it needs no
// second name and no sync.
func (op *Op) simple() bool { return op.Fresh && op.restorable() }

// link makes a simple symlink.
func (a *applier) link(op *Op) error {
	at, err := a.dirs.at(op.Path)
	if err == nil {
		err = a.root.disk.Symlink(op.File.Link, at.path())
	}
	if errors.Is(err, unix.EEXIST) {
		if st, statErr := at.stat(); statErr == nil && a.looksOurs(at, st, op) {
			return nil // made before a crash
		}
		err = errors.New("something has appeared there")
	}
	return wrap(err, "cannot make symlink %s", op.Path)
}

// prepare writes the new file and keeps the old one.
func (a *applier) prepare(op *Op) error {
	at, err := a.dirs.at(op.Path)
	if err == nil {
		temp := at.sibling(a.plan.tempName(op.Path, newSuffix))
		err = a.root.disk.Remove(temp.path()) // of an earlier attempt
		if err == nil {
			err = a.write(temp, op)
		}
	}
	if err == nil && !op.Fresh {
		err = a.keepOld(at, op.Path)
	}
	return wrap(err, "cannot write %s", op.Path)
}

// keepOld gives what is at the place a second name, under which it stays
// until the transaction is committed.
func (a *applier) keepOld(at place, guestPath string) error {
	old := at.sibling(a.plan.tempName(guestPath, oldSuffix))
	err := a.root.disk.Link(at.path(), old.path())
	if errors.Is(err, unix.EEXIST) || missing(err) {
		return nil // kept already; or the guest's owner has removed it since
	}
	return err
}

func (a *applier) write(temp place, op *Op) error {
	if op.From != "" {
		if done, err := a.linkFrom(temp, op); done || err != nil {
			return err
		}
	}
	f := op.File
	switch f.Type {
	case repo.Regular:
		return a.copy(temp, op)
	case repo.Symlink:
		if err := a.root.disk.Symlink(f.Link, temp.path()); err != nil {
			return err
		}
		return a.chown(temp, f)
	case repo.Fifo, repo.Char, repo.Block:
		kind := map[repo.FileType]uint32{repo.Fifo: unix.S_IFIFO, repo.Char: unix.S_IFCHR, repo.Block: unix.S_IFBLK}[f.Type]
		err := a.root.step(StepPlace, op.Path, func() error {
			return unix.Mknodat(int(temp.dir.Fd()), temp.name, kind|f.Mode&0o777, int(f.Rdev))
		})
		if err != nil {
			return err
		}
		if err := unix.Fchmodat(int(temp.dir.Fd()), temp.name, f.Mode&0o777, 0); err != nil {
			return err
		}
		return a.chown(temp, f)
	}
	return fmt.Errorf("unknown type %q", f.Type)
}

// linkFrom makes temp another name of From. A hard link that can not be made
// (another file system) becomes a copy.
func (a *applier) linkFrom(temp place, op *Op) (bool, error) {
	from, err := a.dirs.at(op.From)
	if err != nil {
		return false, err
	}
	// The file's first name is prepared in the same run; what is meant as it
	// was before the plan has its second name when this is repeated.
	suffix := newSuffix
	if op.Old {
		suffix = oldSuffix
	}
	for _, name := range []place{from.sibling(a.plan.tempName(op.From, suffix)), from} {
		err = a.root.disk.Link(name.path(), temp.path())
		if !missing(err) {
			break
		}
	}
	if err == nil || op.Old && missing(err) {
		return true, nil // or the guest's owner has removed it: nothing to keep
	}
	if op.File == nil || !errors.Is(err, unix.EXDEV) && !errors.Is(err, unix.EMLINK) {
		return false, err
	}
	return false, nil
}

// copy writes the layer's file, with owner, mode, capabilities and time.
func (a *applier) copy(temp place, op *Op) error {
	source, err := a.layer(op.Layer, op.Source)
	if err != nil {
		return err
	}
	in, err := openBelow(source.view, source.relative(), unix.O_RDONLY, unix.RESOLVE_BENEATH|unix.RESOLVE_NO_SYMLINKS)
	if err != nil {
		return fmt.Errorf("cannot read it in its layer: %w", err)
	}
	defer in.Close()
	fd, err := unix.Openat(int(temp.dir.Fd()), temp.name, unix.O_WRONLY|unix.O_CREAT|unix.O_EXCL|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0o600)
	if err != nil {
		return err
	}
	out := os.NewFile(uintptr(fd), op.Path)
	err = a.root.step(StepPlace, op.Path, func() error { _, err := io.Copy(out, in); return err })
	if err == nil {
		err = a.finish(out, op)
	}
	return errors.Join(err, out.Close())
}

func (a *applier) finish(out *os.File, op *Op) error {
	fd := int(out.Fd())
	if err := a.setOwner(fd, op.File); err != nil {
		return err
	}
	for name, value := range op.Xattrs { // after chown, which clears capabilities
		if err := unix.Fsetxattr(fd, name, value, 0); err != nil {
			return fmt.Errorf("cannot set %s: %w", name, err)
		}
	}
	times := []unix.Timespec{{Sec: op.Time}, {Sec: op.Time}}
	return unix.UtimesNanoAt(unix.AT_FDCWD, fdPath(fd), times, 0)
}

// syncPrepared makes the new files and the second names durable.
func (a *applier) syncPrepared(ops []Op) error {
	files, parents := []place{}, map[string]bool{}
	for i := range ops {
		if ops[i].restorable() {
			continue
		}
		at, err := a.dirs.at(ops[i].Path)
		if err != nil {
			return err
		}
		if f := ops[i].File; f != nil && f.Type == repo.Regular {
			files = append(files, at.sibling(a.plan.tempName(ops[i].Path, newSuffix)))
		}
		if !ops[i].Fresh {
			parents[path.Dir(ops[i].Path)] = true
		}
	}
	if len(files) >= manyFiles {
		return a.syncDevices(files)
	}
	for _, f := range files {
		if err := a.root.disk.SyncFile(f.path()); err != nil {
			return err
		}
	}
	return a.syncDirs(parents)
}

// syncDevices makes every file system durable that has one of the files.
func (a *applier) syncDevices(files []place) error {
	seen := map[uint64]bool{}
	for _, f := range files {
		st, err := statAt(int(f.dir.Fd()), "")
		if err != nil {
			return err
		}
		device := unix.Mkdev(st.Dev_major, st.Dev_minor)
		if seen[device] {
			continue
		}
		seen[device] = true
		if err := a.root.disk.SyncFS(f.sibling(".").path()); err != nil {
			return err
		}
	}
	return nil
}

func (a *applier) rename(at place, op *Op) error {
	temp := at.sibling(a.plan.tempName(op.Path, newSuffix))
	if op.Fresh {
		if st, err := at.stat(); err == nil && !a.looksOurs(at, st, op) {
			return errors.New("something has appeared there")
		}
	}
	err := a.root.disk.Rename(temp.path(), at.path())
	if op.Old && missing(err) {
		return nil
	}
	if err != nil {
		return err
	}
	// Renaming one name of an inode over another leaves both (rename(2)).
	return a.root.disk.Remove(temp.path())
}

// looksOurs reports whether what is at a place where there was nothing is
// what the operation puts there.
func (a *applier) looksOurs(at place, st info, op *Op) bool {
	if op.File == nil || op.From != "" {
		return st.isRegular() || st.isLink()
	}
	switch op.File.Type {
	case repo.Regular:
		return st.isRegular() && int64(st.Size) == op.File.Size
	case repo.Symlink:
		link, err := readlinkAt(int(at.dir.Fd()), at.name)
		return err == nil && link == op.File.Link
	case repo.Fifo:
		return st.kind() == unix.S_IFIFO
	case repo.Char:
		return st.kind() == unix.S_IFCHR
	case repo.Block:
		return st.kind() == unix.S_IFBLK
	}
	return false
}

// take moves what is at guestPath to its second name.
func (a *applier) take(guestPath string) error {
	return a.clear(guestPath, func(at place) error {
		old := at.sibling(a.plan.tempName(guestPath, oldSuffix))
		if _, err := old.stat(); err == nil {
			return nil // taken already: what is there now has come instead
		}
		return a.root.disk.Rename(at.path(), old.path())
	})
}

// drop removes the file at guestPath for good.
func (a *applier) drop(guestPath string) error {
	return a.clear(guestPath, func(at place) error { return a.root.disk.Remove(at.path()) })
}

// clear gets what is at guestPath out of the way. That nothing is there, or a
// directory, which is not ours to remove, is no error.
func (a *applier) clear(guestPath string, away func(at place) error) error {
	at, err := a.dirs.at(guestPath)
	if missing(err) {
		return nil
	}
	if err == nil {
		var st info
		st, err = at.stat()
		if missing(err) || err == nil && st.isDir() {
			return nil
		}
	}
	if err == nil {
		a.touched(guestPath)
		err = away(at)
	}
	return wrap(err, "cannot remove %s", guestPath)
}

// sync makes every directory durable in which the guest's own files have
// changed, and those that lead to them.
func (a *applier) sync() error {
	if len(a.changed) == 0 {
		return nil
	}
	for dir := range a.parents {
		a.changed[dir] = true
	}
	return a.syncDirs(a.changed)
}

func (a *applier) syncDirs(names map[string]bool) error {
	var open []place
	for _, dir := range sortedKeys(names) {
		at, err := a.dirs.at(path.Join(dir, "x"))
		if unreached(err) {
			continue // it went with its package, or is a symlink again
		}
		if err != nil {
			return err
		}
		if len(names) < manyFiles {
			if err := a.root.disk.SyncDir(at.sibling(".").path()); err != nil {
				return err
			}
			continue
		}
		open = append(open, at)
		if err := a.syncDevices(open[len(open)-1:]); err != nil {
			return err
		}
	}
	return nil
}
