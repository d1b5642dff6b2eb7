package share

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path"

	"golang.org/x/sys/unix"

	"stork/repo"
)

// Apply does what the plan's i-th element says. It can be repeated: after a
// crash, or an error, it goes on where it stopped. When it returns nil the
// files that it wrote are durable (rule G2); mounts and the empty files below
// them need not be, [Restore] makes them again. The warnings are for people.
//
// An element that removes goes on after an error, so that as much goes as
// can; all errors are joined.
//
// views must know the layers that [Plan.Needs] lists.
func (p *Plan) Apply(ctx context.Context, root *Root, i int, views map[repo.Digest]string) (warnings []string, err error) {
	a := &applier{ctx: ctx, plan: p, root: root, views: views, dirs: newDirs(root), open: map[repo.Digest]*os.File{}}
	defer a.close()
	ops, err := a.left(p.Elements[i].Ops)
	switch {
	case err != nil:
	case p.Elements[i].Remove:
		err = a.runAll(ops)
	default:
		err = a.run(ops)
	}
	if err != nil {
		return a.warnings, err
	}
	return append(p.Elements[i].Notes, a.warnings...), a.sync()
}

func (a *applier) runAll(ops []Op) error {
	var failed error
	for i := 0; i < len(ops); i++ {
		if n := a.mountRun(ops[i:]); n > 1 && a.mountAll(ops[i:i+n]) == nil {
			i += n - 1
			continue // else each by itself
		}
		err := a.run(ops[i : i+1])
		failed = errors.Join(failed, err)
		if err != nil && ops[i].Kind == OpSwap || errors.Is(err, ErrNoMounter) {
			break // what follows is meant for the new environment, or fails too
		}
	}
	return failed
}

type applier struct {
	ctx      context.Context
	plan     *Plan
	root     *Root
	views    map[repo.Digest]string
	dirs     *dirs
	open     map[repo.Digest]*os.File
	users    *users
	changed  map[string]bool // directories in which the guest's own files came or went
	parents  map[string]bool // directories in which directories were made
	warnings []string
}

func (a *applier) close() {
	a.dirs.forget()
	for _, f := range a.open {
		f.Close() // only a reference
	}
}

// layer opens a path of an attached layer.
func (a *applier) layer(id repo.Digest, p string) (layerPath, error) {
	view := a.open[id]
	if view == nil {
		dir, ok := a.views[id]
		if !ok {
			return layerPath{}, fmt.Errorf("cannot find layer %s: it is not attached", id.Short())
		}
		fd, err := unix.Open(dir, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
		if err != nil {
			return layerPath{}, fmt.Errorf("cannot open layer %s at %s: %w", id.Short(), dir, err)
		}
		view = os.NewFile(uintptr(fd), dir)
		a.open[id] = view
	}
	return layerPath{view, p}, nil
}

// run does all operations. Runs of files are put together, so that one
// round of syncs serves them all.
func (a *applier) run(ops []Op) error {
	for i := 0; i < len(ops); {
		if err := a.ctx.Err(); err != nil {
			return err
		}
		n := i
		for n < len(ops) && ops[n].Kind == OpPut && !ops[n].simple() {
			n++
		}
		if n > i {
			if err := a.putAll(ops[i:n]); err != nil {
				return err
			}
			i = n
			continue
		}
		if n := a.mountRun(ops[i:]); n > 0 {
			if err := a.mountAll(ops[i : i+n]); err != nil {
				return err
			}
			i += n
			continue
		}
		if err := a.do(&ops[i]); err != nil {
			return err
		}
		i++
	}
	return nil
}

func (a *applier) do(op *Op) error {
	switch op.Kind {
	case OpMkdir:
		return a.mkdir(op)
	case OpPut:
		return a.link(op)
	case OpTake:
		return a.take(op.Path)
	case OpDrop:
		return a.drop(op.Path)
	case OpRmdir:
		return a.rmdir(op.Path)
	case OpSwap:
		return a.swap(op.Swap)
	}
	return fmt.Errorf("cannot apply a plan: unknown operation %q", op.Kind)
}

func (a *applier) mkdir(op *Op) error {
	at, err := a.dirs.at(op.Path)
	if err != nil {
		return fmt.Errorf("cannot make directory %s: %w", op.Path, err)
	}
	st, err := at.stat()
	if err == nil && st.isDir() {
		return a.own(at, op) // made before a crash, perhaps without its owner
	}
	if err := a.root.disk.Mkdir(at.path(), os.FileMode(op.File.Mode&0o777)); err != nil {
		return fmt.Errorf("cannot make directory %s: %w", op.Path, err)
	}
	if a.parents == nil {
		a.parents = map[string]bool{}
	}
	a.parents[path.Dir(op.Path)] = true
	return a.own(at, op)
}

// own gives a new directory its owner and special bits.
func (a *applier) own(at place, op *Op) error {
	if op.File.User == "" && op.File.Group == "" && op.File.Mode <= 0o777 {
		return nil
	}
	f, err := openBelow(at.dir, at.name, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW, unix.RESOLVE_BENEATH|unix.RESOLVE_NO_SYMLINKS)
	if err != nil {
		return fmt.Errorf("cannot set the owner of %s: %w", op.Path, err)
	}
	defer f.Close()
	return a.setOwner(int(f.Fd()), op.File)
}

// placeholder makes the empty file or directory that a mount lies on.
func (r *Root) placeholder(at place, op *Op) error {
	err := r.step(StepPlace, op.Path, func() error {
		if op.Dir {
			return unix.Mkdirat(int(at.dir.Fd()), at.name, op.mode())
		}
		return unix.Mknodat(int(at.dir.Fd()), at.name, unix.S_IFREG, 0)
	})
	if err == nil && op.Dir {
		// The umask has taken bits away that the mode asks for.
		err = unix.Fchmodat(int(at.dir.Fd()), at.name, op.mode(), 0)
	}
	if err == nil || !errors.Is(err, unix.EEXIST) {
		return wrap(err, "cannot place %s", op.Path)
	}
	st, err := at.stat()
	if err != nil {
		return wrap(err, "cannot place %s", op.Path)
	}
	if !st.isMounted() && !st.isPlaceholder() && !(op.Dir && st.isDir()) {
		return fmt.Errorf("cannot place %s: something has appeared there", op.Path)
	}
	return nil
}

func (op *Op) mode() uint32 {
	if op.File == nil {
		return 0o755
	}
	return op.File.Mode & 0o777
}

// dropPlaceholder removes what placeholder made. What has come to lie there
// instead stays.
func (r *Root) dropPlaceholder(at place, guestPath string) error {
	st, err := at.stat()
	if missing(err) || err == nil && (st.isMounted() || !st.isDir() && !st.isPlaceholder()) {
		return nil
	}
	if err == nil {
		err = r.disk.Remove(at.path())
	}
	if errors.Is(err, unix.ENOTEMPTY) || errors.Is(err, unix.EROFS) {
		return nil
	}
	return wrap(err, "cannot remove %s", guestPath)
}

func (a *applier) rmdir(guestPath string) error {
	at, err := a.dirs.at(guestPath)
	if unreached(err) {
		return nil
	}
	if err == nil {
		var st info
		st, err = at.stat()
		if missing(err) || err == nil && (!st.isDir() || st.isMounted()) {
			return nil
		}
	}
	if err == nil {
		a.dirs.forget()
		if at, err = a.dirs.at(guestPath); err == nil {
			err = a.root.disk.Remove(at.path())
		}
	}
	if errors.Is(err, unix.ENOTEMPTY) || errors.Is(err, unix.EBUSY) || errors.Is(err, unix.EROFS) {
		return nil // it holds what is not stork's, is mounted on, or is part of a layer
	}
	return wrap(err, "cannot remove directory %s", guestPath)
}

func (a *applier) touched(guestPath string) {
	if a.changed == nil {
		a.changed = map[string]bool{}
	}
	a.changed[path.Dir(guestPath)] = true
}

func wrap(err error, format string, args ...any) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf(format+": %w", append(args, err)...)
}
