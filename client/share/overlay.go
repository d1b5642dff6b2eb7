package share

import (
	"cmp"
	"errors"
	"fmt"
	"path"
	"slices"
	"strings"

	"stork/repo"
)

// overlayMethod has all shared files come from one environment, mounted below
// the guest's own directories. Only private files are placed one by one; the
// environment is exchanged as a whole, by the first element that adds or, if
// none does, by the last one that removes.
type overlayMethod struct{}

func (overlayMethod) accept(_ *Root, t *tree) error {
	t.bare = true
	return nil
}

func (overlayMethod) folds() (itemKind, bool) { return "", false }

func (overlayMethod) fold(*planner, string, entry, *Origin) {}

func (overlayMethod) mounts() bool { return false }

func (overlayMethod) share(_ *planner, s spot) error {
	return fmt.Errorf("cannot place %s: it is in no environment", s.path)
}

func (overlayMethod) record(*Placed, entry, File, bool) {}

// over is what planning with overlays needs: the guest's own directories and
// the environments, as they are merged.
type over struct {
	own    *own
	now    *stack
	roots  []string // of all environments that the plan is about
	mkdirs []Op     // directories for private files
	stages []*stage
	claims map[string]bool // directories of stork's that stay
	before []Op            // what a conversion does before the first exchange
}

func (o *over) close() {
	if o == nil {
		return
	}
	o.now.close()
	o.own.close() // a reference: it is mounted nowhere
}

// covers reports whether p will be in an overlay.
func (o *over) covers(p string) bool { return o != nil && inTrees(o.roots, p) }

// prepare opens what is to be compared, and finds out on which directories
// environments will be mounted.
func (overlayMethod) prepare(p *planner) error {
	c := &p.change
	if c.Next.None() && (len(c.Add) > 0 || slices.Contains(p.going, false)) {
		return errors.New("cannot place packages in an overlay: their environment is not known")
	}
	return p.openOver()
}

func (p *planner) openOver() error {
	c := &p.change
	upper := ""
	for _, e := range []*Environment{c.Now, c.Through, c.Next} {
		if !e.None() {
			upper = e.Upper
		}
	}
	open := p.root.openOwn
	if c.Now.None() {
		open = p.root.openLive // there is nothing of ours to look below
	}
	own, err := open(upper)
	if err != nil {
		return err
	}
	p.over = &over{own: own, claims: map[string]bool{}}
	if !c.Now.None() {
		if p.over.now, err = openStack(c.Now.Trees); err != nil {
			return err
		}
		if c.Method == Overlay {
			p.over.roots = append(p.over.roots, c.Now.Roots...)
		}
	}
	if c.Method != Overlay {
		return nil
	}
	for _, e := range []**Environment{&c.Through, &c.Next} {
		if (*e).None() {
			continue
		}
		planned := Environment{ID: (*e).ID, Trees: (*e).Trees, Upper: (*e).Upper}
		if err := p.topDirs(&planned); err != nil {
			return err
		}
		*e = &planned
		p.over.roots = append(p.over.roots, planned.Roots...)
	}
	return nil
}

// topDirs finds the directories on which an environment is to be mounted, and
// the symlinks beside them.
func (p *planner) topDirs(e *Environment) error {
	s, err := openStack(e.Trees)
	if err != nil {
		return err
	}
	defer s.close()
	names, err := s.names(false)
	if err != nil {
		return err
	}
	for _, name := range sortedKeys(names) {
		m, err := s.look(name)
		switch {
		case err != nil:
			return err
		case !m.there || inTrees(privateTrees, "/"+name):
		case m.isDir():
			e.Roots = append(e.Roots, "/"+name)
		case m.isLink():
			if err := p.topLink(e, &m); err != nil {
				return err
			}
		default:
			return fmt.Errorf("cannot share /%s in an overlay: it is a file in the root directory", name)
		}
	}
	return nil
}

func (p *planner) topLink(e *Environment, m *merged) error {
	target, err := readlinkAt(int(m.in.Fd()), m.name)
	if err != nil {
		return err
	}
	link := Link{Path: "/" + m.name, Target: target}
	have, err := p.look(link.Path)
	if err != nil {
		return err
	}
	ours := !p.change.Now.None() && slices.ContainsFunc(p.change.Now.Links, func(l Link) bool { return l.Path == link.Path && !l.Own })
	switch {
	case !have.there || ours:
	case have.isLink() && have.link == target:
		link.Own = true
	default:
		p.conflicts = append(p.conflicts, &ConflictError{Path: link.Path, Package: p.wanter(link.Path), Owner: theGuest})
	}
	e.Links = append(e.Links, link)
	return nil
}

// wanter names the package that is added and has a path, as far as its layer
// is attached.
func (p *planner) wanter(guestPath string) string {
	for _, t := range p.trees {
		if st, err := t.at(guestPath).stat(); err == nil && !st.isDir() {
			return t.name
		}
	}
	if len(p.trees) == 1 {
		return p.trees[0].name
	}
	return "a package"
}

// stage is one exchange of a plan.
type stage struct {
	element int // that it is the first operation of
	swap    *Swap
	notes   []string
}

// decided plans the exchanges, before it is planned what goes with packages:
// they take some of it away.
func (overlayMethod) decided(p *planner) error {
	c := &p.change
	going := 0
	for _, gone := range p.going {
		if gone {
			going++
		}
	}
	adds, last := len(c.Add) > 0, len(c.Add)+going-1
	if len(p.conflicts) > 0 {
		return nil
	}
	none := &Environment{}
	now, next := cmp.Or(c.Now, none), cmp.Or(c.Next, none)
	if last < 0 {
		if now.ID == next.ID {
			return nil
		}
		p.plan.Elements, last = append(p.plan.Elements, Element{Remove: true}), 0
		if !next.None() {
			// What an exchange that failed has left of it, of trees that the
			// nest may have made anew since, must not be taken for it.
			marked := *next
			marked.Mark = p.plan.Tag
			next = &marked
		}
	}
	if adds && going > 0 && !c.Through.None() {
		through, err := p.stage(0, now, c.Through)
		if err != nil {
			return err
		}
		now, adds = through, false
	}
	element := last
	if adds {
		element = 0
	}
	_, err := p.stage(element, now, next)
	return err
}

// stage plans one exchange, and returns what is mounted then.
func (p *planner) stage(element int, from, to *Environment) (*Environment, error) {
	s := &Swap{From: *from, To: *to}
	s.To.Dirs, s.To.Own = slices.Clone(from.Dirs), slices.Clone(from.Own)
	for i := range p.installed { // what packages have made becomes the environment's
		for _, d := range p.installed[i].Dirs {
			if p.change.Convert && to.covers(d.Path) && !slices.Contains(s.To.Dirs, d.Path) {
				s.To.Dirs = append(s.To.Dirs, d.Path)
				p.over.claims[d.Path] = true
			}
		}
	}
	st := &stage{element: element, swap: s}
	p.over.stages = append(p.over.stages, st)
	if err := p.privateConflicts(to); err != nil {
		return nil, err
	}
	if err := p.compare(st); err != nil {
		return nil, err
	}
	if len(p.over.stages) == 1 {
		if err := (&comparison{planner: p, stage: st}).restoreShared(); err != nil {
			return nil, err
		}
	}
	if err := p.ownDirs(s); err != nil {
		return nil, err
	}
	p.topLinks(s)
	slices.Sort(s.To.Own)
	if s.From.ID == s.To.ID {
		s.To.Mark = s.From.Mark
		if len(s.Own) > 0 {
			s.To.Mark = p.plan.Tag
		}
	}
	return &s.To, nil
}

// finish enters the exchanges into their elements.
func (overlayMethod) finish(p *planner) error { return p.enterStages() }

func (p *planner) enterStages() error {
	for i, st := range p.over.stages {
		if i == len(p.over.stages)-1 {
			if err := p.dropOwnDirs(st.swap); err != nil {
				return err
			}
		}
		e := &p.plan.Elements[st.element]
		if st.swap.From.source() != st.swap.To.source() {
			e.Ops = slices.Concat(p.over.before, []Op{{Kind: OpSwap, Path: "/", Swap: st.swap}}, e.Ops)
			p.over.before = nil
		}
		e.Environment = &st.swap.To
		e.Notes = append(e.Notes, st.notes...)
	}
	return nil
}

// privateConflicts finds private files where other packages have shared ones.
func (p *planner) privateConflicts(to *Environment) error {
	if to.None() {
		return nil
	}
	s, err := openStack(to.Trees)
	if err != nil {
		return err
	}
	defer s.close()
	for i, t := range p.trees {
		for _, f := range p.plan.Elements[i].Placed.Files {
			if !to.covers(f.Path) || f.Has(repo.Ghost) {
				continue
			}
			m, err := s.find(f.Path)
			if err != nil {
				return err
			}
			if m.there && !m.isDir() {
				p.conflicts = append(p.conflicts, &ConflictError{Path: f.Path, Package: t.name, Owner: "another package"})
			}
		}
	}
	return nil
}

// ownDirs has the directories made that private files need, in the guest's
// own tree and before the exchange, with the attributes that the environment
// has for them.
func (p *planner) ownDirs(s *Swap) error {
	if s.To.None() {
		return nil
	}
	trees, err := openStack(s.To.Trees)
	if err != nil {
		return err
	}
	defer trees.close()
	for _, op := range p.over.mkdirs {
		if slices.Contains(s.To.Dirs, op.Path) {
			continue
		}
		if f := op.File; f.Mode == 0o755 && f.User == "" && f.Group == "" {
			m, err := trees.find(op.Path)
			if err != nil {
				return err
			}
			if m.there && m.isDir() {
				f.Mode = m.permissions()
			}
		}
		s.Own = append(s.Own, op)
		s.To.Dirs = append(s.To.Dirs, op.Path)
	}
	// What is mounted on a directory that the guest does not have needs one.
	for _, dir := range s.To.Roots {
		m, err := p.over.own.find(dir)
		if err != nil {
			return err
		}
		gone := !m.there || p.change.Convert && len(p.leaving(dir)) > 0
		if gone && !slices.ContainsFunc(s.Own, func(op Op) bool { return op.Path == dir }) {
			t, err := trees.look(dir[1:])
			if err != nil {
				return err
			}
			s.Own = append([]Op{{Kind: OpMkdir, Path: dir, Fresh: true, File: &File{Path: dir, Type: repo.Dir, Mode: t.permissions()}}}, s.Own...)
			if !slices.Contains(s.To.Dirs, dir) {
				s.To.Dirs = append(s.To.Dirs, dir)
			}
		}
	}
	p.over.mkdirs = nil
	slices.Sort(s.To.Dirs)
	return nil
}

// dropOwnDirs removes, in the last element that removes, directories that no
// private file needs and the environment does not have any more. Those that it
// has stay: the guest would hide them by removing its own.
func (p *planner) dropOwnDirs(s *Swap) error {
	last := len(p.plan.Elements) - 1
	if !p.plan.Elements[last].Remove {
		return nil
	}
	needed := p.privateDirs()
	var trees *stack
	if !s.To.None() {
		var err error
		if trees, err = openStack(s.To.Trees); err != nil {
			return err
		}
		defer trees.close()
	}
	var kept []string
	for _, dir := range slices.Backward(s.To.Dirs) {
		m, err := trees.find(dir)
		if err != nil {
			return err
		}
		if needed[dir] || m.there && m.isDir() {
			kept = append(kept, dir)
			continue
		}
		p.emit(last, Op{Kind: OpRmdir, Path: dir})
	}
	slices.Reverse(kept)
	s.To.Dirs = kept
	return nil
}

// privateDirs are the directories in which packages have private files
// afterwards.
func (p *planner) privateDirs() map[string]bool {
	needed := map[string]bool{}
	add := func(placed *Placed) {
		for i := range placed.Files {
			for dir := path.Dir(placed.Files[i].Path); dir != "/"; dir = path.Dir(dir) {
				needed[dir] = true
			}
		}
	}
	for i := range p.installed {
		if !p.going[i] {
			add(&p.installed[i])
		}
	}
	for i := range p.trees {
		add(&p.plan.Elements[i].Placed)
	}
	return needed
}

// topLinks exchanges the symlinks in the root directory.
func (p *planner) topLinks(s *Swap) {
	for _, l := range s.From.Links {
		if !l.Own && !slices.Contains(s.To.Links, l) {
			s.Own = append(s.Own, Op{Kind: OpTake, Path: l.Path})
		}
	}
	for _, l := range s.To.Links {
		if !l.Own && !slices.Contains(s.From.Links, l) {
			s.Own = append(s.Own, Op{Kind: OpPut, Path: l.Path, Fresh: true, File: &File{Path: l.Path, Type: repo.Symlink, Mode: 0o777, Link: l.Target}})
		}
	}
}

// markHeads marks the trees that only one of two environments has: whatever
// differs between them is in these.
func markHeads(a, b *stack, from, to []string) {
	n := 0
	for n < len(from) && n < len(to) && from[len(from)-1-n] == to[len(to)-1-n] {
		n++
	}
	for i := range len(from) - n {
		a.layers[i].head = true
	}
	for i := range len(to) - n {
		b.layers[i].head = true
	}
}

func join(dir, name string) string { return strings.TrimSuffix(dir, "/") + "/" + name }
