package share

import (
	"path"
	"slices"

	"stork/repo"
)

// item is one path of an installed package, by its place in a list of
// [Placed].
type item struct {
	pkg  int
	kind itemKind
	i    int
}

type itemKind string

const (
	mountItem itemKind = "mount"
	dirItem   itemKind = "dir"
	linkItem  itemKind = "link"
	fileItem  itemKind = "file"
)

// index enters what an installed package has.
func (p *planner) index(pkg int) {
	add := func(guestPath string, kind itemKind, i int) {
		p.owned[guestPath] = append(p.owned[guestPath], item{pkg, kind, i})
	}
	placed := &p.installed[pkg]
	for i := range placed.Mounts {
		add(placed.Mounts[i].Target, mountItem, i)
	}
	for i := range placed.Dirs {
		add(placed.Dirs[i].Path, dirItem, i)
	}
	for i := range placed.Links {
		add(placed.Links[i].Path, linkItem, i)
	}
	for i := range placed.Files {
		if !placed.Files[i].Has(repo.Ghost) {
			add(placed.Files[i].Path, fileItem, i)
		}
	}
}

func (p *planner) mount(it item) *Mount { return &p.installed[it.pkg].Mounts[it.i] }
func (p *planner) dir(it item) *Dir     { return &p.installed[it.pkg].Dirs[it.i] }
func (p *planner) link(it item) *Link   { return &p.installed[it.pkg].Links[it.i] }
func (p *planner) file(it item) *File   { return &p.installed[it.pkg].Files[it.i] }

// fold returns the package whose folded directory guestPath is.
func (p *planner) fold(guestPath string) (item, bool) {
	for _, it := range p.owned[guestPath] {
		if p.isFold(it) && !p.taken[it] {
			return it, true
		}
	}
	return item{}, false
}

func (p *planner) isFold(it item) bool {
	return it.kind == mountItem && p.mount(it).Dir || it.kind == linkItem && p.link(it).Dir
}

func (p *planner) folded(guestPath string) bool {
	_, ok := p.fold(guestPath)
	return ok
}

// insideFold reports whether a directory above guestPath is folded.
func (p *planner) insideFold(guestPath string) bool {
	for dir := path.Dir(guestPath); dir != "/"; dir = path.Dir(dir) {
		if p.folded(dir) {
			return true
		}
	}
	return false
}

// keeper returns an item at guestPath of a package that stays.
func (p *planner) keeper(guestPath string) (item, bool) {
	for _, it := range p.owned[guestPath] {
		if !p.going[it.pkg] {
			return it, true
		}
	}
	return item{}, false
}

// leaving returns the items at guestPath of packages that go and that nothing
// has replaced so far.
func (p *planner) leaving(guestPath string) []item {
	var items []item
	for _, it := range p.owned[guestPath] {
		if p.going[it.pkg] && !p.taken[it] {
			items = append(items, it)
		}
	}
	return items
}

// allGoing reports whether guestPath belongs to packages that go, and to
// them only.
func (p *planner) allGoing(guestPath string) bool {
	_, kept := p.keeper(guestPath)
	return !kept && len(p.owned[guestPath]) > 0
}

// take notes that an element replaces an item of a package that goes.
func (p *planner) take(it item, by int) {
	p.taken[it] = true
	e := &p.plan.Elements[by]
	if id := p.installed[it.pkg].ID; !slices.Contains(e.Takes, id) && p.change.again(id) < 0 {
		e.Takes = append(e.Takes, id)
	}
}

func (p *planner) nameOf(pkg int) string {
	id := p.installed[pkg].ID
	if name := p.change.Names[id]; name != "" {
		return name
	}
	return "package " + id.Short()
}

// placedOf returns what the owner of t gains by the plan, for adding to it.
func (p *planner) placedOf(t *tree) *Placed {
	if t.element >= 0 {
		return &p.plan.Elements[t.element].Placed
	}
	return &p.shift(t.via, t.id).Gain
}

// shift returns what an element changes of a kept package.
func (p *planner) shift(element int, id repo.Digest) *Shift {
	e := &p.plan.Elements[element]
	for i := range e.Shifts {
		if e.Shifts[i].ID == id {
			return &e.Shifts[i]
		}
	}
	e.Shifts = append(e.Shifts, Shift{ID: id})
	return &e.Shifts[len(e.Shifts)-1]
}

// emit adds an operation to the element of the first package that wants it.
func (p *planner) emit(element int, op Op) {
	if op.Kind == OpMkdir && p.over.covers(op.Path) {
		p.over.mkdirs = append(p.over.mkdirs, op)
		return
	}
	p.plan.Elements[element].Ops = append(p.plan.Elements[element].Ops, op)
}

// claimDir notes that a package uses a directory that stork made, so that it
// stays until the last of them goes.
func (p *planner) claimDir(guestPath string, e entry) {
	for _, it := range p.owned[guestPath] {
		if it.kind == dirItem {
			p.claim(*p.dir(it), e.tree)
			return
		}
	}
	p.claimOwnDir(guestPath, e)
}

func (p *planner) claim(d Dir, t *tree) {
	if p.over.covers(d.Path) { // see Environment.Dirs
		p.over.claims[d.Path] = true
		return
	}
	placed := p.placedOf(t)
	if !slices.ContainsFunc(placed.Dirs, func(have Dir) bool { return have.Path == d.Path }) {
		placed.Dirs = append(placed.Dirs, d)
	}
}
