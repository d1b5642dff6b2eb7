package store

import (
	"path"
	"sort"

	"stork/repo"
)

// plan is what a list asks for, in the order in which it is made.
type plan struct {
	dirs     []planDir // parents first
	units    []unit
	unitOf   map[int]int // place in the list of a unit's first name → its number
	size     int64       // bytes of all units
	symlinks []*repo.File
}

// planDir is a directory of the tree, listed or implied by what is below it.
type planDir struct {
	path string
	mode uint32
}

// unit is one inode: a regular file and its hard links, as packaged.
type unit struct {
	index int // in the list, of the first name
	attributes
	paths []string
}

// impliedMode is the mode of directories that no list names.
const impliedMode = 0o755

func planOf(list *repo.FileList, private func(*repo.File) bool) *plan {
	p := &plan{unitOf: map[int]int{}}
	kept := sources(list)
	modes := map[string]uint32{}
	first := map[string]int{} // path of a unit's first name → its number
	keep := map[int]bool{}
	for i := range list.Files {
		f := &list.Files[i]
		if f.Has(repo.Ghost) {
			continue
		}
		switch f.Type {
		case repo.Dir:
			modes[f.Path] = dirMode(f, private(f) || !f.RootOwned())
		case repo.Symlink:
			p.symlinks = append(p.symlinks, f)
		case repo.Regular:
			n, linked := first[f.LinkTo]
			if !linked {
				n = len(p.units)
				first[f.Path], p.unitOf[i] = n, n
				p.size += f.Size
				p.units = append(p.units, unit{index: i})
			}
			p.units[n].paths = append(p.units[n].paths, f.Path)
			keep[n] = keep[n] || kept[f.Path]
		default:
			continue // fifos and devices are each guest's own
		}
		for dir := path.Dir(f.Path); dir != "/"; dir = path.Dir(dir) {
			if _, ok := modes[dir]; ok {
				break // and so are those above it
			}
			modes[dir] = impliedMode
		}
	}
	for n := range p.units {
		u := &p.units[n]
		u.attributes = attributesOf(&list.Files[u.index], unitPrivate(list, u, private), keep[n])
	}
	for dir, mode := range modes {
		p.dirs = append(p.dirs, planDir{path: dir, mode: mode})
	}
	sort.Slice(p.dirs, func(i, j int) bool { return p.dirs[i].path < p.dirs[j].path })
	return p
}

// dirMode returns the mode of a listed directory in the tree.
func dirMode(f *repo.File, private bool) uint32 {
	if private {
		return PrivateDirMode
	}
	return f.Mode
}

// unitPrivate reports whether an inode is private. If one of its names is
// not, guests mount that one, and the inode must be as packaged. What is not
// root's is private whatever the caller says: an inode of root's with the
// set-user-ID bit of somebody else's would be a gift.
func unitPrivate(list *repo.FileList, u *unit, private func(*repo.File) bool) bool {
	for _, p := range u.paths {
		i := sort.Search(len(list.Files), func(i int) bool { return list.Files[i].Path >= p })
		if f := &list.Files[i]; f.RootOwned() && !private(f) {
			return false
		}
	}
	return true
}
