package share

import (
	"path"
	"slices"
	"strings"

	"stork/repo"
)

// reinstalled reports whether a package is placed again as it is.
func (c *Change) reinstalled(id repo.Digest) bool { return !c.Convert && slices.Contains(c.Remove, id) }

// restoreShared takes away what the guest itself has in place of the shared
// files of packages that are installed again: its changed copies, and the
// whiteouts of what it has removed, so that the environment's files come to
// light. It reads only directories that the guest has itself. These keep the
// owner and mode that the guest has given them.
func (c *comparison) restoreShared() error {
	for _, t := range c.trees {
		if t.view == nil || !c.change.reinstalled(t.id) {
			continue
		}
		whole := *t
		whole.bare = false
		if err := c.restoreDir(&whole, "/"); err != nil {
			return err
		}
	}
	return nil
}

// restoreDir compares one directory of a layer with what the guest itself has
// there.
func (c *comparison) restoreDir(t *tree, dir string) error {
	if err := c.ctx.Err(); err != nil {
		return err
	}
	inside, err := c.resolveParent(t, path.Join(dir, "x")) // by the guest's symlinks of directories
	if err != nil {
		return err
	}
	at := path.Dir(inside)
	var mine *stack
	if at != "/" {
		if !c.swap.To.covers(at) {
			return nil
		}
		if mine, err = c.over.own.below(at); err != nil || mine == nil {
			return err
		}
		defer mine.close()
	}
	entries, err := t.read(dir)
	if err != nil {
		return err
	}
	for _, e := range entries {
		if err := c.restoreEntry(t, e, join(at, path.Base(e.path)), mine); err != nil {
			return err
		}
	}
	return nil
}

func (c *comparison) restoreEntry(t *tree, e entry, at string, mine *stack) error {
	isDir := e.kind == repo.Dir
	if path.Dir(at) == "/" {
		if !isDir {
			return nil // see Environment.Links
		}
		return c.restoreDir(t, e.path)
	}
	have, err := mine.look(path.Base(at))
	_, kept := c.keeper(at)
	switch {
	case err != nil || !have.there && !have.hidden || !isDir && (e.private != nil || kept):
		return err
	case have.hidden:
		c.takeOnce(at)
	case !isDir && have.isDir():
		c.conflictWith(at, theGuest)
	case !isDir:
		return c.restoreFile(t, e, at, &have)
	case have.isDir():
		if isOpaque(have.in, have.name) {
			c.swap.Own = append(c.swap.Own, Op{Kind: OpReveal, Path: at})
		}
		return c.restoreDir(t, e.path)
	default:
		if _, alias := c.root.alias(at); alias && have.isLink() {
			return c.restoreDir(t, e.path)
		}
		c.takeOnce(at)
	}
	return nil
}

// restoreFile leaves the guest's own file alone that was the same before the
// package came and still is.
func (c *comparison) restoreFile(t *tree, e entry, at string, have *merged) error {
	st, err := t.at(e.path).stat()
	if err != nil {
		return err
	}
	shared := merged{info: st, there: true, name: t.at(e.path).relative(), in: t.view}
	same, err := sameContentMerged(have, &shared)
	if err != nil {
		return err
	}
	same = same && (have.isLink() || have.permissions() == st.permissions() && have.Uid == st.Uid && have.Gid == st.Gid)
	if same && slices.Contains(c.swap.To.Own, at) {
		return nil
	}
	c.disown(at)
	c.takeOnce(at)
	return nil
}

func (c *comparison) takeOnce(at string) {
	if !slices.ContainsFunc(c.swap.Own, func(op Op) bool { return op.Kind == OpTake && op.Path == at }) {
		c.take(at)
	}
}

// below returns one of the guest's directories, at or below a top directory,
// as it is without environments; nil if there is none.
func (o *own) below(dir string) (*stack, error) {
	parts := strings.Split(dir[1:], "/")
	s, err := o.stack("/" + parts[0])
	if err != nil {
		return nil, err
	}
	for _, name := range parts[1:] {
		m, err := s.look(name)
		var next *stack
		if err == nil && m.there && m.isDir() {
			next, err = m.enter()
		}
		s.close()
		if err != nil || next == nil {
			return nil, err
		}
		s = next
	}
	return s, nil
}
