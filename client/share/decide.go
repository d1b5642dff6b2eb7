package share

import (
	"fmt"
	"io/fs"
	"os"
	"path"
	"slices"

	"golang.org/x/sys/unix"

	"stork/repo"
)

// unfoldable are the directories at and below which no directory is folded,
// because the guest will want to write there.
var unfoldable = append([]string{"/etc"}, privateTrees...)

// decideDir plans a directory that the guest does not have, or has as a mount
// or as something that goes.
func (p *planner) decideDir(guestPath string, entries []entry, below bool) error {
	first := entries[0]
	kind, fold := p.how.folds()
	fold = fold && len(entries) == 1 && first.foldable() && !inTrees(unfoldable, guestPath)
	it, folded := p.fold(guestPath)
	switch {
	case below:
	case folded && p.going[it.pkg] && fold && it.kind == kind:
		p.take(it, first.tree.by())
		p.how.fold(p, guestPath, first, &Origin{p.installed[it.pkg].ID, p.sourceOf(it)})
		return nil
	case folded && p.going[it.pkg] && fold:
		p.take(it, first.tree.by())
		p.emitAway(first.tree.by(), it)
		p.how.fold(p, guestPath, first, nil)
		return nil
	case folded && it.kind == linkItem:
		return p.unfoldLink(guestPath, it, entries)
	case folded:
		return p.unfold(guestPath, it, entries)
	default:
		free, err := p.clear(guestPath, first)
		if err != nil || !free {
			return err
		}
	}
	if fold {
		p.how.fold(p, guestPath, first, nil)
		return nil
	}
	return p.makeDir(guestPath, entries, true)
}

// sourceOf returns the path in its layer that a fold shows.
func (p *planner) sourceOf(it item) string {
	if it.kind == linkItem {
		return p.link(it).Source
	}
	return p.mount(it).Source
}

// by returns the element that carries the tree's operations.
func (t *tree) by() int {
	if t.element < 0 {
		return t.via
	}
	return t.element
}

// makeDir plans a real directory and what is in it. The guest has nothing
// below it.
func (p *planner) makeDir(guestPath string, entries []entry, mkdir bool) error {
	attributes, err := entries[0].attributes(guestPath)
	if err != nil {
		return err
	}
	if mkdir {
		p.emit(entries[0].tree.by(), Op{Kind: OpMkdir, Path: guestPath, Fresh: true, File: &attributes})
	}
	children := map[string][]entry{}
	for _, e := range entries {
		p.claim(Dir{Path: guestPath, Mode: attributes.Mode, User: attributes.User, Group: attributes.Group}, e.tree)
		p.guestDirs[dirKey{e.tree, e.path}] = guestPath
		list, err := e.tree.read(e.path)
		if err != nil {
			return err
		}
		for _, child := range list {
			at := path.Join(guestPath, path.Base(child.path))
			children[at] = append(children[at], child)
		}
	}
	for _, at := range sortedKeys(children) {
		if err := p.decide(at, children[at], true); err != nil {
			return err
		}
	}
	return nil
}

// unfold takes a folded directory apart: its package keeps what is in it as
// mounts of its own, unless it goes.
func (p *planner) unfold(guestPath string, it item, entries []entry) error {
	owner, m := &p.installed[it.pkg], p.mount(it)
	by := entries[0].tree.by()
	p.taken[it] = true
	if p.going[it.pkg] {
		p.take(it, by)
	}
	p.emit(by, Op{Kind: OpUnmount, Path: guestPath, Layer: owner.ID, Source: m.Source, Dir: true})
	if p.going[it.pkg] {
		return p.makeDir(guestPath, entries, false)
	}
	dir, err := p.root.plain(guestPath, unix.O_PATH|unix.O_DIRECTORY)
	if err != nil {
		return fmt.Errorf("cannot open the shared directory of %s: %w", p.nameOf(it.pkg), err)
	}
	t := &tree{id: owner.ID, name: p.nameOf(it.pkg), element: -1, via: by, view: dir, base: m.Source}
	p.unfolded = append(p.unfolded, t)
	shift := p.shift(by, owner.ID)
	shift.Drop = append(shift.Drop, guestPath)
	return p.makeDir(guestPath, append(entries, entry{tree: t, path: m.Source, kind: repo.Dir}), false)
}

// clear makes way for something of another type: what goes with its package
// goes now. It reports whether the path is free then; if not, the conflict
// has been noted.
func (p *planner) clear(guestPath string, e entry) (bool, error) {
	if it, kept := p.keeper(guestPath); kept {
		p.conflict(guestPath, e, p.nameOf(it.pkg))
		return false, nil
	}
	_, err := p.stat(guestPath)
	leaving := p.leaving(guestPath)
	switch {
	case missing(err):
		for _, it := range leaving {
			p.take(it, e.tree.by())
		}
		return true, nil
	case err != nil:
		return false, err
	case len(leaving) == 0:
		p.conflict(guestPath, e, theGuest)
		return false, nil
	}
	for _, it := range leaving {
		switch it.kind {
		case mountItem:
			if p.mount(it).Own {
				p.conflict(guestPath, e, theGuest)
				return false, nil
			}
			p.emit(e.tree.by(), p.unmountOp(it, true))
		case linkItem, fileItem:
			p.emit(e.tree.by(), Op{Kind: OpTake, Path: guestPath})
		case dirItem:
			p.conflict(guestPath, e, "the directory of "+p.nameOf(it.pkg))
			return false, nil
		}
		p.take(it, e.tree.by())
	}
	return true, nil
}

// unmountOp takes a mount away, and with it, if all is set, what it lies on.
func (p *planner) unmountOp(it item, all bool) Op {
	m := p.mount(it)
	return Op{Kind: OpUnmount, Path: m.Target, Layer: p.installed[it.pkg].ID, Source: m.Source, Dir: m.Dir, Fresh: all && !m.Own}
}

// disk is what a path of the guest holds now.
type disk struct {
	info
	there bool
	link  string
	open  func() (*os.File, error)
}

func (p *planner) look(guestPath string) (disk, error) {
	st, err := p.stat(guestPath)
	if missing(err) {
		return disk{}, nil
	}
	if err != nil {
		return disk{}, err
	}
	d := disk{info: st, there: true, open: func() (*os.File, error) { return p.root.plain(guestPath, unix.O_RDONLY|unix.O_NONBLOCK) }}
	if st.isLink() {
		at, err := p.dirs.at(guestPath)
		if err != nil {
			return disk{}, err
		}
		d.link, err = readlinkAt(int(at.dir.Fd()), at.name)
		return d, err
	}
	return d, nil
}

// stat returns what the guest has at a path. What is there only because of an
// environment that goes does not count.
func (p *planner) stat(guestPath string) (info, error) {
	at, err := p.dirs.at(guestPath)
	if err != nil {
		return info{}, err
	}
	st, err := at.stat()
	if err != nil || p.over == nil || !p.change.Now.covers(guestPath) {
		return st, err
	}
	m, err := p.over.own.find(guestPath)
	// A conversion replaces the guest's version of a shared file: see fileGoes.
	version := p.change.Convert && m.there && !m.isDir() && !slices.Contains(p.change.Now.Own, guestPath)
	if err == nil && (!m.there || version) {
		shared, findErr := p.over.now.find(guestPath)
		if err = findErr; err == nil && shared.there {
			err = &fs.PathError{Op: "stat", Path: guestPath, Err: fs.ErrNotExist}
		}
	}
	return st, err
}
