package share

import (
	"context"
	"errors"
	"os"

	"golang.org/x/sys/unix"

	"stork/repo"
)

// UndoNeeds lists the layers whose views undoing the plan needs.
func (p *Plan) UndoNeeds() []repo.Digest {
	seen := map[repo.Digest]bool{}
	var ids []repo.Digest
	need := func(id repo.Digest) {
		if !id.IsZero() && !seen[id] {
			seen[id] = true
			ids = append(ids, id)
		}
	}
	for _, e := range p.Elements {
		for _, op := range e.Ops {
			if e.Remove || op.Kind != OpMount && op.Kind != OpUnmount {
				continue
			}
			need(op.Layer)
			if op.Was != nil {
				need(op.Was.Layer)
			}
		}
	}
	return ids
}

// Undo takes back what the i-th element, one that adds a package, has done,
// wherever it stopped. It can be repeated.
func (p *Plan) Undo(ctx context.Context, root *Root, i int, views map[repo.Digest]string) error {
	a := &applier{ctx: ctx, plan: p, root: root, views: views, dirs: newDirs(root), open: map[repo.Digest]*os.File{}}
	defer a.close()
	ops, err := a.reached(p, i)
	if err != nil {
		return err
	}
	for n := len(ops) - 1; n >= 0; n-- {
		if err := a.undo(&ops[n]); err != nil {
			return err
		}
	}
	return a.sync()
}

// Finish removes what the plan kept for an undo: rule G2, after the state is
// durable. It can be repeated.
func (p *Plan) Finish(root *Root) error {
	a := &applier{plan: p, root: root, dirs: newDirs(root)}
	defer a.close()
	var failed error
	for i := range p.Elements {
		for n := range p.Elements[i].Ops {
			op := &p.Elements[i].Ops[n]
			if op.Kind == OpSwap {
				failed = errors.Join(failed, a.finishSwap(op.Swap))
			}
			if op.Kind == OpPut && !op.Fresh || op.Kind == OpTake {
				failed = errors.Join(failed, a.forgetOld(op.Path))
			}
		}
	}
	return failed
}

func (a *applier) forgetOld(guestPath string) error {
	at, err := a.dirs.at(guestPath)
	if missing(err) {
		return nil
	}
	if err == nil {
		err = a.root.disk.Remove(at.sibling(a.plan.tempName(guestPath, oldSuffix)).path())
	}
	return wrap(err, "cannot clear up beside %s", guestPath)
}

func (a *applier) undo(op *Op) error {
	switch op.Kind {
	case OpMkdir:
		return a.rmdir(op.Path)
	case OpMount:
		return a.undoMount(op)
	case OpUnmount:
		return a.mount(&Op{Kind: OpMount, Path: op.Path, Layer: op.Layer, Source: op.Source, Dir: op.Dir, Fresh: op.Fresh})
	case OpPut, OpTake:
		return a.undoFile(op)
	case OpRmdir:
		if op.File != nil {
			return a.mkdir(op)
		}
	case OpSwap:
		return a.undoSwap(op.Swap)
	}
	return nil
}

func (a *applier) undoMount(op *Op) error {
	at, err := a.dirs.at(op.Path)
	if unreached(err) {
		return nil
	}
	var have info
	if err == nil {
		have, err = at.stat()
	}
	if missing(err) {
		return nil
	}
	if err != nil {
		return wrap(err, "cannot unmount %s", op.Path)
	}
	if have.isMounted() {
		if err := a.undoMounted(op, at, have); err != nil {
			return err
		}
	}
	if op.Dir {
		a.dirs.forget()
		if at, err = a.dirs.at(op.Path); err != nil {
			return wrap(err, "cannot unmount %s", op.Path)
		}
	}
	if op.Fresh {
		return a.root.dropPlaceholder(at, op.Path)
	}
	return nil
}

// undoMounted takes the mount away if it is the operation's. What else may
// be mounted there was there before.
func (a *applier) undoMounted(op *Op, at place, have info) error {
	source, err := a.layer(op.Layer, op.Source)
	if err != nil {
		return err
	}
	want, err := source.stat()
	if err != nil {
		return wrap(err, "cannot find %s in its layer", op.Source)
	}
	if !have.same(want) {
		return nil
	}
	if op.Was == nil {
		return a.root.change(a.ctx, MountChange{Kind: MountRemove, Path: op.Path, at: at})
	}
	c, err := a.mounting(*op.Was, at, op.Path, true)
	if err != nil || c == nil {
		return err
	}
	return a.root.change(a.ctx, *c)
}

// undoFile puts back what the path was. What has never been put there is
// left alone.
func (a *applier) undoFile(op *Op) error {
	at, err := a.dirs.at(op.Path)
	if unreached(err) {
		return nil
	}
	if err != nil {
		return wrap(err, "cannot put back %s", op.Path)
	}
	disk, old := a.root.disk, at.sibling(a.plan.tempName(op.Path, oldSuffix))
	err = disk.Remove(at.sibling(a.plan.tempName(op.Path, newSuffix)).path())
	if errors.Is(err, unix.EROFS) {
		return nil // the directory is still part of a layer: it was not reached
	}
	if err != nil {
		return wrap(err, "cannot put back %s", op.Path)
	}
	a.touched(op.Path)
	_, err = old.stat()
	switch {
	case err == nil:
		// If both are one inode the rename does nothing (rename(2)).
		err = errors.Join(disk.Rename(old.path(), at.path()), disk.Remove(old.path()))
	case !missing(err):
	case op.Kind == OpPut && op.Fresh:
		err = a.undoFresh(at, op)
	default:
		err = nil
	}
	return wrap(err, "cannot put back %s", op.Path)
}

func (a *applier) undoFresh(at place, op *Op) error {
	st, err := at.stat()
	if missing(err) {
		return nil
	}
	if err != nil {
		return err
	}
	if st.isMounted() {
		return nil // what was there before: it was not reached
	}
	ours := a.looksOurs(at, st, op)
	if op.Old { // only if it is the file that was to be kept aside
		ours = false
		if from, err := a.dirs.at(op.From); err == nil {
			was, err := from.stat()
			ours = err == nil && was.same(st)
		}
	}
	if !ours || st.kind() == unix.S_IFDIR {
		return nil
	}
	return a.root.disk.Remove(at.path())
}

// unreached reports that the directory of what is to be undone is not there,
// or is still a folded one's symlink.
func unreached(err error) bool { return missing(err) || errors.Is(err, unix.ELOOP) }
