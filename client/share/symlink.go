package share

import (
	"fmt"
	"path"

	"golang.org/x/sys/unix"

	"stork/repo"
)

// symlinkMethod places symlinks that lead into the view, for a guest that can
// mount nothing itself. It folds as bind does.
type symlinkMethod struct{ plain }

// accept finds out what the guest calls the layer's directory.
func (symlinkMethod) accept(r *Root, t *tree) error {
	if err := t.readOnly(); err != nil {
		return err
	}
	inside, err := r.nameOf(t.view)
	if err != nil {
		return fmt.Errorf("cannot link to the layer of %s: %w", t.name, err)
	}
	t.inside = inside
	return nil
}

func (symlinkMethod) folds() (itemKind, bool) { return linkItem, true }

func (symlinkMethod) fold(p *planner, guestPath string, e entry, was *Origin) {
	p.emit(e.tree.by(), Op{Kind: OpPut, Path: guestPath, Fresh: was == nil, File: e.viewLink(guestPath)})
	placed := p.placedOf(e.tree)
	placed.Links = append(placed.Links, Link{Path: guestPath, Target: e.viewPath(), Source: e.path, Dir: true})
}

func (symlinkMethod) mounts() bool { return false }

func (symlinkMethod) share(p *planner, s spot) error {
	if s.have.there {
		if err := p.emitSave(s.path, s.entry, s.have, s.leaving); err != nil {
			return err
		}
	}
	p.emit(s.entry.tree.by(), Op{Kind: OpPut, Path: s.path, Fresh: !s.have.there, File: s.entry.viewLink(s.path)})
	return nil
}

// record notes the symlink; the guest's own identical file is left alone, so
// there is none then.
func (symlinkMethod) record(placed *Placed, e entry, want File, own bool) {
	if own {
		want.Own = true
		placed.Files = append(placed.Files, want)
		return
	}
	placed.Links = append(placed.Links, Link{Path: want.Path, Target: e.viewPath(), Source: e.path})
}

// viewPath returns what the guest calls the layer's file.
func (e entry) viewPath() string { return path.Join(e.tree.inside, e.path[len(e.tree.base):]) }

func (e entry) viewLink(guestPath string) *File {
	return &File{Path: guestPath, Type: repo.Symlink, Mode: 0o777, Link: e.viewPath()}
}

// sameAsLinked reports whether e is the file that an installed package's
// symlink into the view leads to.
func (p *planner) sameAsLinked(l *Link, e entry) (bool, error) {
	if !e.isShared() {
		return false, nil
	}
	f, err := p.root.follow(l.Target, 0)
	if err != nil {
		return false, fmt.Errorf("cannot find what %s leads to: %w", l.Path, err)
	}
	defer f.Close()
	have, err := statAt(int(f.Fd()), "")
	if err != nil {
		return false, err
	}
	st, err := e.tree.at(e.path).stat()
	return have.same(st), err
}

// unfoldLink takes the place of a folded directory's symlink.
func (p *planner) unfoldLink(guestPath string, it item, entries []entry) error {
	owner, l := &p.installed[it.pkg], p.link(it)
	by := entries[0].tree.by()
	p.taken[it] = true
	if p.going[it.pkg] {
		p.take(it, by)
	}
	p.emit(by, Op{Kind: OpTake, Path: guestPath})
	if p.going[it.pkg] {
		return p.makeDir(guestPath, entries, true)
	}
	dir, err := p.root.follow(l.Target, unix.O_DIRECTORY)
	if err != nil {
		return fmt.Errorf("cannot open the shared directory of %s: %w", p.nameOf(it.pkg), err)
	}
	t := &tree{id: owner.ID, name: p.nameOf(it.pkg), element: -1, via: by, view: dir, base: l.Source, inside: l.Target}
	p.unfolded = append(p.unfolded, t)
	shift := p.shift(by, owner.ID)
	shift.Drop = append(shift.Drop, guestPath)
	return p.makeDir(guestPath, append(entries, entry{tree: t, path: l.Source, kind: repo.Dir}), true)
}

// dropLink removes a symlink, or has it lead to the layer of a package that
// has the same file and stays.
func (p *planner) dropLink(it item) Op {
	l := p.link(it)
	for _, o := range p.owned[l.Path] {
		if l.Source != "" && o.pkg != it.pkg && o.kind == linkItem && !p.going[o.pkg] && p.link(o).Source != "" {
			return Op{Kind: OpPut, Path: l.Path, File: &File{Path: l.Path, Type: repo.Symlink, Mode: 0o777, Link: p.link(o).Target}}
		}
	}
	return Op{Kind: OpDrop, Path: l.Path}
}
