package share

import (
	"fmt"

	"stork/repo"
)

// Method is how a package's files appear in a guest.
type Method string

// The share methods. A guest has one for all its packages.
const (
	Bind    Method = "bind"    // mounts of the layer: no content is written
	Overlay Method = "overlay" // an environment below the guest's own directories, see [Environment]
	Symlink Method = "symlink" // symlinks into the view, where nothing can be mounted
	Copy    Method = "copy"    // the guest's own copies, where nothing is shared
)

// Valid reports whether there is such a method.
func (m Method) Valid() bool {
	_, err := m.sharer()
	return err == nil
}

// sharer is a share method: how the shared files of a package get to their
// paths, and how they are found again. What is private to a guest is placed
// in the same way by all of them. A sharer keeps nothing of one plan.
//
// Undoing and removing need no method of their own: they follow from the
// operations that were planned and from the items that were recorded.
type sharer interface {
	// accept prepares a layer that is to be placed, or says why it can not be.
	accept(r *Root, t *tree) error
	// prepare runs before the packages' paths are decided, decided after it,
	// and finish when it is planned what goes with packages.
	prepare(p *planner) error
	decided(p *planner) error
	finish(p *planner) error
	// folds reports whether a directory that belongs wholly to one package is
	// placed as one thing, and of which kind of item that is.
	folds() (itemKind, bool)
	// fold plans and records such a directory. was is the fold of a package
	// that goes, of the same kind, which it replaces.
	fold(p *planner, guestPath string, e entry, was *Origin)
	// mounts reports whether a shared file lies over what the guest has,
	// which comes back, and replaces another one without being unmounted first.
	mounts() bool
	// share plans a shared regular file.
	share(p *planner, s spot) error
	// record notes in placed that the package of e has a shared regular file.
	record(placed *Placed, e entry, want File, own bool)
}

// spot is a path for which all has been decided.
type spot struct {
	path    string
	entry   entry
	want    File
	have    disk
	own     bool // the guest has an identical file of its own there
	was     *covered
	leaving []item
}

func (m Method) sharer() (sharer, error) {
	switch m {
	case Bind:
		return bindMethod{}, nil
	case Overlay:
		return overlayMethod{}, nil
	case Symlink:
		return symlinkMethod{}, nil
	case Copy:
		return copyMethod{}, nil
	}
	return nil, fmt.Errorf("unknown share method %q", m)
}

// plain is what methods have in common whose plans concern one path each.
type plain struct{}

func (plain) prepare(p *planner) error {
	if p.change.Now.None() || !p.change.Convert {
		return nil
	}
	return p.openOver()
}

// decided takes the environment away if the packages are no longer to come
// from it.
func (plain) decided(p *planner) error {
	if p.change.Now.None() || !p.change.Convert || len(p.conflicts) > 0 {
		return nil
	}
	to, err := p.stage(0, p.change.Now, &Environment{})
	if err == nil {
		to.Dirs, to.Own = nil, nil // they are the packages' from now on
	}
	return err
}

func (plain) finish(p *planner) error {
	if p.over == nil {
		return nil
	}
	return p.enterStages()
}

// copyMethod writes every file anew.
type copyMethod struct{ plain }

func (copyMethod) accept(_ *Root, t *tree) error {
	if t.view == nil {
		return fmt.Errorf("cannot copy the layer of %s: it is not attached", t.name)
	}
	t.hash = true // there is nothing else to compare the copies with
	return nil
}

func (copyMethod) folds() (itemKind, bool) { return "", false }

func (copyMethod) fold(*planner, string, entry, *Origin) {}

func (copyMethod) mounts() bool { return false }

func (copyMethod) share(p *planner, s spot) error {
	return p.emitPut(s.path, s.entry, s.want, s.have, s.leaving)
}

func (copyMethod) record(placed *Placed, _ entry, want File, own bool) {
	want.Own = own
	placed.Files = append(placed.Files, want)
}

// isShared reports whether the entry is a regular file that guests share.
func (e entry) isShared() bool { return e.private == nil && e.kind == repo.Regular }
