package share

import (
	"fmt"
	"io/fs"
	"os"
	"strings"
)

// layerPath is a file or directory in an open layer.
type layerPath struct {
	view *os.File
	path string
}

func (l layerPath) relative() string {
	if rel := strings.TrimPrefix(l.path, "/"); rel != "" {
		return rel
	}
	return "."
}

func (l layerPath) stat() (info, error) {
	if l.view == nil {
		return info{}, &fs.PathError{Op: "stat", Path: l.path, Err: fs.ErrNotExist} // not attached
	}
	return statAt(int(l.view.Fd()), l.relative())
}

// mounting returns what makes a file or directory of a layer appear at a path;
// nil if it does already. Where another layer's mount is in the way, replace
// has that go.
func (a *applier) mounting(from Origin, at place, guestPath string, replace bool) (*MountChange, error) {
	source, err := a.layer(from.Layer, from.Source)
	if err != nil {
		return nil, err
	}
	want, err := source.stat()
	if err != nil {
		return nil, fmt.Errorf("cannot find %s in its layer: %w", source.path, err)
	}
	have, err := at.stat()
	if err != nil {
		return nil, fmt.Errorf("cannot mount on %s: %w", guestPath, err)
	}
	if have.isMounted() && have.same(want) {
		return nil, nil
	}
	if want.kind() != have.kind() {
		return nil, fmt.Errorf("cannot mount on %s: it is something else than in the package", guestPath)
	}
	c := &MountChange{Kind: MountPlace, Path: guestPath, From: from, at: at, source: source}
	if have.isMounted() && replace {
		c.Kind = MountReplace
	}
	return c, nil
}

// mountAll carries out operations that mount, or that unmount, all of one
// kind.
func (a *applier) mountAll(ops []Op) error {
	var changes []MountChange
	for i := range ops {
		c, err := a.mountOf(&ops[i])
		if err != nil {
			return err
		}
		if c != nil {
			changes = append(changes, *c)
		}
	}
	if err := a.root.change(a.ctx, changes...); err != nil {
		return err
	}
	for i := range ops {
		if ops[i].Dir {
			a.dirs.forget()
			break
		}
	}
	for i := range ops {
		if err := a.unmounted(&ops[i]); err != nil {
			return err
		}
	}
	return nil
}

func (a *applier) mountOf(op *Op) (*MountChange, error) {
	if op.Kind == OpUnmount {
		at, err := a.dirs.at(op.Path)
		if missing(err) {
			return nil, nil
		}
		if err != nil {
			return nil, fmt.Errorf("cannot unmount %s: %w", op.Path, err)
		}
		st, err := at.stat()
		if missing(err) || err == nil && !st.isMounted() {
			return nil, nil // the guest may have been restarted
		}
		return &MountChange{Kind: MountClear, Path: op.Path, at: at}, wrap(err, "cannot unmount %s", op.Path)
	}
	at, err := a.dirs.at(op.Path)
	if err != nil {
		return nil, fmt.Errorf("cannot mount on %s: %w", op.Path, err)
	}
	if op.Fresh {
		if err := a.root.placeholder(at, op); err != nil {
			return nil, err
		}
	}
	return a.mounting(Origin{op.Layer, op.Source}, at, op.Path, op.Was != nil)
}

func (a *applier) mount(op *Op) error { return a.mountAll([]Op{*op}) }

// unmounted removes what a mount that has gone lay on.
func (a *applier) unmounted(op *Op) error {
	if op.Kind != OpUnmount || !op.Fresh {
		return nil
	}
	at, err := a.dirs.at(op.Path)
	if missing(err) {
		return nil
	}
	if err != nil {
		return wrap(err, "cannot remove %s", op.Path)
	}
	return a.root.dropPlaceholder(at, op.Path)
}

// mountRun returns how many of ops, from the first on, can be mounted at the
// same time: they are of one kind, and none lies in another one.
func (a *applier) mountRun(ops []Op) int {
	var dirs []string
	n := 0
	for ; n < len(ops) && n < a.root.batch(); n++ {
		op := &ops[n]
		if op.Kind != OpMount && op.Kind != OpUnmount || op.Kind != ops[0].Kind || inTrees(dirs, op.Path) {
			break
		}
		if op.Dir {
			dirs = append(dirs, op.Path)
		}
	}
	return n
}
