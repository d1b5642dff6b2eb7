package share

import (
	"errors"
	"fmt"
	"slices"

	"stork/repo"
)

// again returns the index in Add of an installed package that a conversion
// places anew, or -1.
func (c *Change) again(id repo.Digest) int {
	if !c.Convert {
		return -1
	}
	return slices.IndexFunc(c.Add, func(l Layer) bool { return l.ID == id })
}

// check refuses what would mix methods of which one hides the other. Copies
// go with all of them.
func (c *Change) check(installed []Placed) error {
	if !c.Convert {
		for i := range installed {
			m := installed[i].Method
			if m == Overlay && c.Method != Overlay && slices.Contains(c.Remove, installed[i].ID) {
				return fmt.Errorf("cannot remove packages by method %q that were placed by %q", c.Method, m)
			}
			if c.Method != Copy && m != Copy && m != c.Method && len(c.Add) > 0 {
				return fmt.Errorf("cannot place packages by method %q: others are by %q, and have to be converted first", c.Method, m)
			}
		}
		return nil
	}
	if len(c.Remove) > 0 {
		return errors.New("cannot convert packages and remove some at once")
	}
	if len(c.Add) == 0 {
		return errors.New("cannot convert packages: there are none")
	}
	for i := range installed {
		if c.again(installed[i].ID) < 0 {
			return fmt.Errorf("cannot convert packages: package %s is left out", installed[i].ID.Short())
		}
	}
	return nil
}

// keepPrivate leaves a private file alone that its package had before.
func (p *planner) keepPrivate(entries []entry, want File, leaving []item) bool {
	if entries[0].private == nil || !p.change.Convert {
		return false
	}
	for _, it := range leaving {
		if it.kind == fileItem && p.file(it).Type == want.Type {
			for _, e := range entries {
				p.record(e, want, p.file(it).Own)
			}
			return true
		}
	}
	return false
}

// notOwn leaves out, in a conversion, what was the guest's own and has only
// been found to be the same: it does not go.
func (p *planner) notOwn(leaving []item) []item {
	if !p.change.Convert {
		return leaving
	}
	return slices.DeleteFunc(slices.Clone(leaving), func(it item) bool {
		return it.kind == fileItem && p.file(it).Own || it.kind == linkItem && p.link(it).Own ||
			it.kind == mountItem && p.mount(it).Own && p.change.Method == Overlay
	})
}

// keepOwn reports whether the guest's own file has come to light again that a
// mount lay on, and is what the package has there.
func (p *planner) keepOwn(guestPath string, e entry, leaving []item) (bool, error) {
	if !p.change.Convert || p.how.mounts() || !e.isShared() {
		return false, nil
	}
	if !slices.ContainsFunc(leaving, func(it item) bool { return it.kind == mountItem && p.mount(it).Own }) {
		return false, nil
	}
	o, err := p.root.openOwn("")
	if err != nil {
		return false, err
	}
	defer o.close() // a reference: it is mounted nowhere
	places, err := o.places(guestPath)
	defer closePlaces(places)
	if err != nil || len(places) == 0 {
		return false, err
	}
	st, err := places[0].stat()
	if err != nil {
		return false, err
	}
	layer, err := e.tree.at(e.path).stat()
	if err != nil {
		return false, err
	}
	l := e.tree.at(e.path)
	return sameContentMerged(&merged{info: st, there: true, in: places[0].dir, name: places[0].name},
		&merged{info: layer, there: true, in: l.view, name: l.relative()})
}

// emitAway plans that a folded directory goes which another method placed.
func (p *planner) emitAway(element int, it item) {
	if it.kind == mountItem {
		p.emit(element, p.unmountOp(it, true))
		return
	}
	p.emit(element, Op{Kind: OpTake, Path: p.link(it).Path})
}

// claimOwnDir notes that a package uses a directory that stork made for the
// guest's private files below an environment that goes.
func (p *planner) claimOwnDir(guestPath string, e entry) {
	now := p.change.Now
	if !p.change.Convert || now.None() || !slices.Contains(now.Dirs, guestPath) {
		return
	}
	if st, err := p.stat(guestPath); err == nil {
		p.claim(Dir{Path: guestPath, Mode: st.permissions()}, e.tree)
	}
}

// replaced plans what goes of a package that is placed anew. Other than with
// a package that is removed, all of it can be undone. It is done after the
// rest, but before an environment comes, which would lie over it.
func (p *planner) replaced(pkg, element int) error {
	p.plan.Elements = append(p.plan.Elements, Element{})
	last := len(p.plan.Elements) - 1
	err := p.removal(pkg, last)
	gone := p.plan.Elements[last]
	p.plan.Elements = p.plan.Elements[:last]
	if err != nil {
		return err
	}
	for i := range gone.Ops {
		op := &gone.Ops[i]
		switch op.Kind {
		case OpDrop:
			op.Kind = OpTake
		case OpRmdir:
			op.File = p.madeDir(pkg, op.Path)
		}
	}
	e := &p.plan.Elements[element]
	e.Notes = append(e.Notes, gone.Notes...)
	if p.change.Method == Overlay {
		p.over.before = append(p.over.before, gone.Ops...)
	} else {
		e.Ops = append(e.Ops, gone.Ops...)
	}
	return nil
}

func (p *planner) madeDir(pkg int, guestPath string) *File {
	for _, d := range p.installed[pkg].Dirs {
		if d.Path == guestPath {
			return &File{Path: d.Path, Type: repo.Dir, Mode: d.Mode, User: d.User, Group: d.Group}
		}
	}
	return nil
}
