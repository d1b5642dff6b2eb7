package share

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"slices"

	"golang.org/x/sys/unix"
)

// swap changes the guest's own directories and then exchanges the
// environment: the kernel does not want the directories of a mounted overlay
// changed, so the new one comes after, and with it nothing that was
// remembered of the old ones.
func (a *applier) swap(s *Swap) error {
	o, err := a.root.openOwn(s.upper())
	if err != nil {
		return err
	}
	for i := range s.Own {
		if err = a.ownDo(o, &s.Own[i]); err != nil {
			break
		}
	}
	a.dirs.forget() // they would be those of the old mounts
	if err == nil {
		err = a.change(o, &s.From, &s.To)
	}
	return errors.Join(err, o.close())
}

// change exchanges the environment, and cleans up behind the old one.
func (a *applier) change(o *own, from, to *Environment) error {
	exchange := func() error { return a.root.exchange(o, from, to) }
	if to.None() {
		exchange = func() error { return a.leave(o, from) }
	}
	if err := exchange(); err != nil {
		return err
	}
	return o.clearWork(to)
}

// left returns the operations that are still to be done: if the exchange
// among them is done, those before it are too, and would act on the new
// environment.
func (a *applier) left(ops []Op) ([]Op, error) {
	n := swapIn(ops)
	if n < 0 {
		return ops, nil
	}
	begun, done, err := a.swapped(ops[n].Swap)
	switch {
	case done:
		return ops[n+1:], err
	case begun:
		return ops[n:], err
	}
	return ops, err
}

// reached returns the operations of an element that may have been done: if
// the exchange of the plan is not complete, none of those after it. If nothing
// is mounted at all, all of them, for the guest may have been restarted; they
// then find the guest's own files.
func (a *applier) reached(p *Plan, element int) ([]Op, error) {
	ops := p.Elements[element].Ops
	for i := range p.Elements[:element+1] {
		n := swapIn(p.Elements[i].Ops)
		if n < 0 {
			continue
		}
		s := p.Elements[i].Ops[n].Swap
		_, done, err := a.swapped(s)
		if err == nil && !done {
			done, err = a.restarted(s)
		}
		switch {
		case err != nil || done:
			return ops, err
		case i < element:
			return nil, nil
		}
		return ops[:n+1], nil
	}
	return ops, nil
}

// restarted reports whether nothing is mounted of what an exchange is about.
// Where the private files are in the nest's directory, the new environment is
// mounted to reach them, if it has ever been.
func (a *applier) restarted(s *Swap) (bool, error) {
	x := &exchanger{root: a.root}
	for _, dir := range slices.Concat(s.From.roots(), s.To.roots()) {
		t, err := x.top(dir)
		if err != nil && !missing(err) {
			return false, err
		}
		if err == nil && t.mounted && t.entry.isOurs() {
			return false, nil
		}
	}
	if s.To.None() || s.To.Upper == "" {
		return true, nil
	}
	o, err := a.root.openOwn(s.To.Upper)
	if err != nil {
		return false, err
	}
	begun := false
	for _, dir := range s.To.Roots {
		_, err := statAt(int(o.upper.Fd()), dir[1:]+"/work/"+workName(&s.To))
		begun = begun || err == nil
	}
	if begun {
		err = a.root.exchange(o, &Environment{}, &s.To)
	}
	return true, errors.Join(err, o.close())
}

func swapIn(ops []Op) int {
	return slices.IndexFunc(ops, func(op Op) bool { return op.Kind == OpSwap })
}

// swapped reports whether the new environment is mounted anywhere, and
// whether the exchange is complete.
func (a *applier) swapped(s *Swap) (begun, done bool, err error) {
	x := &exchanger{root: a.root, to: &s.To}
	done = true
	for _, dir := range slices.Concat(s.From.roots(), s.To.roots()) {
		t, err := x.top(dir)
		if missing(err) {
			done = false
			continue
		}
		if err != nil {
			return false, false, err
		}
		new, ours := t.has(&s.To), t.mounted && t.entry.isOurs()
		begun = begun || new
		if slices.Contains(s.To.roots(), dir) != ours || ours && t.entry.source != s.To.source() {
			done = false
		}
	}
	return begun, done, nil
}

// has reports whether an environment is mounted there, on top or below.
func (t *top) has(e *Environment) bool {
	for m, ok := t.entry, t.mounted; ok; m, ok = t.table.below(m) {
		if m.isOurs() && m.source == e.source() {
			return true
		}
	}
	return false
}

func (s *Swap) upper() string {
	if s.To.None() {
		return s.From.Upper
	}
	return s.To.Upper
}

func (a *applier) undoSwap(s *Swap) error {
	o, err := a.root.openOwn(s.upper())
	if err != nil {
		return err
	}
	for _, op := range slices.Backward(s.Own) {
		if err = a.ownUndo(o, &op); err != nil {
			break
		}
	}
	a.dirs.forget()
	if err == nil {
		err = a.change(o, &s.To, &s.From)
	}
	return errors.Join(err, o.close())
}

// finishSwap removes what was kept for an undo.
func (a *applier) finishSwap(s *Swap) error {
	if !slices.ContainsFunc(s.Own, func(op Op) bool { return op.Kind == OpTake }) {
		return nil
	}
	for i := range s.Own {
		if s.Own[i].Kind != OpTake {
			continue
		}
		// Through the overlay, so that it knows.
		if err := a.forgetOld(s.Own[i].Path); err != nil {
			return err
		}
	}
	o, err := a.root.openOwn(s.upper())
	if err != nil {
		return err
	}
	for i := range s.Own {
		if s.Own[i].Kind == OpTake { // a whiteout can not be seen in the overlay
			err = errors.Join(err, a.eachOwn(o, s.Own[i].Path, func(at place) error {
				return a.root.disk.Remove(at.sibling(a.plan.tempName(s.Own[i].Path, oldSuffix)).path())
			}))
		}
	}
	return errors.Join(err, o.close())
}

// clearWork removes all working directories but those of one environment.
func (o *own) clearWork(keep *Environment) error {
	if o.upper == nil {
		return clearWorkIn(o.root, storkDir+"/work", keep)
	}
	var failed error
	for _, dir := range keep.roots() {
		failed = errors.Join(failed, clearWorkIn(o.upper, dir+"/work", keep))
	}
	return failed
}

func clearWorkIn(root *os.File, p string, keep *Environment) error {
	dir, err := openBelow(root, p, unix.O_RDONLY|unix.O_DIRECTORY, unix.RESOLVE_IN_ROOT)
	if missing(err) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("cannot clear up in %s: %w", p, err)
	}
	defer dir.Close()
	names, err := dir.Readdirnames(-1)
	if err != nil {
		return fmt.Errorf("cannot clear up in %s: %w", p, err)
	}
	for _, name := range names {
		if keep.None() || name != workName(keep) {
			err = errors.Join(err, os.RemoveAll(fdPath(int(dir.Fd()))+"/"+name))
		}
	}
	return err
}

// eachOwn acts on a path in all of the guest's own layers that have its
// directory.
func (a *applier) eachOwn(o *own, p string, act func(at place) error) error {
	list, err := o.places(p)
	defer closePlaces(list)
	for _, at := range list {
		err = errors.Join(err, act(at))
	}
	return err
}

func (a *applier) ownDo(o *own, op *Op) error {
	a.touched(op.Path)
	switch op.Kind {
	case OpMkdir:
		return a.ownMkdir(o, op)
	case OpTake:
		return a.eachOwn(o, op.Path, func(at place) error {
			old := at.sibling(a.plan.tempName(op.Path, oldSuffix))
			if _, err := old.stat(); err == nil {
				return nil // taken already
			}
			return ifThere(a.root.disk.Rename(at.path(), old.path()), op.Path)
		})
	case OpMove:
		return a.ownMove(o, op.From, op.Path)
	case OpReveal:
		return a.eachOwn(o, op.Path, func(at place) error { return reveal(at) })
	case OpPut:
		at := place{o.root, op.Path[1:]}
		err := a.root.disk.Symlink(op.File.Link, at.path())
		if errors.Is(err, fs.ErrExist) {
			err = nil // made before a crash: nothing was there when it was planned
		}
		return wrap(err, "cannot make symlink %s", op.Path)
	case OpRmdir:
		return a.eachOwn(o, op.Path, func(at place) error {
			return wrap(a.root.disk.Remove(at.path()), "cannot remove directory %s", op.Path)
		})
	}
	return fmt.Errorf("cannot apply a plan: unknown operation %q below an environment", op.Kind)
}

// reveal takes away the mark of a directory that was removed and made again.
func reveal(at place) error {
	for _, prefix := range []string{"trusted.", "user."} {
		err := unix.Lremovexattr(at.path(), prefix+"overlay.opaque")
		if err != nil && !errors.Is(err, unix.ENODATA) && !errors.Is(err, unix.EPERM) && !errors.Is(err, unix.ENOTSUP) && !missing(err) {
			return fmt.Errorf("cannot change the attributes of %s: %w", at.name, err)
		}
	}
	return nil
}

// hideAgain undoes reveal, in the topmost of the guest's own layers that has
// the directory.
func (a *applier) hideAgain(o *own, op *Op) error {
	user, err := inUserNamespace()
	if err != nil {
		return err
	}
	prefix := "trusted."
	if user {
		prefix = "user."
	}
	list, err := o.places(op.Path)
	defer closePlaces(list)
	for _, at := range list {
		if st, statErr := at.stat(); err == nil && statErr == nil && st.isDir() {
			err = unix.Lsetxattr(at.path(), prefix+"overlay.opaque", []byte("y"), 0)
			return wrap(err, "cannot change the attributes of %s", op.Path)
		}
	}
	return err
}

func ifThere(err error, p string) error {
	if missing(err) {
		return nil
	}
	return wrap(err, "cannot put %s aside", p)
}

func (a *applier) ownMove(o *own, from, to string) error {
	return a.eachOwn(o, from, func(at place) error {
		return ifThere(a.root.disk.Rename(at.path(), at.sibling(path.Base(to)).path()), from)
	})
}

func (a *applier) ownUndo(o *own, op *Op) error {
	a.touched(op.Path)
	switch op.Kind {
	case OpMkdir:
		return a.eachOwn(o, op.Path, func(at place) error {
			err := a.root.disk.Remove(at.path())
			if errors.Is(err, unix.ENOTEMPTY) {
				err = nil // somebody else uses it by now
			}
			return wrap(err, "cannot remove directory %s", op.Path)
		})
	case OpTake:
		return a.eachOwn(o, op.Path, func(at place) error {
			old := at.sibling(a.plan.tempName(op.Path, oldSuffix))
			return ifThere(a.root.disk.Rename(old.path(), at.path()), op.Path)
		})
	case OpMove:
		return a.ownMove(o, op.Path, op.From)
	case OpPut:
		at := place{o.root, op.Path[1:]}
		if link, err := readlinkAt(int(o.root.Fd()), at.name); err != nil || link != op.File.Link {
			return nil
		}
		return wrap(a.root.disk.Remove(at.path()), "cannot remove %s", op.Path)
	case OpRmdir:
		return a.ownMkdir(o, op)
	case OpReveal:
		return a.hideAgain(o, op)
	}
	return nil
}

// ownMkdir makes a directory in the guest's own tree, so that a private file
// below it does not have the kernel copy the environment's.
func (a *applier) ownMkdir(o *own, op *Op) error {
	parent, err := openBelow(o.root, path.Dir(op.Path), unix.O_PATH|unix.O_DIRECTORY, unix.RESOLVE_BENEATH|unix.RESOLVE_NO_SYMLINKS)
	if err != nil {
		return fmt.Errorf("cannot make directory %s: %w", op.Path, err)
	}
	defer parent.Close()
	at := place{parent, path.Base(op.Path)}
	if st, err := at.stat(); err != nil || !st.isDir() {
		if err := a.root.disk.Mkdir(at.path(), os.FileMode(op.File.Mode&0o777)); err != nil {
			return fmt.Errorf("cannot make directory %s: %w", op.Path, err)
		}
	}
	return a.own(at, op)
}
