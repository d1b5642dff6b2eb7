package share

import (
	"cmp"
	"fmt"
	"io/fs"
	"os"
	"path"
	"slices"

	"golang.org/x/sys/unix"

	"stork/repo"
)

// tree is a layer that is being planned: the directories below its view and
// the private files that the nest listed.
type tree struct {
	id      repo.Digest
	name    string
	element int      // index in Plan.Elements of the package that is added; of an unfolded one: -1
	via     int      // of an unfolded one: the element that unfolds it
	view    *os.File // what base names
	bare    bool     // only what is private is placed
	inside  string   // what the guest calls view, if symlinks lead there
	hash    bool     // shared files are copied: their digests are wanted
	base    string   // path in the layer of view; "" for the whole layer
	private map[string]*repo.File
	names   map[string]map[string]bool // directory → private names in it, implied directories among them
	mixed   map[string]bool            // directories with something private at or below them: never folded
	links   map[uint64]string          // inode → first path that was placed, for hard links of copies
}

// entry is one name in a layer's directory.
type entry struct {
	tree    *tree
	path    string // in the layer
	kind    repo.FileType
	private *repo.File
}

func openTree(l Layer, element int) (*tree, error) {
	t := &tree{id: l.ID, name: l.Name, element: element, private: map[string]*repo.File{}, names: map[string]map[string]bool{},
		mixed: map[string]bool{}, links: map[uint64]string{}}
	if l.View != "" {
		fd, err := unix.Open(l.View, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
		if err != nil {
			return nil, fmt.Errorf("cannot open the layer of %s at %s: %w", l.Name, l.View, err)
		}
		t.view = os.NewFile(uintptr(fd), l.View)
	}
	for i := range l.Private {
		f := &l.Private[i]
		if err := repo.CheckPath(f.Path); err != nil {
			return nil, fmt.Errorf("cannot place %s: %w", l.Name, err)
		}
		t.private[f.Path] = f
		t.list(f)
	}
	return t, nil
}

// list enters a private file under its parents. A ghost is nobody's child:
// it is not placed, and its directories are made only if the package has
// them; but it keeps them from being folded, for it will be written there.
func (t *tree) list(f *repo.File) {
	for p := f.Path; p != "/"; p = path.Dir(p) {
		t.mixed[p] = true
		if f.Has(repo.Ghost) {
			continue
		}
		dir, name := path.Dir(p), path.Base(p)
		if t.names[dir] == nil {
			t.names[dir] = map[string]bool{}
		}
		t.names[dir][name] = true
	}
}

// relative returns a path of the layer as seen from view.
func (t *tree) at(p string) layerPath { return layerPath{t.view, p[len(t.base):]} }

// read returns the names in a directory of the layer, sorted. A directory
// that only private files imply has no other names.
func (t *tree) read(dir string) ([]entry, error) {
	var entries []entry
	names := t.names[dir]
	var f *os.File
	err := fs.ErrNotExist
	if !t.bare {
		f, err = openBelow(t.view, t.at(dir).relative(), unix.O_RDONLY|unix.O_DIRECTORY, unix.RESOLVE_BENEATH|unix.RESOLVE_NO_SYMLINKS)
	}
	if err != nil && !(missing(err) && (names != nil || t.bare)) {
		return nil, fmt.Errorf("cannot read the layer of %s: %w", t.name, err)
	}
	seen := map[string]bool{}
	if err == nil {
		list, err := f.ReadDir(-1)
		f.Close()
		if err != nil {
			return nil, fmt.Errorf("cannot read the layer of %s: %w", t.name, err)
		}
		for _, d := range list {
			e := t.entry(path.Join(dir, d.Name()), d.Type())
			seen[d.Name()] = true
			if e.private == nil || !e.private.Has(repo.Ghost) {
				entries = append(entries, e)
			}
		}
	}
	for name := range names {
		if !seen[name] {
			entries = append(entries, t.entry(path.Join(dir, name), fs.ModeDir))
		}
	}
	slices.SortFunc(entries, func(a, b entry) int { return cmp.Compare(a.path, b.path) })
	return entries, nil
}

func (t *tree) entry(p string, mode fs.FileMode) entry {
	e := entry{tree: t, path: p, private: t.private[p]}
	switch {
	case e.private != nil:
		e.kind = e.private.Type
	case mode.IsDir():
		e.kind = repo.Dir
	case mode&fs.ModeSymlink != 0:
		e.kind = repo.Symlink
	default:
		e.kind = repo.Regular
	}
	return e
}

// attributes returns the entry as a file of the guest's own would be made.
func (e entry) attributes(guestPath string) (File, error) {
	if f := e.private; f != nil {
		return File{Path: guestPath, Type: f.Type, Mode: f.Mode, User: f.User, Group: f.Group, Flags: f.Flags,
			Digest: f.Digest, Size: f.Size, Link: f.Link, Rdev: f.Rdev}, nil
	}
	made := File{Path: guestPath, Type: e.kind}
	st, err := e.tree.at(e.path).stat()
	switch {
	case missing(err) && e.kind == repo.Dir:
		made.Mode = 0o755 // implied by a private file
		return made, nil
	case err != nil:
		return File{}, fmt.Errorf("cannot find %s in the layer of %s: %w", e.path, e.tree.name, err)
	}
	made.Mode = st.permissions()
	switch e.kind {
	case repo.Regular:
		made.Size = int64(st.Size)
		if e.tree.hash {
			made.Digest, err = e.digest()
		}
	case repo.Symlink:
		made.Link, err = e.link()
	}
	return made, err
}

// digest reads a shared file of the layer.
func (e entry) digest() (repo.Digest, error) {
	l := e.tree.at(e.path)
	f, err := openBelow(l.view, l.relative(), unix.O_RDONLY, unix.RESOLVE_BENEATH|unix.RESOLVE_NO_SYMLINKS)
	if err != nil {
		return repo.Digest{}, fmt.Errorf("cannot read %s in the layer of %s: %w", e.path, e.tree.name, err)
	}
	return digestOf(f)
}

// link returns the target of a shared symlink.
func (e entry) link() (string, error) {
	if e.private != nil {
		return e.private.Link, nil
	}
	l := e.tree.at(e.path)
	return readlinkAt(int(l.view.Fd()), l.relative())
}

func readlinkAt(fd int, name string) (string, error) {
	buf := make([]byte, unix.PathMax)
	n, err := unix.Readlinkat(fd, name, buf)
	if err != nil {
		return "", &fs.PathError{Op: "readlink", Path: name, Err: err}
	}
	return string(buf[:n]), nil
}

// foldable reports whether the directory can be one mount.
func (e entry) foldable() bool { return e.private == nil && !e.tree.mixed[e.path] }

func (t *tree) close() {
	if t.view != nil {
		t.view.Close() // only a reference
	}
}
