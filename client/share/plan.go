package share

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"path"
	"slices"

	"golang.org/x/sys/unix"

	"stork/repo"
)

// Change is what a plan is made for. Paths that a package in Add has in
// common with one in Remove are taken over without a moment in which they
// are missing.
type Change struct {
	Method Method
	Tag    string // letters and digits; different from that of any plan still to be finished
	Add    []Layer
	Remove []repo.Digest          // in the order in which their elements are applied
	Names  map[repo.Digest]string // installed packages, for messages

	// Convert has what is installed placed anew, by another method: Add is then
	// all that is installed, and perhaps more, and Remove is empty. The guest's
	// own files stay, and private ones as they are. Its own versions of shared
	// files are kept aside. There are moments in which files are missing.
	Convert bool

	// Now is what is mounted, as [Element] said: nil or none but with [Overlay].
	Now *Environment
	// Next is the environment of all that is installed afterwards: needed with
	// [Overlay], unless nothing is. A change that adds and removes nothing only
	// exchanges Now for it, by one element that removes and has no ID.
	Next *Environment
	// Through, if there is one, is the environment of all that is installed
	// afterwards and of the packages that go and that none in Add replaces: the
	// files of these stay until the last element is applied, as their
	// scriptlets may need them. Without it they go with the first.
	Through *Environment
}

// ConflictError says that a path is wanted twice.
type ConflictError struct {
	Path    string
	Package string // who wants it
	Owner   string // who has it: a package, or "the guest"
}

// Error implements error.
func (e *ConflictError) Error() string {
	return fmt.Sprintf("cannot place %s of %s: %s has a different one", e.Path, e.Package, e.Owner)
}

const theGuest = "the guest"

// MakePlan finds out what placing and removing packages takes. Nothing is
// changed. All conflicts are found here and joined: see [ConflictError].
// installed is everything that is placed, also what is to be removed.
func MakePlan(ctx context.Context, root *Root, installed []Placed, change Change) (*Plan, error) {
	how, err := change.Method.sharer()
	if err != nil {
		return nil, fmt.Errorf("cannot place packages: %w", err)
	}
	if err := change.check(installed); err != nil {
		return nil, err
	}
	p := newPlanner(ctx, root, installed, change)
	p.how = how
	defer p.close()
	if err := p.open(); err != nil {
		return nil, err
	}
	if err := p.how.prepare(p); err != nil {
		return nil, err
	}
	if err := p.survey(); err != nil {
		return nil, err
	}
	if err := p.decideAll(); err != nil {
		return nil, err
	}
	if err := p.ghosts(); err != nil {
		return nil, err
	}
	if err := p.how.decided(p); err != nil {
		return nil, err
	}
	if err := p.removals(); err != nil {
		return nil, err
	}
	if err := p.how.finish(p); err != nil {
		return nil, err
	}
	if len(p.conflicts) > 0 {
		return nil, errors.Join(p.conflicts...)
	}
	return p.plan, nil
}

// planner is the making of one plan. It goes in two passes: survey walks
// layers and guest together as far as the guest has the directories, and
// merges what comes to one directory by several names (/bin and /usr/bin);
// then what the guest lacks is decided path by path.
type planner struct {
	ctx       context.Context
	root      *Root
	change    Change
	how       sharer
	over      *over // with overlays
	installed []Placed
	going     []bool // by index of installed
	owned     map[string][]item
	plan      *Plan
	trees     []*tree
	unfolded  []*tree
	dirs      *dirs
	guestDirs map[dirKey]string  // directory of a layer → where it is in the guest
	leaves    map[string][]entry // what survey left to decide
	made      map[string]bool    // directories that the plan makes
	taken     map[item]bool      // items of packages that go, which new ones replace
	claims    map[string]bool    // paths of added packages, once all is decided
	conflicts []error
}

type dirKey struct {
	tree *tree
	dir  string
}

func newPlanner(ctx context.Context, root *Root, installed []Placed, change Change) *planner {
	p := &planner{ctx: ctx, root: root, change: change, installed: installed,
		going: make([]bool, len(installed)), owned: map[string][]item{},
		plan: &Plan{Tag: change.Tag, Method: change.Method}, dirs: newDirs(root),
		guestDirs: map[dirKey]string{}, leaves: map[string][]entry{}, made: map[string]bool{},
		taken: map[item]bool{}}
	for i := range installed {
		p.going[i] = slices.Contains(change.Remove, installed[i].ID) || change.again(installed[i].ID) >= 0
		p.index(i)
	}
	return p
}

func (p *planner) open() error {
	for i, l := range p.change.Add {
		t, err := openTree(l, i)
		if err != nil {
			return err
		}
		p.trees = append(p.trees, t)
		p.plan.Elements = append(p.plan.Elements, Element{ID: l.ID, Placed: Placed{ID: l.ID, Method: p.change.Method}})
		if err := p.how.accept(p.root, t); err != nil {
			return err
		}
	}
	return nil
}

func (p *planner) close() {
	p.dirs.forget()
	p.over.close()
	for _, t := range append(p.trees, p.unfolded...) {
		t.close()
	}
}

// contribution is a layer's directory that comes to one of the guest.
type contribution struct {
	guest string
	tree  *tree
	dir   string
}

// survey walks the directories that the guest has.
func (p *planner) survey() error {
	var queue []contribution
	for _, t := range p.trees {
		queue = append(queue, contribution{"/", t, "/"})
	}
	for len(queue) > 0 {
		if err := p.ctx.Err(); err != nil {
			return err
		}
		c := queue[0]
		queue = queue[1:]
		p.guestDirs[dirKey{c.tree, c.dir}] = c.guest
		entries, err := c.tree.read(c.dir)
		if err != nil {
			return err
		}
		for _, e := range entries {
			below, err := p.surveyEntry(c.guest, e)
			if err != nil {
				return err
			}
			if below != "" {
				queue = append(queue, contribution{below, e.tree, e.path})
			}
		}
	}
	return nil
}

// surveyEntry returns the guest's directory that e goes into, or puts e down
// to be decided.
func (p *planner) surveyEntry(guestDir string, e entry) (string, error) {
	guestPath := path.Join(guestDir, path.Base(e.path))
	if e.kind == repo.Dir {
		dir, fill, err := p.existingDir(guestPath)
		if err != nil {
			return "", err
		}
		if fill {
			p.claimDir(dir, e)
			return dir, nil
		}
		guestPath = dir
	}
	p.leaves[guestPath] = append(p.leaves[guestPath], e)
	return "", nil
}

// existingDir returns the path that guestPath leads to, and whether a
// directory is there that may be filled as it is. A folded mount may not, nor
// what a symlink leads to that goes away with its package.
func (p *planner) existingDir(guestPath string) (dir string, fill bool, err error) {
	st, err := p.stat(guestPath)
	switch {
	case missing(err):
		return guestPath, false, nil
	case err != nil:
		return "", false, err
	case p.folded(guestPath):
		return guestPath, false, nil
	case st.isDir():
		return guestPath, true, nil
	case !st.isLink() || p.allGoing(guestPath):
		return guestPath, false, nil
	}
	f, err := p.root.follow(guestPath, unix.O_DIRECTORY)
	if err != nil {
		return guestPath, false, nil // dangling, or no directory: a conflict
	}
	defer f.Close()
	resolved, err := p.root.nameOf(f)
	switch {
	case err != nil:
		return "", false, fmt.Errorf("cannot resolve %s: %w", guestPath, err)
	case p.folded(resolved):
		return resolved, false, nil
	case p.insideFold(resolved):
		return guestPath, false, nil
	}
	return resolved, true, nil
}

// decideAll decides what survey found no directory for, in the order of
// paths, so that plans are reproducible.
func (p *planner) decideAll() error {
	for _, guestPath := range sortedKeys(p.leaves) {
		if err := p.ctx.Err(); err != nil {
			return err
		}
		if err := p.decide(guestPath, p.leaves[guestPath], false); err != nil {
			return err
		}
	}
	return nil
}

func sortedKeys[V any](m map[string]V) []string {
	keys := make([]string, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}

// decide plans one path for everyone who wants it. below says that the plan
// makes the directory it lies in, so the guest has nothing there.
func (p *planner) decide(guestPath string, entries []entry, below bool) error {
	slices.SortStableFunc(entries, func(a, b entry) int { return cmp.Compare(a.tree.order(), b.tree.order()) })
	for _, e := range entries[1:] {
		same, err := sameEntry(entries[0], e)
		if err != nil {
			return err
		}
		if !same {
			p.conflict(guestPath, e, entries[0].tree.name)
			return nil
		}
	}
	if entries[0].kind == repo.Dir {
		return p.decideDir(guestPath, entries, below)
	}
	return p.decideFile(guestPath, entries, below)
}

// order puts packages that are added before those that are unfolded.
func (t *tree) order() int {
	if t.element < 0 {
		return 1 << 30
	}
	return t.element
}

// sameEntry reports whether two packages can have the path together:
// directories, the same inode, equal symlinks, equal private files.
func sameEntry(a, b entry) (bool, error) {
	switch {
	case a.kind != b.kind:
		return false, nil
	case a.kind == repo.Dir:
		return true, nil
	case a.private != nil || b.private != nil:
		return a.private != nil && b.private != nil && samePrivate(a.private, b.private), nil
	case a.kind == repo.Symlink:
		la, err := a.link()
		if err != nil {
			return false, err
		}
		lb, err := b.link()
		return la == lb, err
	}
	sa, err := a.tree.at(a.path).stat()
	if err != nil {
		return false, err
	}
	sb, err := b.tree.at(b.path).stat()
	return sa.same(sb), err
}

func samePrivate(a, b *repo.File) bool {
	return a.Type == b.Type && a.Digest == b.Digest && a.Link == b.Link && a.Rdev == b.Rdev &&
		a.Mode == b.Mode && a.User == b.User && a.Group == b.Group
}

func (p *planner) conflict(guestPath string, e entry, owner string) {
	wants := e.tree.name
	if e.tree.element < 0 { // it is there already, in a directory that would be unfolded
		wants, owner = owner, wants
	}
	p.conflicts = append(p.conflicts, &ConflictError{Path: guestPath, Package: wants, Owner: owner})
}
