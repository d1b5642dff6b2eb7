package store

import (
	"context"
	"errors"
	"io/fs"
	"maps"
	"os"
	"path"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// maker is told what a merged tree has: parents before what is in them, each
// path once.
type maker interface {
	dir(p string, mode uint32) error
	leaf(p string, from *entry) error
	whiteout(p string) error
}

// The roles of members in a merge.
const (
	add = iota
	drop
	keep
	roles
)

// mergeWalk goes through the directories of layers that come and go, all at
// the same time, and through those of the others and of the base only where
// these have something.
type mergeWalk struct {
	s       *Store
	maker   maker
	aliases map[string]string
	members [roles][]*member
	mounts  [roles]map[string][]mount // by directory of the merged tree
	base    []string
	left    int // entries that may still be looked at

	layers *os.File // LayersDir, below which all that is looked at lies
}

// mount is what an alias puts into a directory of the merged tree: a
// directory of a layer that lies elsewhere there, or the way to one.
type mount struct {
	name string
	source
}

// source is a member's directory at one place of the merged tree.
type source struct {
	m   *member
	dir string // empty: only on the way to what an alias puts below
}

// place is a directory of the merged tree.
type place struct {
	parent *place // nil: the root
	path   string // the root's is empty
	mode   uint32
	made   bool // by the maker
	src    [roles][]source
	base   []string // what the base trees have there, topmost first
}

func (w *mergeWalk) run(ctx context.Context) (err error) {
	if w.layers, err = os.Open(w.s.LayersDir()); err != nil {
		return err
	}
	defer w.layers.Close()
	root := &place{made: true, mode: impliedMode, base: w.base}
	for role, members := range w.members {
		if role == keep && len(w.members[drop]) == 0 {
			continue // nobody will ask
		}
		w.mounts[role] = map[string][]mount{}
		for _, m := range members {
			root.src[role] = append(root.src[role], source{m, m.root})
			if err := w.mountAliases(w.mounts[role], m); err != nil {
				return err
			}
		}
	}
	return w.visit(ctx, root)
}

// mountAliases notes where a member's aliased directories go.
func (w *mergeWalk) mountAliases(mounts map[string][]mount, m *member) error {
	for _, from := range slices.Sorted(maps.Keys(w.aliases)) {
		found, err := m.hasDir(from)
		if err != nil {
			return err
		}
		if !found {
			continue
		}
		at := w.aliases[from]
		next := source{m, m.root + from}
		for at != "/" {
			dir, name := path.Split(at)
			at = path.Clean(dir)
			key := strings.TrimSuffix(dir, "/")
			mounts[key] = append(mounts[key], mount{name, next})
			next = source{m: m}
		}
	}
	return nil
}

// visit merges what is in one directory.
func (w *mergeWalk) visit(ctx context.Context, p *place) error {
	adds, err := w.children(p, add)
	if err != nil {
		return err
	}
	drops, err := w.children(p, drop)
	if err != nil {
		return err
	}
	names := slices.Collect(maps.Keys(adds))
	for name := range drops {
		if _, both := adds[name]; !both {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	for _, name := range names {
		if err := ctx.Err(); err != nil {
			return err
		}
		if err := w.child(ctx, p, name, adds[name], drops[name]); err != nil {
			return err
		}
	}
	return nil
}

// children reads what members of a role have in a directory, by name.
func (w *mergeWalk) children(p *place, role int) (map[string][]*entry, error) {
	all := map[string][]*entry{}
	for _, src := range p.src[role] {
		if src.dir == "" {
			continue
		}
		list, err := w.readDir(src.dir)
		if err != nil {
			return nil, err
		}
		if w.left -= len(list); w.left < 0 {
			return nil, ErrTooLarge
		}
		for _, d := range list {
			e, err := w.entryOf(src, d.Name(), d.Type())
			if err != nil {
				return nil, err
			}
			if e != nil {
				all[d.Name()] = append(all[d.Name()], e)
			}
		}
	}
	for _, m := range w.mounts[role][p.path] {
		all[m.name] = append(all[m.name], &entry{m: m.m, file: m.dir, isDir: true})
	}
	return all, nil
}

// below returns a path as it is seen from the layers' directory: thousands of
// look-ups then do not begin at the root each, which takes most of their time.
func (w *mergeWalk) below(file string) string { return file[len(w.layers.Name())+1:] }

func (w *mergeWalk) lstat(file string, stat *unix.Stat_t) error {
	err := unix.Fstatat(int(w.layers.Fd()), w.below(file), stat, unix.AT_SYMLINK_NOFOLLOW)
	if err != nil && err != unix.ENOENT {
		return &os.PathError{Op: "lstat", Path: file, Err: err}
	}
	return err
}

// readDir returns what is in a directory, in no order.
func (w *mergeWalk) readDir(dir string) ([]fs.DirEntry, error) {
	fd, err := unix.Openat(int(w.layers.Fd()), w.below(dir), unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, &os.PathError{Op: "open", Path: dir, Err: err}
	}
	f := os.NewFile(uintptr(fd), dir)
	defer f.Close()
	return f.ReadDir(-1)
}

// kept returns what the members that stay have at a name.
func (w *mergeWalk) kept(p *place, name string) ([]*entry, error) {
	var found []*entry
	for _, src := range p.src[keep] {
		if src.dir == "" {
			continue
		}
		if w.left--; w.left < 0 {
			return nil, ErrTooLarge
		}
		var stat unix.Stat_t
		err := w.lstat(src.dir+"/"+name, &stat)
		if errors.Is(err, unix.ENOENT) {
			continue
		}
		if err != nil {
			return nil, err
		}
		e, err := w.entryOf(src, name, typeOf(stat.Mode))
		if err != nil {
			return nil, err
		}
		if e != nil {
			e.stat = &stat
			found = append(found, e)
		}
	}
	for _, m := range w.mounts[keep][p.path] {
		if m.name == name {
			found = append(found, &entry{m: m.m, file: m.dir, isDir: true})
		}
	}
	return found, nil
}

// child decides what is at one name, with what comes there and what goes.
func (w *mergeWalk) child(ctx context.Context, p *place, name string, adds, drops []*entry) error {
	at := p.path + "/" + name
	base, err := w.lookup(p.base, name)
	if err != nil {
		return err
	}
	owners, kept := adds, []*entry(nil)
	switch {
	case len(drops) > 0:
		if kept, err = w.kept(p, name); err != nil {
			return err
		}
		owners = slices.Concat(kept, adds)
	case base != nil:
		owners = append([]*entry{&base.entry}, adds...)
	}
	if len(owners) == 0 {
		if base == nil {
			return nil
		}
		if err := w.make(p); err != nil {
			return err
		}
		return w.maker.whiteout(at)
	}
	if err := w.agree(at, owners); err != nil {
		return err
	}
	if owners[0].isDir {
		return w.childDir(ctx, p, at, base, owners, [roles][]*entry{adds, drops, kept})
	}
	if base != nil && !base.isDir {
		same, err := base.sameAs(owners[0])
		if same || err != nil {
			return err
		}
	}
	if err := w.make(p); err != nil {
		return err
	}
	return w.maker.leaf(at, owners[0])
}

// childDir goes on in a directory. In a delta tree it is made only if
// something in it differs, or its mode.
func (w *mergeWalk) childDir(ctx context.Context, p *place, at string, base *baseEntry, owners []*entry, all [roles][]*entry) error {
	mode, err := w.mode(at, owners)
	if err != nil {
		return err
	}
	sub := &place{parent: p, path: at, mode: mode}
	for role, entries := range all {
		if role == keep && len(sub.src[drop]) == 0 {
			continue // nobody will ask
		}
		for _, e := range entries {
			if e.isDir {
				sub.src[role] = append(sub.src[role], source{e.m, e.file})
			}
		}
	}
	differs := true
	if base != nil && base.isDir {
		sub.base = base.dirs
		have, err := base.mode()
		if err != nil {
			return err
		}
		differs = have != mode
	}
	if differs {
		if err := w.make(sub); err != nil {
			return err
		}
	}
	return w.visit(ctx, sub)
}

// make makes a directory that is not there yet, and its parents.
func (w *mergeWalk) make(p *place) error {
	if p.made {
		return nil
	}
	if err := w.make(p.parent); err != nil {
		return err
	}
	p.made = true
	return w.maker.dir(p.path, p.mode)
}
