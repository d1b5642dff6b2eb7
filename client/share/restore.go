package share

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"path"
	"slices"

	"golang.org/x/sys/unix"

	"stork/repo"
)

// Restore brings back what a restart of the guest, or a crash of its host,
// has taken away: mounts, and the empty files, directories and symlinks that
// hold them. What is right already is left alone, and so are the guest's own
// files. One mount that fails does not keep the others from coming back; all
// errors are joined.
//
// views must know every package that was placed with [Bind].
func Restore(ctx context.Context, root *Root, placed []Placed, views map[repo.Digest]string) error {
	plan := &Plan{Method: Bind, Tag: "mount"}
	a := &applier{ctx: ctx, plan: plan, root: root, views: views, dirs: newDirs(root), open: map[repo.Digest]*os.File{}}
	defer a.close()
	var ops []Op
	for i := range placed {
		ops = append(ops, restoring(&placed[i])...)
	}
	// Parents go before what lies in them.
	slices.SortStableFunc(ops, func(a, b Op) int { return cmp.Compare(a.Path, b.Path) })
	var failed error
	var mounts []Op // that are collected
	for i := range ops {
		if err := ctx.Err(); err != nil {
			return err
		}
		inside := func(m Op) bool { return m.Dir && inTrees([]string{m.Path}, ops[i].Path) }
		if len(mounts) == a.root.batch() || slices.ContainsFunc(mounts, inside) {
			failed = errors.Join(failed, a.mountEach(mounts))
			mounts = nil
		}
		again, err := a.restore(&ops[i])
		failed = errors.Join(failed, err)
		if again {
			mounts = append(mounts, ops[i])
		}
	}
	return errors.Join(failed, a.mountEach(mounts))
}

// mountEach mounts all that can be.
func (a *applier) mountEach(ops []Op) error {
	if len(ops) == 0 {
		return nil
	}
	err := a.mountAll(ops)
	if err == nil || errors.Is(err, ErrNoMounter) {
		return err
	}
	var failed error
	for i := range ops {
		failed = errors.Join(failed, a.mount(&ops[i]))
	}
	return failed
}

func restoring(p *Placed) []Op {
	var ops []Op
	for _, d := range p.Dirs {
		ops = append(ops, Op{Kind: OpMkdir, Path: d.Path,
			File: &File{Path: d.Path, Type: repo.Dir, Mode: d.Mode, User: d.User, Group: d.Group}})
	}
	for _, m := range p.Mounts {
		ops = append(ops, Op{Kind: OpMount, Path: m.Target, Layer: p.ID, Source: m.Source, Dir: m.Dir, Fresh: !m.Own})
	}
	for _, l := range p.Links {
		ops = append(ops, Op{Kind: OpPut, Path: l.Path, File: &File{Path: l.Path, Type: repo.Symlink, Link: l.Target}})
	}
	return ops
}

// restore brings back anything but mounts; of these it says whether they are
// missing.
func (a *applier) restore(op *Op) (mount bool, err error) {
	at, err := a.dirs.at(op.Path)
	if err != nil {
		return false, fmt.Errorf("cannot bring back %s: %w", op.Path, err)
	}
	st, err := at.stat()
	switch {
	case err != nil && !missing(err):
		return false, fmt.Errorf("cannot bring back %s: %w", op.Path, err)
	case op.Kind == OpMkdir && err == nil, op.Kind == OpPut && err == nil:
		return false, nil // Check says whether it is right
	case op.Kind == OpMkdir:
		return false, a.mkdir(op)
	case op.Kind == OpPut:
		return false, wrap(a.root.disk.Symlink(op.File.Link, at.path()), "cannot bring back %s", op.Path)
	}
	if err == nil && st.isMounted() {
		source, err := a.layer(op.Layer, op.Source)
		if err != nil {
			return false, err
		}
		if want, err := source.stat(); err != nil || !want.same(st) {
			return false, fmt.Errorf("cannot mount on %s: something else is mounted there", op.Path)
		}
		return false, nil
	}
	return true, nil
}

// Check compares the guest with what was placed in it. Only what the
// filesystem itself says is an error; everything else is a Problem. views
// may lack layers that are not attached: their mounts are then only checked
// for being mounts.
func Check(ctx context.Context, root *Root, placed []Placed, views map[repo.Digest]string) ([]Problem, error) {
	c := &checker{applier{ctx: ctx, plan: &Plan{}, root: root, views: views, dirs: newDirs(root), open: map[repo.Digest]*os.File{}}, nil}
	defer c.close()
	for i := range placed {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		if err := c.check(&placed[i]); err != nil {
			return nil, err
		}
	}
	return c.problems, nil
}

type checker struct {
	applier
	problems []Problem
}

func (c *checker) check(p *Placed) error {
	found := func(guestPath string, what What, detail string) {
		c.problems = append(c.problems, Problem{ID: p.ID, Path: guestPath, What: what, Detail: detail})
	}
	for _, d := range p.Dirs {
		st, there, err := c.look(d.Path)
		switch {
		case err != nil:
			return err
		case !there:
			found(d.Path, Missing, "directory")
		case !st.isDir():
			found(d.Path, Replaced, "is no directory")
		}
	}
	for _, l := range p.Links {
		target, err := c.readlink(l.Path)
		switch {
		case missing(err):
			found(l.Path, Missing, "symlink")
		case errors.Is(err, unix.EINVAL):
			found(l.Path, Replaced, "is no symlink")
		case err != nil:
			return err
		case target != l.Target && !(l.Source != "" && c.sameFile(target, l.Target)):
			found(l.Path, Changed, "leads to "+target)
		}
	}
	for _, m := range p.Mounts {
		what, err := c.checkMount(p.ID, m)
		if err != nil {
			return err
		}
		if what != "" {
			found(m.Target, what, "")
		}
	}
	for i := range p.Files {
		if err := c.checkFile(p.ID, &p.Files[i]); err != nil {
			return err
		}
	}
	return nil
}

func (c *checker) look(guestPath string) (info, bool, error) {
	at, err := c.dirs.at(guestPath)
	if err == nil {
		var st info
		if st, err = at.stat(); err == nil {
			return st, true, nil
		}
	}
	if missing(err) || errors.Is(err, unix.ELOOP) {
		return info{}, false, nil
	}
	return info{}, false, err
}

func (c *checker) readlink(guestPath string) (string, error) {
	at, err := c.dirs.at(guestPath)
	if err != nil {
		return "", err
	}
	return readlinkAt(int(at.dir.Fd()), at.name)
}

// sameFile reports whether two symlinks into the view lead to one file, which
// several packages have.
func (c *checker) sameFile(a, b string) bool {
	var found [2]info
	for i, name := range []string{a, b} {
		f, err := c.root.follow(name, 0)
		if err != nil {
			return false
		}
		found[i], err = statAt(int(f.Fd()), "")
		f.Close() // only a reference
		if err != nil {
			return false
		}
	}
	return found[0].same(found[1])
}

func (c *checker) checkMount(id repo.Digest, m Mount) (What, error) {
	st, there, err := c.look(m.Target)
	switch {
	case err != nil:
		return "", err
	case !there:
		return Missing, nil
	case !st.isMounted():
		return Unmounted, nil
	case c.views[id] == "":
		return "", nil
	}
	source, err := c.layer(id, m.Source)
	if err != nil {
		return "", err
	}
	want, err := source.stat()
	if err != nil {
		return "", fmt.Errorf("cannot check %s: %w", m.Target, err)
	}
	if !want.same(st) {
		return Replaced, nil
	}
	return "", nil
}

func (c *checker) checkFile(id repo.Digest, f *File) error {
	found := func(what What, detail string) {
		c.problems = append(c.problems, Problem{ID: id, Path: f.Path, What: what, Config: f.Has(repo.Config), Detail: detail})
	}
	if f.Has(repo.Ghost) {
		return nil
	}
	st, there, err := c.look(f.Path)
	switch {
	case err != nil:
		return err
	case !there:
		if !f.Has(repo.MissingOK) {
			found(Missing, "")
		}
		return nil
	}
	d := disk{info: st, there: true, open: func() (*os.File, error) { return c.root.plain(f.Path, unix.O_RDONLY|unix.O_NONBLOCK) }}
	if st.isLink() {
		if d.link, err = c.readlink(f.Path); err != nil {
			return err
		}
	}
	switch {
	case kindOf(f.Type) != st.kind():
		found(Replaced, "is of another type")
		return nil
	case f.Type == repo.Regular && f.Digest.IsZero():
		if int64(st.Size) != f.Size {
			found(Changed, "size differs")
		}
	case f.Type == repo.Regular || f.Type == repo.Symlink:
		content, err := d.content()
		if err != nil {
			return fmt.Errorf("cannot check %s: %w", f.Path, err)
		}
		if !unmodified(f, d, content) {
			found(Changed, "content differs")
		}
	}
	if !f.Own && f.Type != repo.Symlink && st.permissions() != f.Mode&0o7777 && f.User == "" && f.Group == "" {
		found(Metadata, fmt.Sprintf("mode is %04o, not %04o", st.permissions(), f.Mode))
	}
	return nil
}

func kindOf(t repo.FileType) uint16 {
	switch t {
	case repo.Dir:
		return unix.S_IFDIR
	case repo.Symlink:
		return unix.S_IFLNK
	case repo.Fifo:
		return unix.S_IFIFO
	case repo.Char:
		return unix.S_IFCHR
	case repo.Block:
		return unix.S_IFBLK
	}
	return unix.S_IFREG
}

// Validate holds what was read from a file to the rules that placing keeps:
// absolute and clean paths.
func (p *Placed) Validate() error {
	if _, err := p.Method.sharer(); err != nil {
		return err
	}
	var paths []string
	for _, m := range p.Mounts {
		paths = append(paths, m.Target)
		if m.Source != path.Clean(m.Source) || !path.IsAbs(m.Source) {
			return fmt.Errorf("path %q is not absolute and clean", m.Source)
		}
	}
	for _, d := range p.Dirs {
		paths = append(paths, d.Path)
	}
	for _, l := range p.Links {
		paths = append(paths, l.Path)
		if l.Source != "" && (l.Source != path.Clean(l.Source) || !path.IsAbs(l.Source)) {
			return fmt.Errorf("path %q is not absolute and clean", l.Source)
		}
	}
	for i := range p.Files {
		paths = append(paths, p.Files[i].Path)
	}
	for _, name := range paths {
		if err := repo.CheckPath(name); err != nil {
			return err
		}
	}
	return nil
}
