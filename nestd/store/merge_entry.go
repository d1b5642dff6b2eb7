package store

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"strings"

	"golang.org/x/sys/unix"

	"stork/repo"
)

// member is a layer in a merge.
type member struct {
	Member
	root    string
	private map[string]bool // nil: not asked yet
}

// isPrivate reports whether guests place a path of the layer for themselves.
func (m *member) isPrivate(p string) (bool, error) {
	if m.private == nil {
		m.private = map[string]bool{}
		if m.Private != nil {
			paths, err := m.Private()
			if err != nil {
				return false, fmt.Errorf("cannot tell what is private in layer %s: %w", m.ID, err)
			}
			for _, p := range paths {
				m.private[p] = true
			}
		}
	}
	return m.private[p], nil
}

// hasDir reports whether the layer has a directory at a path. No symlink is
// followed.
func (m *member) hasDir(p string) (bool, error) {
	for at := m.root; ; {
		name, rest, more := strings.Cut(p[1:], "/")
		at += "/" + name
		var stat unix.Stat_t
		err := unix.Lstat(at, &stat)
		if errors.Is(err, unix.ENOENT) || err == nil && stat.Mode&unix.S_IFMT != unix.S_IFDIR {
			return false, nil
		}
		if err != nil {
			return false, &os.PathError{Op: "lstat", Path: at, Err: err}
		}
		if !more {
			return true, nil
		}
		p = "/" + rest
	}
}

// entry is what one member, or the base, has at a path.
type entry struct {
	m       *member // nil: the base
	file    string  // where it lies; empty: a directory that is only on the way to what an alias puts below
	isDir   bool
	symlink bool
	target  string // of a symlink
	stat    *unix.Stat_t
}

// entryOf looks at what a member has in a directory; nil for what it has not
// to share: what is private, and what an alias puts elsewhere.
func (w *mergeWalk) entryOf(src source, name string, kind fs.FileMode) (*entry, error) {
	e := &entry{m: src.m, file: src.dir + "/" + name}
	inLayer := e.file[len(src.m.root):]
	if kind.IsDir() {
		e.isDir = true
		if _, aliased := w.aliases[inLayer]; aliased {
			return nil, nil
		}
		return e, nil
	}
	if private, err := src.m.isPrivate(inLayer); private || err != nil {
		return nil, err
	}
	return e, e.readLink(kind)
}

// readLink reads a symlink's target, and refuses what no layer has.
func (e *entry) readLink(kind fs.FileMode) (err error) {
	switch kind {
	case 0:
	case fs.ModeSymlink:
		e.symlink = true
		e.target, err = os.Readlink(e.file)
	default:
		err = fmt.Errorf("%s is neither file, symlink nor directory", e.file)
	}
	return err
}

// typeOf returns the file type of a mode of stat(2), as far as layers have it.
func typeOf(mode uint32) fs.FileMode {
	switch mode & unix.S_IFMT {
	case unix.S_IFREG:
		return 0
	case unix.S_IFDIR:
		return fs.ModeDir
	case unix.S_IFLNK:
		return fs.ModeSymlink
	}
	return fs.ModeIrregular
}

// inode looks at the entry, once.
func (e *entry) inode() (*unix.Stat_t, error) {
	if e.stat == nil {
		var stat unix.Stat_t
		if err := unix.Lstat(e.file, &stat); err != nil {
			return nil, &os.PathError{Op: "lstat", Path: e.file, Err: err}
		}
		e.stat = &stat
	}
	return e.stat, nil
}

// mode returns a directory's permission bits.
func (e *entry) mode() (uint32, error) {
	if e.file == "" {
		return impliedMode, nil
	}
	stat, err := e.inode()
	if err != nil {
		return 0, err
	}
	return stat.Mode & 0o7777, nil
}

// sameAs reports whether two files are one to whoever sees them: the same
// inode, two copies of one object, or equal symlinks.
func (e *entry) sameAs(o *entry) (bool, error) {
	if e.symlink || o.symlink {
		return e.symlink && o.symlink && e.target == o.target, nil
	}
	a, err := e.inode()
	if err != nil {
		return false, err
	}
	b, err := o.inode()
	if err != nil {
		return false, err
	}
	if a.Dev == b.Dev && a.Ino == b.Ino {
		return true, nil
	}
	if a.Mode != b.Mode || a.Size != b.Size || a.Mtim != b.Mtim {
		return false, nil
	}
	var ids [2]repo.Digest
	for i, file := range []string{e.file, o.file} {
		have, err := readAttributes(file, make([]byte, largeFile))
		if err != nil {
			return false, err
		}
		ids[i] = have.identity()
	}
	return ids[0] == ids[1], nil
}

// agree refuses owners of a path that have different things there.
func (w *mergeWalk) agree(at string, owners []*entry) error {
	for _, o := range owners[1:] {
		same := o.isDir && owners[0].isDir
		if !o.isDir && !owners[0].isDir {
			var err error
			if same, err = owners[0].sameAs(o); err != nil {
				return err
			}
		}
		if !same {
			return w.conflict(at, owners[0], o)
		}
	}
	return nil
}

// mode returns the mode of a directory that several have. It depends on the
// set of owners and not on their order, or a delta tree would show another
// mode than a whole one.
func (w *mergeWalk) mode(at string, owners []*entry) (uint32, error) {
	mode, from := uint32(impliedMode), owners[0]
	for _, o := range owners {
		other, err := o.mode()
		if err != nil {
			return 0, err
		}
		switch {
		case other == mode || rank(other) < rank(mode):
		case rank(other) > rank(mode):
			mode, from = other, o
		default:
			return 0, w.conflict(at, from, o)
		}
	}
	return mode, nil
}

// rank orders the modes of directories by how much they say: 0755 may be
// nobody's wish, and 0700 that of a guest's own directory.
func rank(mode uint32) int {
	switch mode {
	case impliedMode:
		return 0
	case PrivateDirMode:
		return 1
	}
	return 2
}

// conflict names the packages. For the base it is whoever has the path, of
// the members that stay.
func (w *mergeWalk) conflict(at string, a, b *entry) error {
	e := &ConflictError{Path: at}
	for i, side := range []*entry{a, b} {
		if side.m != nil {
			e.Layers[i] = side.m.ID
			continue
		}
		for _, m := range w.members[keep] {
			if w.has(m, at) {
				e.Layers[i] = m.ID
				break
			}
		}
	}
	return e
}

// has reports whether a member has something at a path of the merged tree.
func (w *mergeWalk) has(m *member, at string) bool {
	paths := []string{at}
	for from, to := range w.aliases {
		if below(at, to) {
			paths = append(paths, path.Join(from, at[len(to):]))
		}
	}
	for _, p := range paths {
		var stat unix.Stat_t
		if unix.Lstat(m.root+p, &stat) != nil {
			continue
		}
		if private, err := m.isPrivate(p); err == nil && !private {
			return true
		}
	}
	return false
}

// baseEntry is what the base shows at a path.
type baseEntry struct {
	entry
	dirs []string // of a directory: those that are merged, topmost first
}

// lookup finds a name in the base as an overlay does: the topmost tree that
// has it, or hides it, decides, and directories are merged down to the first
// that is none.
func (w *mergeWalk) lookup(dirs []string, name string) (*baseEntry, error) {
	var found *baseEntry
	for _, dir := range dirs {
		file := dir + "/" + name
		var stat unix.Stat_t
		err := w.lstat(file, &stat)
		if errors.Is(err, unix.ENOENT) {
			continue
		}
		if err != nil {
			return nil, err
		}
		if isWhiteout(&stat) {
			break
		}
		isDir := stat.Mode&unix.S_IFMT == unix.S_IFDIR
		if found == nil {
			found = &baseEntry{entry: entry{file: file, isDir: isDir, stat: &stat}}
			if !isDir {
				return found, found.readLink(typeOf(stat.Mode))
			}
		}
		if !isDir {
			break
		}
		found.dirs = append(found.dirs, file)
	}
	return found, nil
}

func isWhiteout(stat *unix.Stat_t) bool {
	return stat.Mode&unix.S_IFMT == unix.S_IFCHR && stat.Rdev == 0
}
