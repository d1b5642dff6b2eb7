package share

import (
	"errors"
	"fmt"
	"os"
	"slices"

	"golang.org/x/sys/unix"
)

// exchange mounts an environment where another one is, or none, or takes it
// away (to is none). It can be repeated, and done the other way round,
// wherever it stopped. No lookup fails meanwhile: the new mount is put beneath
// the old one, complete with what is mounted below it, before that goes.
func (r *Root) exchange(o *own, from, to *Environment) error {
	dirs := slices.Concat(from.roots(), to.roots())
	slices.Sort(dirs)
	dirs = slices.Compact(dirs)
	x := &exchanger{root: r, own: o, to: to}
	defer x.close()
	if err := x.build(dirs); err != nil {
		return err
	}
	for _, dir := range dirs {
		if err := x.mount(dir); err != nil {
			return err
		}
	}
	return nil
}

type exchanger struct {
	root  *Root
	own   *own // nil: only to look
	to    *Environment
	built map[string]*os.File // new overlays, by directory
	gone  []*os.File          // old ones, which are mounted no more
}

func (x *exchanger) close() {
	for _, f := range x.built {
		f.Close() // the mount stays where it has been put
	}
	x.root.letGo(x.gone)
}

// build makes all overlays that are not mounted already.
func (x *exchanger) build(dirs []string) error {
	x.built = map[string]*os.File{}
	var trees *stack
	defer func() { trees.close() }()
	for _, dir := range dirs {
		if !slices.Contains(x.to.roots(), dir) {
			if _, err := x.settle(dir); err != nil {
				return err
			}
			continue
		}
		t, err := x.settle(dir)
		if err != nil {
			return err
		}
		if t.mounted && t.entry.source == x.to.source() && t.entry.isOurs() {
			continue
		}
		if trees == nil {
			if trees, err = openStack(x.to.Trees); err != nil {
				return err
			}
			if err := x.own.attach(x.root, baseName); err != nil {
				return err
			}
		}
		if err := x.root.step(StepPlace, dir, func() error { return x.buildOne(trees, dir) }); err != nil {
			return err
		}
	}
	return nil
}

func (x *exchanger) buildOne(trees *stack, dir string) error {
	m, err := trees.look(dir[1:])
	if err != nil {
		return err
	}
	lower, err := m.enter()
	if err != nil {
		return err
	}
	defer lower.close()
	f, err := x.own.overlay(x.to.source(), workName(x.to), dir, lower)
	if err != nil {
		return fmt.Errorf("cannot share %s: %w", dir, err)
	}
	x.built[dir] = f
	return nil
}

// top is what is mounted on a directory.
type top struct {
	dir     *os.File // its root, for reference
	id      int
	mounted bool
	entry   mountEntry
	table   mountTable
	cover   bool // the guest's own directory, on itself
}

// top looks at what is mounted on dir now.
func (x *exchanger) top(dir string) (*top, error) {
	f, err := x.root.plain(dir, unix.O_PATH|unix.O_DIRECTORY)
	if err != nil {
		return nil, fmt.Errorf("cannot open the guest's %s: %w", dir, err)
	}
	defer f.Close()
	t := &top{}
	if t.id, err = mountID(f); err != nil {
		return nil, err
	}
	if t.table, err = x.root.mountTable(); err != nil {
		return nil, err
	}
	t.entry = t.table[t.id]
	t.mounted = t.entry.target == dir
	if !t.mounted || t.entry.isOurs() || x.own == nil {
		return t, nil
	}
	have, err := statAt(int(f.Fd()), "")
	if err != nil {
		return nil, err
	}
	raw, err := statAt(int(x.own.root.Fd()), dir[1:])
	t.cover = err == nil && raw.same(have)
	if !t.cover {
		return nil, fmt.Errorf("cannot share %s: something else is mounted there", dir)
	}
	return t, nil
}

// mount brings one directory to what it shall be.
func (x *exchanger) mount(dir string) error {
	t, err := x.top(dir)
	if err != nil {
		return err
	}
	wanted := slices.Contains(x.to.roots(), dir)
	built := x.built[dir]
	switch {
	case wanted && t.mounted && t.entry.isOurs() && t.entry.source == x.to.source():
		return nil
	case wanted && built == nil: // it was there when the others were built
		return fmt.Errorf("cannot share %s: its mount has gone", dir)
	case wanted && t.mounted:
		return x.tuck(dir, t, built)
	case wanted && len(t.table.children(t.id, dir)) == 0:
		return x.attach(dir, built, 0)
	case wanted:
		if err := x.cover(dir); err != nil {
			return err
		}
		if t, err = x.top(dir); err != nil {
			return err
		}
		return x.tuck(dir, t, built)
	}
	for t.mounted {
		if err := x.uncover(dir, t); err != nil {
			return err
		}
		if t, err = x.top(dir); err != nil {
			return err
		}
	}
	return nil
}

// settle takes away what an interrupted exchange has left on top of another
// mount of ours.
func (x *exchanger) settle(dir string) (*top, error) {
	for {
		t, err := x.top(dir)
		if err != nil || !t.mounted {
			return t, err
		}
		if under, ok := t.table.below(t.entry); !ok || !under.isOurs() {
			return t, nil
		}
		if err := x.uncover(dir, t); err != nil {
			return nil, err
		}
	}
}

func (x *exchanger) attach(dir string, mount *os.File, flags int) error {
	return x.root.step(StepMount, dir, func() error {
		err := moveTree(mount, place{x.root.dir, dir[1:]}, flags)
		return wrap(err, "cannot mount on %s", dir)
	})
}

// cover mounts the guest's own directory on itself, with all that is mounted
// below it, so that an overlay can be put beneath.
func (x *exchanger) cover(dir string) error {
	tree, err := cloneTree(x.root.dir, dir[1:], unix.AT_RECURSIVE)
	if err != nil {
		return fmt.Errorf("cannot clone what is mounted below %s: %w", dir, err)
	}
	defer tree.Close()
	// One that shares propagation with its parent has nothing put beneath.
	if err := makePrivate(tree, unix.AT_RECURSIVE); err != nil {
		return fmt.Errorf("cannot clone what is mounted below %s: %w", dir, err)
	}
	return x.attach(dir, tree, 0)
}

// tuck puts a mount beneath the top one, gives it what is mounted below that,
// and takes the top one away. Where the kernel can not (a parent that
// propagates to it), there is a short moment without either.
func (x *exchanger) tuck(dir string, t *top, mount *os.File) error {
	err := x.attach(dir, mount, moveMountBeneath)
	if errors.Is(err, unix.EINVAL) {
		carried, err := x.clones(dir, t)
		if err == nil {
			err = errors.Join(x.detach(dir), x.attach(dir, mount, 0))
		}
		return errors.Join(err, x.carry(carried, mount, dir))
	}
	if err != nil {
		return err
	}
	carried, err := x.clones(dir, t)
	if err = errors.Join(err, x.carry(carried, mount, dir)); err != nil {
		return err
	}
	return x.detach(dir)
}

// uncover takes the top mount away, and has what is mounted below it where
// that is not mounted yet.
func (x *exchanger) uncover(dir string, t *top) error {
	carried, err := x.clones(dir, t)
	if err == nil {
		err = x.detach(dir)
	}
	if err != nil {
		return errors.Join(err, x.carry(carried, nil, dir))
	}
	f, err := x.root.plain(dir, unix.O_PATH|unix.O_DIRECTORY)
	if err != nil {
		return fmt.Errorf("cannot open the guest's %s: %w", dir, err)
	}
	defer f.Close()
	return x.carry(carried, f, dir)
}

func (x *exchanger) detach(dir string) error {
	if f, err := x.root.plain(dir, unix.O_PATH|unix.O_DIRECTORY); err == nil {
		x.gone = append(x.gone, f)
	}
	return x.root.step(StepUnmount, dir, func() error {
		return detach(place{x.root.dir, dir[1:]}, dir)
	})
}

// clones copies what is mounted directly below a mount, each with all that is
// below it, by path.
func (x *exchanger) clones(dir string, t *top) (map[string]*os.File, error) {
	found := map[string]*os.File{}
	for _, target := range t.table.children(t.id, dir) {
		tree, err := cloneTree(x.root.dir, target[1:], unix.AT_RECURSIVE|unix.AT_SYMLINK_NOFOLLOW)
		if err != nil {
			return found, fmt.Errorf("cannot clone the mount of %s: %w", target, err)
		}
		found[target] = tree
	}
	return found, nil
}

// carry mounts clones below another mount's root, where nothing is mounted
// yet, and closes them all. No root: it only closes them.
func (x *exchanger) carry(clones map[string]*os.File, root *os.File, dir string) error {
	var failed error
	for _, target := range sortedKeys(clones) {
		if root != nil {
			failed = errors.Join(failed, x.carryOne(clones[target], root, target, target[len(dir)+1:]))
		}
		clones[target].Close() // the mount stays where it has been put
	}
	return failed
}

func (x *exchanger) carryOne(clone, root *os.File, target, rel string) error {
	f, err := openBelow(root, rel, unix.O_PATH|unix.O_NOFOLLOW, unix.RESOLVE_BENEATH|unix.RESOLVE_NO_SYMLINKS)
	if err != nil {
		return fmt.Errorf("cannot keep what is mounted on %s: %w", target, err)
	}
	defer f.Close()
	st, err := statAt(int(f.Fd()), "")
	if err != nil || st.isMounted() {
		return err
	}
	return x.root.step(StepMount, target, func() error {
		return wrap(moveTree(clone, place{dir: f}, 0), "cannot keep what is mounted on %s", target)
	})
}
