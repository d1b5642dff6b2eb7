package share

import (
	"context"
	"errors"
	"fmt"

	"golang.org/x/sys/unix"
)

// Restore mounts the environment again after the guest was restarted, in
// place of whatever other environment is mounted. Trees and Upper must be
// those that the nest has named since. It goes before [Restore], which brings
// back what the packages have beside it.
func (e *Environment) Restore(ctx context.Context, root *Root) error {
	if e.None() {
		return nil
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	o, err := root.openOwn(e.Upper)
	if err != nil {
		return err
	}
	for _, dir := range e.Roots {
		err := unix.Mkdirat(int(o.root.Fd()), dir[1:], 0o755)
		if err != nil && !errors.Is(err, unix.EEXIST) {
			return errors.Join(fmt.Errorf("cannot bring back %s: %w", dir, err), o.close())
		}
	}
	for _, l := range e.Links {
		at := place{o.root, l.Path[1:]}
		if _, err := at.stat(); missing(err) {
			if err := root.disk.Symlink(l.Target, at.path()); err != nil {
				return errors.Join(fmt.Errorf("cannot bring back %s: %w", l.Path, err), o.close())
			}
		}
	}
	err = root.exchange(o, &Environment{}, e)
	return errors.Join(err, o.clearWork(e), o.close())
}

// Check compares the guest with its environment: whether it is mounted, and
// which of its files the guest's owner has removed or has another version of.
// It reads directories that both have, and files that both have; problems
// name no package.
func (e *Environment) Check(ctx context.Context, root *Root) ([]Problem, error) {
	if e.None() {
		return nil, nil
	}
	o, err := root.openToLook(e.Upper)
	if err != nil {
		return nil, err
	}
	defer o.close() // a reference: it is mounted nowhere
	trees, err := openStack(e.Trees)
	if err != nil {
		return nil, err
	}
	defer trees.close()
	c := &environmentCheck{ctx: ctx}
	x := &exchanger{root: root, own: o, to: e}
	for _, l := range e.Links {
		if target, err := readlinkAt(int(o.root.Fd()), l.Path[1:]); missing(err) {
			c.found(l.Path, Missing, "symlink")
		} else if target != l.Target {
			c.found(l.Path, Replaced, "")
		}
	}
	for _, dir := range e.Roots {
		if err := c.top(x, o, trees, dir); err != nil {
			return nil, err
		}
	}
	return c.problems, nil
}

type environmentCheck struct {
	ctx      context.Context
	problems []Problem
}

func (c *environmentCheck) found(p string, what What, detail string) {
	c.problems = append(c.problems, Problem{Path: p, What: what, Detail: detail})
}

func (c *environmentCheck) top(x *exchanger, o *own, trees *stack, dir string) error {
	t, err := x.top(dir)
	switch {
	case missing(err):
		c.found(dir, Missing, "directory")
		return nil
	case err != nil:
		c.found(dir, Replaced, err.Error())
		return nil
	case !t.mounted || !t.entry.isOurs():
		c.found(dir, Unmounted, "")
		return nil
	case t.entry.source != x.to.source():
		c.found(dir, Unmounted, "another environment is mounted")
		return nil
	}
	mine, err := o.stack(dir)
	if err != nil {
		return err
	}
	defer mine.close()
	m, err := trees.look(dir[1:])
	if err != nil {
		return err
	}
	return c.walk(dir, mine, &m)
}

func (c *environmentCheck) walk(dir string, mine *stack, m *merged) error {
	if err := c.ctx.Err(); err != nil {
		return err
	}
	shared, err := m.enter()
	if err != nil {
		return err
	}
	defer shared.close()
	names, err := mine.names(false)
	if err != nil {
		return err
	}
	for _, name := range sortedKeys(names) {
		have, err := mine.look(name)
		if err != nil {
			return err
		}
		want, err := shared.look(name)
		if err != nil {
			return err
		}
		if err := c.name(join(dir, name), &have, &want); err != nil {
			return err
		}
	}
	return nil
}

func (c *environmentCheck) name(at string, have, want *merged) error {
	switch {
	case !want.there:
		return nil
	case have.hidden:
		c.found(at, Missing, "")
		return nil
	case !have.there:
		return nil
	case have.kind() != want.kind():
		c.found(at, Replaced, "is of another type")
		return nil
	case have.isDir():
		mine, err := have.enter()
		if err != nil {
			return err
		}
		defer mine.close()
		return c.walk(at, mine, want)
	}
	same, err := sameContentMerged(have, want)
	switch {
	case err != nil:
		return fmt.Errorf("cannot check %s: %w", at, err)
	case !same:
		c.found(at, Changed, "content differs")
	case have.permissions() != want.permissions() && !have.isLink():
		c.found(at, Metadata, fmt.Sprintf("mode is %04o, not %04o", have.permissions(), want.permissions()))
	}
	return nil
}

// Has reports whether the environment shows something at a path, in which the
// guest's symlinks have been resolved: whether its packages own it.
func (e *Environment) Has(p string) (bool, error) {
	if e.None() || !e.covers(p) {
		return false, nil
	}
	trees, err := openStack(e.Trees)
	if err != nil {
		return false, err
	}
	defer trees.close()
	m, err := trees.find(p)
	return m.there, err
}

// Owns reports whether the package has put path into the guest, itself or as
// part of a shared directory. With [Overlay] only private files count: for the
// others, see [Environment.Has].
func (p *Placed) Owns(guestPath string) bool {
	for i := range p.Mounts {
		if m := &p.Mounts[i]; m.Target == guestPath || m.Dir && inTrees([]string{m.Target}, guestPath) {
			return true
		}
	}
	for i := range p.Links {
		if l := &p.Links[i]; !l.Own && (l.Path == guestPath || l.Dir && inTrees([]string{l.Path}, guestPath)) {
			return true
		}
	}
	for i := range p.Files {
		if p.Files[i].Path == guestPath && !p.Files[i].Own {
			return true
		}
	}
	for i := range p.Dirs {
		if p.Dirs[i].Path == guestPath {
			return true
		}
	}
	return false
}
