package share

import (
	"cmp"
	"fmt"
	"path"
	"slices"

	"stork/repo"
)

// ghosts records the files that only scriptlets make, so that they go with
// the package. One whose directory neither the guest nor the plan has is
// recorded under the name that the package gives it.
func (p *planner) ghosts() error {
	for _, t := range p.trees {
		placed := p.placedOf(t)
		for i := range p.change.Add[t.element].Private {
			f := &p.change.Add[t.element].Private[i]
			if !f.Has(repo.Ghost) {
				continue
			}
			guestPath, err := p.resolveParent(t, f.Path)
			if err != nil {
				return err
			}
			placed.Files = append(placed.Files, File{Path: guestPath, Type: f.Type, Mode: f.Mode,
				User: f.User, Group: f.Group, Flags: f.Flags, Digest: f.Digest, Link: f.Link})
		}
		slices.SortFunc(placed.Files, func(a, b File) int { return cmp.Compare(a.Path, b.Path) })
	}
	return nil
}

// resolveParent returns where a path of the layer is in the guest.
func (p *planner) resolveParent(t *tree, layerPath string) (string, error) {
	dir, name := path.Dir(layerPath), path.Base(layerPath)
	if at, ok := p.guestDirs[dirKey{t, dir}]; ok {
		return path.Join(at, name), nil
	}
	f, err := p.root.follow(dir, 0)
	if err != nil {
		return layerPath, nil // it is not there
	}
	defer f.Close()
	at, err := p.root.nameOf(f)
	if err != nil {
		return "", fmt.Errorf("cannot resolve %s: %w", dir, err)
	}
	return path.Join(at, name), nil
}

// removals plans what goes with the packages that go: all that no new one has
// taken over and no other one shares.
func (p *planner) removals() error {
	for _, pkg := range p.leavingOrder() {
		if again := p.change.again(p.installed[pkg].ID); again >= 0 {
			if err := p.replaced(pkg, again); err != nil {
				return err
			}
			continue
		}
		p.plan.Elements = append(p.plan.Elements, Element{ID: p.installed[pkg].ID, Remove: true})
		if err := p.removal(pkg, len(p.plan.Elements)-1); err != nil {
			return err
		}
	}
	return nil
}

// leavingOrder lists what goes: what is placed anew first, the rest as
// [Change].Remove has it.
func (p *planner) leavingOrder() []int {
	var order []int
	for pkg := range p.installed {
		if p.going[pkg] {
			order = append(order, pkg)
		}
	}
	slices.SortStableFunc(order, func(a, b int) int {
		return cmp.Compare(slices.Index(p.change.Remove, p.installed[a].ID), slices.Index(p.change.Remove, p.installed[b].ID))
	})
	return order
}

func (p *planner) removal(pkg, element int) error {
	placed := &p.installed[pkg]
	for i := range placed.Mounts {
		if it := (item{pkg, mountItem, i}); !p.taken[it] {
			p.emit(element, p.dropMount(it))
		}
	}
	for i := range placed.Links {
		it := item{pkg, linkItem, i}
		if l := p.link(it); !p.taken[it] && !l.Own && (l.Source != "" && !p.claimed(l.Path) || !p.shared(it, l.Path)) {
			p.emit(element, p.dropLink(it))
		}
	}
	for i := range placed.Files {
		if err := p.dropFile(item{pkg, fileItem, i}, element); err != nil {
			return err
		}
	}
	p.dropDirs(pkg, element)
	return nil
}

// shared reports whether somebody else who is not removed before has the
// path: a package that stays, or one that goes later.
func (p *planner) shared(it item, guestPath string) bool {
	for _, o := range p.owned[guestPath] {
		if o.pkg != it.pkg && (!p.going[o.pkg] || o.pkg > it.pkg && !p.taken[o]) {
			return true
		}
	}
	return p.claimed(guestPath)
}

// claimed reports whether an added package has the path.
func (p *planner) claimed(guestPath string) bool {
	if p.claims == nil {
		p.claims = map[string]bool{}
		for i := range p.trees {
			p.claimAll(&p.plan.Elements[i].Placed)
			for j := range p.plan.Elements[i].Shifts {
				p.claimAll(&p.plan.Elements[i].Shifts[j].Gain)
			}
		}
	}
	return p.claims[guestPath] || p.over != nil && p.over.claims[guestPath]
}

func (p *planner) claimAll(placed *Placed) {
	for i := range placed.Mounts {
		p.claims[placed.Mounts[i].Target] = true
	}
	for i := range placed.Dirs {
		p.claims[placed.Dirs[i].Path] = true
	}
	for i := range placed.Links {
		p.claims[placed.Links[i].Path] = true
	}
	for i := range placed.Files {
		p.claims[placed.Files[i].Path] = true
	}
}

// dropMount unmounts, or mounts the same file from the layer of a package
// that has it too and stays.
func (p *planner) dropMount(it item) Op {
	m := p.mount(it)
	for _, o := range p.owned[m.Target] {
		if o.pkg != it.pkg && o.kind == mountItem && !p.going[o.pkg] {
			return Op{Kind: OpMount, Path: m.Target, Layer: p.installed[o.pkg].ID, Source: p.mount(o).Source,
				Was: &Origin{p.installed[it.pkg].ID, m.Source}}
		}
	}
	return p.unmountOp(it, true)
}

// dropFile takes a file away as rpm does: a configuration file that was
// changed is kept aside.
func (p *planner) dropFile(it item, element int) error {
	f := p.file(it)
	if p.taken[it] || f.Own || p.shared(it, f.Path) || p.change.Convert && f.Has(repo.Ghost) {
		return nil
	}
	have, err := p.look(f.Path)
	if err != nil {
		return fmt.Errorf("cannot look at %s: %w", f.Path, err)
	}
	switch {
	case !have.there:
		return nil
	case have.isDir():
		if f.Type == repo.Dir { // a ghost
			p.emit(element, Op{Kind: OpRmdir, Path: f.Path})
		}
		return nil
	}
	if (f.Has(repo.Config) || p.change.Convert) && (f.Type == repo.Regular || f.Type == repo.Symlink) {
		content, err := have.content()
		if err != nil {
			return fmt.Errorf("cannot read %s: %w", f.Path, err)
		}
		if !unmodified(f, have, content) {
			aside := f.Path + string(asSave)
			if err := p.keepAside(element, f.Path, aside); err != nil {
				return err
			}
			el := &p.plan.Elements[element]
			el.Notes = append(el.Notes, fmt.Sprintf("%s was changed in the guest: it is kept as %s", f.Path, aside))
		}
	}
	p.emit(element, Op{Kind: OpDrop, Path: f.Path})
	return nil
}

// dropDirs removes the directories that no package uses any more, deepest
// first, if they are empty then. Several packages that go may all try: the
// last one succeeds.
func (p *planner) dropDirs(pkg, element int) {
	dirs := slices.Clone(p.installed[pkg].Dirs)
	slices.SortFunc(dirs, func(a, b Dir) int { return cmp.Compare(b.Path, a.Path) })
	for _, d := range dirs {
		kept := slices.ContainsFunc(p.owned[d.Path], func(o item) bool { return !p.going[o.pkg] })
		if !kept && !p.claimed(d.Path) {
			p.emit(element, Op{Kind: OpRmdir, Path: d.Path})
		}
	}
}
