package share

import (
	"fmt"
	"slices"

	"stork/repo"
)

// compare finds what the guest itself has where the environment changes. It
// reads only directories that both have. What hides the environment's files
// and is not the guest's own to keep is taken away.
func (p *planner) compare(st *stage) error {
	s := st.swap
	from, to := &stack{}, &stack{}
	var err error
	if !s.From.None() {
		if from, err = openStack(s.From.Trees); err != nil {
			return err
		}
		defer from.close()
	}
	if !s.To.None() {
		if to, err = openStack(s.To.Trees); err != nil {
			return err
		}
		defer to.close()
	}
	markHeads(from, to, s.From.Trees, s.To.Trees)
	c := &comparison{planner: p, stage: st, aliases: map[string]string{}}
	for _, dir := range append(s.From.roots(), s.To.roots()...) {
		if c.done[dir] {
			continue
		}
		if err := c.top(dir, from, to); err != nil {
			return err
		}
	}
	if len(c.aliases) > 0 && len(p.conflicts) == 0 {
		return &AliasError{Aliases: c.aliases}
	}
	return nil
}

type comparison struct {
	*planner
	*stage
	aliases map[string]string
	done    map[string]bool
}

func (c *comparison) top(dir string, from, to *stack) error {
	if c.done == nil {
		c.done = map[string]bool{}
	}
	c.done[dir] = true
	have, err := c.over.own.find(dir)
	if err != nil || !have.there || c.change.Convert && len(c.leaving(dir)) > 0 {
		return err
	}
	f, err := from.look(dir[1:])
	if err != nil {
		return err
	}
	t, err := to.look(dir[1:])
	if err != nil {
		return err
	}
	if !have.isDir() {
		return c.noDir(dir, &have)
	}
	mine, err := c.over.own.stack(dir)
	if err != nil {
		return err
	}
	defer mine.close()
	return c.walk(dir, mine, &f, &t)
}

// noDir deals with what the guest has where the environment has a directory.
func (c *comparison) noDir(dir string, have *merged) error {
	if have.isLink() {
		if target, ok := c.root.alias(dir); ok {
			c.aliases[dir] = target
			return nil
		}
	}
	c.conflictWith(dir, theGuest)
	return nil
}

func (c *comparison) conflictWith(guestPath, owner string) {
	c.conflicts = append(c.conflicts, &ConflictError{Path: guestPath, Package: c.wanter(guestPath), Owner: owner})
}

// walk compares one directory that the guest has.
func (c *comparison) walk(dir string, mine *stack, f, t *merged) error {
	if err := c.ctx.Err(); err != nil {
		return err
	}
	from, err := f.enter()
	if err != nil {
		return err
	}
	defer from.close()
	to, err := t.enter()
	if err != nil {
		return err
	}
	defer to.close()
	if !from.hasHead() && !to.hasHead() {
		return nil
	}
	names, err := mine.names(false)
	if err != nil {
		return err
	}
	changed, err := from.names(true)
	if err != nil {
		return err
	}
	more, err := to.names(true)
	if err != nil {
		return err
	}
	for name := range names {
		if !changed[name] && !more[name] {
			delete(names, name)
		}
	}
	for _, name := range sortedKeys(names) {
		if err := c.name(dir, name, mine, from, to); err != nil {
			return err
		}
	}
	return nil
}

func (c *comparison) name(dir, name string, mine, from, to *stack) error {
	have, err := mine.look(name)
	if err != nil {
		return err
	}
	f, err := from.look(name)
	if err != nil {
		return err
	}
	t, err := to.look(name)
	if err != nil || !f.there && !t.there && !have.hidden {
		return err
	}
	at := join(dir, name)
	switch {
	case have.hidden:
		return c.whiteout(at, &f, &t)
	case !have.there:
		return nil
	case have.isDir() && t.there && !t.isDir():
		return c.dirInTheWay(at)
	case have.isDir():
		if f.there != t.there && isOpaque(have.dirs[0].dir, name) {
			c.swap.Own = append(c.swap.Own, Op{Kind: OpReveal, Path: at})
		}
		below, err := have.enter()
		if err != nil {
			return err
		}
		defer below.close()
		return c.walk(at, below, &f, &t)
	}
	return c.file(at, &have, &f, &t)
}

func (c *comparison) take(at string) {
	c.swap.Own = append(c.swap.Own, Op{Kind: OpTake, Path: at})
}

// whiteout deals with what the guest's owner has removed. It stays so until
// there is another version of it.
func (c *comparison) whiteout(at string, f, t *merged) error {
	if f.there && t.there {
		if f.isDir() && t.isDir() {
			return nil
		}
		if same, err := sameMerged(f, t); err != nil || same {
			return err
		}
	}
	c.take(at)
	return nil
}

// dirInTheWay allows a file where a directory was that stork made and that
// nothing is in any more.
func (c *comparison) dirInTheWay(at string) error {
	for i, dir := range c.swap.To.Dirs {
		if dir == at && !c.privateDirs()[at] {
			c.swap.Own = append(c.swap.Own, Op{Kind: OpRmdir, Path: at, File: &File{Path: at, Type: repo.Dir, Mode: 0o755}})
			c.swap.To.Dirs = append(c.swap.To.Dirs[:i:i], c.swap.To.Dirs[i+1:]...)
			return nil
		}
	}
	c.conflictWith(at, theGuest)
	return nil
}

// file deals with a file that the guest has.
func (c *comparison) file(at string, have, f, t *merged) error {
	if it, kept := c.keeper(at); kept {
		if t.there {
			c.conflictWith(at, c.nameOf(it.pkg))
		}
		return nil
	}
	leaving := c.leaving(at)
	switch {
	case len(leaving) > 0 && (!t.there || c.change.Convert):
		// It goes with its package, or with the method; or comes to light.
		if t.there && len(c.notOwn(leaving)) == 0 {
			c.swap.To.Own = append(c.swap.To.Own, at)
		}
		return nil
	case !t.there:
		return c.fileGoes(at, have, f)
	case len(leaving) > 0:
		return c.becomesShared(at, have, t, leaving)
	case t.isDir():
		return c.noDir(at, have)
	}
	same, err := sameContentMerged(have, t)
	switch {
	case err != nil:
		return err
	case same && !f.there:
		c.swap.To.Own = append(c.swap.To.Own, at)
		return nil
	case same:
		return nil
	case !f.there:
		c.conflictWith(at, theGuest)
		return nil
	}
	if unchanged, err := sameMerged(f, t); err != nil || unchanged {
		return err // the guest's own version of what stays as it is
	}
	c.disown(at)
	c.take(at)
	return nil
}

// disown reports whether the file was the guest's own before the packages
// came, and forgets it.
func (c *comparison) disown(at string) bool {
	i := slices.Index(c.swap.To.Own, at)
	if i < 0 {
		return false
	}
	c.swap.To.Own = slices.Delete(c.swap.To.Own, i, i+1)
	return true
}

// fileGoes deals with the guest's version of a shared file that goes: it has
// been made since, by writing to the file or in its place. It goes too, or, if
// the file will be there again by another method, is kept aside.
func (c *comparison) fileGoes(at string, have, f *merged) error {
	if c.disown(at) {
		return nil
	}
	if c.change.Convert {
		same, err := sameContentMerged(have, f)
		if err != nil {
			return err
		}
		if !same {
			return c.moveAside(at, at+string(asSave))
		}
	}
	c.take(at)
	return nil
}

// becomesShared replaces a private file of a package that goes.
func (c *comparison) becomesShared(at string, have, t *merged, leaving []item) error {
	old := c.oldFile(leaving)
	for _, it := range leaving {
		c.planner.take(it, c.element)
	}
	if old != nil && old.Has(repo.Config) {
		same, err := sameContentMerged(have, t)
		if err != nil {
			return err
		}
		d := disk{info: have.info, there: true, open: have.open}
		if have.isLink() {
			if d.link, err = readlinkAt(int(have.in.Fd()), have.name); err != nil {
				return err
			}
		}
		content, err := d.content()
		if err != nil {
			return fmt.Errorf("cannot read %s: %w", at, err)
		}
		if !same && !unmodified(old, d, content) {
			return c.moveAside(at, at+string(asSave))
		}
	}
	c.take(at)
	return nil
}

func (c *comparison) moveAside(at, aside string) error {
	there, err := c.look(aside)
	if err != nil {
		return err
	}
	if there.there && there.isDir() {
		return fmt.Errorf("cannot keep %s aside: %s is a directory", at, aside)
	}
	if there.there {
		c.take(aside)
	}
	c.swap.Own = append(c.swap.Own, Op{Kind: OpMove, From: at, Path: aside})
	c.notes = append(c.notes, fmt.Sprintf("%s was changed in the guest: its own is at %s", at, aside))
	return nil
}

// sameContentMerged compares files of which one is the guest's own.
func sameContentMerged(a, b *merged) (bool, error) {
	switch {
	case a.kind() != b.kind():
		return false, nil
	case a.isLink():
		return sameMerged(a, b)
	case !a.isRegular():
		return a.same(b.info), nil
	case a.same(b.info):
		return true, nil
	case a.Size != b.Size:
		return false, nil
	}
	fa, err := a.open()
	if err != nil {
		return false, err
	}
	defer fa.Close()
	fb, err := b.open()
	if err != nil {
		return false, err
	}
	defer fb.Close()
	return sameContent(fa, fb)
}
